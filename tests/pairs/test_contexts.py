"""Shared contexts: who joins which, and what an absent pair is shown."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.contexts import Plan, plan_contexts
from hybrid.types import Chunk

CHUNKS = {f"c{n}": Chunk(f"c{n}", f"d{n // 4}", 0, 20, f"filler number{n} text answer{n}") for n in range(40)}


def _candidate(number: int, *oracles: int, answer: str | None = None) -> Candidate:
    names = tuple(f"c{oracle}" for oracle in oracles)
    text = answer or (f"answer{oracles[0]}" if oracles else "-")
    return Candidate(f"q{number}", f"Question {number}?", text, names, (), (), "test")


def _retrieved(candidates: list[Candidate], depth: int = 12, seed: int = 0) -> dict[str, list[str]]:
    rng = Random(seed)
    return {c.id: rng.sample(sorted(CHUNKS), depth) for c in candidates}


def _plan(candidates: list[Candidate], retrieved: dict[str, list[str]] | None = None, **values: Any) -> Plan:
    settings: dict[str, Any] = {"k": 4, "per_context": 5, "total": 1000, "p_absent": 0.0, "refusal": "No.", **values}
    rng = Random(settings.pop("seed", 0))
    return plan_contexts(candidates, retrieved or _retrieved(candidates), CHUNKS, rng=rng, **settings)


def test_questions_of_one_chunk_share_a_context() -> None:
    plan = _plan([_candidate(n, 3) for n in range(5)])
    assert len({pair.context for pair in plan.pairs}) == 1
    assert len(plan.pairs) == 5


def test_a_full_context_opens_another_one() -> None:
    plan = _plan([_candidate(n, 3) for n in range(12)])
    assert sorted(Counter(pair.context for pair in plan.pairs).values()) == [2, 5, 5]


def test_the_best_retrieved_distractor_is_in_the_context() -> None:
    candidate = _candidate(0, 3)
    (pair,) = _plan([candidate], {"q0": ["c3", "c9", *(f"c{n}" for n in range(10, 20))]}).pairs
    assert {"c3", "c9"} <= set(pair.context)


def test_a_question_with_two_oracles_needs_both() -> None:
    two, one = _candidate(0, 1, 2), _candidate(1, 1)
    plan = _plan([two, one])
    kinds = {pair.id: pair.kind for pair in plan.pairs}
    assert kinds == {"q0": "multi", "q1": "grounded"}
    for pair in plan.pairs:
        assert set(pair.oracles) <= set(pair.context)


def test_more_oracles_than_places_cannot_be_placed() -> None:
    plan = _plan([_candidate(0, 1, 2, 3), _candidate(1, 1)], k=2)
    assert [pair.id for pair in plan.pairs] == ["q1"]
    assert plan.unplaced == 1


def test_a_short_candidate_list_of_hits_is_filled_for_absent_pairs() -> None:
    # Every retrieved chunk but one holds the answer: the rest of the context comes from elsewhere.
    candidate = _candidate(0, 0, answer="filler")
    chunks = {**CHUNKS, **{f"e{n}": Chunk(f"e{n}", "e", 0, 4, f"else {n}") for n in range(6)}}
    rng = Random(0)
    plan = plan_contexts(
        [candidate],
        {"q0": ["c0", "c1", "e0", "c2"]},
        chunks,
        k=4,
        per_context=5,
        total=9,
        p_absent=1.0,
        refusal="No.",
        rng=rng,
    )
    (pair,) = plan.pairs
    assert "e0" in pair.context
    assert len(set(pair.context)) == 4
    assert {chunk[0] for chunk in pair.context} == {"e"}


def test_what_cannot_be_made_absent_is_counted() -> None:
    plan = _plan([_candidate(0, 0, answer="filler")], p_absent=1.0)
    assert plan == Plan([], 1)


def test_absent_pairs_join_the_nearest_context_that_does_not_answer() -> None:
    grounded = [_candidate(n, 3) for n in range(8)]
    lonely = _candidate(9, 30)
    candidates = [*grounded, lonely]
    retrieved = {c.id: ["c3", "c4", "c5", "c6"] for c in candidates}
    for seed in range(30):
        plan = _plan(candidates, retrieved, p_absent=1 / 9, per_context=8, seed=seed)
        (absent,) = [pair for pair in plan.pairs if pair.kind == "absent"]
        if absent.id == "q9":
            assert len({pair.context for pair in plan.pairs}) == 1
            return
    pytest.fail("the lonely one was never drawn")


CANDIDATES = st.lists(st.lists(st.integers(0, 39), max_size=3, unique=True), max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    oracles=CANDIDATES,
    k=st.integers(1, 6),
    per_context=st.integers(1, 7),
    total=st.integers(1, 60),
    p_absent=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 5),
)
def test_every_plan_keeps_its_promises(
    oracles: list[list[int]], k: int, per_context: int, total: int, p_absent: float, seed: int
) -> None:
    candidates = [_candidate(n, *chosen) for n, chosen in enumerate(oracles)]
    retrieved = _retrieved(candidates, max(12, 3 * k), seed)
    plan = _plan(candidates, retrieved, k=k, per_context=per_context, total=total, p_absent=p_absent, seed=seed)
    by_id = {candidate.id: candidate for candidate in candidates}
    assert len({pair.id for pair in plan.pairs}) == len(plan.pairs) <= total
    assert len(plan.pairs) + plan.unplaced <= len(candidates)
    for pair in plan.pairs:
        assert len(set(pair.context)) == len(pair.context) == max(k, len(pair.oracles) if pair.kind == "multi" else 0)
        assert pair.oracles == by_id[pair.id].oracles
        if pair.kind == "absent":
            assert not set(pair.oracles) & set(pair.context)
            assert pair.answer == "No."
        else:
            assert set(pair.oracles) <= set(pair.context)
            assert pair.answer == by_id[pair.id].answer
            assert pair.kind == ("multi" if len(pair.oracles) > 1 else "grounded")
    answerable = sum(0 < len(chosen) <= k for chosen in oracles)
    unanswerable = min(total, sum(not chosen for chosen in oracles))
    absent = sum(pair.kind == "absent" for pair in plan.pairs)
    assert absent == round(p_absent * min(total - unanswerable, answerable)) + unanswerable
    assert _plan(candidates, retrieved, k=k, per_context=per_context, total=total, p_absent=p_absent, seed=seed) == plan
