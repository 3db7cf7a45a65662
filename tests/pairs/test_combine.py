"""Questions over two chunks: what is compared is comparable, what contradicts is about the same thing."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.combine import Conflicts, amount_of, combined_candidates, conflicting_candidates
from hybrid.pairs.contexts.plan import plan_contexts
from hybrid.types import Chunk, Quote


def _candidate(question: str, answer: str, chunk: str, asks: str = "number") -> Candidate:
    document = chunk.partition("#")[0]
    quote = Quote(document, 0, 4, f"{chunk}!")
    return Candidate(f"{chunk}/{question}", question, answer, (chunk,), (document,), (quote,), "syntax", asks)


A = _candidate("How long is the north jetty?", "40 metres", "a#0-9")
B = _candidate("How long is the south jetty?", "25.5 metres", "b#0-9")


@pytest.mark.parametrize(
    ("one", "other", "question", "answer"),
    [
        (("How long is the old jetty?", "40 m"), ("How long is the new pier?", "9 m"), "longer", "the old jetty"),
        (("How much does pump A weigh?", "9 kg"), ("How much does pump B weigh?", "12 kg"), "heavier", "pump B"),
        (
            ("What is the length of the Tern?", "1,100 mm"),
            ("What is the length of the Skua?", "990 mm"),
            "Which has the greater length, ",
            "the Tern",
        ),
        (
            ("How many tanks does the farm have?", "six tanks"),
            ("How many tanks does the camp have?", "two tanks"),
            "Which has more tanks, ",
            "the farm",
        ),
        (
            ("About Heating: what is the power of the boiler?", "40 kW"),
            ("About Heating: what is the power of the stove?", "9 kW"),
            "About Heating: which has the greater power, ",
            "the boiler",
        ),
    ],
)
def test_amounts_of_one_sort_are_compared(
    one: tuple[str, str], other: tuple[str, str], question: str, answer: str
) -> None:
    facts = [_candidate(*one, "a#0-9"), _candidate(*other, "b#0-9")]
    (found,) = combined_candidates(facts, 9, Random(0))
    assert question in found.question
    assert found.question.endswith("?")
    assert found.answer == answer
    assert found.answer in found.question
    assert found.asks == "comparison"
    assert sorted(found.oracles) == ["a#0-9", "b#0-9"]
    assert sorted(found.documents) == ["a", "b"]
    assert {quote.text for quote in found.quotes} == {"a#0-9!", "b#0-9!"}
    assert not found.conflict


@pytest.mark.parametrize(
    "other",
    [
        _candidate(B.question, "25.5 feet", "b#0-9"),
        _candidate(B.question, "40 metres", "b#0-9"),
        _candidate("How wide is the south jetty?", "25 metres", "b#0-9"),
        _candidate(B.question, "25 metres", "a#0-9"),
        _candidate(B.question, "20-25 metres", "b#0-9"),
        _candidate(A.question, "25 metres", "b#0-9"),
        _candidate("How long is the jetty?", "25 metres", "b#0-9"),
        _candidate("What is the code for the south jetty?", "25 metres", "b#0-9"),
    ],
    ids=["unit", "equal", "measure", "same chunk", "range", "same subject", "subject within the other", "no amount"],
)
def test_other_amounts_are_not(other: Candidate) -> None:
    assert combined_candidates([A, other], 9, Random(0)) == []


def test_two_questions_of_one_document_become_one() -> None:
    facts = [
        _candidate("Where is the feed pump kept?", "the shed", "a#0-9", "fact"),
        _candidate("How often is the feed pump tested?", "every week", "a#10-19", "fact"),
        _candidate("Who owns the boat shed?", "the Mechanic", "b#0-9", "fact"),
    ]
    (found,) = combined_candidates(facts, 9, Random(1))
    assert found.asks == "compound"
    assert set(found.oracles) == {"a#0-9", "a#10-19"}
    assert found.documents == ("a",)
    first, second = found.question.rstrip("?").split(", and ")
    assert {first.lower(), second.lower()} == {facts[0].question[:-1].lower(), facts[1].question[:-1].lower()}
    answers = {first.lower(): found.answer.split("; ")[0], second.lower(): found.answer.split("; ")[1]}
    assert answers == {c.question[:-1].lower(): c.answer for c in facts[:2]}


@pytest.mark.parametrize("limit", [0, 1, 3, 100])
def test_no_candidate_serves_twice_and_the_limit_holds(limit: int) -> None:
    facts = [_candidate(f"How long is jetty {n} of Cask Bay?", f"{n} metres", f"d{n % 3}#{n}-9") for n in range(1, 21)]
    found = combined_candidates(facts, limit, Random(4))
    assert len(found) == min(limit, len(found))
    parts = [part for candidate in found for part in candidate.id.partition("(")[2].removesuffix(")").split(" | ")]
    assert len(parts) == len(set(parts)) == 2 * len(found)
    assert len({candidate.id for candidate in found}) == len(found)
    assert found == combined_candidates(facts, limit, Random(4))
    if limit == 100:
        assert len(found) >= 8


@pytest.mark.parametrize(
    ("answer", "value", "unit"),
    [("4,800 litres", 4800, "litres"), ("−30 °C", -30, "°c"), ("about 12", 12, ""), ("three boats", 3, "boats")],
)
def test_an_amount_is_read(answer: str, value: float, unit: str) -> None:
    assert amount_of(answer) == (value, unit)


@pytest.mark.parametrize("answer", ["5-9 m", "2 kg and 3 kg", "the shed", "", "1 or 2", "0.35 mm for inlet and 0.6 mm"])
def test_what_is_not_one_amount_is_not_read_as_one(answer: str) -> None:
    assert amount_of(answer) is None


@given(st.text(max_size=40))
def test_any_answer_is_survived(answer: str) -> None:
    amount = amount_of(answer)
    assert amount is None or amount.value == amount.value


def test_documents_that_disagree_make_a_conflict() -> None:
    one = _candidate("How much does the trawl winch weigh?", "15 kg", "a#0-9")
    other = _candidate("How much does a trawl winch weigh?", "18 kg", "b#0-9")
    agreeing = _candidate("How much does the trawl winch weigh?", "15 kg", "c#0-9")
    found = conflicting_candidates([one, agreeing, other])
    (conflict,) = found.candidates
    assert conflict.conflict
    assert conflict.answer == "The documents disagree: 15 kg; 18 kg."
    assert conflict.question == one.question
    assert conflict.oracles == ("a#0-9", "b#0-9")
    assert conflict.documents == ("a", "b")
    assert len(conflict.quotes) == 2
    assert found.replaced == {one.id, other.id, agreeing.id}
    (named,) = conflicting_candidates([one, other], "Sources differ ({answers})").candidates
    assert named.answer == "Sources differ (15 kg; 18 kg)"


@pytest.mark.parametrize(
    ("one", "other", "ambiguous"),
    [
        (("What is the temperature?", "4 °C"), ("What is the temperature?", "9 °C"), 1),
        (("Who owns the trawl winch?", "the Cook"), ("Who owns the trawl winch?", "Ada"), 1),
        (("How heavy is the trawl winch?", "15 kg"), ("How heavy is the trawl winch?", "33 pounds"), 1),
        (("How heavy is the trawl winch?", "15 kg"), ("How heavy is the trawl winch?", "15 kg"), 0),
        (("How heavy is the trawl winch?", "15 kg"), ("How heavy is the spare winch?", "18 kg"), 0),
    ],
    ids=["general question", "both may be right", "other unit", "same answer", "other subject"],
)
def test_what_only_looks_like_a_conflict_is_none(one: tuple[str, str], other: tuple[str, str], ambiguous: int) -> None:
    facts = [_candidate(*one, "a#0-9"), _candidate(*other, "b#0-9")]
    assert conflicting_candidates(facts) == Conflicts([], frozenset(), ambiguous)


def test_two_answers_of_one_document_are_no_conflict() -> None:
    facts = [
        _candidate("How much does the trawl winch weigh?", "15 kg", "a#0-9"),
        _candidate("How much does the trawl winch weigh?", "18 kg", "a#10-19"),
    ]
    assert conflicting_candidates(facts) == Conflicts([], frozenset(), 0)


def test_yes_and_no_contradict() -> None:
    facts = [
        _candidate("Is the trawl winch rusty?", "yes", "a#0-9", "yes_no"),
        _candidate("Is the trawl winch rusty?", "no", "b#0-9", "yes_no"),
    ]
    assert [candidate.asks for candidate in conflicting_candidates(facts).candidates] == ["yes_no"]


def test_a_pair_of_a_conflict_says_so_and_shows_both_oracles() -> None:
    chunks = {f"{name}#0-9": Chunk(f"{name}#0-9", name, 0, 9, f"text of {name}") for name in "abcdefgh"}
    conflicts = conflicting_candidates(
        [
            _candidate("How much does the trawl winch weigh?", "15 kg", "a#0-9"),
            _candidate("How much does the trawl winch weigh?", "18 kg", "b#0-9"),
        ]
    ).candidates
    combined = combined_candidates([A, B], 1, Random(0))
    plan = plan_contexts(
        [*conflicts, *combined],
        {candidate.id: list(chunks) for candidate in [*conflicts, *combined]},
        chunks,
        k=4,
        budget=4,
        per_context=5,
        total=9,
        p_absent=0.0,
        refusal="No.",
        rng=Random(0),
    )
    assert sorted(pair.kind for pair in plan.pairs) == ["conflict", "multi"]
    assert all({"a#0-9", "b#0-9"} <= set(pair.context) for pair in plan.pairs)
