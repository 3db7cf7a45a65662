"""Arms, refusals, and the runner with its journal."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pytest

from hybrid.arms import (
    ARMS,
    PromptChoice,
    Runner,
    is_refusal,
    select_arms,
)
from hybrid.config import ArmConfig, Config, PromptConfig, config_from_dict
from hybrid.errors import ConfigError
from hybrid.eval.comparison import Reply
from hybrid.types import Chunk, Hit, Question

REFUSAL = PromptConfig().refusal


def _hits(*numbers: int) -> list[Hit]:
    chunks = [Chunk(f"d{n}#0-9", f"d{n % 10}", 0, 9, f"Fact {n:04}") for n in numbers]
    return [Hit(chunk, 1 / rank, rank) for rank, chunk in enumerate(chunks, 1)]


QUESTIONS = [Question(f"q{n}", "Why is it so" + " so" * n + "?", ("x",)) for n in range(9)]
HITS = [_hits(n, n + 10, n + 11) for n in range(9)]
ZERO = PromptChoice("zero-shot", 3, ())


def _answer(
    runner: Runner, choice: PromptChoice = ZERO, done: dict[str, Reply] | None = None
) -> tuple[list[Reply], list[list[str]]]:
    recorded: list[list[str]] = []

    def record(replies: Sequence[Reply]) -> None:
        recorded.append([reply.question_id for reply in replies])

    return runner.answer(QUESTIONS, HITS, choice, label="t", done=done or {}, record=record), recorded


def _timeless(replies: Sequence[Reply]) -> list[Reply]:
    # Another batch rounds differently.
    return [replace(reply, seconds=0.0, confidence=round(reply.confidence or 0, 3)) for reply in replies]


def test_the_default_arms_are_known_and_use_what_they_say() -> None:
    assert [arm.name for arm in select_arms(Config().compare.arms)] == list(Config().compare.arms)
    assert {name: (arm.adapter, arm.context, arm.searched) for name, arm in ARMS.items()} == {
        "base": (None, "none", False),
        "rag": (None, "retrieved", True),
        "tuned": ("tuned", "none", False),
        "tuned_rag": ("tuned", "retrieved", False),
        "hybrid": ("hybrid", "retrieved", False),
        "hybrid_closed": ("hybrid", "none", False),
        "rag_oracle": (None, "oracle", True),
        "hybrid_oracle": ("hybrid", "oracle", False),
        "hybrid_distractors": ("hybrid", "distractors", False),
    }


def test_a_section_describes_another_arm() -> None:
    values = {"compare": {"arms": ["rag", {"name": "big", "model": "a/b", "context": "none"}]}}
    rag, big = select_arms(config_from_dict(values).compare.arms)
    assert rag is ARMS["rag"]
    assert (big.name, big.context, big.adapter, big.outside) == ("big", "none", None, False)
    assert big.description == "model b, closed book"
    endpoint, function = select_arms([ArmConfig("far", model="m", base_url="http://x/v1")], ["mine"])
    assert endpoint.outside and function.outside
    assert (endpoint.context, function.context) == ("retrieved", "retrieved")


def test_a_description_tells_no_folder() -> None:
    (arm,) = select_arms([ArmConfig("x", adapter="/secret/place/adapter", model="/secret/place/model")])
    assert "secret" not in arm.description
    assert "model model with the adapter adapter" in arm.description


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (ArmConfig(model="a/b"), "an arm needs a name of letters"),
        (ArmConfig("../x", model="a/b"), "an arm needs a name of letters.*'../x'"),
        (ArmConfig("rag", model="a/b"), "'rag' is an arm already"),
        (ArmConfig("x"), "x needs a model, an adapter"),
        (ArmConfig("x", base_url="http://h/v1"), "x.base_url names an endpoint: set compare.arms: x.model"),
        (ArmConfig("x", base_url="http://h/v1", model="m", adapter="a"), "and no adapter"),
    ],
)
def test_an_incomplete_section_is_named(arm: ArmConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_arms(["rag", arm])


def test_a_function_may_not_take_a_name() -> None:
    with pytest.raises(ConfigError, match="'rag' is an arm already"):
        select_arms(["rag"], ["rag"])
    with pytest.raises(ConfigError, match="each arm once, found x, x"):
        select_arms([ArmConfig("x", model="m")], ["x"])


@pytest.mark.parametrize(
    ("names", "message"),
    [(["rag", "oracel"], "unknown arm 'oracel'; known are base"), ([], "found none"), (["rag", "rag"], "rag, rag")],
)
def test_wrong_arms_are_named(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_arms(names)


@pytest.mark.parametrize(
    "text",
    [
        REFUSAL,
        REFUSAL.lower().strip("."),
        f"  {REFUSAL}\n",
        "",
        " ",
        "I don't know.",
        "The passages do not mention it.",
        "I don\u2019t know.",
        "The passage [1] does not provide the length of the mast.",
        "There is no information about the mast in the passages.",
        "I'm sorry, but the length is not given in the text. You may ask the harbour master.",
        "It cannot be determined.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert is_refusal(text, REFUSAL)


@pytest.mark.parametrize(
    "text",
    [
        "Every 4,000 hours.",
        "no",
        "The pump does not answer to remote commands.",
        "0",
        "The tank does not contain water.",
        "Call the duty officer. The documents of the cargo do not contain her number.",
        "If the TV cannot find a channel, run the automatic search.",
        "The sender cannot be found while the radio is off.",
        "It is stored in the shed, which is not mentioned in the register.",
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text, REFUSAL)


def test_an_empty_refusal_setting_makes_nothing_a_refusal() -> None:
    assert not is_refusal("Every day.", "")


def test_replies_come_in_the_order_of_the_questions_and_name_their_chunks(runner: Runner) -> None:
    replies, recorded = _answer(runner)
    assert [reply.question_id for reply in replies] == [question.id for question in QUESTIONS]
    assert len(recorded) > 1, "several batches"
    assert sorted(chain.from_iterable(recorded)) == sorted(question.id for question in QUESTIONS)
    for reply, hits in zip(replies, HITS, strict=True):
        assert reply.contexts == tuple(hit.chunk.id for hit in hits)
        assert reply.documents == tuple(dict.fromkeys(hit.chunk.document for hit in hits))
        assert reply.text == reply.text.strip()
        assert reply.seconds > 0
        assert not (reply.abstained and reply.citations)


def test_documents_are_what_was_retrieved_and_contexts_what_was_shown(runner: Runner) -> None:
    replies, _ = _answer(runner, PromptChoice("zero-shot", 1, ()))
    assert replies[3].contexts == ("d3#0-9",)
    assert replies[3].documents == ("d3", "d4")


def test_the_text_does_not_depend_on_the_batch(runner: Runner) -> None:
    together, _ = _answer(replace(runner, batch_tokens=100_000))
    alone, recorded = _answer(replace(runner, batch_tokens=1))
    assert all(len(batch) == 1 for batch in recorded)
    assert [reply.text for reply in alone] == [reply.text for reply in together]


def test_replies_that_are_done_are_not_made_again(runner: Runner) -> None:
    whole, batches = _answer(runner)
    first = {reply.question_id: replace(reply, text="kept") for reply in whole if reply.question_id in batches[0]}
    replies, recorded = _answer(runner, done=first)
    assert recorded == batches[1:]
    assert {reply.question_id for reply in replies if reply.text == "kept"} == set(batches[0])
    rest = [reply for reply in whole if reply.question_id not in first]
    assert _timeless([reply for reply in replies if reply.question_id not in first]) == _timeless(rest)


def test_a_run_goes_on_by_question(runner: Runner) -> None:
    whole, _ = _answer(runner)
    done = {reply.question_id: replace(reply, text="kept") for reply in whole[::2]}
    replies, recorded = _answer(runner, done=done)
    assert sorted(chain.from_iterable(recorded)) == sorted(question.id for question in QUESTIONS[1::2])
    assert _timeless(replies[1::2]) == _timeless(whole[1::2])
    assert {reply.text for reply in replies[::2]} == {"kept"}
    again, recorded = _answer(runner, done={reply.question_id: reply for reply in whole})
    assert (again, recorded) == (whole, [])


def test_the_best_chunk_may_stand_last(runner: Runner) -> None:
    first, _ = _answer(runner)
    last, _ = _answer(runner, ZERO._replace(best_last=True))
    for one, other in zip(first, last, strict=True):
        assert one.contexts == other.contexts[::-1]
        assert one.documents == other.documents, "what was retrieved stays as it was"
    tight = replace(runner, prompt=replace(runner.prompt, max_tokens=80))
    _, hits = tight.encode("Why?", HITS[0], ZERO._replace(best_last=True))
    assert [hit.chunk.id for hit in hits] == ["d0#0-9"], "the best chunk is the one that is kept"


def test_replies_count_their_tokens(runner: Runner) -> None:
    replies, _ = _answer(runner)
    for question, hits, reply in zip(QUESTIONS, HITS, replies, strict=True):
        assert reply.tokens_in == len(runner.encode(question.question, hits, ZERO)[0])
        assert 0 <= reply.tokens_out <= runner.max_new_tokens
    assert any(reply.tokens_out for reply in replies)


def test_a_next_question_of_the_models_own_is_no_part_of_its_answer(runner: Runner) -> None:
    output = runner.tokenizer("Every day.\n\nQuestion: And then?", add_special_tokens=False)["input_ids"]
    reply = runner._reply(QUESTIONS[0], [], [], output, 0.1)
    assert reply.text == "Every day."
