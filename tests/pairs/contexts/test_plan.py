"""Shared contexts: who joins which, and what an absent pair is shown."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from hybrid.config import config_from_dict
from hybrid.models import load_tokenizer
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.contexts.plan import ContextFigures, Plan, context_figures, plan_contexts
from hybrid.project import Project
from hybrid.stages.tune import training_examples
from hybrid.tuning.tree import build_trees
from hybrid.types import Chunk, Pair

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
    settings.setdefault("budget", settings["k"])
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
        budget=4,
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
    # Their share of the total, so that they do not crowd out the others.
    unanswerable = sum(not chosen for chosen in oracles)
    unanswerable = round(total * unanswerable / max(1, total, answerable + unanswerable))
    absent = sum(pair.kind == "absent" for pair in plan.pairs)
    assert absent == round(p_absent * min(total - unanswerable, answerable)) + unanswerable
    assert _plan(candidates, retrieved, k=k, per_context=per_context, total=total, p_absent=p_absent, seed=seed) == plan


# --- contexts of more than k chunks -----------------------------------------------------------------------------------


def _own(candidate: Candidate, retrieved: dict[str, list[str]], k: int) -> set[str]:
    """What a question's own retrieval shows it in serving, its oracles first."""
    others = [chunk for chunk in retrieved[candidate.id] if chunk not in candidate.oracles]
    return {*candidate.oracles, *others[: max(0, k - len(candidate.oracles))]}


def test_questions_whose_retrieval_overlaps_share_the_union() -> None:
    candidates = [_candidate(0, 0), _candidate(1, 1), _candidate(2, 20)]
    retrieved = {"q0": ["c0", "c1", "c9"], "q1": ["c2", "c1", "c9"], "q2": ["c20", "c21", "c9"]}
    plan = _plan(candidates, retrieved, k=2, budget=3)
    contexts = {pair.id: set(pair.context) for pair in plan.pairs}
    assert contexts == {"q0": {"c0", "c1", "c2"}, "q1": {"c0", "c1", "c2"}, "q2": {"c20", "c21"}}


@pytest.mark.parametrize("per_context", [1, 3, 5])
def test_a_full_context_grows_no_further(per_context: int) -> None:
    candidates = [_candidate(n, n % 3) for n in range(12)]
    retrieved = {c.id: ["c0", "c1", "c2", "c3", f"c{n + 10}"] for n, c in enumerate(candidates)}
    for c in candidates[6:]:
        retrieved[c.id].insert(0, "c4")
    # With this seed no two contexts have the same chunks in the same order by chance.
    pairs = _plan(candidates, retrieved, k=4, budget=6, per_context=per_context, seed=2).pairs
    sizes = Counter(pair.context for pair in pairs)
    assert len(sizes) == -(-12 // per_context)
    assert max(sizes.values()) == per_context
    if per_context == 1:
        assert {len(context) for context in sizes} == {4}


def test_an_oracle_that_is_shown_does_not_replace_the_own_distractor() -> None:
    candidates = [_candidate(0, 0), _candidate(1, 0)]
    retrieved = {"q0": ["c0", "c1"], "q1": ["c0", "c2"]}
    assert len({pair.context for pair in _plan(candidates, retrieved, k=2, budget=2).pairs}) == 1
    assert {len(pair.context) for pair in _plan(candidates, retrieved, k=2, budget=3).pairs} == {3}
    retrieved["q1"] = ["c0", "c2", "c3"]
    for pair in _plan(candidates, retrieved, k=3, budget=4).pairs:
        assert _own(candidates[int(pair.id[1:])], retrieved, 3) <= set(pair.context)


@pytest.mark.parametrize("seed", range(6))
def test_a_context_grows_by_what_lets_most_questions_join(seed: int) -> None:
    # c0 and c1 are in every retrieval but q9's; c5 lets four others join, c6 only one.
    wanted = {0: (0, 1), 1: (0, 5), 2: (0, 5), 3: (1, 5), 4: (1, 5), 5: (0, 6)}
    candidates = [_candidate(n, oracle) for n, (oracle, _) in wanted.items()]
    retrieved = {f"q{n}": [f"c{oracle}", f"c{other}", "c30"] for n, (oracle, other) in wanted.items()}
    pairs = {pair.id: pair for pair in _plan(candidates, retrieved, k=2, budget=3, per_context=9, seed=seed).pairs}
    assert all(_own(c, retrieved, 2) <= set(pairs[c.id].context) for c in candidates)
    assert len({pair.context for pair in pairs.values()}) == 2
    assert max(Counter(pair.context for pair in pairs.values()).values()) == 5


def test_a_context_grows_by_two_chunks_if_that_is_worth_more_than_one() -> None:
    near = {"q0": "012", "q1": "123", **{f"q{n}": "045" for n in range(2, 7)}}
    candidates = [_candidate(n, int(chunks[0])) for n, chunks in enumerate(near.values())]
    retrieved = {name: [f"c{chunk}" for chunk in chunks] for name, chunks in near.items()}
    seeds = [seed for seed in range(40) if Random(seed).sample(candidates, 7)[0] == candidates[0]]
    assert seeds, "q0 opens a context"
    for seed in seeds:
        pairs = {p.id: p for p in _plan(candidates, retrieved, k=3, budget=5, per_context=9, seed=seed).pairs}
        assert set(pairs["q0"].context) == {"c0", "c1", "c2", "c4", "c5"}
        assert Counter(pair.context for pair in pairs.values())[pairs["q0"].context] == 6


def test_a_chunk_that_all_retrieve_costs_nobody_its_own() -> None:
    candidates = [_candidate(n, n % 19) for n in range(300)]
    retrieved = {c.id: [c.oracles[0], "c39", f"c{20 + n % 17}"] for n, c in enumerate(candidates)}
    pairs = _plan(candidates, retrieved, k=3, budget=6, per_context=4).pairs
    assert len(pairs) == 300
    assert all(_own(candidates[int(pair.id[1:])], retrieved, 3) <= set(pair.context) for pair in pairs)
    assert 75 <= len({pair.context for pair in pairs}) < 80


def test_more_oracles_than_k_fit_into_a_larger_budget() -> None:
    plan = _plan([_candidate(0, 1, 2, 3), _candidate(1, 1, 2, 3, 4, 5)], k=2, budget=4)
    (pair,) = plan.pairs
    assert (pair.id, plan.unplaced) == ("q0", 1)
    assert set(pair.context) == {"c1", "c2", "c3"}


def test_the_size_of_a_context_does_not_give_absent_pairs_away() -> None:
    grounded = [_candidate(n, n) for n in range(3)]
    unanswerable = [_candidate(n) for n in range(10, 13)]
    retrieved = {f"q{n}": [f"c{n}", "c9", *(f"c{m}" for m in range(20, 30))] for n in range(3)}
    retrieved |= {c.id: [f"c{n}" for n in range(30, 40)] for c in unanswerable}
    pairs = _plan([*grounded, *unanswerable], retrieved, k=2, budget=4, per_context=3).pairs
    assert {len(pair.context) for pair in pairs if pair.kind == "grounded"} == {4}
    assert {len(pair.context) for pair in pairs if pair.kind == "absent"} == {4}


def test_the_chunks_of_a_union_stand_in_random_order() -> None:
    candidates, retrieved = [], {}
    for group in range(13):
        for n, (oracle, other) in enumerate([(0, 1), (1, 2)]):
            candidates.append(_candidate(2 * group + n, 3 * group + oracle))
            retrieved[candidates[-1].id] = [f"c{3 * group + oracle}", f"c{3 * group + other}"]
    places: Counter[int] = Counter()
    for seed in range(30):
        pairs = _plan(candidates, retrieved, k=2, budget=3, seed=seed).pairs
        assert {len(pair.context) for pair in pairs} == {3}
        places.update(pair.context.index(pair.oracles[0]) for pair in pairs if int(pair.id[1:]) % 2)
    assert sum(places.values()) == 13 * 30
    assert chisquare([places[place] for place in range(3)]).pvalue > 0.01


OVERLAPPING = st.lists(
    st.tuples(st.lists(st.integers(0, 11), max_size=4, unique=True), st.permutations(range(12))), max_size=40
)


def _overlapping(drawn: list[tuple[list[int], list[int]]]) -> tuple[list[Candidate], dict[str, list[str]]]:
    candidates = [_candidate(n, *oracles) for n, (oracles, _) in enumerate(drawn)]
    return candidates, {f"q{n}": [f"c{chunk}" for chunk in order] for n, (_, order) in enumerate(drawn)}


@settings(max_examples=150, deadline=None)
@given(
    drawn=OVERLAPPING,
    k=st.integers(1, 3),
    more=st.integers(1, 5),
    per_context=st.integers(1, 7),
    total=st.integers(1, 60),
    p_absent=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 5),
)
def test_a_larger_budget_keeps_its_promises(
    drawn: list[tuple[list[int], list[int]]],
    k: int,
    more: int,
    per_context: int,
    total: int,
    p_absent: float,
    seed: int,
) -> None:
    candidates, retrieved = _overlapping(drawn)
    values: dict[str, Any] = {"k": k, "budget": k + more, "per_context": per_context, "total": total}
    plan = _plan(candidates, retrieved, **values, p_absent=p_absent, seed=seed)
    by_id = {candidate.id: candidate for candidate in candidates}
    assert len({pair.id for pair in plan.pairs}) == len(plan.pairs)
    placeable = sum(len(candidate.oracles) <= k + more for candidate in candidates)
    # A pair meant to be absent may find no context; then it is counted, never lost.
    assert len(plan.pairs) + plan.unplaced - (len(candidates) - placeable) == min(total, placeable)
    for pair in plan.pairs:
        assert len(set(pair.context)) == len(pair.context) <= k + more
        if pair.kind == "absent":
            assert not set(pair.oracles) & set(pair.context)
        else:
            assert _own(by_id[pair.id], retrieved, k) <= set(pair.context)
    figures = context_figures(plan.pairs, retrieved, CHUNKS, k=k)
    assert figures.own_kept in {0.0, 1.0}
    assert sum(figures.oracle_places) == sum(len(pair.oracles) for pair in plan.pairs if pair.kind != "absent")
    assert _plan(candidates, retrieved, **values, p_absent=p_absent, seed=seed) == plan


@settings(max_examples=150, deadline=None)
@given(
    drawn=OVERLAPPING,
    k=st.integers(1, 4),
    more=st.integers(1, 4),
    per_context=st.integers(1, 7),
    seed=st.integers(0, 5),
)
def test_a_larger_budget_shares_at_least_what_equal_retrieval_shares(
    drawn: list[tuple[list[int], list[int]]], k: int, more: int, per_context: int, seed: int
) -> None:
    # A budget of k lets questions join that lose their own distractors, which may be more: no bound holds against it.
    candidates, retrieved = _overlapping([(oracles[:k], order) for oracles, order in drawn if oracles])
    plan = _plan(candidates, retrieved, k=k, budget=k + more, per_context=per_context, seed=seed)
    equal = Counter(frozenset(_own(candidate, retrieved, k)) for candidate in candidates)
    assert len({pair.context for pair in plan.pairs}) <= sum(-(-count // per_context) for count in equal.values())


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_figures_of_three_pairs() -> None:
    chunks = {f"c{n}": Chunk(f"c{n}", "d", 0, 9, "one two three four") for n in range(9)}
    context = ("c0", "c1", "c2")
    pairs = [
        Pair("q0", "What is it?", "red", context, ("c0",)),
        Pair("q1", "What is it?", "red", context, ("c2",)),
        Pair("q2", "What is it?", "no idea", ("c5", "c6"), ("c8",), (), "absent"),
    ]
    retrieved = {
        "q0": ["c1", "c0", "c3", "c4", "c5", "c6", "c2"],  # c1 is its own, c2 beyond the first six
        "q1": ["c3", "c1", "c4", "c5", "c2", "c6"],  # c3 would be its own, c1 is among the first six
        "q2": ["c5"],
    }
    assert context_figures(pairs, retrieved, chunks, k=2) == ContextFigures(
        contexts=2,
        questions=1.5,
        largest=2,
        chunks=2.5,
        work_saved=(12 + 12 + 8 + 4 + 4 + 5) / (12 + 8 + 4 + 4 + 5),
        own_kept=1 / 2,
        own_share=2 / 4,
        oracle_rank=(2 + 5) / 2,
        oracle_places=(1, 0, 1),
    )


def test_the_figures_of_nothing_are_zero() -> None:
    assert context_figures([], {}, {}, k=2) == ContextFigures(0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, ())


# --- as training examples ---------------------------------------------------------------------------------------------


def _six_chunks() -> tuple[list[Pair], dict[str, Chunk]]:
    chunks = {f"c{n}": Chunk(f"c{n}", "d", 0, 9, " ".join([f"fact{n}"] * 12)) for n in range(6)}
    return [Pair(f"q{n}", f"What is fact{n}?", f"fact{n}", tuple(chunks), (f"c{n}",)) for n in (0, 3, 5)], chunks


def test_contexts_of_more_than_k_chunks_are_rendered_whole_and_shared(tiny_model: Path, tmp_path: Path) -> None:
    project, tokenizer = Project(tmp_path, config_from_dict({"prompt": {"k": 2}})), load_tokenizer(tiny_model)
    pairs, chunks = _six_chunks()
    examples, shortened, _ = training_examples(pairs, chunks, project, tokenizer, closed_book=False)
    assert shortened == 0
    for example in examples:
        text = tokenizer.decode(list(example.prompt_ids))
        assert all(f"[{n + 1}]" in text and f"fact{n} fact{n}" in text for n in range(6))
    (tree,) = build_trees(examples, max_tokens=project.config.tune.max_tokens)
    assert len(tree.branches) == 3
    assert "fact5 fact5" in tokenizer.decode(list(tree.prefix_ids))


@pytest.mark.parametrize("section", ["prompt", "tune"])
def test_contexts_of_more_than_k_chunks_fit_the_limits(section: str, tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    pairs, chunks = _six_chunks()
    free = Project(tmp_path, config_from_dict({}))
    whole = training_examples(pairs, chunks, free, tokenizer, closed_book=False).examples
    limit = max(len(example.prompt_ids) + len(example.answer_ids) for example in whole) - 40
    project = Project(tmp_path, config_from_dict({section: {"max_tokens": limit}}))
    examples, shortened, _ = training_examples(pairs, chunks, project, tokenizer, closed_book=False)
    assert shortened == 3
    for example, number in zip(examples, (0, 3, 5), strict=True):
        assert len(example.prompt_ids) + len(example.answer_ids) <= limit
        assert f"fact{number} fact{number}" in tokenizer.decode(list(example.prompt_ids)), "the oracle stays"
    assert build_trees(examples, max_tokens=limit)
