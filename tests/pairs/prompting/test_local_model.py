"""A local model as a teacher: batches, its chat template, determinism, and what it cannot do is counted."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hybrid.config import TeacherConfig
from hybrid.errors import ConfigError
from hybrid.models import load_tokenizer
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.prompting.local_model import LocalModel
from hybrid.pairs.prompting.prompted import PromptedTeacher
from hybrid.types import Chunk

PROMPTS: list[Messages] = [
    [{"role": "system", "content": "Write questions."}, {"role": "user", "content": "The garden is green. " * n}]
    for n in (1, 9, 3, 3, 20)
]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with one_thread():
        yield


def _model(folder: Path, new: int = 12, batch: int = 600) -> LocalModel:
    return LocalModel(folder, max_new_tokens=new, batch_tokens=batch)


def test_replies_are_those_of_transformers(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    reference: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = load_tokenizer(tiny_model)
    replies = sorted(_model(tiny_model).generate(PROMPTS))
    assert [reply.place for reply in replies] == list(range(5))
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids: Any = tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_tensors="pt")
        inputs = ids if isinstance(ids, torch.Tensor) else ids["input_ids"]
        expected = reference.generate(inputs, max_new_tokens=12, do_sample=False)[0, inputs.shape[1] :].tolist()
        assert reply.tokens_in == inputs.shape[1]
        assert reply.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert reply.tokens_out == 12
        assert reply.ended == "length"


def test_replies_are_the_same_again(tiny_model: Path) -> None:
    model = _model(tiny_model)
    first = list(model.generate(PROMPTS))
    assert list(model.generate(PROMPTS)) == first
    assert list(_model(tiny_model).generate(PROMPTS)) == first
    assert sorted(_model(tiny_model, batch=1).generate(PROMPTS)) == sorted(first)
    assert list(model.generate([])) == []


def test_a_reply_that_ends_is_no_longer_than_that(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sorted(_model(tiny_model).generate(PROMPTS))[0]
    tokens = load_tokenizer(tiny_model)(first.text, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr("hybrid.generate.stop_ids", lambda *_: {tokens[4]})
    reply = sorted(_model(tiny_model).generate(PROMPTS))[0]
    assert reply.ended == "stop"
    assert reply.tokens_out is not None
    assert reply.tokens_out < 12


def test_more_than_the_model_reads_is_refused_before_it_is_loaded(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads 4096; lower pairs\.teacher_model\.max_new_tokens = 4090"):
        list(_model(tiny_model, new=4090).generate(PROMPTS))


def test_a_prompt_that_is_too_long_is_refused_and_the_others_go_on(tiny_model: Path) -> None:
    expected = sorted(_model(tiny_model).generate(PROMPTS[:4]))
    long: Messages = [{"role": "user", "content": "The garden is green. " * 2000}]
    model = _model(tiny_model)
    replies = sorted(model.generate([*PROMPTS[:2], long, *PROMPTS[2:4]]))
    assert [reply.place for reply in replies] == list(range(5))
    assert [reply[1:] for reply in replies if reply.place != 2] == [reply[1:] for reply in expected]
    assert replies[2][2:5] == (None, None, "refused")
    assert "reads 4096; lower pairs.teacher_model.max_new_tokens = 12 or index.chunk_tokens" in replies[2].text
    # Alone, as the repair of a long reply is, it ends no run of a model that read others.
    assert [reply.ended for reply in model.generate([long])] == ["refused"]
    proven = LocalModel(tiny_model, max_new_tokens=12, batch_tokens=600, proven=True)
    assert [reply.ended for reply in proven.generate([long, long])] == ["refused", "refused"]
    with pytest.raises(ConfigError, match="reads 4096"):
        list(_model(tiny_model).generate([long, long]))


def test_what_a_model_cannot_write_is_dropped_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    texts = ["The garden is watered on Mondays.", "The tower is 40 metres high."]
    chunks = [Chunk(f"{n}#0", str(n), 0, len(text), text) for n, text in enumerate(texts)]
    settings = TeacherConfig(max_new_tokens=16)

    def teacher(journal: str, generator: Any = None) -> PromptedTeacher:
        return PromptedTeacher(generator or _model(tiny_model, new=16), "tiny", settings, tmp_path / journal)

    first = teacher("a")
    assert list(first.draft(chunks)) == [[], []]
    figures = first.figures()
    assert figures.usage["teacher calls"] == 4
    assert figures.usage["teacher tokens out"] == 64
    assert figures.dropped == {"cut off by max_new_tokens": 2}
    assert list(teacher("b").draft(chunks)) == [[], []]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    class Broken:
        def generate(self, prompts: Any) -> Iterator[Reply]:
            raise AssertionError("all replies are in the journal")

    assert list(teacher("a", Broken()).draft(chunks)) == [[], []]
