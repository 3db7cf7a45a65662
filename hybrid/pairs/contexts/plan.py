"""Chooses the context of every pair, so that many pairs share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import Literal, NamedTuple

from hybrid.pairs.candidates import Candidate, words
from hybrid.pairs.contexts.near_misses import Context, Room, own_miss
from hybrid.pairs.contexts.sharing import Sharing, wanted_chunks
from hybrid.pairs.gates.guard import Guard
from hybrid.types import Chunk, Pair, PairKind


class Plan(NamedTuple):
    """Pairs with their contexts, and what stood in the way.

    Attributes:
        pairs: The pairs.
        unplaced: Candidates for which no context could be made.
        promoted: Distractors that answer too and became oracles of a pair.
        left_out: Chunks among the best `k` of a pair's own retrieval that hold its answer without surely answering the
            question, and were kept out of its context.
        short: Pairs whose context has fewer than `k` chunks, as there were no more to show.
    """

    pairs: list[Pair]
    unplaced: int
    promoted: int = 0
    left_out: int = 0
    short: int = 0


def plan_contexts(
    candidates: Sequence[Candidate],
    retrieved: Mapping[str, Sequence[str]],
    chunks: Mapping[str, Chunk],
    *,
    k: int,
    budget: int,
    per_context: int,
    total: int,
    p_absent: float,
    refusal: str,
    rng: Random,
    distractors: Literal["retrieved", "random"] = "retrieved",
    absent: Literal["refuse", "memorise", "mixed"] = "refuse",
) -> Plan:
    """Groups candidates under shared contexts of `k` chunks, or of up to `budget` chunks.

    With `budget` equal to `k`, a context starts from one candidate: its oracles, its best retrieved distractor, and
    further distractors from what retrieval returned for it, preferring chunks that other open candidates need. Every
    open candidate whose oracles the context holds joins, whatever else its own retrieval returned.

    With a larger `budget`, every candidate keeps what its own retrieval returned: its oracles and its best distractors,
    `k` chunks together. A context starts from these chunks of one candidate and grows within the budget by the chunks
    that let most others join for each chunk added.

    With `random` distractors, a context has `k` chunks: the oracles of one candidate, and others that do not hold its
    answer, drawn from all. Every open candidate whose oracles it holds joins.

    A chunk that answers a question of its context although it is none of the candidate's oracles becomes an oracle of
    that pair; one that merely holds the answer is kept out of the pair's context (`hybrid.pairs.gates.guard`).

    The order of the chunks is random, so the place of the oracle says nothing. A share `p_absent` of the candidates is
    set aside first and joins contexts that retrieval finds near to them but that do not hold their answer.

    Args:
        candidates: What to place, those first that are wanted most; those without oracles (unanswerable questions)
            count as absent.
        retrieved: Chunk ids by candidate id, best first, at least `k` of them where the index is large enough.
        chunks: All chunks by id.
        k: Chunks that a question is shown in serving.
        budget: Most chunks of a context, at least `k`.
        per_context: Most answerable pairs that share a context; a quarter more may join as absent.
        total: Most pairs; with more candidates than that, full contexts are preferred to many contexts.
        p_absent: Share of the answerable candidates whose context shall not show an oracle: 0 shows one to all, 1 to
            none but contradictions and two questions in one.
        refusal: Target answer where the context shows no oracle.
        rng: Source of randomness.
        distractors: Whether distractors come from a question's retrieval or from all chunks.
        absent: Target answer of answerable candidates whose context shows no oracle: the refusal, their real answer
            (`memorise`), or each for half of them.

    >>> plan_contexts([], {}, {}, k=2, budget=2, per_context=4, total=9, p_absent=0.1, refusal="-", rng=Random(0)).pairs
    []
    """
    answerable = [c for c in candidates if c.oracles and len(c.oracles) <= budget]
    unanswerable = _fair_share([c for c in candidates if not c.oracles], len(answerable), total)
    unplaced = sum(len(c.oracles) > budget for c in candidates)
    total = max(0, min(total, len(answerable) + len(unanswerable)) - len(unanswerable))
    # Those that shall not see their oracle are drawn from what would be used, not from the front of the queue. Of an
    # answer that was put together from two, half may stand in a passage that the guard takes for a distractor.
    whole = [n for n, c in enumerate(answerable[:total]) if not c.conflict and c.asks != "compound"]
    aside = set(rng.sample(whole, min(len(whole), round(p_absent * total))))
    guard, by_id = Guard(chunks), {c.id: c for c in candidates}
    if distractors == "random":
        near, budget = _draw(candidates, list(chunks), k, guard, rng), k
    else:
        near = {c.id: [i for i in retrieved[c.id] if guard.judge(c, i) != "ambiguous"] for c in candidates}
    sharing = Sharing(guard, near, list(chunks), k, budget, per_context, by_need=distractors == "retrieved")
    placed = sharing.place([c for n, c in enumerate(answerable) if n not in aside], total - len(aside), rng)
    pairs = [_pair(c, context, c.answer, retrieved[c.id], guard) for c, context in placed]
    room = Room(per_context, [context for _, context in placed], guard)
    # The sizes of the others in turn, so that the size of a context does not give away that the answer is absent.
    sizes = cycle([len(context) for context in dict.fromkeys(pair.context for pair in pairs)] or [k])
    turn = rng.randrange(2) if absent == "mixed" else 0
    for number, candidate in enumerate([c for n, c in enumerate(answerable) if n in aside] + unanswerable, turn):
        context = room.near_miss(candidate, near[candidate.id])
        context = context or own_miss(candidate, near[candidate.id], chunks, guard, next(sizes), rng)
        if context is None:
            unplaced += 1
            continue
        room.take(context)
        remembers = candidate.oracles and (absent == "memorise" or (absent == "mixed" and number % 2))
        answer = candidate.answer if remembers else refusal
        pairs.append(_pair(candidate, context, answer, retrieved[candidate.id], guard, absent=True))
    promoted = sum(len(pair.oracles) - len(by_id[pair.id].oracles) for pair in pairs)
    shown = [(by_id[pair.id], chunk) for pair in pairs if pair.kind != "absent" for chunk in retrieved[pair.id][:k]]
    left_out = sum(guard.judge(candidate, chunk) == "ambiguous" for candidate, chunk in shown)
    short = sum(len(pair.context) < k for pair in pairs)
    return Plan(sorted(pairs, key=lambda pair: (pair.context, pair.id)), unplaced, promoted, left_out, short)


def _fair_share(unanswerable: list[Candidate], answerable: int, total: int) -> list[Candidate]:
    """As many as are their share of the total, so that questions without an answer do not crowd out the others."""
    share = total / max(1, total, answerable + len(unanswerable))
    return unanswerable[: round(share * len(unanswerable))]


def _draw(
    candidates: Sequence[Candidate], chunks: Sequence[str], k: int, guard: Guard, rng: Random
) -> dict[str, list[str]]:
    """Random chunks for every candidate that do not hold its answer; more than enough of them as a rule."""
    drawn = {c.id: rng.sample(chunks, min(len(chunks), 2 * k + 8)) for c in candidates}
    return {c.id: [chunk for chunk in drawn[c.id] if not guard.may_answer(c, chunk)] for c in candidates}


def _pair(
    candidate: Candidate, context: Context, answer: str, retrieved: Sequence[str], guard: Guard, *, absent: bool = False
) -> Pair:
    several: PairKind = "conflict" if candidate.conflict else "multi"
    kind: PairKind = "absent" if absent else several if len(candidate.oracles) > 1 else "grounded"
    others = (chunk for chunk in context if chunk not in candidate.oracles)
    oracles = (*candidate.oracles, *(chunk for chunk in others if guard.judge(candidate, chunk) == "oracle"))
    return Pair(
        candidate.id,
        candidate.question,
        answer,
        context,
        oracles,
        candidate.quotes,
        kind,
        candidate.source,
        candidate.asks,
        next((rank for rank, chunk in enumerate(retrieved, 1) if chunk in oracles), 0),
    )


@dataclass(frozen=True, slots=True)
class ContextFigures:
    """What pairs share, and what is left of each question's own retrieval.

    All but the first five are about the pairs whose context shows their oracles.

    Attributes:
        contexts: Number of contexts.
        questions: Mean number of pairs per context (G).
        largest: Most pairs on one context.
        chunks: Mean number of chunks per context.
        work_saved: Words of all pairs with their contexts, one by one, for each word with every context counted once:
            an estimate of what training on shared contexts saves, as the instructions and the tokenizer are left out.
        own_kept: Share of the distractors among a question's own `k` chunks that its context shows.
        own_share: Share of the distractors shown that are among the first `3k` chunks of the question's own retrieval.
        oracle_rank: Mean rank of a pair's best oracle in its own retrieval, where it is found.
        oracle_places: How many oracles stand first in their context, second, and so on.
    """

    contexts: int
    questions: float
    largest: int
    chunks: float
    work_saved: float
    own_kept: float
    own_share: float
    oracle_rank: float
    oracle_places: tuple[int, ...]


def context_figures(
    pairs: Sequence[Pair], retrieved: Mapping[str, Sequence[str]], chunks: Mapping[str, Chunk], *, k: int
) -> ContextFigures:
    """Measures planned pairs; a share or mean of nothing is 0.

    Args:
        pairs: Pairs as `plan_contexts` made them.
        retrieved: Chunk ids by pair id, best first.
        chunks: All chunks by id.
        k: Chunks that a question is shown in serving.
    """
    contexts = Counter(pair.context for pair in pairs)
    length = {context: sum(len(words(chunks[chunk].text)) for chunk in context) for context in contexts}
    branches = sum(len(words(pair.question)) + len(words(pair.answer)) for pair in pairs)
    grounded = [pair for pair in pairs if pair.kind != "absent"]
    shown, kept, wanted, own = 0, 0, 0, 0
    ranks: list[int] = []
    for pair in grounded:
        near = retrieved[pair.id]
        distractors = set(pair.context) - set(pair.oracles)
        best = wanted_chunks(pair.oracles, near, k)[len(pair.oracles) :]
        shown += len(distractors)
        wanted += len(best)
        kept += len(distractors & set(best))
        own += len(distractors & set(near[: 3 * k]))
        ranks += [rank for rank, chunk in enumerate(near, 1) if chunk in pair.oracles][:1]
    places = Counter(pair.context.index(oracle) for pair in grounded for oracle in pair.oracles)
    return ContextFigures(
        contexts=len(contexts),
        questions=_ratio(len(pairs), len(contexts)),
        largest=max(contexts.values(), default=0),
        chunks=_ratio(sum(map(len, contexts)), len(contexts)),
        work_saved=_ratio(
            branches + sum(length[context] * count for context, count in contexts.items()),
            branches + sum(length.values()),
        ),
        own_kept=_ratio(kept, wanted),
        own_share=_ratio(own, shown),
        oracle_rank=_ratio(sum(ranks), len(ranks)),
        oracle_places=tuple(places[place] for place in range(max(places, default=-1) + 1)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
