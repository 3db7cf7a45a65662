"""How much of PubMedQA's yes, no or maybe can be read off the texts by what a small model knows of them.

    python benchmarks/label_probe.py --path DATA/pubmedqa

A logistic regression learns the label of half of the questions and is asked for the other half, as often as there are
splits: from words, from sentence embeddings, and from the hidden states of the language model just before it answers.
Shown is the accuracy of the best of five strengths of regularisation, chosen after the fact, and features are scaled
by all texts, so it flatters. The conclusion of an abstract is not among the documents; it tells what one could do who
draws it without fault. The table goes to stderr, the figures to benchmarks/results/.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report
import torch
from report import Column, Row
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForCausalLM

from hybrid.models import load_tokenizer, resolve_model
from hybrid.retrieval.embed import SentenceEmbedder

LAYERS = (10, 20, 30)
STRENGTHS = (1e-4, 1e-2, 0.1, 1.0, 10.0)
COLUMNS = (Column("of", "source"), Column("read by", "features"), Column("accuracy", "accuracy", ".3f"))


class Item(NamedTuple):
    """A question, its abstract without the conclusion, the conclusion, and the label."""

    question: str
    abstract: str
    conclusion: str
    label: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True, help="the local copy of PubMedQA")
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    items = read(options.path)
    labels = [item.label for item in items]
    rows: list[Row] = [{"source": "nothing", "features": "most frequent label", "accuracy": _most_frequent(labels)}]
    for source, features, table in probes(items):
        rows.append({"source": source, "features": features, "accuracy": accuracy(table, labels, options.splits)})
        sys.stderr.write(f"{report.table(COLUMNS, rows[-1:])}\n")
    packages = ("torch", "transformers", "sentence-transformers", "scikit-learn")
    command = f"python benchmarks/label_probe.py --path DATA/{options.path.name}"
    result = {**report.header(command, report.installed(packages)), "splits": options.splits, "rows": rows}
    sys.stderr.write(f"\n{report.table(COLUMNS, rows)}\nfigures in {report.save('label_probe', result)}\n")


def read(folder: Path) -> list[Item]:
    """The questions with their abstracts."""
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = {document["_id"]: document["text"] for document in map(json.loads, lines)}
    with (folder / "qa.jsonl").open(encoding="utf-8") as lines:
        asked = [json.loads(line) for line in lines]
    return [Item(one["question"], texts[one["gold"][0]], one["long_answer"], one["final"]) for one in asked]


def probes(items: Sequence[Item]) -> Iterator[tuple[str, str, Any]]:
    """What is read, by what, and the table of features [questions, ...]."""
    questions, abstracts = [item.question for item in items], [item.abstract for item in items]
    ends = [" ".join(re.split(r"(?<=[.])\s+", text)[-3:]) for text in abstracts]
    conclusions = [item.conclusion for item in items]
    for source, texts in (("abstract", abstracts), ("its last sentences", ends), ("conclusion", conclusions)):
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        yield source, "words and pairs of words", words.fit_transform(texts)
    embedder = SentenceEmbedder(resolve_model("all-minilm-l6-v2"))
    asked = embedder.embed_questions(questions)
    for source, texts in (("its last sentences", ends), ("conclusion", conclusions)):
        told = embedder.embed_passages(texts)
        yield source, "sentence embeddings", np.hstack([asked, told, asked * told, abs(asked - told)])
    for layer, states in hidden_states(items).items():
        yield "abstract and question", f"states of layer {layer}", StandardScaler().fit_transform(states)


@torch.no_grad()
def hidden_states(items: Sequence[Item]) -> dict[int, np.ndarray]:
    """By layer the states [questions, width] of the token before the answer."""
    folder = resolve_model("smollm2-135m-instruct")
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()  # type: ignore[no-untyped-call]
    found: dict[int, list[np.ndarray]] = {layer: [] for layer in LAYERS}
    for item in items:
        asked = f"{item.abstract}\n\nQuestion: {item.question}\nAnswer with yes, no or maybe."
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
        )
        tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        states = model(**tokens, output_hidden_states=True).hidden_states
        for layer in LAYERS:
            found[layer].append(states[layer][0, -1].float().numpy())
    return {layer: np.array(states) for layer, states in found.items()}


def accuracy(features: Any, labels: Sequence[str], splits: int) -> float:  # noqa: ANN401
    """Mean accuracy over the splits, at the best strength."""
    known, found = np.array(labels), []
    halves = StratifiedShuffleSplit(splits, train_size=0.5, test_size=0.5, random_state=0)
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000)
        scores = [
            model.fit(features[train], known[train]).score(features[test], known[test])
            for train, test in halves.split(known, known)
        ]
        found.append(float(np.mean(scores)))
    return max(found)


def _most_frequent(labels: Sequence[str]) -> float:
    return max(labels.count(label) for label in labels) / len(labels)


if __name__ == "__main__":
    main()
