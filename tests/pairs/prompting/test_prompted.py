"""A teacher that asks a model: what it asks, how strictly it reads, one repair, counts, and going on after a kill."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.config import TeacherConfig
from hybrid.errors import EndpointError, TrainingError
from hybrid.pairs.candidates import candidate_from_draft
from hybrid.pairs.prompting.dialogue import EXAMPLE, EXAMPLE_REPLY, Reading, ask, read
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.prompting.prompted import PromptedTeacher
from hybrid.types import Chunk

TEXT = "The station has **six** tanks.\nEach tank holds 1,500 litres of fuel. A sump is a pit below a tank."
CHUNK = Chunk("s.md#0-99", "s.md", 0, len(TEXT), TEXT, "Fuel")
GOOD = {
    "kind": "number",
    "question": "How much does a tank hold?",
    "answer": "1,500 litres",
    "quote": "Each tank holds 1,500 litres of fuel.",
}


def _line(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def _read(text: str, ended: Any = "stop") -> Reading:
    return read(Reply(0, text, 1, 1, ended), CHUNK)


class Scripted:
    """Answers by a function of the prompt, last prompt first, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Messages], str], limit: int = 10**9) -> None:
        self._answer = answer
        self._limit = limit
        self.asked: list[Messages] = []

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        for place in reversed(range(len(prompts))):
            if len(self.asked) == self._limit:
                raise EndpointError("the server went away")
            self.asked.append(prompts[place])
            yield Reply(place, self._answer(prompts[place]), 100, 10)


def _teacher(generator: Any, journal: Path, window: int = 32, **settings: Any) -> PromptedTeacher:
    return PromptedTeacher(generator, "tiny", TeacherConfig(**settings), journal, window)


def _chunks(count: int) -> list[Chunk]:
    texts = [f"Tank {n} holds {n * 7} litres of fuel." for n in range(count)]
    return [Chunk(f"{n}.md#0", f"{n}.md", 0, len(text), text) for n, text in enumerate(texts)]


def _about(prompt: Messages) -> str:
    """A good reply about one of `_chunks`."""
    passage = prompt[3]["content"].split("Passage:\n")[1].split("\n")[0]
    tank, litres = passage.split()[1], passage.split()[3]
    return json.dumps(
        {"kind": "number", "question": f"What does tank {tank} hold?", "answer": f"{litres} litres", "quote": passage}
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def test_the_example_shown_to_the_model_is_without_fault() -> None:
    drafts, problems = read(Reply(0, EXAMPLE_REPLY, 1, 1), EXAMPLE)
    assert problems == []
    assert [draft.kind for draft in drafts] == ["number", "denied", "procedure", "definition"]


def test_a_draft_points_at_its_answer_and_quote() -> None:
    (draft,), problems = _read(_line())
    assert not problems
    assert (draft.question, draft.kind) == (GOOD["question"], "number")
    assert TEXT[draft.start : draft.end] == "1,500 litres"
    assert TEXT[draft.quote_start : draft.quote_end] == GOOD["quote"]


def test_the_answer_is_the_one_inside_the_quote() -> None:
    text = "A tank is blue. The other tank is blue as well."
    chunk = Chunk("a#0", "a", 0, len(text), text)
    reply = _line(kind="fact", answer="blue.", quote="The other tank is blue as well", question="Which colour is it?")
    (draft,) = read(Reply(0, reply, 1, 1), chunk).drafts
    assert (draft.start, draft.end) == (34, 38)


@pytest.mark.parametrize(
    ("question", "quote"),
    [("Is the tank made of gold?", "1,500 litres"), ("Does the helicopter land here?", GOOD["quote"])],
)
def test_a_decision_needs_a_quote_that_speaks_of_it(question: str, quote: str) -> None:
    found = read(Reply(0, _line(kind="yes_no", question=question, answer="yes", quote=quote), 1, 1), CHUNK)
    assert found.drafts == []
    assert [problem.reason for problem in found.problems] == ["quote of a yes/no question proves nothing"]


@pytest.mark.parametrize(("said", "kind", "answer"), [("Yes.", "affirmed", "yes"), ("no", "denied", "no")])
def test_yes_and_no_become_answers_as_they_are(said: str, kind: str, answer: str) -> None:
    (draft,) = _read(_line(kind="Yes/No", answer=said, question="Does a tank hold 1,500 litres?")).drafts
    assert draft.kind == kind
    assert draft.start == draft.end == draft.quote_start
    for seed in range(20):  # never turned round by another number, as the offline teacher's statements are
        candidate = candidate_from_draft(draft, CHUNK, "t", Random(seed))
        assert (candidate.question, candidate.answer) == ("Does a tank hold 1,500 litres?", answer)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"answer": "1,500 litres"}, "number"),
        ({"question": "What holds 1,500 litres of fuel?", "answer": "Each tank"}, "fact"),
        ({"question": "Does a tank hold 1,500 litres?", "answer": "Yes"}, "affirmed"),
    ],
)
def test_a_question_without_its_kind_shows_it_by_its_answer(line: dict[str, str], kind: str) -> None:
    values = {key: value for key, value in {**GOOD, **line}.items() if key != "kind"}
    for extra in ({}, {"kind": None}, {"kind": ""}):
        drafts, problems = _read(json.dumps({**values, **extra}))
        assert problems == []
        assert [draft.kind for draft in drafts] == [kind]


def test_a_kind_that_is_no_string_is_unknown_and_not_fatal() -> None:
    drafts, problems = _read(_line(kind=3) + "\n" + _line())
    assert len(drafts) == 1
    assert [problem.reason for problem in problems] == ["unknown kind"]


@pytest.mark.parametrize(
    "form",
    [
        "{0}\n{1}",
        "```json\n{0}\n{1}\n```",
        "[{0},\n {1}]",
        "Here are two questions:\n\n1. {0}\n2. {1}\n\nI hope that helps!",
        '<think>They want {{JSON}}, like {{"kind": 1}}.</think>\n{0}\n{1}',
        "{2}\n{1}",
    ],
)
def test_lines_lists_blocks_and_chatter_are_read_alike(form: str) -> None:
    other = _line(question="What is the volume of a fuel tank?")
    text = form.format(_line(), other, json.dumps(GOOD, indent=2))
    drafts, problems = _read(text)
    assert [draft.question for draft in drafts] == [GOOD["question"], "What is the volume of a fuel tank?"]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot do that.", "no JSON object"),
        ("", "no JSON object"),
        (_line()[:-2], "no JSON object"),
        ('{"kind": "fact"}', "a key is missing, empty or no string"),
        (_line(answer=1500), "a key is missing, empty or no string"),
        (_line(question="  "), "a key is missing, empty or no string"),
        (json.dumps({"questions": [GOOD]}), "a key is missing, empty or no string"),
        (_line(kind="riddle"), "unknown kind"),
        (_line(kind="yes/no", answer="perhaps"), "answer of a yes/no question is neither"),
        (_line(quote="Each tank holds 1,600 litres of fuel."), "quote not in the passage"),
        (_line(answer="500 litres"), "answer not in its quote"),
        (_line(answer="six"), "answer not in its quote"),
        (_line(answer="..."), "answer not in its quote"),
        (_line(question="Does it hold 1,500 litres?"), "answer is in its question"),
        (_line(question="Why " * 50), "question longer than 40 words"),
        (_line(answer="six tanks", quote="The station has six tanks."), "answer runs over markup"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(text: str, reason: str) -> None:
    drafts, problems = _read(text)
    assert drafts == []
    assert [problem.reason for problem in problems] == [reason]


def test_only_procedures_may_be_long() -> None:
    text = "To start, " + ", ".join(f"turn wheel {n}" for n in range(10)) + "."
    chunk = Chunk("a#0", "a", 0, len(text), text)
    steps = text.removeprefix("To start, ")

    def problems(kind: str) -> list[str]:
        reply = _line(kind=kind, question="How does one start?", answer=steps, quote=text)
        return [problem.reason for problem in read(Reply(0, reply, 1, 1), chunk).problems]

    assert problems("procedure") == []
    assert problems("fact") == ["answer longer than 16 words"]


def test_a_bad_line_costs_no_good_one() -> None:
    drafts, problems = _read("\n".join([_line(), "{broken", _line(question="What is held?"), _line(quote="No.")]))
    assert [draft.question for draft in drafts] == [GOOD["question"], "What is held?"]
    assert [problem.source for problem in problems] == ["{broken", _line(quote="No.")]


def test_a_reply_that_was_cut_off_says_so() -> None:
    drafts, problems = _read(_line() + "\n" + _line()[:30], "length")
    assert len(drafts) == 1
    assert [problem.reason for problem in problems] == ["cut off by max_new_tokens"]
    assert _read(_line() + "\n" + _line(kind="riddle"), "length").problems[0].reason == "unknown kind"


@pytest.mark.parametrize("text", ["NONE", " none.\n", "<think>Nothing here.</think>`NONE`"])
def test_a_model_may_find_nothing_to_ask(text: str) -> None:
    assert _read(text) == Reading([], [])


@given(st.text(st.sampled_from('{}[]":,\\`\n kindquestonaw'), max_size=80))
def test_any_reply_is_survived(text: str) -> None:
    for draft in _read(text).drafts:
        assert TEXT[draft.quote_start : draft.quote_end]


def test_deep_nesting_is_survived() -> None:
    assert _read('{"a":' * 100_000).problems


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_prompt_shows_the_chunk_and_the_number_wanted() -> None:
    prompt = ask(CHUNK, 9)
    assert [message["role"] for message in prompt] == ["system", "user", "assistant", "user"]
    assert f"Title: Fuel\nPassage:\n{TEXT}\n" in prompt[-1]["content"]
    assert "Write 9 questions" in prompt[-1]["content"]
    assert prompt[:3] == ask(_chunks(1)[0], 9)[:3]  # the same for all chunks, so that it is computed once


def test_half_of_the_chunks_are_asked_for_a_no() -> None:
    wanted = [ask(chunk, 6)[-1]["content"].endswith("no.") for chunk in _chunks(200)]
    assert 70 < sum(wanted) < 130


# --- drafting ---------------------------------------------------------------------------------------------------------


def test_drafts_come_in_the_order_of_the_chunks(tmp_path: Path) -> None:
    teacher = _teacher(Scripted(_about), tmp_path / "j", window=3)
    drafts = [draft for found in teacher.draft(_chunks(8)) for draft in found or ()]
    assert [draft.question for draft in drafts] == [f"What does tank {n} hold?" for n in range(8)]
    assert teacher.figures() == (
        {"teacher calls": 8, "teacher tokens in": 800, "teacher tokens out": 80},
        {},
    )


def test_chunks_with_the_same_text_are_asked_about_once(tmp_path: Path) -> None:
    generator = Scripted(lambda _: _line())
    twins = [CHUNK, CHUNK]
    assert len({str(drafts) for drafts in _teacher(generator, tmp_path / "j").draft(twins)}) == 1
    assert len(generator.asked) == 1


def _faulty_at_first(second: str) -> Callable[[Messages], str]:
    def answer(prompt: Messages) -> str:
        return second if len(prompt) > 4 else "\n".join([_line(), _line(quote="Not there."), _line(kind="riddle")])

    return answer


def test_a_faulty_reply_is_repaired_once_with_its_faults_named(tmp_path: Path) -> None:
    generator = Scripted(_faulty_at_first(_line(question="Mended?")))
    teacher = _teacher(generator, tmp_path / "j")
    (drafts,) = teacher.draft([CHUNK])
    assert drafts is not None
    first, mended = drafts
    assert (first.question, mended.question) == (GOOD["question"], "Mended?")
    original, repair = generator.asked
    assert repair[: len(original)] == original
    assert repair[4] == {"role": "assistant", "content": _faulty_at_first("")(original)}
    assert f"{_line(quote='Not there.')}\n-> quote not in the passage" in repair[5]["content"]
    assert "unknown kind" in repair[5]["content"]
    assert _line() not in repair[5]["content"]
    # One of two faulty lines was mended; the other was left out and counts for what was wrong with it.
    assert teacher.figures().dropped == {"unknown kind": 1}


@pytest.mark.parametrize(
    ("second", "drafts", "dropped"),
    [
        ("NONE", 1, {"quote not in the passage": 1, "unknown kind": 1}),
        ("Sorry.", 1, {"no JSON object": 1, "unknown kind": 1}),
        (_line(answer="9 litres") + _line(answer="8 litres"), 1, {"answer not in its quote": 2}),
        (_line(), 1, {"quote not in the passage": 1, "unknown kind": 1}),
        (_line() + _line(question="One?") + _line(question="Two?"), 3, {}),
    ],
)
def test_what_stays_wrong_is_dropped_with_its_reason(
    second: str, drafts: int, dropped: dict[str, int], tmp_path: Path
) -> None:
    teacher = _teacher(Scripted(_faulty_at_first(second)), tmp_path / "j")
    (found,) = teacher.draft([CHUNK])
    assert found is not None
    assert len(found) == drafts
    assert teacher.figures().dropped == dropped
    assert teacher.figures().usage["teacher calls"] == 2


def test_a_refused_prompt_is_dropped_and_not_repaired(tmp_path: Path) -> None:
    class Refusing:
        def __init__(self, *refused: int) -> None:
            self.refused = refused
            self.asked = 0

        def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
            self.asked += len(prompts)
            for place, prompt in enumerate(prompts):
                refused = any(f"Tank {n} " in prompt[3]["content"] for n in self.refused)
                yield Reply(place, "no", None, None, "refused") if refused else Reply(place, _about(prompt), 9, 9)

    refusing = Refusing(1, 2)
    teacher = _teacher(refusing, tmp_path / "j", window=2)
    assert [drafts and len(drafts) for drafts in teacher.draft(_chunks(4))] == [1, None, None, 1]
    assert refusing.asked == 4
    assert teacher.figures().usage["teacher calls"] == 2
    assert teacher.figures().dropped == {"refused by the model's server": 2}
    again = Scripted(_about)
    assert all(_teacher(again, tmp_path / "j").draft(_chunks(4)))
    assert len(again.asked) == 2
    with pytest.raises(EndpointError, match="no"):
        list(_teacher(Refusing(0, 1, 2), tmp_path / "other").draft(_chunks(3)))
    # Where an earlier run drafted others, the refusal of the rest is their own fault.
    proven = PromptedTeacher(Refusing(1), "tiny", TeacherConfig(), tmp_path / "new", proven=True)
    assert list(proven.draft(_chunks(2)[1:])) == [None]
    # After good replies, even of an earlier run, nothing but refusals is no reason to stop.
    assert list(_teacher(Refusing(0, 1), tmp_path / "j").draft([*_chunks(5)[4:], *_chunks(2)]))


def test_cost_and_missing_token_counts_are_reported(tmp_path: Path) -> None:
    class Silent:
        def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
            for place, prompt in enumerate(prompts):
                yield Reply(place, _about(prompt), None if place else 2_000_000, None if place else 500_000)

    teacher = _teacher(Silent(), tmp_path / "j", price_in=0.5, price_out=2.0)
    list(teacher.draft(_chunks(3)))
    assert teacher.figures().usage == {
        "teacher calls": 3,
        "teacher tokens in": 2_000_000,
        "teacher tokens out": 500_000,
        "teacher cost": 2.0,
        "teacher calls without token counts": 2,
    }


# --- going on ---------------------------------------------------------------------------------------------------------


def test_no_finished_call_is_repeated(tmp_path: Path) -> None:
    chunks, journal = _chunks(10), tmp_path / "j"

    def answer(prompt: Messages) -> str:
        return "rubbish" if "Tank 3 " in prompt[3]["content"] else _about(prompt)

    whole = _teacher(Scripted(answer), tmp_path / "whole", window=4)
    expected = list(whole.draft(chunks))
    asked: list[Messages] = []
    for limit in (3, 1, 0, 2, 100):
        generator = Scripted(answer, limit)
        teacher = _teacher(generator, journal, window=4)
        found = teacher.draft(chunks)
        try:
            drafts = list(found)
        except EndpointError:
            journal.write_text(journal.read_text(encoding="utf-8") + '\n{"prompt": "cut', encoding="utf-8")
        asked += generator.asked
    assert drafts == expected
    assert len(asked) == len({json.dumps(list(prompt)) for prompt in asked}) == 11
    assert teacher.figures() == whole.figures()
    assert whole.figures().dropped == {"no JSON object": 1}


def test_a_journal_holds_what_drafts_are_made_of(tmp_path: Path) -> None:
    class Timed(Scripted):
        def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
            yield from (reply._replace(seconds=1.5) for reply in super().generate(prompts))

    (drafts,) = _teacher(Timed(_about), tmp_path / "j").draft(_chunks(1))
    record = json.loads((tmp_path / "j").read_text(encoding="utf-8"))
    assert record["reply"] == [_about(ask(_chunks(1)[0], 1)), 100, 10, "stop"]
    again = Scripted(_about)
    assert list(_teacher(again, tmp_path / "j").draft(_chunks(1))) == [drafts]
    assert not again.asked


def test_figures_keep_chunks_that_an_earlier_run_finished(tmp_path: Path) -> None:
    journal, chunks = tmp_path / "j", _chunks(4)
    list(islice(_teacher(Scripted(lambda _: "rubbish"), journal, window=1).draft(chunks), 2))
    later = _teacher(Scripted(_about), journal, window=1)
    list(later.draft(chunks[2:]))
    assert later.figures().usage["teacher calls"] == 2 * 2 + 2
    assert later.figures().dropped == {"no JSON object": 2}


# --- in a build -------------------------------------------------------------------------------------------------------


def _machines(prompt: Messages) -> str:
    """Asks about the first machine of a chunk, and once about something that is not there."""
    sentence = prompt[3]["content"].split("Passage:\n")[1].split("\n")[0].strip()
    if len(prompt) > 4:
        return "NONE"
    number, place = sentence.split()[1], sentence.split()[-1].strip(".")
    good = {"kind": "fact", "question": f"Where does machine {number} stand?", "answer": place, "quote": sentence}
    return json.dumps(good) + "\n" + json.dumps({**good, "quote": "Nowhere."})


def test_a_build_counts_what_the_teacher_took_and_lost(build: Callable[..., Any], tmp_path: Path) -> None:
    result = build(teacher=_teacher(Scripted(_machines), tmp_path / "j"), p_multi=0.0)
    chunks = result.counts["teacher calls"] / 2
    assert result.counts["dropped: quote not in the passage"] == chunks > 40
    assert result.counts["candidates"] == 2 * chunks
    assert result.counts["teacher tokens in"] == 200 * chunks
    assert {pair.source for pair in result.train} == {"prompted-3 (tiny)"}


def test_a_model_that_writes_nothing_usable_says_why(build: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no training pair is left of \d+ candidates; dropped: no JSON object \d+"):
        build(teacher=_teacher(Scripted(lambda _: "Hm."), tmp_path / "j"))
