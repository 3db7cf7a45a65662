"""Contexts for pairs whose answer shall not be shown: near to the question, and without anything that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from random import Random

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.guard import Guard
from hybrid.types import Chunk

Context = tuple[str, ...]


class Room:
    """Which contexts absent pairs may still join, found by the chunks they show."""

    def __init__(self, per_context: int, contexts: Iterable[Context], guard: Guard) -> None:
        """Opens the contexts of the answerable pairs.

        Args:
            per_context: Pairs of a context; a quarter more, at least one, may join it as absent.
            contexts: The context of every pair.
            guard: Knows which chunks may answer.
        """
        self._per_context = per_context
        self._guard = guard
        self._left: dict[Context, int] = {}
        self._showing: dict[str, set[Context]] = {}
        for context, count in Counter(contexts).items():
            self._open(context, per_context + max(1, per_context // 4) - count)

    def _open(self, context: Context, left: int) -> None:
        self._left[context] = left
        for chunk in context:
            self._showing.setdefault(chunk, set()).add(context)

    def take(self, context: Context) -> None:
        """Counts a pair that joins a context, which may be a new one."""
        if context not in self._left:
            self._open(context, self._per_context)
        self._left[context] -= 1

    def near_miss(self, candidate: Candidate, near: Sequence[str]) -> Context | None:
        """The context with room that shows the first chunk of `near` that any shows, and no answer."""
        for chunk in near:
            for context in sorted(self._showing.get(chunk, ())):
                if self._left[context] > 0 and not any(self._guard.may_answer(candidate, c) for c in context):
                    return context
        return None


def own_miss(
    candidate: Candidate, near: Sequence[str], chunks: Mapping[str, Chunk], guard: Guard, size: int, rng: Random
) -> Context | None:
    """A context of its own: the first of `near` that do not answer, filled up from the others if these are few."""
    members = [chunk for chunk in near if not guard.may_answer(candidate, chunk)][:size]
    if len(members) < size:
        others = (c for c in rng.sample(list(chunks), len(chunks)) if c not in set(near))
        members += islice((c for c in others if not guard.may_answer(candidate, c)), size - len(members))
    return tuple(rng.sample(members, len(members))) if members else None
