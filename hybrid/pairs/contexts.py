"""Chooses the context of every pair, so that many pairs share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from random import Random
from typing import NamedTuple

from hybrid.pairs.candidates import Candidate, words
from hybrid.types import Chunk, Pair, PairKind

_REACH = 16  # candidates looked at for each chunk of a context and place for a question


class Plan(NamedTuple):
    """Pairs with their contexts, and candidates for which no context could be made."""

    pairs: list[Pair]
    unplaced: int


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
) -> Plan:
    """Groups candidates under shared contexts of `k` chunks, or of up to `budget` chunks.

    With `budget` equal to `k`, a context starts from one candidate: its oracles, its best retrieved distractor, and
    further distractors from what retrieval returned for it, preferring chunks that other open candidates need. Every
    open candidate whose oracles the context holds joins, whatever else its own retrieval returned.

    With a larger `budget`, every candidate keeps what its own retrieval returned: its oracles and its best distractors,
    `k` chunks together. A context starts from these chunks of one candidate and grows within the budget by the chunks
    that let most others join for each chunk added.

    The order of the chunks is random, so the place of the oracle says nothing. A share `p_absent` of the candidates is
    set aside first and joins contexts that retrieval finds near to them but that do not hold their answer.

    Args:
        candidates: What to place; those without oracles (unanswerable questions) count as absent.
        retrieved: Chunk ids by candidate id, best first, at least `k` of them where the index is large enough.
        chunks: All chunks by id.
        k: Chunks that a question is shown in serving.
        budget: Most chunks of a context, at least `k`.
        per_context: Most answerable pairs that share a context; a quarter more may join as absent.
        total: Most pairs; with more candidates than that, full contexts are preferred to many contexts.
        p_absent: Share of the answerable candidates whose context shall not show an oracle.
        refusal: Target answer where the context shows no oracle.
        rng: Source of randomness.

    >>> plan_contexts([], {}, {}, k=2, budget=2, per_context=4, total=9, p_absent=0.1, refusal="-", rng=Random(0))
    Plan(pairs=[], unplaced=0)
    """
    shuffled = rng.sample(list(candidates), len(candidates))
    answerable = [c for c in shuffled if c.oracles and len(c.oracles) <= budget]
    unanswerable = [c for c in shuffled if not c.oracles][:total]
    unplaced = sum(len(c.oracles) > budget for c in shuffled)
    total = max(0, min(total, len(answerable) + len(unanswerable)) - len(unanswerable))
    cut = round(p_absent * total)
    absent, grounded = answerable[:cut] + unanswerable, answerable[cut:]
    pairs = _grounded_pairs(grounded, retrieved, k, budget, per_context, total - cut, rng)
    room = _Room(per_context, pairs)
    # The sizes of the others in turn, so that the size of a context does not give away that the answer is absent.
    sizes = cycle([len(context) for context in dict.fromkeys(pair.context for pair in pairs)] or [k])
    for candidate in absent:
        near = retrieved[candidate.id]
        context = room.near_miss(candidate, near, chunks) or _own_miss(candidate, near, chunks, next(sizes), rng)
        if context is None:
            unplaced += 1
            continue
        room.take(context)
        pairs.append(_pair(candidate, context, refusal, near, absent=True))
    return Plan(sorted(pairs, key=lambda pair: (pair.context, pair.id)), unplaced)


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
        best = _wanted(pair.oracles, near, k)[len(pair.oracles) :]
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


class _Room:
    """Which contexts absent pairs may still join, found by the chunks they show."""

    def __init__(self, per_context: int, pairs: Sequence[Pair]) -> None:
        self._per_context = per_context
        self._left: dict[tuple[str, ...], int] = {}
        self._showing: dict[str, set[tuple[str, ...]]] = {}
        for context, count in Counter(pair.context for pair in pairs).items():
            self._open(context, per_context + max(1, per_context // 4) - count)

    def _open(self, context: tuple[str, ...], left: int) -> None:
        self._left[context] = left
        for chunk in context:
            self._showing.setdefault(chunk, set()).add(context)

    def take(self, context: tuple[str, ...]) -> None:
        """Counts a pair that joins a context, which may be a new one."""
        if context not in self._left:
            self._open(context, self._per_context)
        self._left[context] -= 1

    def near_miss(
        self, candidate: Candidate, retrieved: Sequence[str], chunks: Mapping[str, Chunk]
    ) -> tuple[str, ...] | None:
        """The context with room that shows the best-ranked distractor of the candidate, and no answer to it."""
        for chunk in retrieved:
            for context in sorted(self._showing.get(chunk, ())):
                if self._left[context] > 0 and not _holds_answer(candidate, context, chunks):
                    return context
        return None


def _grounded_pairs(
    candidates: Sequence[Candidate],
    retrieved: Mapping[str, Sequence[str]],
    k: int,
    budget: int,
    per_context: int,
    total: int,
    rng: Random,
) -> list[Pair]:
    grows = budget > k
    by_id = {candidate.id: candidate for candidate in candidates}
    needs = {i: _wanted(c.oracles, retrieved[i], k) if grows else c.oracles for i, c in by_id.items()}
    waiting = _Waiting(needs, _REACH * per_context)
    pairs: list[Pair] = []
    for first in candidates:
        room = min(per_context, total - len(pairs))
        if room <= 0:
            break
        if first.id not in waiting:
            continue
        start = (_wanted if grows else waiting.by_need)(first.oracles, retrieved[first.id], k)
        members, joining = _share(first.id, start, waiting, budget, room)
        context = tuple(rng.sample(members, len(members)))
        for candidate in map(by_id.__getitem__, joining):
            waiting.remove(candidate.id)
            pairs.append(_pair(candidate, context, candidate.answer, retrieved[candidate.id], absent=False))
    return pairs


class _Waiting:
    """Ids of the candidates that have no context yet, found by the chunks that a context has to show for them.

    A chunk leads to at most `reach` of them: one that nearly all retrieve would else cost a look at all per context.
    """

    def __init__(self, needs: Mapping[str, Sequence[str]], reach: int) -> None:
        self._reach = reach
        self._needs = {candidate: sorted(chunks) for candidate, chunks in needs.items()}
        self._asking: dict[str, dict[str, None]] = {}
        for candidate, chunks in needs.items():
            for chunk in chunks:
                self._asking.setdefault(chunk, {})[candidate] = None

    def __contains__(self, candidate: str) -> bool:
        return candidate in self._needs

    def remove(self, candidate: str) -> None:
        """Takes out a candidate that has found its context."""
        for chunk in self._needs.pop(candidate):
            del self._asking[chunk][candidate]

    def missing(self, shown: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The candidates that need any of the chunks shown, and what each needs beside them."""
        held = set(shown)
        asking = (islice(self._asking.get(chunk, ()), self._reach) for chunk in shown)
        near = dict.fromkeys(chain.from_iterable(asking))
        return {candidate: tuple([c for c in self._needs[candidate] if c not in held]) for candidate in near}

    def by_need(self, oracles: Sequence[str], retrieved: Sequence[str], k: int) -> list[str]:
        """Oracles, the best distractor, and those of the next ones that most candidates need; `k` chunks."""
        others = [chunk for chunk in retrieved if chunk not in oracles]
        needed = sorted(others[1 : 3 * k], key=lambda chunk: -min(3, len(self._asking.get(chunk, ()))))
        return [*oracles, *others[:1], *needed, *others[3 * k :]][:k]


def _wanted(oracles: Sequence[str], retrieved: Sequence[str], k: int) -> list[str]:
    """The oracles and the best distractors of a question's own retrieval, `k` chunks together."""
    return [*oracles, *(chunk for chunk in retrieved if chunk not in oracles)][: max(k, len(oracles))]


def _share(first: str, start: Sequence[str], waiting: _Waiting, budget: int, room: int) -> tuple[list[str], list[str]]:
    """The chunks of a context that begins with `start`, and the ids of up to `room` candidates that it serves."""
    members = list(start)
    joining: dict[str, None] = {first: None}
    while True:
        missing = waiting.missing(members)
        joining |= dict.fromkeys(candidate for candidate, more in missing.items() if not more)
        more = _growth(missing.values(), budget - len(members))
        if len(joining) >= room or not more:
            return members, list(joining)[:room]
        members += more


def _growth(missing: Iterable[tuple[str, ...]], room: int) -> tuple[str, ...]:
    """The chunks that let most candidates join for each chunk added; of equals, the fewest.

    >>> _growth([("a", "b")] * 3 + [("c",), ("d",), ("d",), ()], 2)
    ('d',)
    """
    asked = Counter(more for more in missing if 0 < len(more) <= room)
    return min(asked, key=lambda more: (-asked[more] / len(more), len(more)), default=())


def _holds_answer(candidate: Candidate, context: Sequence[str], chunks: Mapping[str, Chunk]) -> bool:
    """True if the context could answer after all: it shows an oracle, or the words of the answer."""
    if set(candidate.oracles) & set(context):
        return True
    answer = " ".join(words(candidate.answer))
    return bool(candidate.oracles) and any(f" {answer} " in f" {' '.join(words(chunks[c].text))} " for c in context)


def _own_miss(
    candidate: Candidate, retrieved: Sequence[str], chunks: Mapping[str, Chunk], k: int, rng: Random
) -> tuple[str, ...] | None:
    """A context of its own: the best-ranked chunks that do not answer, filled up from the others if these are few."""
    members = [chunk for chunk in retrieved if not _holds_answer(candidate, [chunk], chunks)][:k]
    if len(members) < k:
        others = (c for c in rng.sample(list(chunks), len(chunks)) if c not in set(retrieved))
        members += islice((c for c in others if not _holds_answer(candidate, [c], chunks)), k - len(members))
    return tuple(rng.sample(members, len(members))) if members else None


def _pair(
    candidate: Candidate, context: tuple[str, ...], answer: str, retrieved: Sequence[str], *, absent: bool
) -> Pair:
    kind: PairKind = "absent" if absent else "multi" if len(candidate.oracles) > 1 else "grounded"
    return Pair(
        candidate.id,
        candidate.question,
        answer,
        context,
        candidate.oracles,
        candidate.quotes,
        kind,
        candidate.source,
        candidate.asks,
        next((rank for rank, chunk in enumerate(retrieved, 1) if chunk in candidate.oracles), 0),
    )
