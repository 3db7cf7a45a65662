"""A generator as judge: replies in the order of the prompts, and none where there is none to trust."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hybrid.errors import ConfigError, EndpointError
from hybrid.eval.judge import Case, grade
from hybrid.judge import GeneratorJudge, make_judge
from hybrid.judge_settings import JudgeConfig
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.prompting.local_model import LocalModel


class Backwards:
    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        yield Reply(3, "too long for this server", None, None, "refused")
        yield Reply(2, '{"score": 2}', 1, 1)
        yield Reply(1, '{"score": 5} and', 1, 1, "length")
        yield Reply(0, '{"score": 4}', 1, 1)


def test_replies_are_in_the_order_of_the_prompts() -> None:
    judge = GeneratorJudge(Backwards())
    grades = grade(judge, [Case("?", ("x",), "y")] * 5)
    assert grades.scores == ((4,), (None,), (2,), (None,), (None,))
    assert judge.unanswered == 3


def test_a_local_model_can_judge(tiny_model: Path) -> None:
    judge = GeneratorJudge(LocalModel(tiny_model, max_new_tokens=4, batch_tokens=4096))
    grades = grade(judge, [Case("When?", ("now",), "later"), Case("Who?", ("Ada",), "Ada")])
    assert grades.failures == 2  # a random model says nothing that can be read
    assert grades.means == (1.0, 1.0)


class Once:
    """Answers every prompt with its number of calls, and breaks after some."""

    def __init__(self, breaks_after: int = 100) -> None:
        self.calls = 0
        self.breaks_after = breaks_after

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        for place, prompt in enumerate(prompts):
            if self.calls == self.breaks_after:
                raise EndpointError("the server went away")
            self.calls += 1
            refused = "refuse" in prompt[0]["content"]
            yield Reply(place, f"{self.calls}: \ud800", 10, 2, "refused" if refused else "stop")


def prompts(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_an_interrupted_judge_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "judge.jsonl"
    first = GeneratorJudge(Once(breaks_after=2), journal)
    with pytest.raises(EndpointError):
        first.generate(prompts("a", "b\ud800", "c"))
    with journal.open("a", encoding="utf-8") as file:
        file.write('\n{"key": "half')  # the machine went down while it wrote
    generator = Once()
    second = GeneratorJudge(generator, journal)
    assert second.generate(prompts("a", "b\ud800", "c", "refuse")) == ["1: \ud800", "2: \ud800", "1: \ud800", ""]
    assert generator.calls == 2
    assert (second.calls, second.tokens_in, second.tokens_out, second.unanswered) == (4, 40, 8, 1)
    third = GeneratorJudge(generator, journal)
    third.generate(prompts("a", "c", "refuse"))
    assert generator.calls == 3, "what was refused is asked again, and nothing else"
    third.generate(prompts("a"))
    assert generator.calls == 4, "a prompt that is asked repeatedly is sent as often"


def test_a_journal_from_before_replies_had_seconds_is_read(tmp_path: Path) -> None:
    journal, generator = tmp_path / "judge.jsonl", Once()
    GeneratorJudge(generator, journal).generate(prompts("a"))
    record = json.loads(journal.read_text(encoding="utf-8"))
    assert record.pop("seconds", "missing") is None
    journal.write_text(json.dumps(record), encoding="utf-8")
    assert GeneratorJudge(generator, journal).generate(prompts("a")) == ["1: \ud800"]
    assert generator.calls == 1


def test_a_judge_is_made_of_the_settings(tiny_model: Path, tmp_path: Path) -> None:
    local = make_judge(JudgeConfig(max_new_tokens=8), str(tiny_model), tmp_path)
    assert local.generate(prompts("hello")) == [""]  # cut off
    with pytest.raises(ConfigError, match=r"compare\.judge\.base_url"):
        make_judge(JudgeConfig(model="m", base_url="no address"), "own", tmp_path)
    settings = JudgeConfig(model="m", base_url="http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY", retries=0)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        make_judge(settings, "own", tmp_path).generate(prompts("hello"))
