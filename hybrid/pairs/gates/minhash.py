"""Texts that share most of their runs of words, found without comparing all with all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hybrid.pairs.candidates import words

Runs = NDArray[np.uint32]

_PERMUTATIONS = 128
_MULTIPLIER = 0x9E3779B1  # odd, so that no bit of a word is lost in the hash of a run


class Similar(NamedTuple):
    """Places of two texts, `first` before `second`, and the Jaccard similarity of their runs."""

    first: int
    second: int
    jaccard: float


def shingles(text: str, n: int) -> Runs:
    """The hashed runs of `n` words, the ends of the text counting as words: sorted, the same in every process.

    >>> len(shingles("The pump stands in the shed.", 2)), len(shingles("?", 2))
    (7, 0)
    """
    said = [crc32(word.encode()) for word in words(text)]
    if not said:
        return np.zeros(0, dtype=np.uint32)
    ends = [1] * (n - 1)
    codes = np.array([*ends, *said, *ends], dtype=np.uint32)
    hashed = np.zeros(len(codes) - n + 1, dtype=np.uint32)
    for place in range(n):
        hashed = hashed * np.uint32(_MULTIPLIER) + codes[place : place + len(hashed)]
    return np.unique(hashed)


def jaccard(one: Runs, other: Runs) -> float:
    """The share of the members of two sets that both have; 0 for empty ones."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def similar_sets(
    sets: Sequence[Runs],
    threshold: float,
    wanted: Callable[[int, int], bool] = lambda first, second: True,
    among: Callable[[int], Callable[[set[int]], set[int]]] = lambda place: lambda places: places,
) -> Iterator[Similar]:
    """Yields sets with a Jaccard similarity of at least `threshold`, in the order of the second.

    MinHash with banding proposes them (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3) and the
    exact similarity decides, so what is yielded is never wrong; of sets just above the threshold a few are missed.

    Args:
        sets: The sets, each without repetition; an empty one resembles none.
        threshold: Smallest similarity, above 0.
        wanted: Called with the places of two sets before these are compared; False skips them.
        among: Gives for the place of a set what picks, of the places of earlier ones that may resemble it, those to
            compare; unlike `wanted` it need not look at each. It must not change them.
    """
    # Imported here because it loads scipy, which few commands need.
    from datasketch import MinHash, MinHashLSH

    # Missing two alike sets costs more than comparing two others in vain.
    best = MinHashLSH(threshold=min(threshold, 0.99), num_perm=_PERMUTATIONS, weights=(0.2, 0.8))
    buckets: list[dict[bytes, set[int]]] = [{} for _ in range(best.b)]
    sketches = MinHash.generator((members.tolist() for members in sets), num_perm=_PERMUTATIONS, hashfunc=int)
    for place, (members, sketch) in enumerate(zip(sets, sketches, strict=True)):
        if not len(members):
            continue
        bands = sketch.hashvalues[: best.b * best.r].reshape(best.b, best.r)
        own = [bucket.setdefault(band.tobytes(), set()) for bucket, band in zip(buckets, bands, strict=True)]
        for earlier in sorted(set[int]().union(*map(among(place), own))):
            if wanted(earlier, place):
                similarity = jaccard(sets[earlier], members)
                if similarity >= threshold:
                    yield Similar(earlier, place, similarity)
        for places in own:
            places.add(place)
