"""Sets alike by MinHash, against a comparison of all with all."""

import subprocess
import sys
from collections.abc import Callable
from random import Random

import numpy as np
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.pairs.gates.minhash import Runs, jaccard, shingles, similar_sets


def _runs(*members: int) -> Runs:
    return np.array(members, dtype=np.uint32)


def test_jaccard_of_two_sets() -> None:
    assert jaccard(_runs(1, 2, 3), _runs(2, 3, 4)) == 0.5
    assert jaccard(_runs(), _runs()) == 0.0


def test_shingles_know_the_order_and_the_ends() -> None:
    assert shingles("a b c", 2).tolist() != shingles("c b a", 2).tolist()
    assert len(shingles("a b a b", 2)) == 4  # (start a) (a b) (b a) (b end)
    assert shingles("The  Pump!", 3).tolist() == shingles("the pump", 3).tolist()


def test_shingles_do_not_depend_on_the_process() -> None:
    code = "from hybrid.pairs.gates.minhash import shingles; print(shingles('one two three', 2).tolist())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {f"{shingles('one two three', 2).tolist()}\n"}


def _sets(rng: Random, families: int) -> list[frozenset[int]]:
    """Families of five sets that differ from their first in 0 to 60 of 200 members."""
    sets = []
    for _ in range(families):
        first = rng.sample(range(1 << 32), 200)
        sets += [frozenset(first[: 200 - 15 * n] + rng.sample(range(1 << 32), 15 * n)) for n in range(5)]
    return sets


def test_nearly_all_alike_are_found_and_nothing_else() -> None:
    sets = _sets(Random(0), 40)
    alike = {
        (i, j) for j in range(len(sets)) for i in range(j) if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.5
    }
    found = [(pair.first, pair.second) for pair in similar_sets([_runs(*members) for members in sets], 0.5)]
    assert set(found) <= alike
    assert len(set(found)) == len(found) >= 0.95 * len(alike)
    assert found == sorted(found, key=lambda pair: pair[::-1])


def test_what_is_not_wanted_is_not_compared() -> None:
    same = [_runs(1, 2, 3)] * 4
    assert [pair[:2] for pair in similar_sets(same, 0.9, wanted=lambda one, other: one == 0)] == [
        (0, 1),
        (0, 2),
        (0, 3),
    ]


def test_empty_sets_are_like_nothing() -> None:
    assert list(similar_sets([_runs()] * 3, 0.1)) == []


@given(
    sets=st.lists(st.sets(st.integers(0, 12), max_size=8), max_size=20),
    threshold=st.sampled_from([0.3, 0.6, 0.9]),
    chosen=st.sets(st.tuples(st.integers(0, 19), st.integers(0, 19))),
)
@settings(max_examples=60, deadline=None)
def test_what_is_proposed_is_what_the_index_of_datasketch_finds(
    sets: list[set[int]], threshold: float, chosen: set[tuple[int, int]]
) -> None:
    index = MinHashLSH(threshold=threshold, num_perm=128, weights=(0.2, 0.8))
    runs = [_runs(*members) for members in sets]
    expected = []
    for second, members in enumerate(runs):
        (sketch,) = MinHash.generator([members.tolist()], num_perm=128, hashfunc=int)
        if len(members):
            expected += [
                (first, second)
                for first in sorted(index.query(sketch))
                if len(sets[first] & sets[second]) / len(sets[first] | sets[second]) >= threshold
            ]
            index.insert(second, sketch)
    assert [pair[:2] for pair in similar_sets(runs, threshold)] == expected

    def among(second: int) -> Callable[[set[int]], set[int]]:
        return lambda places: {first for first in places if (first, second) in chosen}

    assert [pair[:2] for pair in similar_sets(runs, threshold, among=among)] == [p for p in expected if p in chosen]
