"""One side of a pair set: what is carried over stays, and what is missing from the total is planned anew."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.contexts.plan import Plan
from hybrid.pairs.coverage import oracle_document
from hybrid.types import Pair

POOL = 3  # candidates per pair wanted: contexts fill up better from a larger pool


class Planner(Protocol):
    """Gives candidates their contexts; `hybrid.pairs.contexts.plan.plan_contexts` with all but these arguments set."""

    def __call__(self, candidates: Sequence[Candidate], *, total: int, p_absent: float) -> Plan:
        """Plans up to `total` pairs."""
        ...


class Filled(NamedTuple):
    """One side of a pair set.

    Attributes:
        pairs: The pairs, those carried over included.
        unplaced: Candidates for which no context could be made.
        retired: Pairs carried over that gave way to documents that came.
        plans: The plans that the new pairs are from.
    """

    pairs: list[Pair]
    unplaced: int
    retired: int
    plans: list[Plan]


def fill(
    carried: Sequence[Pair],
    new: Sequence[Candidate],
    reserved: Sequence[Candidate] = (),
    *,
    total: int,
    p_absent: float,
    lost: Mapping[str, int],
    same: frozenset[str],
    plan: Planner,
) -> Filled:
    """Fills a side up to `total` pairs.

    The chunks that changed or came are asked about first: a changed document for as many pairs as it lost, one that
    came for its fair share, which is the total divided by the documents. Where the total is full, pairs of documents
    that have more than their fair share give way to those that came. What is left of the total is filled from all
    candidates, in their order.

    Where there was no last run, every document with candidates gets a pair in the end, if the total allows one each.

    Args:
        carried: Pairs that stay.
        new: Other candidates, in the order in which they are wanted.
        reserved: Further candidates, which get their places before those that fill the total: there are few of them,
            and the fullest contexts would leave them out.
        total: Most pairs.
        p_absent: Share of all pairs whose context shall not show an oracle.
        lost: How many pairs of each document of the last run do not hold; empty if there was none.
        same: Ids of the chunks that did not change.
        plan: Gives candidates their contexts.
    """
    available = Counter(map(oracle_document, new))
    documents = {oracle_document(pair) for pair in carried} | available.keys()
    fair = max(1, total // max(1, len(documents)))
    came = {document: min(fair, count) for document, count in available.items() if lost and document not in lost}
    wanted = sum(min(count, lost.get(document, 0)) for document, count in available.items()) + sum(came.values())
    pairs = retire(carried, sum(came.values()) - max(0, total - len(carried)), fair)
    retired = len(carried) - len(pairs)
    first = [candidate for candidate in new if not same.issuperset(candidate.oracles)] if lost else []
    plans: list[Plan] = []
    for pool, most in ((first, wanted), (reserved, len(reserved)), ([*new, *reserved], total)):
        room = min(most, total - len(pairs))
        placed = {pair.id for pair in pairs}
        waiting = [candidate for candidate in pool if candidate.id not in placed][: POOL * room]
        plans.append(plan(waiting, total=room, p_absent=_share_missing(pairs, min(room, len(waiting)), p_absent)))
        pairs += plans[-1].pairs
    unplaced = plans[-1].unplaced
    if not lost and (missed := _missed(pairs, new, total)):
        pairs = retire(pairs, len(missed), 1)
        plans.append(plan(missed, total=total - len(pairs), p_absent=0.0))
        pairs += plans[-1].pairs
    return Filled(sorted(pairs, key=lambda pair: (pair.context, pair.id)), unplaced, retired, plans)


def _share_missing(pairs: Sequence[Pair], more: int, p_absent: float) -> float:
    """The share of `more` pairs that have to be absent for `p_absent` of all to be."""
    if not pairs or not more:
        return p_absent
    missing = round(p_absent * (len(pairs) + more)) - sum(pair.kind == "absent" for pair in pairs)
    return min(1.0, max(0.0, missing / more))


def _missed(pairs: Sequence[Pair], new: Sequence[Candidate], total: int) -> list[Candidate]:
    """The first candidate of each document without a pair, where the total is full and has room for one of each."""
    reached = {oracle_document(pair) for pair in pairs}
    first = {oracle_document(candidate): candidate for candidate in reversed(new) if candidate.oracles}
    if len(pairs) < total or len(first.keys() | reached) > total:
        return []
    return [candidate for document, candidate in first.items() if document not in reached]


def retire(pairs: Sequence[Pair], excess: int, fair: int) -> list[Pair]:
    """Takes out up to `excess` answered pairs, always of a document that has most, none below `fair` of a document.

    >>> pairs = [Pair(f"p{n}", "?", "a", ("c",), (f"d{n % 2}#0-1",)) for n in (0, 1, 2, 4)]
    >>> [pair.id for pair in retire(pairs, 9, 2)]
    ['p0', 'p1', 'p2']
    """
    of: dict[str, list[str]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.id):
        if pair.kind != "absent" and pair.oracles:
            of.setdefault(oracle_document(pair), []).append(pair.id)
    counts = Counter(map(oracle_document, pairs))
    heap = [(-counts[document], document) for document in of]
    heapq.heapify(heap)
    gone: set[str] = set()
    while heap and len(gone) < excess:
        count, document = heapq.heappop(heap)
        if -count <= fair:
            break
        gone.add(of[document].pop())
        if of[document]:
            heapq.heappush(heap, (count + 1, document))
    return [pair for pair in pairs if pair.id not in gone]
