"""Candidates from drafts and from the user's questions, and the gates."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.candidates import (
    Candidate,
    Funnel,
    candidate_from_draft,
    candidates_from_question,
    is_self_contained,
    quotes_hold,
    unlike_evaluation,
    without_duplicates,
    words,
)
from hybrid.pairs.teacher import Draft
from hybrid.types import Chunk, Question, Quote


def _chunk(text: str, start: int = 100, document: str = "d.md") -> Chunk:
    return Chunk(f"{document}#{start}-{start + len(text)}", document, start, start + len(text), text)


def _candidate(question: str, *quotes: Quote) -> Candidate:
    return Candidate(question, question, "a", ("c",), ("d.md",), quotes, "test")


# --- drafts -----------------------------------------------------------------------------------------------------------


def test_a_draft_becomes_a_span_of_the_document() -> None:
    chunk = _chunk("Oil lasts. The tank holds 90 litres.")
    start = chunk.text.index("90 litres")
    draft = Draft("How much does the tank hold?", start, start + 9, 11, 36, "number")
    candidate = candidate_from_draft(draft, chunk, "test", Random(0))
    assert candidate.answer == "90 litres"
    (quote,) = candidate.quotes
    assert (quote.start, quote.end, quote.text) == (111, 136, "The tank holds 90 litres.")
    assert candidate.oracles == (chunk.id,)
    assert candidate.documents == ("d.md",)


def test_yes_no_drafts_are_made_false_by_another_number() -> None:
    chunk = _chunk("Pump 12 runs at 2 bar and 75 degrees.")
    draft = Draft("Does pump 12 run at 2 bar?", 0, 0, 0, len(chunk.text), "yes")
    made = [candidate_from_draft(draft, chunk, "test", Random(seed)) for seed in range(60)]
    answers = [candidate.answer for candidate in made]
    assert 15 < answers.count("yes") < 45
    assert {c.question for c in made if c.answer == "yes"} == {draft.question}
    assert {c.question for c in made if c.answer == "no"} == {
        "Does pump 75 run at 2 bar?",
        "Does pump 12 run at 75 bar?",
    }


def test_without_another_number_one_is_made_up() -> None:
    chunk = _chunk("The pump runs at 2 bar.")
    draft = Draft("Does the pump run at 2 bar?", 0, 0, 0, len(chunk.text), "yes")
    made = {candidate_from_draft(draft, chunk, "test", Random(seed)) for seed in range(20)}
    (false,) = {candidate.question for candidate in made if candidate.answer == "no"}
    assert false != draft.question
    assert false.startswith("Does the pump run at ")


@pytest.mark.parametrize(
    "question",
    [
        "Does Room 2 hold the fish?",
        "Is class 3 reported at once?",
        "Must at least 2 people go?",
        "Does it take more than 15 hours?",
        "Is it kept above −18 degrees?",
    ],
)
def test_a_number_that_names_or_bounds_is_not_replaced(question: str) -> None:
    chunk = _chunk("There are 4, 5 and 60 of them, and 7 more.")
    draft = Draft(question, 0, 0, 0, 10, "yes")
    made = [candidate_from_draft(draft, chunk, "test", Random(seed)) for seed in range(20)]
    assert {(candidate.question, candidate.answer) for candidate in made} == {(question, "yes")}


def test_a_year_is_only_mistaken_for_a_year() -> None:
    chunk = _chunk("In 1967 it had 12 tanks and 1,600 litres; it burnt in 1982.")
    draft = Draft("Was the hut built in 1967?", 0, 0, 0, 10, "yes")
    made = [candidate_from_draft(draft, chunk, "test", Random(seed)) for seed in range(20)]
    assert {candidate.question for candidate in made if candidate.answer == "no"} == {"Was the hut built in 1982?"}


def test_without_a_number_a_statement_stays_true() -> None:
    draft = Draft("Is the door red?", 0, 0, 0, 16, "yes")
    made = [candidate_from_draft(draft, _chunk("The door is red."), "test", Random(seed)) for seed in range(20)]
    assert {candidate.answer for candidate in made} == {"yes"}


# --- the user's questions ---------------------------------------------------------------------------------------------


def _from(question: Question, *chunks: Chunk, retrieved: tuple[Chunk, ...] = ()) -> Candidate | None:
    by_document: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_document.setdefault(chunk.document, []).append(chunk)
    return candidates_from_question(question, by_document, retrieved, "Not answered.", "file")


@pytest.mark.parametrize(
    ("text", "answer", "quote"),
    [
        ("The tank holds 90 litres.", "90 LITRES", "90 litres"),
        ("It weighs 15 kg. It has 5 legs.", "5", "5"),
        ("Version 1.5 came before version 5.", "5", "5"),
        ("The price is 1,500 euros.", "1,500", "1,500"),
        ("Press the\n  red button.", "the red button", "the\n  red button"),
        ("Call C++ (or C).", "C++", "C++"),
        ("首都は東京都です。", "東京", "東京"),
        ("Es heißt Straße.", "straße", "Straße"),
        ("Temperature: 20 °C (max).", "20 °C", "20 °C"),
    ],
)
def test_an_answer_is_found_in_its_document(text: str, answer: str, quote: str) -> None:
    chunk = _chunk(text)
    candidate = _from(Question("1", "Q?", (answer,), ("d.md",)), chunk)
    assert candidate is not None
    assert candidate.answer == answer
    (found,) = candidate.quotes
    assert found.text == quote
    assert chunk.text[found.start - chunk.start : found.end - chunk.start] == quote
    if text.startswith("It weighs"):
        assert found.start - chunk.start == text.index("5 legs")
    assert quotes_hold(candidate, {"d.md": " " * 100 + text})


def test_a_number_inside_another_number_is_not_the_answer() -> None:
    right, wrong = _chunk("Room 5 is cold.", 0), _chunk("Room 15 is warm, says page 250.", 50)
    candidate = _from(Question("1", "Q?", ("5",), ("d.md",)), wrong, right)
    assert candidate is not None
    assert candidate.oracles == (right.id,)


def test_of_several_chunks_the_best_retrieved_is_the_oracle() -> None:
    first, second = _chunk("A red door.", 0), _chunk("The door is red.", 50)
    question = Question("1", "Q?", ("red",), ("d.md",))
    for order in ((first, second), (second, first)):
        candidate = _from(question, first, second, retrieved=order)
        assert candidate is not None
        assert candidate.oracles == (order[0].id,)


def test_every_given_answer_is_looked_for() -> None:
    candidate = _from(Question("1", "Q?", ("crimson", "red"), ("d.md",)), _chunk("The door is red."))
    assert candidate is not None
    assert candidate.answer == "red"


def test_an_answer_in_other_words_takes_the_closest_chunk_of_the_gold_document() -> None:
    near = _chunk("The big red door of the house is shut at night.", 0)
    far = _chunk("Birds sing.", 60)
    candidate = _from(Question("1", "Q?", ("at night the red door is shut",), ("d.md",)), far, near)
    assert candidate is not None
    assert candidate.oracles == (near.id,)
    assert candidate.quotes[0].text == near.text


def test_without_gold_only_a_retrieved_chunk_with_the_answer_supports_it() -> None:
    chunk = _chunk("The door is red.")
    question = Question("1", "Q?", ("red",))
    assert _from(question, chunk) is None
    found = _from(question, chunk, retrieved=(chunk,))
    assert found is not None
    assert found.oracles == (chunk.id,)
    assert _from(Question("1", "Q?", ("blue",)), chunk, retrieved=(chunk,)) is None


def test_without_gold_the_holder_nearest_to_the_question_supports_the_answer() -> None:
    first, second = _chunk("A red boat.", 0), _chunk("The door of the hut is red.", 50)
    found = _from(Question("1", "Which colour has the door of the hut?", ("red",)), retrieved=(first, second))
    assert found is not None
    assert found.oracles == (second.id,)


@pytest.mark.parametrize("gold", [(), ("unknown.md",)])
def test_an_answer_in_other_words_needs_a_retrieved_chunk_near_to_it(gold: tuple[str, ...]) -> None:
    near = _chunk("The big red door of the house is shut at night.", 0)
    far = _chunk("A door.", 60)
    question = Question("1", "When is the red door shut?", ("it is shut at night time",), gold)
    found = _from(question, retrieved=(far, near))
    assert found is not None
    assert (found.oracles, found.quotes[0].text, found.answer) == ((near.id,), near.text, "it is shut at night time")
    assert found.documents == ("d.md", *gold)
    assert _from(question, retrieved=(far,)) is None


def test_an_answer_is_held_as_evaluation_reads_it() -> None:
    chunk = _chunk("It opened the Iron-Bridge\u2019s gates, in May.")
    found = _from(Question("1", "What opened in May?", ("iron bridges gates", "the gates in may")), retrieved=(chunk,))
    assert found is not None
    assert found.answer == "the gates in may"
    assert found.quotes[0].text in {"gates, in May", chunk.text}


@pytest.mark.parametrize("answer", ["no", "Yes.", "maybe"])
def test_a_bare_decision_is_no_span(answer: str) -> None:
    holds, near = _chunk("No, yes, maybe.", 0), _chunk("The door of the hut is red.", 50)
    found = _from(Question("1", "Is the door of the hut red?", (answer,)), retrieved=(holds, near))
    assert found is not None
    assert (found.oracles, found.quotes[0].text, found.answer) == ((near.id,), near.text, answer)


def test_a_question_without_an_answer_teaches_nothing() -> None:
    assert _from(Question("1", "Q?", (), ("d.md",)), _chunk("The door is red.")) is None


def test_a_candidate_is_about_all_its_gold_documents() -> None:
    found = _from(Question("1", "Q?", ("red",), ("e.md", "d.md")), _chunk("The door is red."))
    assert found is not None
    assert found.documents == ("d.md", "e.md")


def test_an_unanswerable_question_is_refused() -> None:
    candidate = _from(Question("1", "Q?", answerable=False), _chunk("The door is red."))
    assert candidate is not None
    assert (candidate.answer, candidate.oracles, candidate.quotes) == ("Not answered.", (), ())


# --- gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        "What does this section list?",
        "What is in the following TABLE?",
        "Who wrote these pages?",
        "How heavy is it?",
        "What does he do next?",
        "Which valve is mentioned here?",
        "What comes first according to the author?",
    ],
)
def test_questions_that_point_at_their_passage_are_dropped(question: str) -> None:
    assert not is_self_contained(_candidate(question))


@pytest.mark.parametrize(
    "question",
    [
        "Which table stands in the mess on this island?",
        "What is the next step after opening valve 3?",
        "What does the Next page button do?",
        "Is it safe to dive?",
        "How long does the pump run before it stops?",
    ],
)
def test_other_questions_stand_alone(question: str) -> None:
    assert is_self_contained(_candidate(question))


def test_a_quote_must_be_in_its_document() -> None:
    texts = {"d.md": "The door is red."}
    assert quotes_hold(_candidate("?", Quote("d.md", 4, 8, "door")), texts)
    for quote in (
        Quote("d.md", 5, 9, "door"),
        Quote("e.md", 4, 8, "door"),
        Quote("d.md", 3, 4, " "),
        Quote("d.md", 4, 8, "Door"),
    ):
        assert not quotes_hold(_candidate("?", Quote("d.md", 4, 8, "door"), quote), texts)


def test_the_first_of_several_equal_questions_passes() -> None:
    passes = without_duplicates()
    questions = ["Where is it?", "where is IT", "Where it is?"]
    assert [passes(_candidate(question)) for question in questions] == [True, False, True]


@given(
    question=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8),
    evaluation=st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8), max_size=8),
    limit=st.sampled_from([0.2, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 1.0, 1.1]),
)
def test_the_gate_against_leakage_is_the_jaccard_similarity(
    question: list[str], evaluation: list[list[str]], limit: float
) -> None:
    passes = unlike_evaluation([Question(str(n), " ".join(bag), ("x",)) for n, bag in enumerate(evaluation)], limit)
    mine = set(question)
    wanted = all(len(mine & set(other)) / len(mine | set(other)) < limit for other in evaluation)
    assert passes(_candidate(" ".join(question))) == wanted


def test_the_gate_against_leakage_compares_no_questions_that_share_common_words_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []

    def counted(shared: int, one: int, other: int) -> float:
        compared.append(shared)
        return shared / (one + other - shared)

    monkeypatch.setattr("hybrid.pairs.candidates._jaccard", counted)
    asked = "What is the pressure of the pump {}?"
    passes = unlike_evaluation([Question(str(n), asked.format(f"P{n}"), ("x",)) for n in range(300)], 0.8)
    assert all(passes(_candidate(asked.format(f"Q{n}"))) for n in range(300))
    assert not passes(_candidate(asked.format("P7")))
    assert len(compared) < 300 * 10


def test_a_funnel_counts_what_each_gate_drops() -> None:
    funnel = Funnel()
    kept = funnel.keep("short", [_candidate("a"), _candidate("bb"), _candidate("c")], lambda c: len(c.question) > 1)
    funnel.keep("short", kept, lambda c: False)
    assert [c.question for c in kept] == ["bb"]
    assert funnel.counts == {"short": 3}


def test_words_are_lower_case_without_punctuation() -> None:
    assert words("The PUMP's 4,000-hour check?") == ["the", "pump", "s", "4", "000", "hour", "check"]
