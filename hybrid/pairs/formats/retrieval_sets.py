"""Pairs in the layouts of published question sets: BEIR, HotpotQA and PubMedQA; `load` reads what is written here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from hybrid.citations import sentences
from hybrid.types import Chunk, Pair

_DECISIONS = {"yes", "no", "maybe"}


class Beir(NamedTuple):
    """The files of a BEIR folder, with the answers as a question file beside it.

    Attributes:
        corpus: Lines of `corpus.jsonl`.
        queries: Lines of `queries.jsonl`.
        answers: Lines of `qa.jsonl`.
        judgements: The text of the qrels.
    """

    corpus: list[dict[str, str]]
    queries: list[dict[str, str]]
    answers: list[dict[str, Any]]
    judgements: str


def stands_alone(pair: Pair) -> bool:
    """Whether a question and its answer can leave their context.

    Not so if its passage was hidden, as its answer is in the documents after all, or if it is about a contradiction.

    >>> [stands_alone(Pair("1", "Who?", "-", (), oracles, kind="absent")) for oracles in ((), ("d#0-4",))]
    [True, False]
    """
    return pair.kind != "conflict" and not (pair.kind == "absent" and pair.oracles)


def as_beir(pairs: Sequence[Pair], chunks: Mapping[str, Chunk]) -> tuple[Beir, int]:
    """The layout of BEIR, whose documents are the chunks of the pairs, and how many pairs it cannot hold."""
    kept = [pair for pair in pairs if stands_alone(pair) and (pair.oracles or pair.kind == "absent")]
    used = dict.fromkeys(chunk for pair in pairs for chunk in (*pair.context, *pair.oracles))
    judged = [f"{_cell(pair.id)}\t{_cell(oracle)}\t1\n" for pair in kept for oracle in pair.oracles]
    contents = Beir(
        [{"_id": _cell(key), "title": chunks[key].title, "text": chunks[key].text} for key in used],
        [{"_id": _cell(pair.id), "text": pair.question} for pair in kept],
        [_answered(pair) for pair in kept],
        "".join(["query-id\tcorpus-id\tscore\n", *judged]),
    )
    return contents, len(pairs) - len(kept)


def _answered(pair: Pair) -> dict[str, Any]:
    """A line of a question file."""
    answerable = pair.kind != "absent"
    return {
        "id": _cell(pair.id),
        "question": pair.question,
        "answers": [pair.answer] if answerable else [],
        "gold": [_cell(oracle) for oracle in pair.oracles],
        "answerable": answerable,
        "kind": pair.asks,
    }


def _cell(identity: str) -> str:
    """An id that a line of judgements can hold."""
    return re.sub(r"[\t\r\n]", " ", identity)


def as_hotpotqa(pairs: Sequence[Pair], chunks: Mapping[str, Chunk]) -> tuple[list[dict[str, Any]], int]:
    """The format of HotpotQA, and how many pairs it cannot hold: those without an answer or a context."""
    kept = [pair for pair in pairs if _from_passages(pair)]
    return [_hotpotqa(pair, [chunks[key] for key in pair.context]) for pair in kept], len(pairs) - len(kept)


def _hotpotqa(pair: Pair, shown: Sequence[Chunk]) -> dict[str, Any]:
    """A record whose titles are documents, or chunks where a context shows several of a document."""
    times = Counter(chunk.document for chunk in shown)
    titled = [(chunk.document if times[chunk.document] == 1 else chunk.id, chunk) for chunk in shown]
    proving = [(title, chunk) for title, chunk in titled if chunk.id in pair.oracles]
    return {
        "_id": pair.id,
        "question": pair.question,
        "answer": pair.answer,
        "type": pair.asks or pair.kind,
        "supporting_facts": [[title, number] for title, chunk in proving for number in _proving(pair, chunk)],
        "context": [[title, split_sentences(chunk.text)] for title, chunk in titled],
    }


def _proving(pair: Pair, chunk: Chunk) -> list[int]:
    """The numbers of the sentences that a quote is from; all, where no quote says more."""
    spans = [(start + chunk.start, end + chunk.start) for start, end in sentences(chunk.text)] or [(0, 0)]
    quotes = [quote for quote in pair.quotes if quote.document == chunk.document]
    touched = [n for n, (start, end) in enumerate(spans) if any(q.start < end and start < q.end for q in quotes)]
    return touched or list(range(len(spans)))


def split_sentences(text: str) -> list[str]:
    """Sentences that joined give the text: each has the white space before it.

    >>> split_sentences("It rains. Bring a coat.")
    ['It rains.', ' Bring a coat.']
    """
    ends = [end for _, end in sentences(text)]
    return [text[start:end] for start, end in pairwise((0, *ends[:-1], len(text)))]


def as_pubmedqa(pairs: Sequence[Pair], chunks: Mapping[str, Chunk]) -> tuple[dict[str, dict[str, Any]], int]:
    """The format of PubMedQA, and how many pairs it cannot hold: those without an answer or a context."""
    kept = [pair for pair in pairs if _from_passages(pair)]
    return {pair.id: _pubmedqa(pair, chunks) for pair in kept}, len(pairs) - len(kept)


def _pubmedqa(pair: Pair, chunks: Mapping[str, Chunk]) -> dict[str, Any]:
    """A record; the long answer of a decision is what proves it, of other questions the only answer there is."""
    asked = {"QUESTION": pair.question, "CONTEXTS": [chunks[key].text for key in pair.context]}
    decision = pair.answer.strip().rstrip(".").lower()
    if decision not in _DECISIONS:
        return {**asked, "LONG_ANSWER": pair.answer}
    proof = " ".join(quote.text for quote in pair.quotes)
    return {**asked, "LONG_ANSWER": proof or pair.answer, "final_decision": decision}


def _from_passages(pair: Pair) -> bool:
    return stands_alone(pair) and pair.kind != "absent" and bool(pair.context)
