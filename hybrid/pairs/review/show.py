"""Pairs for a reader: which to show, the funnel they came through, and both as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hybrid.pairs.review.marks import Mark, Marks, short_id
from hybrid.types import Pair, document_of

_DROPPED = "dropped: "


class Entry(NamedTuple):
    """A pair with the name of its part and the mark on it."""

    pair: Pair
    part: str
    mark: Mark | None


class Filter(NamedTuple):
    """Which pairs to show; an empty value lets all pass.

    Attributes:
        kind: Kind of the pair.
        asks: Sort of the question.
        document: Part of the id of a document that the pair is about.
        source: Part of the name of the teacher or file.
        search: Words that must all occur in question, answer, quotes or id.
        part: `train` or `dev`.
        mark: `bad`, `good`, or `none` for pairs without a mark.
    """

    kind: str = ""
    asks: str = ""
    document: str = ""
    source: str = ""
    search: str = ""
    part: str = ""
    mark: str = ""


def entries(parts: Mapping[str, Sequence[Pair]], marks: Marks) -> list[Entry]:
    """All pairs, part by part."""
    return [Entry(pair, part, next(iter(marks.on(pair)), None)) for part, pairs in parts.items() for pair in pairs]


def documents(pair: Pair) -> list[str]:
    """Ids of the documents that a pair is about: those of its oracles and quotes, else those it shows."""
    chunks = pair.oracles or (() if pair.quotes else pair.context)
    named = [document_of(chunk) for chunk in chunks] + [quote.document for quote in pair.quotes]
    return list(dict.fromkeys(named))


def fits(entry: Entry, wanted: Filter) -> bool:
    """True if a reader wants to see this pair; case does not matter in texts."""
    pair, mark = entry.pair, entry.mark.mark if entry.mark else "none"
    equal = ((wanted.kind, pair.kind), (wanted.asks, pair.asks), (wanted.part, entry.part), (wanted.mark, mark))
    text = "\n".join([pair.id, pair.question, pair.answer, *(quote.text for quote in pair.quotes)]).casefold()
    return (
        all(value in ("", found) for value, found in equal)
        and any(wanted.document.casefold() in document.casefold() for document in documents(pair) or [""])
        and wanted.source.casefold() in pair.source.casefold()
        and all(word in text for word in wanted.search.casefold().split())
    )


class Step(NamedTuple):
    """A gate of the funnel: how many candidates it dropped, and how many were left."""

    name: str
    dropped: int
    left: int


def funnel(counts: Mapping[str, Any]) -> list[Step]:
    """The gates in order, from the counts of a manifest.

    >>> funnel({"candidates": 9, "dropped: duplicate": 2, "train": 6, "dev": 1})
    [Step(name='candidates', dropped=0, left=9), Step(name='duplicate', dropped=2, left=7)]
    """
    left = int(counts.get("candidates", 0))
    steps = [Step("candidates", 0, left)]
    for name, count in counts.items():
        if name.startswith(_DROPPED):
            left -= int(count)
            steps.append(Step(name.removeprefix(_DROPPED), int(count), left))
    kept = int(counts.get("train", 0) + counts.get("dev", 0))
    return steps if left == kept else [*steps, Step("not drawn", left - kept, kept)]


def format_funnel(counts: Mapping[str, Any]) -> str:
    """The funnel as a table."""
    steps = funnel(counts)
    width = max(len(step.name) for step in steps)
    lines = [f"{steps[0].name:<{width}}  {'':>7}  {steps[0].left:>7}"]
    lines += [
        f"{step.name:<{width}}  {f'-{step.dropped}' if step.dropped else '0':>7}  {step.left:>7}" for step in steps[1:]
    ]
    lines.append(f"{'kept':<{width}}  {'':>7}  {steps[-1].left:>7}  (train {counts['train']}, dev {counts['dev']})")
    return "\n".join(lines)


def format_marks(marks: Marks, counts: Mapping[str, Any]) -> str:
    """How many marks there are and what became of them in the last run; empty without any."""
    if not marks.by_id:
        return ""
    bad = sum(mark.mark == "bad" for mark in marks.by_id.values())
    text = f"marks: {bad} bad, {len(marks.by_id) - bad} good"
    if "marks" not in counts:
        return f"{text}; made after the last run"
    applied, unmatched = counts["marks"]["applied"], counts["marks"]["unmatched"]
    text += f"; {len(applied)} met a candidate in the last run, {len(unmatched)} met none"
    return "\n".join([text, *(f"  met none: {short_id(key)}  {printable(key)}" for key in unmatched)])


def format_entry(entry: Entry, width: int) -> str:
    """A pair as a block of text.

    Args:
        entry: What to show.
        width: Columns of the terminal.
    """
    pair, mark = entry.pair, entry.mark
    rank = f"oracle rank {pair.rank}" if pair.rank else "oracle not retrieved" if pair.oracles else "no oracle"
    head = [short_id(pair.id), entry.part, pair.kind, pair.asks, rank, pair.source]
    head.append("answered closed book" if pair.closed_book else "")
    if mark:
        head.append(f"marked {mark.mark}{f': {mark.reason}' if mark.reason else ''}")
    lines = [" · ".join(map(printable, filter(None, head)))]
    lines += _field("Q", pair.question, width) + _field("A", pair.answer, width)
    for quote in pair.quotes:
        lines += _field("quote", f"“{quote.text}” {quote.document}:{quote.start}-{quote.end}", width)
    for number, chunk in enumerate(pair.context, start=1):
        lines += _field("context" if number == 1 else "", f"[{number}] {chunk}{' *' * (chunk in pair.oracles)}", width)
    for chunk in pair.oracles:
        if chunk not in pair.context:
            lines += _field("hidden", f"{chunk} *", width)
    return "\n".join([*lines, *_field("id", pair.id, width)])


def _field(name: str, text: str, width: int) -> list[str]:
    indent = " " * 10
    wrapped = textwrap.wrap(
        printable(text), max(40, width), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return [f"  {name:<8}{wrapped[0][10:]}", *wrapped[1:]] if wrapped else [f"  {name}"]


def printable(text: str) -> str:
    r"""A text on one line, in which no control character can steer the terminal.

    >>> printable("two\nlines \x1b[31mred")
    'two lines �[31mred'
    """
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
