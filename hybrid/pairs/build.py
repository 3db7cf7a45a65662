"""From an index and a teacher, or the user's own questions, to training pairs with contexts.

What still holds of the last pair set is carried over (`hybrid.pairs.history`); the rest is drawn from what the teacher
wrote, gate by gate, in turns over the parts of the documents (`hybrid.pairs.coverage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

from hybrid.config import PairsConfig, PromptConfig
from hybrid.errors import TrainingError
from hybrid.pairs import candidates as gates
from hybrid.pairs.candidates import Candidate, Funnel
from hybrid.pairs.combine import combined_candidates
from hybrid.pairs.contexts.plan import plan_contexts
from hybrid.pairs.coverage import cluster_chunks, coverage, order_in_turns, put_off
from hybrid.pairs.drafts import cached_drafts
from hybrid.pairs.fill import POOL, Filled, fill
from hybrid.pairs.gates.alike import EmbedsQuestions, QuestionVectors
from hybrid.pairs.gates.guard import Guard
from hybrid.pairs.gates.leaks import LeakReport, find_leaks
from hybrid.pairs.gates.screening import screen, screen_combined, screen_dev
from hybrid.pairs.gates.splits import similar_documents, split_by_document
from hybrid.pairs.gates.verify import Answerer, answer_again, tag_closed_book
from hybrid.pairs.history import Carried, Last, carry_over, changes, mend_contexts, split_again
from hybrid.pairs.review.marks import Marks
from hybrid.pairs.summary import summary
from hybrid.pairs.teacher import Teacher
from hybrid.retrieval.index import Index
from hybrid.types import Chunk, Document, Hit, Pair, Question

_OWN_DROPPED = (
    "; questions of pairs.file about documents that the comparison asks about are left out: "
    "name other questions there, or unset pairs.file and let the teacher write them"
)
_MIN_RETRIEVED = 12  # of these the distractors are chosen
_POLAR = {"yes", "no"}


class Searcher(Protocol):
    """What pairs need of a retriever."""

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best `k` hits of every question."""
        ...


class PairSet(NamedTuple):
    """Pairs for training, pairs kept from training, and what happened on the way.

    Attributes:
        train: Pairs to train on.
        dev: Pairs about documents that `train` does not touch.
        candidates: What the pairs of both were before they had a context, in their order.
        counts: How many candidates there were, each gate dropped, and were kept; what was carried over; and figures
            of coverage and contexts.
        leaks: What training shares with the pairs kept from it and with the comparison.
    """

    train: list[Pair]
    dev: list[Pair]
    candidates: list[Candidate]
    counts: dict[str, Any]
    leaks: LeakReport


class Answers(NamedTuple):
    """Who answers every question again, and the file of the answers so far."""

    answerer: Answerer
    journal: Path


def build_pairs(
    *,
    index: Index,
    searcher: Searcher,
    embedder: EmbedsQuestions,
    evaluation: Sequence[Question],
    teacher: Teacher,
    own: Sequence[Question],
    drafts: Path,
    config: PairsConfig,
    prompt: PromptConfig,
    seed: int,
    last: Last | None = None,
    marks: Marks | None = None,
    answers: Answers | None = None,
) -> PairSet:
    """Builds the pair set.

    Args:
        index: The indexed documents.
        searcher: The project's retriever: contexts come from what it returns.
        embedder: Tells which questions are alike.
        evaluation: Comparison questions, which no pair may resemble.
        teacher: Drafts the questions where `own` is empty.
        own: The user's own questions, used instead of a teacher if there are any.
        drafts: File of what this teacher drafted before; no chunk in it is drafted again.
        config: Settings of this stage.
        prompt: The number of chunks and the refusal.
        seed: Seed of every random choice.
        last: The pair set before, if it was made with the same settings; None makes all pairs anew.
        marks: What a reader found bad.
        answers: Answers every question again; None trusts the teacher.

    Raises:
        TrainingError: No pair is left.
    """
    rng, funnel, carried = Random(seed), Funnel(), carry_over(last, index.chunks)
    vectors, chunks = QuestionVectors(embedder), {chunk.id: chunk for chunk in index.chunks}
    clusters = cluster_chunks(index.chunks, index.vectors, seed)
    if own:
        found, usage = _from_questions(own, index.chunks, searcher, config, prompt, funnel)
    else:
        found, usage = _from_teacher(teacher, index.chunks, drafts, config, seed, carried, funnel)
    # Those carried over come first: of two that are alike the first is kept.
    found = [*carried.candidates.values(), *(c for c in found if c.id not in carried.candidates)]
    kept = screen(found, index.documents, evaluation, vectors, marks or Marks(), config, funnel, own=bool(own))
    drawn = _draw(kept, carried, clusters, config, funnel, rng, polar=1.0 if own else config.p_yes_no)
    search = partial(_search, searcher=searcher, depth=_depth(config, prompt))
    hits = search(drawn)
    is_found = partial(_is_found, hits=hits, top=0 if own else config.oracle_in_top)
    kept = funnel.keep("oracle not retrieved", drawn, lambda c: c.id in carried.candidates or is_found(c))
    kept, from_memory, asked = _answered(kept, carried, chunks, answers, config, funnel)
    train, dev = _split(kept, carried, index.documents.values(), vectors, config, funnel, rng)
    both = zip((train, dev), _totals(config), strict=True)
    joined = [[] if own else _combined(side, total, carried, config, rng) for side, total in both]
    hits |= search([*chain(*joined)])
    more = screen_combined(train, joined, is_found, evaluation, vectors, marks or Marks(), config, funnel)
    sides = _place((train, more[0]), (dev, more[1]), carried, hits, chunks, config, prompt, rng)
    trained, chosen = (tag_closed_book(side.pairs, from_memory) for side in sides)
    _refuse_none(trained, funnel, own=bool(own))
    run, meaning = config.shared_run, config.max_meaning
    leaks = find_leaks(trained, chosen, evaluation, chunks, vectors, run=run, in_meaning=meaning, own=bool(own))
    made_from = {candidate.id: candidate for candidate in (*train, *dev, *more[0], *more[1])}
    candidates = [made_from[pair.id] for pair in (*trained, *chosen)]
    funnel.counts |= _left_over(sides, len(made_from))
    dropped = {f"dropped: {name}": count for name, count in funnel.counts.items()}
    counts = {"candidates": len(candidates) + sum(dropped.values()), **usage, **asked, **dropped}
    counts |= _figures(sides, trained, chosen, hits, chunks, prompt.k) | _history(last, sides)
    counts |= coverage([*trained, *chosen], index.chunks, clusters) | {"leaks": leaks.to_dict()}
    return PairSet(trained, chosen, candidates, counts, leaks)


def _draw(
    kept: Sequence[Candidate],
    carried: Carried,
    clusters: Mapping[str, int],
    config: PairsConfig,
    funnel: Funnel,
    rng: Random,
    *,
    polar: float,
) -> list[Candidate]:
    """What was carried over, and of the rest as many as are wanted, those about chunks that changed or came first.

    At most the share `polar` is answered by yes or no, unless there is nothing else to ask.
    """
    taken = [candidate for candidate in kept if candidate.id in carried.candidates]
    if carried.is_settled and len(taken) == len(carried.candidates):
        funnel.counts["not drawn"] = len(kept) - len(taken)
        return taken
    new = [candidate for candidate in kept if candidate.id not in carried.candidates]
    fresh = [candidate for candidate in new if not carried.same.issuperset(candidate.oracles)]

    def draw(found: Sequence[Candidate], room: int, taken: Sequence[Candidate]) -> list[Candidate]:
        order = order_in_turns(found, clusters, rng, taken=taken, per_chunk=config.per_chunk)
        return put_off(order, lambda c: c.answer in _POLAR, polar, taken=taken)[:room]

    room, known = POOL * config.total, {candidate.id for candidate in fresh}
    drawn = [*taken, *draw(fresh, room, taken)]
    others = [candidate for candidate in new if candidate.id not in known]
    drawn += draw(others, room + len(taken) - len(drawn), drawn)
    funnel.counts["not drawn"] = len(kept) - len(drawn)
    return drawn


def _answered(
    kept: Sequence[Candidate],
    carried: Carried,
    chunks: Mapping[str, Chunk],
    answers: Answers | None,
    config: PairsConfig,
    funnel: Funnel,
) -> tuple[list[Candidate], frozenset[str], Mapping[str, float]]:
    """Those whose answer another one from their oracles agrees with; ids of those known without any passage; usage."""
    if answers is None:
        return list(kept), frozenset(), {}
    new = [candidate for candidate in kept if candidate.id not in carried.candidates]
    found = answer_again(new, chunks, answers.answerer, answers.journal, min_agreement=config.min_agreement)
    # What has no oracle, and what was carried over, was not asked again.
    agrees = {key for key, agreement in found.agreement.items() if agreement >= config.min_agreement}
    passed = funnel.keep("not answered from its oracle", kept, lambda c: c.id in agrees or c.id not in found.agreement)
    return passed, found.closed_book, found.usage


def _split(
    kept: Sequence[Candidate],
    carried: Carried,
    documents: Iterable[Document],
    vectors: QuestionVectors,
    config: PairsConfig,
    funnel: Funnel,
    rng: Random,
) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates to train on, and those kept from training, which it tells nothing about."""
    together = similar_documents(list(documents), config.similar_documents)
    split = partial(split_by_document, share=config.dev_share, rng=rng, together=together)
    train, dev = split_again(kept, carried.sides, split, together)
    return train, screen_dev(train, dev, vectors, config, funnel)


def _combined(
    side: Sequence[Candidate], total: int, carried: Carried, config: PairsConfig, rng: Random
) -> list[Candidate]:
    """New questions that need two chunks of one side of the split."""
    if carried.is_settled:
        return []
    single = [candidate for candidate in side if len(candidate.oracles) == 1]
    held = sum(len(candidate.oracles) > 1 for candidate in side)
    made = combined_candidates(single, max(0, round(config.p_multi * min(len(side), total)) - held), rng)
    return [candidate for candidate in made if candidate.id not in carried.candidates]


def _totals(config: PairsConfig) -> tuple[int, int]:
    """Most pairs to train on, and most kept from training."""
    return config.total, max(1, round(config.dev_share * config.total))


def _place(
    train: tuple[Sequence[Candidate], Sequence[Candidate]],
    dev: tuple[Sequence[Candidate], Sequence[Candidate]],
    carried: Carried,
    hits: Mapping[str, Sequence[str]],
    chunks: Mapping[str, Chunk],
    config: PairsConfig,
    prompt: PromptConfig,
    rng: Random,
) -> tuple[Filled, Filled]:
    """Gives each side its pairs: first what was carried over, then new ones.

    A side is what was asked about one chunk, and what was made of it over several, which has its places for sure.
    """
    by_id = {candidate.id: candidate for candidate in chain(*train, *dev)}
    guard = Guard(chunks)

    def answers(pair: Pair, chunk: str) -> bool:
        candidate = by_id[pair.id]
        is_absent = pair.kind == "absent"
        return guard.may_answer(candidate, chunk) if is_absent else guard.judge(candidate, chunk) != "distractor"

    plan = partial(
        plan_contexts,
        retrieved=hits,
        chunks=chunks,
        k=prompt.k,
        budget=max(prompt.k, config.context_chunks),
        per_context=config.questions_per_context,
        refusal=prompt.refusal,
        rng=rng,
        distractors=config.distractors,
        absent=config.absent,
    )
    sides = []
    last = (carried.train, carried.lost), (carried.dev, carried.lost_dev)
    for (old, lost), (single, combined), total in zip(last, (train, dev), _totals(config), strict=True):
        # Of this side alone: a pair may have lost its place on it.
        ids = {candidate.id for candidate in (*single, *combined)}
        holding = [pair for pair in old if pair.id in ids]
        sides.append(
            fill(
                mend_contexts(holding, carried.same, hits, answers),
                [candidate for candidate in single if candidate.id not in carried.candidates],
                combined,
                total=total,
                p_absent=config.p_absent,
                lost=lost,
                same=carried.same,
                plan=plan,
            )
        )
    return sides[0], sides[1]


def _left_over(sides: Sequence[Filled], candidates: int) -> dict[str, int]:
    unplaced = sum(side.unplaced for side in sides)
    return {"no context": unplaced, "over the total": candidates - unplaced - sum(len(side.pairs) for side in sides)}


def _figures(
    sides: Sequence[Filled],
    train: Sequence[Pair],
    dev: Sequence[Pair],
    hits: Mapping[str, Sequence[str]],
    chunks: Mapping[str, Chunk],
    k: int,
) -> dict[str, float]:
    plans = [plan for side in sides for plan in side.plans]
    return {
        **summary(train, dev, hits, chunks, k),
        "distractors that answer too": sum(plan.promoted for plan in plans),
        "distractors left out": sum(plan.left_out for plan in plans),
        "contexts shorter than k": sum(plan.short for plan in plans),
    }


def _history(last: Last | None, sides: Sequence[Filled]) -> dict[str, int]:
    """What became of the last pair set, if there was one."""
    if last is None:
        return {}
    pairs = [pair for side in sides for pair in side.pairs]
    return changes(last, pairs) | {"retired": sum(side.retired for side in sides)}


def _refuse_none(pairs: Sequence[Pair], funnel: Funnel, *, own: bool) -> None:
    if pairs:
        return
    written = sum(funnel.counts.values())
    dropped = ", ".join(f"{name} {count}" for name, count in funnel.counts.items() if count) or "nothing"
    hint = _OWN_DROPPED if own else ""
    raise TrainingError(f"no training pair is left of {written} candidates; dropped: {dropped}{hint}")


def _from_questions(
    own: Sequence[Question],
    chunks: Sequence[Chunk],
    searcher: Searcher,
    config: PairsConfig,
    prompt: PromptConfig,
    funnel: Funnel,
) -> tuple[list[Candidate], Mapping[str, float]]:
    chunks_of: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        chunks_of.setdefault(chunk.document, []).append(chunk)
    results = searcher.search([q.question for q in own], _depth(config, prompt))
    source = Path(config.file or "questions").name
    made = (
        gates.candidates_from_question(question, chunks_of, [h.chunk for h in result], prompt.refusal, source)
        for question, result in zip(own, results, strict=True)
    )
    found = [candidate for candidate in made if candidate]
    funnel.counts["no answer"] = sum(question.answerable and not question.answers for question in own)
    funnel.counts["oracle not found"] = len(own) - len(found) - funnel.counts["no answer"]
    return found, _found_by_retrieval(own, found)


def _found_by_retrieval(own: Sequence[Question], found: Sequence[Candidate]) -> dict[str, float]:
    """How many candidates have an oracle in a document that their question does not name."""
    gold = {question.id: question.gold for question in own}
    elsewhere = sum(bool(c.oracles) and c.documents[0] not in gold.get(c.id, ()) for c in found)
    return {"oracles found by retrieval": elsewhere}


def _from_teacher(
    teacher: Teacher,
    chunks: Sequence[Chunk],
    drafts: Path,
    config: PairsConfig,
    seed: int,
    carried: Carried,
    funnel: Funnel,
) -> tuple[list[Candidate], Mapping[str, float]]:
    found = []
    for chunk, written in zip(chunks, cached_drafts(teacher, chunks, drafts), strict=True):
        rng = Random(f"{seed}/{chunk.id}")  # of its own, so that no other chunk decides what becomes of its drafts
        found += [gates.candidate_from_draft(draft, chunk, teacher.name, rng) for draft in written]
    taken = sum(candidate.answer in _POLAR for candidate in carried.candidates.values())
    polar = sorted(c.id for c in found if c.answer in _POLAR and c.id not in carried.candidates)
    others = sum(candidate.answer not in _POLAR for candidate in found)
    # Some more than the share, as later gates drop some; all of them where there is nothing else to ask.
    share = min(config.p_yes_no, 0.99)
    room = max(0, round(1.2 * share / (1 - share) * others) - taken) if others else len(polar)
    allowed = {*Random(seed).sample(polar, min(len(polar), room)), *carried.candidates}
    figures = teacher.figures()
    funnel.counts.update(figures.dropped)
    return funnel.keep("more yes or no than wanted", found, lambda c: c.answer not in _POLAR or c.id in allowed), (
        figures.usage
    )


def _depth(config: PairsConfig, prompt: PromptConfig) -> int:
    return max(_MIN_RETRIEVED, 3 * prompt.k, config.context_chunks, config.oracle_in_top)


def _search(candidates: Sequence[Candidate], searcher: Searcher, depth: int) -> dict[str, list[str]]:
    """By candidate id, the ids of the chunks that its question retrieves, best first."""
    results = searcher.search([candidate.question for candidate in candidates], depth)
    return {c.id: [hit.chunk.id for hit in result] for c, result in zip(candidates, results, strict=True)}


def _is_found(candidate: Candidate, hits: Mapping[str, Sequence[str]], top: int) -> bool:
    """Whether an oracle is among the first `top`; a question over several chunks needs them all."""
    return not top or set(candidate.oracles) <= set(hits[candidate.id][:top])
