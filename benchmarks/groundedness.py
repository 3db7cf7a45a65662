"""How well each method of groundedness tells supported claims from others, as AUROC on three public sets.

    python benchmarks/groundedness.py --data DATA
    python benchmarks/groundedness.py --data DATA --methods lexical,idf,facts --json
    python benchmarks/groundedness.py --data DATA --nli MODEL

DATA/ground holds fever_symmetric_dev.jsonl, scifact_train.jsonl and halueval_qa_oneturn.jsonl. The table goes to
stderr, the figures with machine and versions to benchmarks/results/groundedness.json. The first two sets are the
honest ones: on the third the length of the claim alone gives .934. `likelihood` takes long and scores --sample claims.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import report

from hybrid.config import MINILM, SMOLLM2
from hybrid.eval.grounding import (
    Facts,
    Grounding,
    Lexical,
    Similarity,
    auroc,
    auroc_interval,
    inverse_document_frequency,
)
from hybrid.eval.text_metrics import Embed

SETS = ("fever_symmetric_dev", "scifact_train", "halueval_qa_oneturn")
METHODS = ("lexical", "idf", "facts", "embedding", "sentences", "likelihood")
DEFAULT = ("lexical", "idf", "facts", "embedding")
COLUMNS = (
    report.Column("set", "set"),
    report.Column("method", "method"),
    report.Column("claims", "claims"),
    report.Column("AUROC", "auroc", ".3f"),
    report.Column("low", "low", ".3f"),
    report.Column("high", "high", ".3f"),
    report.Column("seconds", "seconds", ".1f"),
)


class Claim(NamedTuple):
    """A row of a set; claims of a group are drawn together by the bootstrap."""

    source: str
    claim: str
    label: bool
    group: str


def read_claims(file: Path) -> list[Claim]:
    """The rows; those that share a source or a claim, directly or through others, are a group."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for row in rows:
        parent[root(f"claim {row['claim']}")] = root(f"source {row['source']}")
    return [Claim(row["source"], row["claim"], row["label"] == 1, root(f"source {row['source']}")) for row in rows]


def sampled(claims: Sequence[Claim], n: int, seed: int) -> list[Claim]:
    """At most n of the claims, or all if n is 0."""
    return Random(seed).sample(list(claims), n) if 0 < n < len(claims) else list(claims)


def measure(name: str, method: str, grounding: Grounding, claims: Sequence[Claim], seed: int) -> report.Row:
    """AUROC with its interval, and the time it took."""
    started = time.perf_counter()
    scores = grounding.score([(claim.source, claim.claim) for claim in claims])
    seconds = time.perf_counter() - started
    labels = [claim.label for claim in claims]
    low, high = auroc_interval(labels, scores, [claim.group for claim in claims], seed=seed)
    return {
        "set": name,
        "method": method,
        "claims": len(claims),
        "auroc": round(auroc(labels, scores), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "seconds": round(seconds, 1),
    }


class Likelihood:
    """How much likelier a model finds each token of the claim after the source than without it, on average."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        from statistics import fmean

        from hybrid.likelihood import Sample, token_log_probs
        from hybrid.models import load_tokenizer
        from hybrid.tuning.model import compute_dtype, default_device, load_base

        device = default_device()
        tokenizer = load_tokenizer(self._folder)
        model = load_base(self._folder, method="lora", dtype=compute_dtype("auto", device), device=device)
        model.eval()  # type: ignore[no-untyped-call]

        def ids(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

        claims = [ids(f" {claim}") for _, claim in pairs]
        heads = [ids(f"{source}\nIn short:") for source, _ in pairs]
        given = token_log_probs(model, [Sample(*both) for both in zip(heads, claims, strict=True)])
        alone = token_log_probs(model, [Sample(ids("In short:"), claim) for claim in claims])
        return [fmean(one) - fmean(other) for one, other in zip(given, alone, strict=True)]


def _embed() -> Embed:
    from hybrid.models import resolve_model
    from hybrid.retrieval.embed import SentenceEmbedder

    return SentenceEmbedder(resolve_model(MINILM)).embed_passages


def _grounding(method: str, claims: Sequence[Claim], nli: Path | None) -> Grounding:
    weights = inverse_document_frequency([claim.source for claim in claims])
    if method == "lexical":
        return Lexical()
    if method == "idf":
        return Lexical(weights)
    if method == "facts":
        return Facts(weights)
    if method in {"embedding", "sentences"}:
        return Similarity(_embed(), by_sentence=method == "sentences")
    if method == "nli" and nli:
        from hybrid.eval.entailment import Entailment

        return Entailment(nli)
    from hybrid.models import resolve_model

    return Likelihood(resolve_model(SMOLLM2))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every method on every set."""
    nli = None
    methods = options.methods.split(",")
    if options.nli:
        from hybrid.models import resolve_model

        nli, methods = resolve_model(options.nli), [*methods, "nli"]
    rows = []
    for name in SETS:
        claims = read_claims(options.data / "ground" / f"{name}.jsonl")
        for method in methods:
            some = sampled(claims, options.sample if method == "likelihood" else 0, options.seed)
            rows.append(measure(name, method, _grounding(method, claims, nli), some, options.seed))
            sys.stderr.write(f"{name} {method}: {rows[-1]['auroc']:.3f}\n")
    command = f"python benchmarks/groundedness.py --data DATA --methods {options.methods} --sample {options.sample}"
    packages = ("hybrid-rag", "numpy", "scipy", "torch", "transformers", "sentence-transformers")
    models = {"embedding": MINILM, "sentences": MINILM, "likelihood": SMOLLM2, "nli": options.nli}
    used = {method: models[method] for method in methods if method in models}
    head = report.header(f"{command} --seed {options.seed}", report.installed(packages))
    return {**head, "seed": options.seed, "models": used, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--methods", default=",".join(DEFAULT), help=f"some of {', '.join(METHODS)}")
    parser.add_argument("--nli", help="a model of inference to try as well: a folder or a hub id")
    parser.add_argument("--sample", type=int, default=200, help="claims of each set for `likelihood`; 0 takes all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures on stdout too")
    options = parser.parse_args()
    if unknown := set(options.methods.split(",")) - set(METHODS):
        parser.error(f"unknown methods {', '.join(sorted(unknown))}; known are {', '.join(METHODS)}")
    if not (options.data / "ground").is_dir():
        parser.error(f"{options.data / 'ground'} does not exist")
    result = run(options)
    target = report.save("groundedness", result)
    report.show(f"{report.table(COLUMNS, result['rows'])}\nfigures in {target}", result, as_json=options.json)


if __name__ == "__main__":
    main()
