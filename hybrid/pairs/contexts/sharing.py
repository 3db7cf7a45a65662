"""Groups candidates so that many share a context that shows all their oracles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from random import Random

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.contexts.near_misses import Context
from hybrid.pairs.gates.guard import Guard

_REACH = 16  # candidates looked at for each chunk of a context and place for a question


class Sharing:
    """Places candidates; see `hybrid.pairs.contexts.plan.plan_contexts` for the rules.

    Args:
        guard: Tells which chunks must not be shown to a candidate.
        near: By candidate id, the chunks that its distractors come from, best first, without ambiguous ones.
        chunks: Ids of all chunks; these fill contexts that would have fewer than `k`.
        k: Chunks that a question is shown in serving.
        budget: Most chunks of a context; above `k`, every candidate keeps its first distractors.
        per_context: Most candidates of a context.
        by_need: Whether contexts of `k` chunks prefer distractors that are other candidates' oracles.
    """

    def __init__(
        self,
        guard: Guard,
        near: Mapping[str, Sequence[str]],
        chunks: Sequence[str],
        k: int,
        budget: int,
        per_context: int,
        *,
        by_need: bool,
    ) -> None:
        self._guard = guard
        self._near = near
        self._chunks = chunks
        self._k = k
        self._budget = budget
        self._per_context = per_context
        self._by_need = by_need and budget == k

    def place(self, candidates: Sequence[Candidate], total: int, rng: Random) -> list[tuple[Candidate, Context]]:
        """Gives contexts to up to `total` candidates; each has at most `budget` oracles."""
        grows = self._budget > self._k
        needs = {c.id: self._start(c) if grows else c.oracles for c in candidates}
        waiting = _Waiting(candidates, needs, _REACH * self._per_context)
        placed: list[tuple[Candidate, Context]] = []
        for first in candidates:
            room = min(self._per_context, total - len(placed))
            if room <= 0:
                break
            if first.id not in waiting:
                continue
            start = waiting.by_need(first, self._near[first.id], self._k) if self._by_need else self._start(first)
            members, joining = self._share(first, start, waiting, room)
            members += self._filling(members, joining, rng)
            context = tuple(rng.sample(members, len(members)))
            for candidate in joining:
                waiting.remove(candidate.id)
                placed.append((candidate, context))
        return placed

    def _start(self, candidate: Candidate) -> list[str]:
        return wanted_chunks(candidate.oracles, self._near[candidate.id], self._k)

    def _share(
        self, first: Candidate, start: Sequence[str], waiting: _Waiting, room: int
    ) -> tuple[list[str], list[Candidate]]:
        """The chunks of a context that begins with `start`, and up to `room` candidates that it serves."""
        members = list(start)
        joining = {first.id: first}
        while True:
            missing = waiting.missing(members)
            served = (waiting[candidate] for candidate, more in missing.items() if not more)
            joining |= {c.id: c for c in served if c.id not in joining and self._admits([c], members)}
            options = growths(missing.values(), self._budget - len(members))
            more = next((more for more in options if self._admits(joining.values(), more)), ())
            if len(joining) >= room or not more:
                return members, list(joining.values())[:room]
            members += more

    def _admits(self, candidates: Iterable[Candidate], chunks: Sequence[str]) -> bool:
        return all(self._guard.judge(candidate, c) != "ambiguous" for candidate in candidates for c in chunks)

    def _filling(self, members: Sequence[str], joining: Sequence[Candidate], rng: Random) -> list[str]:
        """Other distractors, drawn from all chunks, for a context that would have fewer than `k`."""
        if len(members) >= self._k:
            return []
        others = (c for c in rng.sample(self._chunks, len(self._chunks)) if c not in members)
        fitting = (c for c in others if all(self._guard.judge(j, c) == "distractor" for j in joining))
        return list(islice(fitting, self._k - len(members)))


class _Waiting:
    """The candidates that have no context yet, found by the chunks that a context has to show for them.

    A chunk leads to at most `reach` of them: one that nearly all retrieve would else cost a look at all per context.
    """

    def __init__(self, candidates: Iterable[Candidate], needs: Mapping[str, Sequence[str]], reach: int) -> None:
        self._reach = reach
        self._candidates = {candidate.id: candidate for candidate in candidates}
        self._needs = {candidate: sorted(chunks) for candidate, chunks in needs.items()}
        self._asking: dict[str, dict[str, None]] = {}
        for candidate, chunks in needs.items():
            for chunk in chunks:
                self._asking.setdefault(chunk, {})[candidate] = None

    def __contains__(self, candidate: str) -> bool:
        return candidate in self._needs

    def __getitem__(self, candidate: str) -> Candidate:
        return self._candidates[candidate]

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

    def by_need(self, candidate: Candidate, near: Sequence[str], k: int) -> list[str]:
        """Oracles, the best distractor, and those of the next ones that most candidates need; `k` chunks."""
        others = [chunk for chunk in near if chunk not in candidate.oracles]
        needed = sorted(others[1 : 3 * k], key=lambda chunk: -min(3, len(self._asking.get(chunk, ()))))
        return [*candidate.oracles, *others[:1], *needed, *others[3 * k :]][:k]


def wanted_chunks(oracles: Sequence[str], near: Sequence[str], k: int) -> list[str]:
    """The oracles and the best distractors of a question's own retrieval, `k` chunks together."""
    return [*oracles, *(chunk for chunk in near if chunk not in oracles)][: max(k, len(oracles))]


def growths(missing: Iterable[tuple[str, ...]], room: int) -> Iterator[tuple[str, ...]]:
    """The sets of chunks that let candidates join: first what serves most for each chunk; of equals, the fewest.

    >>> list(growths([("a", "b")] * 3 + [("c",), ("d",), ("d",), ()], 2))
    [('d',), ('a', 'b'), ('c',)]
    """
    asked = Counter(more for more in missing if 0 < len(more) <= room)
    yield from sorted(asked, key=lambda more: (-asked[more] / len(more), len(more)))
