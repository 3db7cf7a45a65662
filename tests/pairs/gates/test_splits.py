"""Splits by document and by copies of documents."""

import time
from random import Random

import pytest

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.splits import quotes_apart, similar_documents, split_by_document
from hybrid.types import Document, Quote

VOCABULARY = [f"word{n}" for n in range(3000)]


def _candidate(number: int, *documents: str, quote: str = "", oracle: str = "") -> Candidate:
    quotes = (Quote(documents[0], 0, 9, quote),) if quote else ()
    return Candidate(f"q{number}", f"Question {number}?", "a", (oracle or f"c{number}",), documents, quotes, "test")


def _text(rng: Random, length: int = 150) -> list[str]:
    return rng.choices(VOCABULARY, k=length)


def test_a_changed_copy_belongs_to_its_original() -> None:
    rng = Random(0)
    original, other = _text(rng), _text(rng)
    copy = [*original[:70], "changed", *original[71:]]
    half = [*original[:60], *_text(rng, 90)]
    texts = {"a": original, "b": other, "c": copy, "d": half}
    groups = similar_documents([Document(name, " ".join(said)) for name, said in texts.items()], 0.5)
    assert groups == {"a": "a", "b": "b", "c": "a", "d": "d"}
    loose = similar_documents([Document(name, " ".join(said)) for name, said in texts.items()], 0.2)
    assert loose["d"] == "a"


def test_empty_documents_are_no_copies_of_each_other() -> None:
    assert similar_documents([Document("a", ""), Document("b", "?")], 0.5) == {"a": "a", "b": "b"}


def test_thousands_of_documents_take_seconds() -> None:
    rng = Random(0)
    originals = [_text(rng, 80) for _ in range(1000)]
    documents = [Document(f"d{n}", " ".join(said)) for n, said in enumerate(originals)]
    documents += [Document(f"e{n}", " ".join([*said[:-2], "new", "end"])) for n, said in enumerate(originals)]
    boilerplate = _text(rng, 80)
    documents += [Document(f"same{n}", " ".join(boilerplate)) for n in range(2000)]
    documents += [Document(f"like{n}", " ".join([*boilerplate, f"number {n}"])) for n in range(500)]
    started = time.process_time()
    groups = similar_documents(documents, 0.5)
    assert time.process_time() - started < 20
    assert sum(groups[f"e{n}"] == groups[f"d{n}"] for n in range(1000)) >= 995
    assert len({groups[f"d{n}"] for n in range(1000)}) == 1000
    assert len({groups[d.id] for d in documents[2000:]}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_on_one_side(seed: int) -> None:
    found = [_candidate(n, f"d{n // 3}") for n in range(60)]
    together = {f"d{n}": f"d{n - n % 2}" for n in range(20)}
    train, dev = split_by_document(found, 0.3, Random(seed), together)
    sides = [{together[c.documents[0]] for c in side} for side in (train, dev)]
    assert not sides[0] & sides[1]
    assert len(dev) == 18
    assert sorted(c.id for c in (*train, *dev)) == sorted(c.id for c in found)


def test_without_copies_the_groups_are_the_documents() -> None:
    found = [_candidate(n, f"d{n // 3}") for n in range(60)]
    alone = {f"d{n}": f"d{n}" for n in range(20)}
    assert split_by_document(found, 0.3, Random(1), alone) == split_by_document(found, 0.3, Random(1))


def test_a_split_keeps_documents_whole_and_train_never_empty() -> None:
    found = [_candidate(n, f"d{n // 4}") for n in range(40)] + [_candidate(99)]
    for seed in range(20):
        train, dev = split_by_document(found, 0.3, Random(seed))
        assert not {d for c in train for d in c.documents} & {d for c in dev for d in c.documents}
        assert len(dev) == 16  # the first whole documents that make up 30 % of 41
        assert found[-1] in train
    assert split_by_document(found, 0.0, Random(0)) == (found, [])
    assert split_by_document([_candidate(0, "only"), _candidate(1, "only")], 0.9, Random(0))[1] == []
    chained = [_candidate(n, f"d{n}", f"d{n + 1}") for n in range(5)] + [_candidate(9, "other")]
    for seed in range(5):
        assert {len(side) for side in split_by_document(chained, 0.1, Random(seed))} == {1, 5}


def test_a_passage_of_training_is_asked_about_nowhere_else() -> None:
    passes = quotes_apart([_candidate(0, "a", quote="The tank is as deep as a well.", oracle="a#0")])
    assert not passes(_candidate(1, "b", quote="the tank is as deep  as a well"))
    assert not passes(_candidate(2, "b", oracle="a#0"))
    assert passes(_candidate(3, "b", quote="The tank is as deep as a house."))
    assert quotes_apart([_candidate(0, "a", quote="| 800 | bar |")])(_candidate(4, "b", quote="| 800 | bar |"))
