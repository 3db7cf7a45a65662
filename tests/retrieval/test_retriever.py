"""Search: equal to brute force, ties in order, and the published quality on real data."""

import csv
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hybrid.errors import ArtefactError
from hybrid.retrieval import Chunker, Embedder, Index, Retriever, Searcher, SentenceEmbedder, load_documents
from hybrid.types import Document, Hit, Search

WORDS = "oil pump seal motor valve filter daily weekly replace check clean".split()
QUESTIONS = ["how often oil the pump", "replace seal", "クリーン"]


def corpus(size: int) -> list[Document]:
    random = np.random.default_rng(0)
    return [Document(f"d{number:03}", " ".join(random.choice(WORDS, 8))) for number in range(size)]


def _cosines(hits: Sequence[Hit]) -> list[float]:
    return [-2.0 if hit.cosine is None else hit.cosine for hit in hits]


@pytest.fixture
def retriever(chunker: Chunker, embedder: Embedder) -> Retriever:
    return Retriever(Index.build(corpus(100), chunker, embedder), embedder, "dense")


@pytest.mark.parametrize("k", [1, 5, 100, 1000])
def test_search_equals_brute_force(retriever: Retriever, embedder: Embedder, k: int) -> None:
    scores = embedder.embed_questions(QUESTIONS).astype(float) @ retriever.index.vectors.astype(float).T
    for row, hits in zip(scores, retriever.search(QUESTIONS, k), strict=True):
        assert len(hits) == min(k, 100)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        expected = np.argsort(-row.round(12), kind="stable")[:k]
        assert [hit.chunk for hit in hits] == [retriever.index.chunks[position] for position in expected]
        np.testing.assert_allclose([hit.score for hit in hits], row[expected], atol=1e-6)
        np.testing.assert_allclose(_cosines(hits), row[expected], atol=1e-6)


def test_ties_keep_the_order_of_the_index(chunker: Chunker, embedder: Embedder) -> None:
    # More equal chunks than the search takes as reserve, so that it must widen.
    documents = [Document(f"{number:03}", "oil the pump") for number in range(300)] + [Document("x", "motor")]
    retriever = Retriever(Index.build(documents, chunker, embedder), embedder, "dense")
    for k in (1, 3, 40):
        for hits in retriever.search(["pump oil", "oil the pump"] * 15, k):
            assert [hit.chunk.document for hit in hits] == [f"{number:03}" for number in range(k)]


def test_a_batch_equals_single_questions(retriever: Retriever) -> None:
    questions = [" ".join(WORDS[number % 11 :][:3]) for number in range(40)]
    assert retriever.search(questions, 7) == [retriever.search([question], 7)[0] for question in questions]


def test_nothing_asked(retriever: Retriever) -> None:
    assert retriever.search([], 3) == []
    assert retriever.neighbours([], 3) == []
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"got {k}"):
            retriever.search(["a"], k)
    with pytest.raises(ValueError, match="empty"):
        retriever.search([""], 3)


@pytest.mark.parametrize("by", get_args(Search))
def test_every_search_tells_cosines(chunker: Chunker, embedder: Embedder, by: Search) -> None:
    retriever = Retriever(Index.build(corpus(100), chunker, embedder), embedder, by)
    index = retriever.index
    for question, hits in zip(QUESTIONS, retriever.search(QUESTIONS, 100), strict=True):
        (row,) = embedder.embed_questions([question]).astype(float) @ index.vectors.astype(float).T
        expected = [row[index.position(hit.chunk.id)] for hit in hits]
        np.testing.assert_allclose(_cosines(hits), expected, atol=1e-6)


def test_neighbours(retriever: Retriever) -> None:
    chunks = retriever.index.chunks
    found = retriever.neighbours([chunks[3].id, chunks[50].id], 5)
    scores = retriever.index.vectors @ retriever.index.vectors[[3, 50]].T
    for own, hits, row in zip((3, 50), found, scores.T, strict=True):
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
        assert chunks[own] not in [hit.chunk for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(np.delete(row, own))[::-1][:5], atol=1e-6)
    with pytest.raises(KeyError):
        retriever.neighbours(["x"], 1)


def test_a_copy_is_a_neighbour_and_the_chunk_itself_is_not(chunker: Chunker, embedder: Embedder) -> None:
    index = Index.build([Document(key, "oil the pump") for key in "abc"], chunker, embedder)
    (hits,) = Retriever(index, embedder).neighbours([index.chunks[1].id], 5)
    assert [hit.chunk.document for hit in hits] == ["a", "c"]


@pytest.mark.parametrize("by", get_args(Search))
@pytest.mark.parametrize("k", [1, 3, 120, 1000])
def test_every_search_ranks_as_many_as_asked_once(chunker: Chunker, embedder: Embedder, by: Search, k: int) -> None:
    retriever = Retriever(Index.build(corpus(150), chunker, embedder), embedder, by)
    assert retriever.search([], k) == []
    for hits in retriever.search(QUESTIONS, k):
        assert [hit.rank for hit in hits] == list(range(1, min(k, 150) + 1))
        assert len({hit.chunk.id for hit in hits}) == len(hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    with pytest.raises(ValueError, match="empty"):
        retriever.search([""], 3)


@pytest.mark.parametrize("by", get_args(Search))
def test_every_search_gives_a_shorter_list_as_the_start_of_a_longer(
    chunker: Chunker, embedder: Embedder, by: Search
) -> None:
    retriever = Retriever(Index.build(corpus(300), chunker, embedder), embedder, by)
    for few, more, all_ in zip(*(retriever.search(QUESTIONS, k) for k in (4, 120, 240)), strict=True):
        assert few == more[:4]
        assert more == all_[:120]


def test_a_rare_word_finds_what_vectors_miss(chunker: Chunker, embedder: Embedder) -> None:
    documents = [*corpus(200), Document("code", "when the panel shows E-17 look up page 40 of the service book")]
    index = Index.build(documents, chunker, embedder)
    question = "oil pump seal motor: what is E-17"
    first = {by: Retriever(index, embedder, by).search([question], 1)[0][0].chunk.document for by in get_args(Search)}
    assert first["dense"] != "code"
    assert first["bm25"] == first["fused"] == "code"


def test_a_question_without_a_known_word_is_left_to_the_vectors(chunker: Chunker, embedder: Embedder) -> None:
    index = Index.build(corpus(50), chunker, embedder)
    ranked = [
        [hit.chunk.id for hit in Retriever(index, embedder, by).search(["wholly unknown"], 5)[0]]
        for by in get_args(Search)
    ]
    assert ranked[0] == ranked[1] == ranked[2]


def test_words_that_say_nothing_do_not_outweigh_vectors(chunker: Chunker, embedder: Embedder) -> None:
    documents = [Document(f"{n:03}", f"manual valve{n} shuts line{n}") for n in range(300)]
    documents.append(Document("999", "manual oiling bearing weekly"))
    index = Index.build(documents, chunker, embedder)
    # Of these words the passages have "manual" alone, all of them; the question is nearest to the last by its vector.
    question = "manual oilings bearings"
    index.vectors[-1] = embedder.embed_questions([question])[0]
    (hits,) = Retriever(index, embedder).search([question], 3)
    assert hits[0].chunk.document == "999"


def test_another_embedder(retriever: Retriever, embedder: Embedder) -> None:
    embedder.name = "other"  # type: ignore[misc]
    with pytest.raises(ArtefactError, match="hybrid index"):
        Retriever(retriever.index, embedder)


def test_a_retriever_is_a_searcher(retriever: Retriever) -> None:
    searcher: Searcher = retriever
    assert searcher.search(["oil"], 1)


def test_import_is_light() -> None:
    heavy = ["torch", "transformers", "sentence_transformers", "faiss", "langchain_text_splitters", "bs4", "pypdf"]
    code = f"import sys, hybrid.retrieval; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def ndcg(hits: list[str], gold: set[str]) -> float:
    gain = sum(1 / np.log2(rank + 2) for rank, document in enumerate(hits) if document in gold)
    return float(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(gold)))))


def judged(folder: Path) -> tuple[list[str], list[set[str]]]:
    gold: dict[str, set[str]] = {}
    with (folder / "qrels" / "test.tsv").open(newline="") as stream:
        for question, document, grade in list(csv.reader(stream, delimiter="\t"))[1:]:
            if int(grade) > 0:
                gold.setdefault(question, set()).add(document)
    records = [json.loads(line) for line in (folder / "queries.jsonl").read_text().split("\n") if line]
    texts = {record["_id"]: record["text"] for record in records}
    return [texts[key] for key in gold], list(gold.values())


def quality(
    documents: list[Document], chunker: Chunker, embedder: Embedder, folder: Path, by: Search = "dense"
) -> float:
    retriever = Retriever(Index.build(documents, chunker, embedder), embedder, by)
    questions, gold = judged(folder)
    found = retriever.search(questions, 50)
    ranked = [list(dict.fromkeys(hit.chunk.document for hit in hits))[:10] for hits in found]
    return float(np.mean([ndcg(*pair) for pair in zip(ranked, gold, strict=True)]))


@pytest.mark.slow
def test_published_quality_on_whole_documents(minilm: Path, data_folder: Path) -> None:
    folder = data_folder / "emanual_tv"
    records = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().split("\n") if line]
    documents = [Document(record["_id"], f"{record['title']} {record['text']}") for record in records]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quality(documents, Chunker(minilm, 100_000), SentenceEmbedder(minilm), folder)
    assert found == pytest.approx(0.531, abs=0.02)


@pytest.mark.slow
def test_chunks_find_more_than_whole_documents(minilm: Path, data_folder: Path) -> None:
    folder = data_folder / "emanual_tv"
    documents = list(load_documents(folder).documents)
    found = [quality(documents, Chunker(minilm), SentenceEmbedder(minilm), folder, by) for by in get_args(Search)]
    fused, dense, bm25 = found
    assert dense > 0.6
    assert fused > max(dense, bm25) + 0.03
