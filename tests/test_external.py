"""Arms that answer elsewhere: failures are recorded and the rest goes on."""

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from hybrid.arms import Answerer, PromptChoice
from hybrid.config import ArmConfig, PromptConfig
from hybrid.errors import ConfigError, EndpointError
from hybrid.eval.comparison import Reply
from hybrid.external import EndpointAnswerer, FunctionAnswerer, endpoint_answerer
from hybrid.pairs.prompting.generator import Messages
from hybrid.pairs.prompting.generator import Reply as Completion
from hybrid.types import Chunk, Hit, Question

QUESTIONS = [Question(f"q{n}", f"Why {n}?", ("x",)) for n in range(9)]
HITS = [
    [Hit(Chunk(f"d{n}{rank}#0-6", f"d{n}{rank}", 0, 6, f"Fact {n}"), 1 / rank, rank) for rank in (1, 2, 3)]
    for n in range(9)
]
CHOICE = PromptChoice("zero-shot", 2, ())
REFUSAL = PromptConfig().refusal


def _number(prompt: Messages) -> int:
    return int(prompt[-1]["content"].removesuffix("?").split()[-1])


class _Server:
    """A generator that fails for good for some questions, as `Endpoint` does: other calls under way still arrive."""

    def __init__(self, broken: Callable[[int], bool]) -> None:
        self.broken = broken
        self.asked: list[int] = []

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Completion]:
        failed = ""
        for place, prompt in reversed(list(enumerate(prompts))):
            number = _number(prompt)
            self.asked.append(number)
            if self.broken(number):
                failed = f"no reply to {number}"
                break
            yield Completion(place, f" Answer {number}\n", 7, 3)
        if failed:
            raise EndpointError(failed)


def _answer(answerer: Answerer, done: dict[str, Reply] | None = None) -> tuple[list[Reply], list[str]]:
    recorded: list[str] = []
    replies = answerer.answer(
        QUESTIONS,
        HITS,
        CHOICE,
        label="t",
        done=done or {},
        record=lambda fresh: recorded.extend(reply.question_id for reply in fresh),
    )
    return replies, recorded


def _endpoint(server: _Server, window: int = 4) -> EndpointAnswerer:
    return EndpointAnswerer(server, PromptConfig(), window)


def test_replies_of_an_endpoint_keep_the_order_of_the_questions() -> None:
    replies, recorded = _answer(_endpoint(_Server(lambda _: False)))
    assert [reply.text for reply in replies] == [f"Answer {n}" for n in range(9)]
    assert sorted(recorded) == [question.id for question in QUESTIONS]
    first = replies[0]
    assert (first.contexts, first.documents) == (("d01#0-6", "d02#0-6"), ("d01", "d02", "d03"))
    assert (first.tokens_in, first.tokens_out, first.error) == (7, 3, "")


def test_seconds_are_those_that_the_generator_took_for_each_answer() -> None:
    class SideBySide:
        def generate(self, prompts: Sequence[Messages]) -> Iterator[Completion]:
            yield from (Completion(place, "x", 7, 3, seconds=2.0 + place) for place in range(len(prompts)))

    replies, _ = _answer(EndpointAnswerer(SideBySide(), PromptConfig(), 9))
    assert [reply.seconds for reply in replies] == [2.0 + n for n in range(9)]


def test_without_them_seconds_are_the_time_between_two_answers() -> None:
    class OneByOne:
        def generate(self, prompts: Sequence[Messages]) -> Iterator[Completion]:
            for place in range(len(prompts)):
                time.sleep(0.01)
                yield Completion(place, "x", 7, 3)

    replies, _ = _answer(EndpointAnswerer(OneByOne(), PromptConfig(), 4))
    assert all(reply.seconds >= 0.01 for reply in replies)


def test_what_is_asked_again_is_timed_by_the_generator_too() -> None:
    class AtSecond(_Server):
        def generate(self, prompts: Sequence[Messages]) -> Iterator[Completion]:
            for reply in super().generate(prompts):
                yield reply._replace(seconds=3.0)

    server = AtSecond(lambda n: n == 8 and len(server.asked) == 1)
    replies, _ = _answer(_endpoint(server, 9))
    assert server.asked == [8, *range(9)]
    assert {(reply.seconds, reply.error) for reply in replies} == {(3.0, "")}


@pytest.mark.parametrize("window", [1, 4, 100])
def test_a_question_that_fails_takes_no_other_along(window: int) -> None:
    replies, _ = _answer(_endpoint(_Server(lambda n: n in {2, 5}), window))
    assert {reply.question_id: reply.error for reply in replies if reply.error} == {
        "q2": "no reply to 2",
        "q5": "no reply to 5",
    }
    assert not any(reply.abstained for reply in replies), "a failure is no refusal"
    assert [reply.text for reply in replies if not reply.error] == [f"Answer {n}" for n in (0, 1, 3, 4, 6, 7, 8)]


def test_an_endpoint_that_is_down_is_left_alone() -> None:
    server = _Server(lambda _: True)
    replies, recorded = _answer(_endpoint(server))
    assert all(reply.error for reply in replies)
    assert len(recorded) == 9
    assert len(server.asked) <= 4


def test_a_run_goes_on_where_an_endpoint_stopped() -> None:
    whole, _ = _answer(_endpoint(_Server(lambda _: False)))
    server = _Server(lambda _: False)
    replies, recorded = _answer(_endpoint(server), {reply.question_id: reply for reply in whole[:6]})
    assert sorted(server.asked) == [6, 7, 8]
    assert recorded == ["q8", "q7", "q6"]
    assert [reply.text for reply in replies] == [reply.text for reply in whole]


def test_what_an_endpoint_refuses_is_an_error() -> None:
    class Refusing:
        def generate(self, prompts: Sequence[Messages]) -> Iterator[Completion]:
            yield from (Completion(place, "too long", None, None, "refused") for place in range(len(prompts)))

    replies, _ = _answer(EndpointAnswerer(Refusing(), PromptConfig(), 4))
    assert {(reply.error, reply.text, reply.abstained) for reply in replies} == {("too long", "", False)}


def test_the_key_is_asked_for_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    arm = ArmConfig("far", model="m", base_url="http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match=r"variable NO_SUCH_KEY, which compare\.arms: far\.key_env names"):
        _answer(endpoint_answerer(arm, PromptConfig(), 8))


def test_an_endpoint_that_is_not_there_is_recorded() -> None:
    arm = ArmConfig("far", model="m", base_url="http://127.0.0.1:9/v1", retries=0, timeout=2.0)
    replies, _ = _answer(endpoint_answerer(arm, PromptConfig(), 8))
    assert "compare.arms: far.base_url" in replies[0].error
    assert all(reply.error for reply in replies)


def test_a_function_answers_from_its_hits() -> None:
    seen: list[tuple[str, int]] = []

    def ask(question: str, hits: list[Hit]) -> str:
        seen.append((question, len(hits)))
        return REFUSAL if question == "Why 3?" else f" {hits[0].chunk.text} "

    replies, recorded = _answer(FunctionAnswerer(ask, REFUSAL))
    assert seen[0] == ("Why 0?", 2)
    assert replies[0].text == "Fact 0"
    assert replies[0].citations[0].document == "d01"
    assert [reply.question_id for reply in replies if reply.abstained] == ["q3"]
    assert recorded == [question.id for question in QUESTIONS]
    again, recorded = _answer(FunctionAnswerer(ask, REFUSAL), {reply.question_id: reply for reply in replies[:7]})
    assert (again[:7], recorded) == (replies[:7], ["q7", "q8"])


def test_a_function_that_raises_fails_for_that_question_alone() -> None:
    def ask(question: str, hits: list[Hit]) -> str:
        if question == "Why 1?":
            raise KeyError("missing")
        return None if question == "Why 2?" else "yes"  # type: ignore[return-value]

    replies, _ = _answer(FunctionAnswerer(ask, REFUSAL))
    errors = ["", "KeyError: 'missing'", "the function returned NoneType, not a text"]
    assert [reply.error for reply in replies[:3]] == errors
    assert not any(reply.error for reply in replies[3:])
