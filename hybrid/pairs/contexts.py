"""Chooses the context of every pair, so that many pairs share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from random import Random
from typing import NamedTuple

from hybrid.pairs.candidates import Candidate, words
from hybrid.types import Chunk, Pair, PairKind


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
    per_context: int,
    total: int,
    p_absent: float,
    refusal: str,
    rng: Random,
) -> Plan:
    """Groups candidates under shared contexts of `k` chunks.

    A context starts from one candidate: its oracles, its best retrieved distractor, and further distractors from what
    retrieval returned for it, preferring chunks that other open candidates need. Every open candidate whose oracles the
    context holds joins. The order of the chunks is random, so the place of the oracle says nothing. A share `p_absent`
    of the candidates is set aside first and joins contexts that retrieval finds near to them but that do not hold their
    answer.

    Args:
        candidates: What to place; those without oracles (unanswerable questions) count as absent.
        retrieved: Chunk ids by candidate id, best first, at least `k` of them where the index is large enough.
        chunks: All chunks by id.
        k: Chunks per context.
        per_context: Most answerable pairs that share a context; a quarter more may join as absent.
        total: Most pairs; with more candidates than that, full contexts are preferred to many contexts.
        p_absent: Share of the answerable candidates whose context shall not show an oracle.
        refusal: Target answer where the context shows no oracle.
        rng: Source of randomness.

    >>> plan_contexts([], {}, {}, k=2, per_context=4, total=9, p_absent=0.1, refusal="-", rng=Random(0))
    Plan(pairs=[], unplaced=0)
    """
    shuffled = rng.sample(list(candidates), len(candidates))
    answerable = [c for c in shuffled if c.oracles and len(c.oracles) <= k]
    unanswerable = [c for c in shuffled if not c.oracles][:total]
    unplaced = sum(len(c.oracles) > k for c in shuffled)
    total = max(0, min(total, len(answerable) + len(unanswerable)) - len(unanswerable))
    cut = round(p_absent * total)
    absent, grounded = answerable[:cut] + unanswerable, answerable[cut:]
    pairs = _grounded_pairs(grounded, retrieved, k, per_context, total - cut, rng)
    room = _Room(per_context, pairs)
    for candidate in absent:
        near = retrieved[candidate.id]
        context = room.near_miss(candidate, near, chunks) or _own_miss(candidate, near, chunks, k, rng)
        if context is None:
            unplaced += 1
            continue
        room.take(context)
        pairs.append(_pair(candidate, context, refusal, absent=True))
    return Plan(sorted(pairs, key=lambda pair: (pair.context, pair.id)), unplaced)


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
    per_context: int,
    total: int,
    rng: Random,
) -> list[Pair]:
    open_by_chunk: dict[str, dict[str, Candidate]] = {}
    for candidate in candidates:
        for oracle in candidate.oracles:
            open_by_chunk.setdefault(oracle, {})[candidate.id] = candidate
    pairs: list[Pair] = []
    placed: set[str] = set()
    for first in candidates:
        if len(pairs) >= total:
            break
        if first.id in placed:
            continue
        members = _context_chunks(first, retrieved[first.id], open_by_chunk, k)
        context = tuple(rng.sample(members, len(members)))
        joining = {first.id: first}
        for chunk_id in members:
            joining |= {i: c for i, c in open_by_chunk.get(chunk_id, {}).items() if set(c.oracles) <= set(members)}
        chosen = list(joining.values())[: min(per_context, total - len(pairs))]
        for candidate in chosen:
            placed.add(candidate.id)
            for oracle in candidate.oracles:
                open_by_chunk[oracle].pop(candidate.id, None)
            pairs.append(_pair(candidate, context, candidate.answer, absent=False))
    return pairs


def _context_chunks(
    candidate: Candidate, retrieved: Sequence[str], open_by_chunk: Mapping[str, Mapping[str, Candidate]], k: int
) -> list[str]:
    members = list(candidate.oracles)
    others = [chunk for chunk in retrieved if chunk not in members]
    members += others[:1]
    by_need = sorted(others[1 : 3 * k], key=lambda chunk: -min(3, len(open_by_chunk.get(chunk, {}))))
    return (members + by_need + others[3 * k :])[: max(k, len(candidate.oracles))]


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


def _pair(candidate: Candidate, context: tuple[str, ...], answer: str, *, absent: bool) -> Pair:
    kind: PairKind = "absent" if absent else "multi" if len(candidate.oracles) > 1 else "grounded"
    return Pair(
        candidate.id, candidate.question, answer, context, candidate.oracles, candidate.quotes, kind, candidate.source
    )
