"""What benchmarks/sharing.py makes of examples and replies, without training."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hybrid.eval.comparison import Reply
from hybrid.models import load_tokenizer, resolve_model
from hybrid.tuning.tree import Example, pack_rows
from hybrid.types import Question


@pytest.fixture(scope="module")
def sharing(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("sharing")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Three questions of one context and one of another."""
    prompts = {"a1": (1, 2, 3, 10), "a2": (1, 2, 3, 11), "a3": (1, 2, 3, 12), "b1": (1, 2, 4, 13)}
    return [Example(id_, id_[0], ids, (20 + n, 0)) for n, (id_, ids) in enumerate(prompts.items())]


def test_a_conversation_asks_every_question_of_its_context_once(sharing: ModuleType, examples: list[Example]) -> None:
    tokenizer = load_tokenizer(resolve_model("smollm2-135m-instruct"))
    asked = ["Who?", "What?", "When?", "Where?"]
    talks = sharing.conversations(examples, asked, tokenizer, max_tokens=1000, seed=0)
    assert [[turn.id[0] for turn in talk.branches] for talk in talks] == [["a", "a", "a"], ["b"]]
    opening, *later = talks[0].branches
    assert opening.prompt_ids in {example.prompt_ids for example in examples}
    for turn in later:
        text = tokenizer.decode(turn.prompt_ids)
        assert asked[[example.id for example in examples].index(turn.id)] in text
        assert text.count("<|im_start|>") == 2, "a user's turn, and the opening of the answer"


def test_a_conversation_is_cut_where_it_is_too_long(sharing: ModuleType, examples: list[Example]) -> None:
    tokenizer = load_tokenizer(resolve_model("smollm2-135m-instruct"))
    talks = sharing.conversations(examples, ["Who?"] * 4, tokenizer, max_tokens=7, seed=0)
    assert sorted(talk.branches[0].id for talk in talks) == ["a1", "a2", "a3", "b1"]
    assert all(len(talk.branches) == 1 for talk in talks)
    assert {talk.branches[0].prompt_ids for talk in talks} == {example.prompt_ids for example in examples}


def test_an_answer_of_a_conversation_sees_those_before_it(sharing: ModuleType, examples: list[Example]) -> None:
    tokenizer = load_tokenizer(resolve_model("smollm2-135m-instruct"))
    (row,) = pack_rows(
        sharing.conversations(examples[:3], ["Who?"] * 3, tokenizer, max_tokens=1000, seed=0), max_tokens=1000, seed=0
    )
    batch = sharing.collate_turns([row])
    tokens = batch["input_ids"].shape[-1]
    assert batch["position_ids"].flatten().tolist() == list(range(tokens))
    answers = [token for turn in row[0].branches for token in turn.answer_ids]
    assert batch["targets"].flatten().tolist() == answers
    following = (batch["rows"].flatten()[batch["predict_index"]] + 1).tolist()
    ids = batch["input_ids"].flatten().tolist()
    assert [ids[place] for place in following] == answers


def _replies(texts: list[str]) -> list[Reply]:
    return [Reply(f"q{n}", text, not text, (), (), 0.1) for n, text in enumerate(texts)]


def test_differences_are_over_questions_groups_and_seeds(sharing: ModuleType) -> None:
    questions = [Question(f"q{n}", "?", answers=("right",), gold=(f"d{n // 2}",)) for n in range(4)]
    questions.append(Question("q4", "?", answerable=False))
    figures = {
        **dict.fromkeys(("steps", "tokens", "answer_tokens", "seconds", "cpu_seconds", "loss_first", "loss_last"), 1.0),
        **{"examples": 8, "contexts": 2, "settings": {"trees_per_step": 2}},
    }
    right, wrong = ["right"] * 4 + [""], ["wrong", "right", "wrong", "right", ""]
    runs = {
        "shared": [(figures, _replies(right)), (figures, _replies(right))],
        "separate": [(figures, _replies(right)), (figures, _replies(wrong))],
    }
    shared, separate = sharing.make_rows(questions, runs)
    assert (shared["n"], shared["groups"], shared["seeds"], shared["abstained"]) == (4, 2, 2, 0.0)
    assert (shared["f1"], separate["f1"], separate["f1_by_seed"]) == (1.0, 0.75, [1.0, 0.5])
    found = separate["shared_minus_this"]["f1"]
    assert (found["mean"], found["per_seed"]) == (0.25, (0.0, 0.5))
    assert found["low"] < 0 < found["high"], "two seeds that differ say little"
    assert "shared - separate, f1: +0.250" in sharing.table([shared, separate])


def test_work_of_other_settings_is_refused(sharing: ModuleType, tmp_path: Path) -> None:
    sharing._claim(tmp_path / "shared-0", "one")
    sharing._claim(tmp_path / "shared-0", "one")
    with pytest.raises(SystemExit, match="begun with other data or settings"):
        sharing._claim(tmp_path / "shared-0", "another")
