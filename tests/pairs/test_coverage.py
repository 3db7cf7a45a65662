"""The draw against brute force and properties; clusters of known groups; what the figures say."""

from collections import Counter
from dataclasses import replace
from random import Random
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.coverage import cluster_chunks, coverage, oracle_document, order_in_turns, put_off
from hybrid.types import Chunk, Pair


def _candidate(number: int, document: str, chunk: int = 0, asks: str = "fact") -> Candidate:
    return Candidate(
        f"c{number:06}", f"Q{number}?", "a", (f"{document}#{chunk}-{chunk + 9}",), (document,), (), "test", asks
    )


def _chunk(document: str, start: int = 0) -> Chunk:
    return Chunk(f"{document}#{start}-{start + 9}", document, start, start + 9, "some text")


def test_a_sample_takes_turns_over_the_documents() -> None:
    found = [_candidate(n, "big") for n in range(90)] + [_candidate(n, f"small{n % 5}") for n in range(90, 100)]
    drawn = Counter(candidate.documents[0] for candidate in order_in_turns(found, {}, Random(0))[:12])
    assert drawn == {"big": 2, **{f"small{n}": 2 for n in range(5)}}
    assert len(order_in_turns(found, {}, Random(0))) == 100


def test_a_large_document_of_many_subjects_is_no_single_part() -> None:
    found = [_candidate(n, "big", n // 4) for n in range(80)] + [_candidate(n, f"small{n % 5}") for n in range(80, 100)]
    clusters = {c.oracles[0]: int(c.oracles[0].split("#")[1].split("-")[0]) for c in found if c.documents[0] == "big"}
    clusters |= {f"small{n}#0-9": 99 for n in range(5)}
    drawn = Counter(candidate.documents[0] for candidate in order_in_turns(found, clusters, Random(1))[:25])
    assert drawn["big"] == 20
    assert all(drawn[f"small{n}"] == 1 for n in range(5))


def test_sorts_of_questions_take_turns_within_a_chunk() -> None:
    found = [_candidate(n, "d", 0, "fact") for n in range(40)] + [_candidate(n, "d", 0, "number") for n in (40, 41, 42)]
    assert Counter(c.asks for c in order_in_turns(found, {}, Random(0))[:6]) == {"fact": 3, "number": 3}
    first = [order_in_turns(found, {}, Random(seed))[0].asks for seed in range(60)]
    assert 15 < first.count("number") < 45


def test_what_was_taken_counts() -> None:
    found = [_candidate(n, f"d{n % 3}", 10 * (n % 2)) for n in range(60)]
    taken = [_candidate(100 + n, "d0") for n in range(4)] + [_candidate(200, "d1")]
    drawn = order_in_turns(found, {}, Random(2), taken=taken)[:7]
    assert Counter(map(oracle_document, [*drawn, *taken])) == {"d0": 4, "d1": 4, "d2": 4}


def test_no_chunk_exceeds_its_limit() -> None:
    found = [_candidate(n, f"d{n % 3}", 10 * (n % 2)) for n in range(60)]
    taken = [_candidate(100 + n, "d0") for n in range(3)]
    drawn = order_in_turns(found, {}, Random(2), taken=taken, per_chunk=2)[:60]
    assert Counter(c.oracles[0] for c in drawn) == {
        chunk: 2 for chunk in {c.oracles[0] for c in found} if chunk != "d0#0-9"
    }


@given(
    places=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["fact", "number", "yes_no"])), max_size=60
    ),
    total=st.integers(0, 70),
    seed=st.integers(0, 9),
)
def test_no_part_is_missed_when_the_total_allows(places: list[tuple[int, int, str]], total: int, seed: int) -> None:
    found = [_candidate(n, f"d{document}", 10 * chunk, asks) for n, (document, chunk, asks) in enumerate(places)]
    clusters = {candidate.oracles[0]: place[1] for candidate, place in zip(found, places, strict=True)}
    drawn = order_in_turns(found, clusters, Random(seed))[:total]
    assert len(drawn) == len({c.id for c in drawn}) == min(total, len(found))
    assert drawn == order_in_turns(found[::-1], clusters, Random(seed))[:total]
    parts, documents = {place[1] for place in places}, {place[0] for place in places}
    reached = {clusters[c.oracles[0]] for c in drawn}
    assert len(reached) == min(total, len(parts))
    if total >= len(parts) + len(documents):
        assert {oracle_document(c) for c in drawn} == {f"d{n}" for n in documents}


@given(st.lists(st.booleans(), max_size=40), st.floats(0, 1), st.lists(st.booleans(), max_size=5))
def test_rare_ones_are_put_off(rare: list[bool], share: float, before: list[bool]) -> None:
    found = [_candidate(n, "d", asks="rare" if is_rare else "") for n, is_rare in enumerate(rare)]
    taken = [_candidate(100 + n, "d", asks="rare" if is_rare else "") for n, is_rare in enumerate(before)]

    def is_rare(candidate: Candidate) -> bool:
        return candidate.asks == "rare"

    order = put_off(found, is_rare, share, taken=taken)
    for kind in (True, False):
        assert [c for c in order if is_rare(c) == kind] == [c for c in found if is_rare(c) == kind]
    others = sum(not is_rare(candidate) for candidate in order)
    for cut in range(1, len(order) + 1):
        if is_rare(order[cut - 1]) and not all(map(is_rare, order[cut - 1 :])):
            assert sum(map(is_rare, [*taken, *order[:cut]])) <= share * (len(taken) + cut)
    assert put_off(found, is_rare, 1.0, taken=taken) == found
    if share == 0:
        assert not any(map(is_rare, order[:others]))


def test_a_hundred_thousand_candidates_take_seconds() -> None:
    found = [_candidate(n, f"d{n % 997}", 10 * (n % 7), ("fact", "number")[n % 2]) for n in range(100_000)]
    clusters = {c.oracles[0]: int(c.documents[0][1:]) % 200 for c in found}
    started = process_time()
    assert len(order_in_turns(found, clusters, Random(0))[:50_000]) == 50_000
    assert process_time() - started < 10


def test_clusters_are_the_groups_that_there_are() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 32))
    vectors = (centres[np.arange(72) % 6] * 9 + rng.normal(size=(72, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = [_chunk(f"d{n}") for n in range(72)]
    clusters = cluster_chunks(chunks, vectors, 3)
    assert clusters == cluster_chunks(chunks, vectors, 3)
    groups: dict[int, set[int]] = {}
    for number in range(72):
        groups.setdefault(clusters[f"d{number}#0-9"], set()).add(number % 6)
    assert sum(len(found) == 1 for found in groups.values()) >= 4
    assert len(groups) >= 4
    assert cluster_chunks(chunks[:2], vectors[:2], 3) == {"d0#0-9": 0, "d1#0-9": 0}
    assert len(set(cluster_chunks(chunks, np.repeat(vectors[:1], 72, axis=0), 2**32 - 1))) == 72


def test_the_figures_of_coverage() -> None:
    chunks = [_chunk("a"), _chunk("a", 10), _chunk("b"), _chunk("c"), _chunk("d")]
    clusters = {chunk.id: number // 2 for number, chunk in enumerate(chunks)}
    pairs = [
        Pair("p", "?", "a", (), ("a#0-9",)),
        Pair("q", "?", "-", (), ("b#0-9",)),
        Pair("r", "?", "-", ("c#0-9",), ()),
    ]
    assert coverage(pairs, chunks, clusters) == {
        "chunks with pairs": 0.4,
        "documents with pairs": 0.5,
        "clusters": 3,
        "clusters with pairs": pytest.approx(2 / 3, abs=1e-3),
        "documents without pairs": 2,
        "documents without pairs, such as": ["c", "d"],
    }
    several = [replace(pair, oracles=("a#10-19", "c#0-9")) for pair in pairs[:1]]
    assert coverage(several, chunks, clusters)["documents without pairs"] == 2
