"""What of the last pair set still holds after documents changed.

A pair whose oracles and context are chunks that did not change is carried over as it is, on its side of the split. One
whose oracles hold but whose context lost a distractor keeps question and answer and has the chunk replaced. One of
whose oracles changed or went is invalidated.

So a pair set depends on the ones before it, not on the documents alone. That is wanted: after an edit a person who has
read the pairs finds them again, an adapter is trained on nearly the same data, and only what changed is paid for. Where
the settings, the teacher, the embedder, the seed or the comparison questions changed, and with `--force`, all pairs are
made anew and depend on nothing before them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from hybrid.artefacts import fingerprint, read_manifest
from hybrid.errors import ArtefactError
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.coverage import oracle_document
from hybrid.pairs.drafts import chunk_hash
from hybrid.pairs.formats.export import read_pairs, write_jsonl
from hybrid.retrieval.index import Index
from hybrid.types import Chunk, Pair, Quote, document_of

_VERSION = 1  # raised when pairs of an earlier version shall not be carried over
BASIS, _CANDIDATES = "basis.json", "candidates.jsonl"
_MAY_CHANGE = {"index", "marks"}  # inputs of the stage: what they change is found pair by pair


class Last(NamedTuple):
    """A published pair set and what it was made from.

    Attributes:
        train: Its training pairs.
        dev: The pairs kept from training.
        candidates: What each pair was before it had a context, by id.
        chunks: `chunk_hash` of all chunks of its index, by id.
        documents: Ids of the documents of its index.
    """

    train: Sequence[Pair]
    dev: Sequence[Pair]
    candidates: Mapping[str, Candidate]
    chunks: Mapping[str, str]
    documents: frozenset[str]


class Carried(NamedTuple):
    """What still holds.

    Attributes:
        train: Training pairs whose oracles hold.
        dev: The same of the pairs kept from training.
        candidates: What these pairs were before they had a context, by id.
        same: Ids of the chunks that did not change.
        sides: Documents of all pairs of the last run, True for those of the pairs kept from training.
        lost: How many training pairs do not hold, by document, for every document of the last run.
        lost_dev: The same of the pairs kept from training.
        is_settled: True if no chunk changed, came or went.
    """

    train: list[Pair]
    dev: list[Pair]
    candidates: dict[str, Candidate]
    same: frozenset[str]
    sides: Mapping[str, bool]
    lost: Mapping[str, int]
    lost_dev: Mapping[str, int]
    is_settled: bool


def write_basis(folder: Path, index: Index, candidates: Iterable[Candidate]) -> None:
    """Writes beside the pairs what `read_last` needs."""
    basis = {
        "version": _VERSION,
        "index": _made_by(index),
        "documents": dict(index.meta.documents),
        "chunks": {chunk.id: chunk_hash(chunk) for chunk in index.chunks},
    }
    (folder / BASIS).write_text(json.dumps(basis, ensure_ascii=False) + "\n", encoding="utf-8")
    write_jsonl(folder / _CANDIDATES, map(asdict, candidates))


def read_last(folder: Path, index: Index, inputs: Mapping[str, Any]) -> Last | None:
    """Reads the published pairs if what they were made with, documents apart, is what holds now.

    Args:
        folder: Folder of the published pairs.
        index: The index to make pairs from now.
        inputs: What the stage depends on now, by name.

    Returns:
        The pairs, or None where there are none that may be carried over.
    """
    try:
        manifest = read_manifest(folder)
        if manifest is None or _settings(manifest["inputs"]) != _settings(
            {name: fingerprint(value=value) for name, value in inputs.items()}
        ):
            return None
        basis = json.loads((folder / BASIS).read_text(encoding="utf-8"))
        if (basis["version"], basis["index"]) != (_VERSION, _made_by(index)):
            return None
        lines = (folder / _CANDIDATES).read_text(encoding="utf-8").split("\n")
        candidates = [_candidate(json.loads(line)) for line in lines if line]
        train, dev = (read_pairs(folder / f"{name}.jsonl") for name in ("train", "dev"))
        by_id = {candidate.id: candidate for candidate in candidates}
        if not {pair.id for pair in chain(train, dev)} <= by_id.keys():
            return None
        return Last(train, dev, by_id, dict(basis["chunks"]), frozenset(basis["documents"]))
    except (ArtefactError, OSError, ValueError, KeyError, TypeError):
        return None  # what is damaged is made anew


def _settings(inputs: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in inputs.items() if name not in _MAY_CHANGE}


def _made_by(index: Index) -> str:
    return fingerprint(embedder=index.meta.embedder, chunker=index.meta.chunker._asdict())


def _candidate(values: Any) -> Candidate:  # noqa: ANN401
    if not isinstance(values, dict):
        raise TypeError
    plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Candidate(**{**plain, "quotes": tuple(Quote(**quote) for quote in values["quotes"])})


def carry_over(last: Last | None, chunks: Sequence[Chunk]) -> Carried:
    """Separates the pairs that hold on `chunks` from those that do not.

    >>> carry_over(None, []).is_settled
    False
    """
    if last is None:
        return Carried([], [], {}, frozenset(), {}, {}, {}, is_settled=False)
    same = frozenset(chunk.id for chunk in chunks if last.chunks.get(chunk.id) == chunk_hash(chunk))

    def holds(pair: Pair) -> bool:
        # Of the candidate: what the context showed besides can be mended, also where it happened to answer too.
        return same.issuperset(last.candidates[pair.id].oracles)

    train, dev = ([pair for pair in pairs if holds(pair)] for pairs in (last.train, last.dev))
    lost, lost_dev = (
        dict.fromkeys(last.documents, 0) | Counter(oracle_document(pair) for pair in pairs if not holds(pair))
        for pairs in (last.train, last.dev)
    )
    sides = {
        document: is_dev
        for is_dev, pairs in ((True, last.dev), (False, last.train))
        for pair in pairs
        for document in last.candidates[pair.id].documents
    }
    candidates = {pair.id: last.candidates[pair.id] for pair in [*train, *dev]}
    settled = len(same) == len(chunks) == len(last.chunks)
    return Carried(train, dev, candidates, same, sides, lost, lost_dev, settled)


def split_again(
    found: Sequence[Candidate],
    sides: Mapping[str, bool],
    split: Callable[[Sequence[Candidate]], tuple[list[Candidate], list[Candidate]]],
    together: Mapping[str, str] | None = None,
) -> tuple[list[Candidate], list[Candidate]]:
    """Splits candidates so that documents stay on the side on which the last run had them.

    Args:
        found: The candidates. One that ties documents of both sides together is left out.
        sides: Documents of the last run, True for those kept from training.
        split: Splits the candidates that nothing ties to these documents; the others only take their place.
        together: The group of each document that is on one side with the others of its group.

    Returns:
        The candidates to train on, and those kept from training.
    """
    groups = together or {}
    known: dict[str, set[bool]] = {}
    for document, side in sides.items():
        known.setdefault(groups.get(document, document), set()).add(side)
    own: dict[str, set[bool]] = {}
    growing = True
    while growing:
        growing = False
        for candidate in found:
            tied = {groups.get(document, document) for document in candidate.documents}
            own[candidate.id] = set().union(*(known[name] for name in tied if name in known))
            if candidate.documents and sides.keys() >= set(candidate.documents):
                # What came since may resemble documents of both sides; these stay where they are all the same.
                own[candidate.id] = {sides[document] for document in candidate.documents}
            elif len(own[candidate.id]) == 1 and not tied <= known.keys():
                known |= {name: set(own[candidate.id]) for name in tied - known.keys()}
                growing = True
    train, dev = split([candidate for candidate in found if not own[candidate.id]])
    return (
        [c for c in found if own[c.id] == {False}] + train,
        [c for c in found if own[c.id] == {True}] + dev,
    )


def mend_contexts(
    pairs: Sequence[Pair],
    same: frozenset[str],
    retrieved: Mapping[str, Sequence[str]],
    answers: Callable[[Pair, str], bool],
) -> list[Pair]:
    """Replaces the chunks that contexts lost; pairs that share a context go on to share it.

    Each lost chunk gives its place to what the questions on the context retrieve best and what answers none of them;
    where there is nothing left, the context gets shorter. A pair is left out if its context is empty then.

    Args:
        pairs: Pairs whose oracles hold.
        same: Ids of the chunks that did not change.
        retrieved: Chunk ids by pair id, best first.
        answers: Whether a chunk answers a pair's question.
    """
    members: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        members.setdefault(pair.context, []).append(pair)
    mended: list[Pair] = []
    for context, sharing in members.items():
        if same.issuperset(context):
            mended += sharing
            continue
        spare = _spare_chunks(context, sharing, retrieved, answers, sum(chunk not in same for chunk in context))
        places = (chunk if chunk in same else next(spare, None) for chunk in context)
        new = tuple(chunk for chunk in places if chunk is not None)
        mended += [_moved(pair, new, same, retrieved[pair.id]) for pair in sharing if new]
    return mended


def _moved(pair: Pair, context: tuple[str, ...], same: frozenset[str], retrieved: Sequence[str]) -> Pair:
    oracles = tuple(oracle for oracle in pair.oracles if oracle in same)
    rank = next((rank for rank, chunk in enumerate(retrieved, 1) if chunk in oracles), 0)
    return replace(pair, context=context, oracles=oracles, rank=rank)


def _spare_chunks(
    context: Sequence[str],
    sharing: Sequence[Pair],
    retrieved: Mapping[str, Sequence[str]],
    answers: Callable[[Pair, str], bool],
    wanted: int,
) -> Iterator[str]:
    in_turns = chain.from_iterable(zip_longest(*(retrieved[pair.id] for pair in sharing)))
    found: list[str] = []
    for chunk in dict.fromkeys(in_turns):
        if len(found) == wanted:
            break
        if chunk is not None and chunk not in context and not any(answers(pair, chunk) for pair in sharing):
            found.append(chunk)
    return iter(found)


def changes(last: Last, pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs of the last set are still there as they were or on a new context, are gone, and are new."""
    before = {pair.id: pair for pair in chain(last.train, last.dev)}
    found = [pair for pair in pairs if pair.id in before and pair.question == before[pair.id].question]
    as_before = sum(pair == before[pair.id] for pair in found)
    return {
        "carried over": as_before,
        "carried over to a new context": len(found) - as_before,
        "invalidated": len(before) - len(found),
        "new": len(pairs) - len(found),
    }


class Affected(NamedTuple):
    """How much of a pair set a change of documents touches.

    Attributes:
        documents: Documents added, changed or deleted.
        pairs: Pairs with an oracle in a changed or deleted document: at most these are invalidated.
        total: All pairs.
    """

    documents: int
    pairs: int
    total: int

    def __str__(self) -> str:
        return f"{self.documents} document{'s' * (self.documents != 1)}; {self.pairs} of {self.total} pairs"


def document_hashes(folder: Path) -> dict[str, str]:
    """The hashes, by id, of the documents that published pairs were made from; none if the pairs do not say."""
    try:
        return dict(json.loads((folder / BASIS).read_text(encoding="utf-8"))["documents"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def affected_pairs(folder: Path, documents: Mapping[str, str]) -> Affected | None:
    """Counts, without an index, what a change of documents touches; None if the pairs do not say what they are from.

    Args:
        folder: Folder of the published pairs.
        documents: `hybrid.retrieval.index.document_hash` of the documents as they are now, by id.
    """
    before = document_hashes(folder)
    try:
        pairs = [pair for name in ("train", "dev") for pair in read_pairs(folder / f"{name}.jsonl")]
    except ArtefactError:
        return None
    if not before:
        return None
    changed = {key for key in before.keys() | documents.keys() if before.get(key) != documents.get(key)}
    touched = sum(any(document_of(oracle) in changed for oracle in pair.oracles) for pair in pairs)
    return Affected(len(changed), touched, len(pairs))
