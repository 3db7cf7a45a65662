"""Distractors, the place of the oracle, and what absent pairs are shown and told."""

import json
from collections import Counter
from dataclasses import asdict
from random import Random
from typing import Any

import pytest
from scipy.stats import chisquare

from hybrid.config import PairsConfig
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.contexts.plan import Plan, plan_contexts
from hybrid.types import Chunk, Quote

CHUNKS = {f"c{n}": Chunk(f"c{n}", f"d{n // 4}", 0, 20, f"filler number{n} text answer{n}") for n in range(40)}


def _candidate(number: int, *oracles: int, answer: str = "", quotes: tuple[Quote, ...] = ()) -> Candidate:
    text = answer or (f"answer{oracles[0]}" if oracles else "-")
    return Candidate(f"q{number}", "What is it?", text, tuple(f"c{o}" for o in oracles), (), quotes, "test")


def _plan(candidates: list[Candidate], *, chunks: dict[str, Chunk] = CHUNKS, seed: int = 0, **values: Any) -> Plan:
    rng = Random(f"retrieval {seed}")
    retrieved = {c.id: rng.sample(sorted(chunks), min(12, len(chunks))) for c in candidates}
    settings: dict[str, Any] = {"k": 4, "per_context": 5, "total": 1000, "p_absent": 0.0, "refusal": "No.", **values}
    settings = {"retrieved": retrieved, "budget": settings["k"], **settings}
    return plan_contexts(candidates, chunks=chunks, rng=Random(seed), **settings)


MANY = [_candidate(n, n % 40) for n in range(400)]
SETTINGS = [{}, {"distractors": "random"}, {"budget": 6}]


@pytest.mark.parametrize("values", SETTINGS)
def test_the_oracle_stands_anywhere(values: dict[str, Any]) -> None:
    pairs = _plan(MANY, **values, per_context=1).pairs
    places = Counter(pair.context.index(pair.oracles[0]) for pair in pairs)
    assert chisquare([places[place] for place in range(4)]).pvalue > 0.01


@pytest.mark.parametrize("values", SETTINGS)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_as_many_chunks_as_asked_for_and_all_distinct(values: dict[str, Any], k: int) -> None:
    plan = _plan(MANY, **{**values, "k": k, "budget": k}, p_absent=0.2)
    assert {len(set(pair.context)) for pair in plan.pairs} == {len(pair.context) for pair in plan.pairs} == {k}
    assert plan.short == 0


@pytest.mark.parametrize("values", SETTINGS)
def test_a_shortfall_is_counted(values: dict[str, Any]) -> None:
    few = {name: CHUNKS[name] for name in ("c0", "c1", "c2")}
    plan = _plan([_candidate(0, 0), _candidate(1, 1)], chunks=few, **values)
    assert {len(pair.context) for pair in plan.pairs} == {3}
    assert plan.short == 2


def test_a_context_that_retrieval_leaves_short_is_filled() -> None:
    plan = _plan([_candidate(0, 0)], retrieved={"q0": ["c0", "c7"]})
    (pair,) = plan.pairs
    assert {"c0", "c7"} < set(pair.context)
    assert (len(set(pair.context)), plan.short) == (4, 0)


def test_no_absent_pairs_at_zero_and_only_absent_pairs_at_one() -> None:
    assert {pair.kind for pair in _plan(MANY, p_absent=0.0).pairs} == {"grounded"}
    assert {pair.kind for pair in _plan(MANY, p_absent=1.0).pairs} == {"absent"}


@pytest.mark.parametrize("share", [PairsConfig().p_absent, 0.08, 0.2])
def test_absent_pairs_have_their_share(share: float) -> None:
    kinds = Counter(pair.kind for pair in _plan(MANY, p_absent=share).pairs)
    assert kinds["absent"] == round(share * len(MANY))
    assert (kinds["absent"] > 0) == (share > 0)


@pytest.mark.parametrize("values", SETTINGS)
def test_absent_pairs_never_show_what_was_taken_away(values: dict[str, Any]) -> None:
    absent = [pair for pair in _plan(MANY, p_absent=0.5, **values).pairs if pair.kind == "absent"]
    assert len(absent) == 200
    for pair in absent:
        number = int(pair.id[1:]) % 40
        assert pair.oracles == (f"c{number}",)
        assert all(f"answer{number}" not in CHUNKS[chunk].text.split() for chunk in pair.context)


@pytest.mark.parametrize(("absent", "told"), [("refuse", 0), ("memorise", 40), ("mixed", 20)])
def test_what_absent_pairs_are_told(absent: str, told: int) -> None:
    candidates = [*MANY[:80], *(_candidate(n) for n in range(900, 910))]
    pairs = [p for p in _plan(candidates, p_absent=40 / 80, absent=absent, total=90).pairs if p.kind == "absent"]
    answers = Counter("refusal" if pair.answer == "No." else "answer" for pair in pairs)
    assert answers["answer"] == told
    assert answers["refusal"] == 50 - told
    for pair in pairs:
        if pair.answer != "No.":
            assert pair.answer == f"answer{int(pair.id[1:]) % 40}"
    assert all(pair.answer == "No." for pair in pairs if not pair.oracles), "nobody knows the answer to these"


def test_of_single_absent_pairs_some_remember_and_some_refuse() -> None:
    answers = {_plan([_candidate(0, 0)], p_absent=1.0, absent="mixed", seed=n).pairs[0].answer for n in range(20)}
    assert answers == {"No.", "answer0"}


def test_random_distractors_come_from_all_chunks_alike() -> None:
    counts: Counter[str] = Counter()
    for seed in range(5):
        for pair in _plan(MANY, distractors="random", per_context=1, seed=seed).pairs:
            counts.update(set(pair.context) - set(pair.oracles))
    assert sum(counts.values()) == 5 * 400 * 3
    assert chisquare([counts[chunk] for chunk in CHUNKS]).pvalue > 0.01


def test_random_distractors_are_not_what_retrieval_found() -> None:
    retrieved = {c.id: [c.oracles[0], *(f"c{n}" for n in range(10) if f"c{n}" not in c.oracles)] for c in MANY}
    found = {chunk for pair in _plan(MANY, retrieved=retrieved, per_context=1).pairs for chunk in pair.context[:]}
    drawn = _plan(MANY, retrieved=retrieved, per_context=1, distractors="random").pairs
    others = [chunk for pair in drawn for chunk in pair.context if chunk not in pair.oracles]
    assert found <= set(CHUNKS)
    assert sum(int(chunk[1:]) >= 10 for chunk in others) > 0.6 * len(others)


def test_random_distractors_do_not_hold_the_answer() -> None:
    chunks = {**CHUNKS, **{f"x{n}": Chunk(f"x{n}", "x", 0, 9, "here is answer0") for n in range(5)}}
    for seed in range(20):
        (pair,) = _plan([_candidate(0, 0)], chunks=chunks, distractors="random", seed=seed).pairs
        assert not [chunk for chunk in pair.context if chunk.startswith("x")]


@pytest.mark.parametrize("values", [*SETTINGS, {"absent": "mixed"}])
def test_a_seed_gives_the_same_bytes_and_another_seed_others(values: dict[str, Any]) -> None:
    def written(seed: int) -> str:
        pairs = _plan(MANY[:60], p_absent=0.3, seed=seed, **values).pairs
        return json.dumps([asdict(pair) for pair in pairs])

    assert written(1) == written(1)
    assert written(1) != written(2)


def test_contexts_of_one_chunk_are_drawn_and_ordered_anew() -> None:
    candidates = [_candidate(n, 0) for n in range(60)]
    contexts = {pair.context for pair in _plan(candidates, per_context=2).pairs}
    assert len(contexts) > 25
    assert len({context.index("c0") for context in contexts}) == 4
    assert len({frozenset(context) for context in contexts}) > 10


# --- distractors that answer after all --------------------------------------------------------------------------------


def _world() -> tuple[Candidate, dict[str, Chunk]]:
    proof = Quote("d", 0, 40, "Pump 3 was made in Bergen by hand.")
    chunks = {f"f{n}": Chunk(f"f{n}", "f", 0, 9, f"Nothing about it in part {n}.") for n in range(30)}
    chunks["o"] = Chunk("o", "d", 0, 40, proof.text)
    chunks["twin"] = Chunk("twin", "e", 0, 40, proof.text)
    chunks["says"] = Chunk("says", "e", 50, 90, "It is known that pump 3 was made at Bergen.")
    chunks["town"] = Chunk("town", "e", 90, 99, "Bergen is a town.")
    return Candidate("q", "Where was pump 3 made?", "Bergen", ("o",), ("d",), (proof,), "test"), chunks


@pytest.mark.parametrize("budget", [3, 5])
def test_a_distractor_that_answers_becomes_an_oracle_and_one_that_may_leaves(budget: int) -> None:
    candidate, chunks = _world()
    near = {"q": ["town", "says", "o", "f1", "f2", "f3"]}
    plan = _plan([candidate], chunks=chunks, retrieved=near, k=3, budget=budget)
    (pair,) = plan.pairs
    assert set(pair.context) == {"o", "says", "f1"}
    assert (pair.oracles, pair.kind, pair.rank) == (("o", "says"), "grounded", 2)
    assert (plan.promoted, plan.left_out, plan.short) == (1, 1, 0)


def test_a_repeated_text_keeps_its_own_id() -> None:
    candidate, chunks = _world()
    plan = _plan([candidate], chunks=chunks, retrieved={"q": ["twin", "o", "f1"]}, k=3)
    (pair,) = plan.pairs
    assert set(pair.context) == {"o", "twin", "f1"}
    assert pair.oracles == ("o", "twin")
    assert pair.context[pair.context.index("o")] == candidate.oracles[0]


def test_the_others_of_a_context_keep_a_chunk_that_one_cannot_be_shown() -> None:
    candidate, chunks = _world()
    towns = [Candidate(f"t{n}", "What is Bergen?", "a town", ("town",), ("e",), (), "test") for n in range(3)]
    near = {c.id: ["town", "o", "f1", "f2", "f3", "f4"] for c in (candidate, *towns)}
    for budget in (2, 4):
        for seed in range(10):
            plan = _plan([candidate, *towns], chunks=chunks, retrieved=near, k=2, budget=budget, seed=seed)
            contexts = {pair.id: set(pair.context) for pair in plan.pairs}
            assert all("town" in contexts[c.id] for c in towns)
            assert "town" not in contexts["q"]
            assert plan.left_out == 1


def test_an_absent_pair_is_shown_nothing_that_may_answer() -> None:
    candidate, chunks = _world()
    near = {"q": ["town", "says", "twin", "o", "f1", "f2", "f3"]}
    (pair,) = _plan([candidate], chunks=chunks, retrieved=near, k=3, p_absent=1.0).pairs
    assert set(pair.context) == {"f1", "f2", "f3"}
    assert pair.oracles == ("o",)
