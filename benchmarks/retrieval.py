"""What finds the passages: vectors, words or both fused, on public sets with judged questions.

    python benchmarks/retrieval.py --data DATA --work WORK --json

DATA holds folders in the BEIR layout. Chunks are those of the defaults; a document counts at its first chunk. Vectors
are kept in WORK. The table goes to stderr, the figures to benchmarks/results/retrieval.json.
"""

import argparse
import time
from pathlib import Path
from random import Random
from statistics import fmean
from typing import get_args

import report

from hybrid.config import MINILM, IndexConfig
from hybrid.eval.retrieval import ndcg_at_k, recall_at_k
from hybrid.models import resolve_model
from hybrid.pairs.formats.load import load_examples
from hybrid.retrieval import CachedEmbedder, Chunker, Index, Retriever, SentenceEmbedder, load_documents
from hybrid.types import Question, Search

SETS = ("emanual_tv", "squad11_dev13", "pubmedqa", "clapnq", "cranfield", "hotpot100")
COLUMNS = (
    report.Column("set", "set"),
    report.Column("chunks", "chunks"),
    report.Column("questions", "questions"),
    report.Column("search", "search"),
    report.Column("nDCG@10", "ndcg_10", ".3f"),
    report.Column("R@1", "recall_1", ".3f"),
    report.Column("R@2", "recall_2", ".3f"),
    report.Column("R@5", "recall_5", ".3f"),
    report.Column("ms/question", "ms", ".1f"),
)
_DEPTH = 60  # chunks searched for, of which the documents are ranked


def read_judged(folder: Path, limit: int, seed: int) -> list[Question]:
    """The questions with a relevant document, or `limit` of them."""
    judged = sorted((question for question in load_examples(folder) if question.gold), key=lambda each: each.id)
    return Random(seed).sample(judged, limit) if 0 < limit < len(judged) else judged


def measure(name: str, folder: Path, work: Path, limit: int, seed: int) -> list[report.Row]:
    """Every search on one set."""
    model = resolve_model(MINILM)
    embedder = CachedEmbedder(SentenceEmbedder(model), work / "cache")
    index = Index.build(
        load_documents(folder / "corpus.jsonl").documents, Chunker(model, IndexConfig().chunk_tokens), embedder
    )
    judged = read_judged(folder, limit, seed)
    questions = [each.question for each in judged]
    embedder.embed_questions(questions)  # so that what is timed is the search
    rows = []
    for by in get_args(Search):
        retriever = Retriever(index, embedder, by)
        retriever.search(questions[:1], _DEPTH)
        started = time.perf_counter()
        found = [[hit.chunk.document for hit in hits] for hits in retriever.search(questions, _DEPTH)]
        seconds = time.perf_counter() - started
        ranked = list(zip(found, judged, strict=True))
        recalls = {f"recall_{k}": fmean(recall_of_chunks(ids, each.gold, k) for ids, each in ranked) for k in (1, 2, 5)}
        rows.append(
            {
                "set": name,
                "chunks": len(index.chunks),
                "questions": len(judged),
                "search": by,
                "ndcg_10": fmean(ndcg_at_k(ids, each.gold, 10) for ids, each in ranked),
                **recalls,
                "ms": 1000 * seconds / len(judged),
            }
        )
    return rows


def recall_of_chunks(documents: list[str], gold: tuple[str, ...], k: int) -> float:
    """Share of the gold documents among those of the first k chunks, which is what a prompt with k chunks shows."""
    return recall_at_k(documents[:k], gold, k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the vectors")
    parser.add_argument("--limit", type=int, default=600, help="questions drawn from each set; 0 takes all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures on stdout too")
    options = parser.parse_args()
    rows = [
        row for name in SETS for row in measure(name, options.data / name, options.work, options.limit, options.seed)
    ]
    versions = report.installed(["hybrid-rag", "bm25s", "faiss-cpu", "sentence-transformers", "torch"])
    command = f"python benchmarks/retrieval.py --data DATA --work WORK --limit {options.limit} --seed {options.seed}"
    result = {**report.header(command, versions), "embedder": MINILM, "rows": rows}
    target = report.save("retrieval", result)
    report.show(f"{report.table(COLUMNS, rows)}\nfigures in {target}", result, as_json=options.json)


if __name__ == "__main__":
    main()
