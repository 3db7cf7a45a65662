"""Whole pair sets: grounding, contexts, shares, splits, seeds, leakage, and the defects of other generators."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import chisquare

from hybrid.config import PairsConfig
from hybrid.errors import TrainingError
from hybrid.pairs.build import PairSet
from hybrid.pairs.candidates import Candidate, Funnel, words
from hybrid.pairs.formats.export import pair_to_dict
from hybrid.pairs.gates.alike import QuestionVectors
from hybrid.pairs.gates.screening import screen
from hybrid.pairs.review.marks import Mark, Marks
from hybrid.types import Document, Pair, Question

Build = Callable[..., PairSet]


def _document(chunk: str) -> str:
    return chunk.rpartition("#")[0]


def test_every_quote_is_at_its_span_and_holds_the_answer(build: Build, world: Any) -> None:
    result = build()
    assert len(result.train) == 200
    for pair in [*result.train, *result.dev]:
        assert pair.quotes
        for quote in pair.quotes:
            assert world.index.documents[quote.document].text[quote.start : quote.end] == quote.text
            if pair.kind == "grounded" and pair.answer not in {"yes", "no"}:
                assert pair.answer in quote.text


def test_a_context_has_exactly_k_distinct_chunks(build: Build, world: Any) -> None:
    known = {chunk.id for chunk in world.index.chunks}
    for k in (1, 2, 5):
        result = build(k=k)
        for pair in [*result.train, *result.dev]:
            assert len(pair.context) == len(set(pair.context)) == k
            assert set(pair.context) <= known


def test_an_index_smaller_than_k_gives_all_its_chunks(build: Build, make_world: Callable[..., Any]) -> None:
    facts = (("red", "shed"), ("blue", "attic"), ("green", "cellar"))  # none holds the answer to another
    documents = [Document(f"{n}.md", f"Machine {n} is {c} and stands in the {p}.") for n, (c, p) in enumerate(facts)]
    small = make_world(documents)
    assert len(small.index.chunks) == 3
    result = build(world=small, k=5, p_absent=0.0, dev_share=0.0)
    assert {len(pair.context) for pair in result.train} == {3}
    assert build(world=small, k=3, p_absent=0.0, dev_share=0.0).train[0].context


def test_grounded_contexts_show_the_oracle_and_absent_ones_never(build: Build, world: Any) -> None:
    result = build()
    kinds = Counter(pair.kind for pair in result.train)
    assert set(kinds) == {"grounded", "absent"}
    for pair in result.train:
        shown = set(pair.context) & set(pair.oracles)
        assert pair.oracles
        if pair.kind == "grounded":
            assert shown == set(pair.oracles)
        else:
            assert not shown
            assert pair.answer == "Not answered."


def test_absent_contexts_do_not_hold_the_answer_elsewhere(build: Build, world: Any) -> None:
    result = build(p_absent=0.5)
    originals = {pair.id: pair.answer for pair in [*build(p_absent=0.0, total=5000, dev_share=0.0).train]}
    checked = 0
    for pair in result.train:
        if pair.kind == "absent" and pair.id in originals:
            checked += 1
            answer = f" {' '.join(words(originals[pair.id]))} "
            for chunk in pair.context:
                assert answer not in f" {' '.join(words(world.index.chunk(chunk).text))} "
    assert checked > 20


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_the_share_of_absent_pairs_is_p_absent(share: float, build: Build) -> None:
    result = build(p_absent=share, total=100)
    absent = sum(pair.kind == "absent" for pair in result.train)
    assert len(result.train) == 100
    assert absent == round(share * 100)


def test_the_place_of_the_oracle_is_uniform(build: Build) -> None:
    # Pairs of one context share its order: one pair a context and oracle is an independent draw.
    places: Counter[int] = Counter()
    for seed in range(3):
        result = build(seed=seed, total=240, questions_per_context=1, p_absent=0.0)
        places.update(pair.context.index(pair.oracles[0]) for pair in result.train)
    assert sum(places.values()) > 600
    assert chisquare([places[place] for place in range(4)]).pvalue > 0.01


def test_distractors_differ_between_the_contexts_of_one_chunk(build: Build) -> None:
    result = build(questions_per_context=1, total=400, p_absent=0.0)
    contexts: dict[str, set[tuple[str, ...]]] = {}
    for pair in result.train:
        contexts.setdefault(pair.oracles[0], set()).add(pair.context)
    shared = [found for found in contexts.values() if len(found) > 1]
    assert len(shared) > 20


def _bytes(result: PairSet) -> bytes:
    return "\n".join(json.dumps(pair_to_dict(pair)) for pair in [*result.train, *result.dev]).encode()


def test_one_seed_gives_one_set_and_another_seed_another(build: Build) -> None:
    first = build(seed=3)
    assert _bytes(build(seed=3)) == _bytes(first)
    assert _bytes(build(seed=4)) != _bytes(first)


def test_ids_are_unique_over_train_and_dev(build: Build) -> None:
    result = build(total=400)
    ids = [pair.id for pair in [*result.train, *result.dev]]
    assert len(set(ids)) == len(ids)


def test_dev_documents_are_disjoint_from_train_documents(build: Build) -> None:
    result = build(dev_share=0.25, total=300)

    def documents(pairs: list[Pair]) -> set[str]:
        return {_document(oracle) for pair in pairs for oracle in pair.oracles}

    assert result.dev
    assert not documents(result.train) & documents(result.dev)
    assert len(result.dev) == pytest.approx(0.25 * 300, rel=0.1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("total", 50),
        ("per_chunk", 1),
        ("questions_per_context", 2),
        ("p_absent", 0.6),
        ("p_yes_no", 0.0),
        ("dev_share", 0.3),
        ("oracle_in_top", 1),
        ("context_chunks", 6),
        ("k", 2),
        ("seed", 9),
    ],
)
def test_every_setting_reaches_the_output(setting: str, value: Any, build: Build) -> None:
    assert _bytes(build(**{setting: value})) != _bytes(build())


def test_the_similarity_limit_reaches_the_output(build: Build) -> None:
    evaluation = [Question("q", "What colour is machine 7 today?", ("red",))]
    loose = build(evaluation=evaluation, max_similarity=1.0)
    strict = build(evaluation=evaluation, max_similarity=0.5)
    assert loose.counts["dropped: like a comparison question"] == 0
    assert strict.counts["dropped: like a comparison question"] > 0


def test_totals_and_group_sizes_hold(build: Build) -> None:
    result = build(total=60, questions_per_context=3)
    assert len(result.train) == 60
    grounded = Counter(pair.context for pair in result.train if pair.kind == "grounded")
    everyone = Counter(pair.context for pair in result.train)
    assert max(grounded.values()) <= 3
    assert max(everyone.values()) <= 4


def test_a_larger_context_shows_each_question_its_own_retrieval(build: Build, world: Any) -> None:
    result = build(k=4, context_chunks=7, questions_per_context=5)
    grounded = [pair for pair in [*result.train, *result.dev] if pair.kind == "grounded"]
    assert len(grounded) > 150
    assert {len(pair.context) for pair in grounded} >= {6, 7}
    assert max(len(pair.context) for pair in grounded) == 7
    for pair, hits in zip(grounded, world.retriever.search([pair.question for pair in grounded], 12), strict=True):
        others = [hit.chunk.id for hit in hits if hit.chunk.id not in pair.oracles]
        assert {*pair.oracles, *others[: 4 - len(pair.oracles)]} <= set(pair.context)
    assert max(Counter(pair.context for pair in grounded).values()) <= 5
    assert result.counts["own distractors kept"] == 1


@pytest.mark.parametrize("context_chunks", [1, 4])
def test_a_budget_of_k_or_less_is_k(context_chunks: int, build: Build) -> None:
    assert _bytes(build(context_chunks=context_chunks)) == _bytes(build())


def test_yes_no_pairs_can_be_switched_off(build: Build) -> None:
    assert not [pair for pair in build(p_yes_no=0.0).train if pair.answer in {"yes", "no"}]
    answers = Counter(pair.answer for pair in build(p_yes_no=0.5, total=300, p_absent=0.0).train)
    assert answers["yes"] > 20
    assert answers["no"] > 20


@pytest.mark.parametrize("total", [20, 80])
def test_few_pairs_hold_no_more_yes_or_no_than_many(total: int, build: Build) -> None:
    answers = Counter(pair.answer for pair in build(p_yes_no=0.1, total=total, p_absent=0.0, dev_share=0.0).train)
    assert answers.total() == total
    assert 0 < answers["yes"] + answers["no"] <= 0.1 * total + 1


def test_repeated_chunk_texts_keep_their_ids(build: Build, make_world: Callable[..., Any]) -> None:
    same = "Machine 1 is red and stands in the shed."
    documents = [Document(f"{n}.md", f"{same}\n\nMachine {n + 10} is blue and stands in the attic.") for n in range(8)]
    twins = make_world(documents, 16)
    assert sum(chunk.text.strip() == same for chunk in twins.index.chunks) == 8
    result = build(world=twins, p_absent=0.0, total=100, dev_share=0.0)
    assert result.counts["dropped: duplicate"] > 0
    for pair in result.train:
        (quote,) = pair.quotes
        chunk = twins.index.chunk(pair.oracles[0])  # others with the same text may follow it
        assert quote.document == chunk.document
        assert chunk.start <= quote.start < quote.end <= chunk.end


def test_no_pair_resembles_a_comparison_question(build: Build) -> None:
    evaluation = [Question(str(n), f"what colour is Machine {n} ?", ("red",)) for n in range(0, 240, 3)]
    result = build(evaluation=evaluation, total=1000)
    assert result.counts["dropped: like a comparison question"] >= 80
    bags = [set(words(question.question)) for question in evaluation]
    for pair in [*result.train, *result.dev]:
        bag = set(words(pair.question))
        assert all(len(bag & other) / len(bag | other) < 0.8 for other in bags)


def test_the_counts_add_up(build: Build) -> None:
    counts = build().counts
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped: "))
    pool_left = counts["candidates"] - dropped - counts["train"] - counts["dev"]
    assert pool_left >= 0
    assert counts["train"] == counts["train grounded"] + counts["train multi"] + counts["train absent"]
    places = [count for name, count in counts.items() if name.startswith("oracle at place ")]
    assert len(places) == 4
    assert sum(places) == counts["train grounded"]
    assert counts["questions per context"] == pytest.approx(counts["train"] / counts["contexts"], abs=0.01)
    assert counts["most questions of a context"] <= 7
    assert 1 < counts["work saved (words)"] < counts["questions per context"]
    assert 0 < counts["own distractors kept"] < 1


def test_nothing_left_says_what_was_dropped(build: Build) -> None:
    evaluation = [Question("q", "What is the colour of machine?", ("red",))]
    with pytest.raises(TrainingError, match=r"no training pair is left of \d+ candidates; dropped: .*comparison"):
        build(evaluation=evaluation, max_similarity=0.0)


# --- the user's own questions -----------------------------------------------------------------------------------------


def _own(number: int, **values: Any) -> Question:
    question = Question(f"own{number}", f"Which colour has machine {number} got?", ("red",), ("page0.md",))
    return replace(question, **values)


def test_own_questions_replace_the_teacher(build: Build, world: Any) -> None:
    own = [
        _own(
            n,
            answers=(world.index.documents[f"page{n // 6}.md"].text.split(f"Machine {n} is ")[1].split()[0],),
            gold=(f"page{n // 6}.md",),
        )
        for n in range(120)
    ]
    result = build(own=own, file="mine.jsonl", p_absent=0.1)
    pairs = [*result.train, *result.dev]
    assert {pair.source for pair in pairs} == {"mine.jsonl"}
    assert {pair.id for pair in pairs} <= {question.id for question in own}
    assert len(pairs) > 100
    for pair in pairs:
        (quote,) = pair.quotes
        assert world.index.documents[quote.document].text[quote.start : quote.end] == quote.text


def test_own_unanswerable_questions_become_absent_pairs(build: Build) -> None:
    own = [_own(n, answers=("red",), gold=("page0.md",)) for n in range(3)]
    own += [_own(n, answers=(), gold=(), answerable=False) for n in range(100, 104)]
    result = build(own=own, p_absent=0.0, dev_share=0.0)
    absent = [pair for pair in result.train if pair.kind == "absent"]
    assert {pair.id for pair in absent} == {f"own{n}" for n in range(100, 104)}
    assert {pair.answer for pair in absent} == {"Not answered."}
    assert {len(pair.context) for pair in absent} == {4}


def test_unanswerable_questions_count_against_the_total(build: Build) -> None:
    own = [_own(n, answers=(), gold=(), answerable=False) for n in range(50)]
    own += [_own(n) for n in range(100, 110)]
    assert len(build(own=own, total=20, dev_share=0.0).train) == 20


def test_documents_of_the_comparison_are_left_out(build: Build) -> None:
    own = [_own(n, answers=("shed",), gold=(f"page{n}.md",)) for n in range(20)]
    evaluation = [Question("q", "Quite another thing, is it?", ("x",), ("page3.md", "page4.md"))]
    result = build(own=own, evaluation=evaluation, dev_share=0.0, p_absent=0.0)
    oracles = {_document(oracle) for pair in result.train for oracle in pair.oracles}
    assert oracles
    assert not oracles & {"page3.md", "page4.md"}
    assert result.counts["dropped: document of a comparison question"] == 2


def test_own_questions_without_gold_find_their_oracle(build: Build, world: Any) -> None:
    own = [Question(f"q{n}", f"In which room does machine {n} stand?", (f"machine {n} is",)) for n in range(0, 240, 6)]
    own += [_own(900, answers=("no such words here",), gold=("gone.md",)), _own(901, answers=())]
    result = build(own=own, file="folder/mine.csv", p_absent=0.0, oracle_in_top=100)
    found = result.counts["oracles found by retrieval"]
    assert found >= 10
    assert result.counts["dropped: no answer"] == 1
    assert result.counts["dropped: oracle not found"] == len(own) - 1 - found
    for pair in result.train + result.dev:
        assert pair.source == "mine.csv"
        (quote,) = pair.quotes
        assert quote.text.startswith("Machine ")
        assert quote.document == f"page{int(pair.id[1:]) // 6}.md"


def test_own_questions_that_point_are_kept(build: Build) -> None:
    own = [_own(0, question="What does this section say of machine 0?")]
    assert len(build(own=own, dev_share=0.0, p_absent=0.0).train) == 1


def test_questions_over_two_chunks_are_made_counted_and_kept_from_the_comparison(build: Build) -> None:
    full = build(p_multi=0.2, p_absent=0.1, total=60)
    assert 9 <= sum(pair.kind == "multi" for pair in full.train) <= 12, "also where others could fill the total"
    assert len(full.train) == 60
    made = build(p_multi=0.2, p_absent=0.0, total=1000)
    joined = [pair for pair in made.train if pair.kind == "multi"]
    assert joined
    assert all(len(pair.oracles) == 2 and set(pair.oracles) <= set(pair.context) for pair in joined)
    dropped = sum(count for name, count in made.counts.items() if name.startswith("dropped: "))
    assert made.counts["candidates"] == dropped + len(made.train) + len(made.dev)
    asked = [Question("e", joined[0].question, ("x",))]
    clean = build(p_multi=0.2, p_absent=0.0, total=1000, evaluation=asked)
    assert joined[0].question not in {pair.question for pair in (*clean.train, *clean.dev)}


def test_an_unanswerable_majority_does_not_crowd_out_the_answers(build: Build) -> None:
    facts = [
        Question(f"q{n}", f"Where does machine {n} stand?", (f"Machine {n}",), (f"page{n // 6}.md",)) for n in range(60)
    ]
    open_ones = [Question(f"u{n}", f"Who repairs machine {n}?", (), (), answerable=False) for n in range(120)]
    made = build(own=[*open_ones, *facts], total=30, dev_share=0.0, p_absent=0.0)
    refused = sum(pair.kind == "absent" for pair in made.train)
    assert len(made.train) == 30
    assert 1 <= refused <= 20


def test_a_mark_holds_for_a_contradiction_too(world: Any) -> None:
    said = [
        Candidate(n, "How heavy is the Acme pump?", f"{n} kg", (f"{n}.md#0-9",), (f"{n}.md",), (), "t", "number")
        for n in ("5", "7")
    ]
    vectors = QuestionVectors(world.retriever.embedder)
    settings = PairsConfig(max_meaning=2.0, duplicate_meaning=2.0)

    def kept(marks: Marks) -> list[Candidate]:
        return screen(said, {}, [], vectors, marks, settings, Funnel(), own=False)

    (conflict,) = kept(Marks())
    assert conflict.conflict
    assert kept(Marks([Mark(conflict.id, conflict.question, conflict.answer, "bad")])) == []
