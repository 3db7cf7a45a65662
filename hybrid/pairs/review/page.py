"""One self-contained HTML page about all pairs: what they are made of, how they were sifted, and a place to mark them.

Texts of documents and teachers are not trusted. They reach the page through a template that escapes them, and as JSON
in which no `<` is left; its script writes them as text, never as markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.pairs.review.marks import Marks
from hybrid.pairs.review.show import Entry, documents, entries, funnel
from hybrid.types import Chunk, Pair

if TYPE_CHECKING:
    import jinja2

PAGE = "pairs.html"
_FIELDS = ("id", "question", "answer", "kind", "asks", "source", "rank", "closed_book")
_RANKS = (1, 2, 3, 5, 10, 20)
_SHARED = (1, 2, 4, 8, 16, 32)


class PairsView(NamedTuple):
    """What the page shows.

    Attributes:
        parts: Pairs by the name of their part.
        chunks: All chunks by id.
        counts: The manifest of the pairs, or its counts.
        marks: The readers' marks.
    """

    parts: Mapping[str, Sequence[Pair]]
    chunks: Mapping[str, Chunk]
    counts: Mapping[str, Any]
    marks: Marks


class Bar(NamedTuple):
    """A line of a bar list; `share` is that of the longest."""

    label: str
    size: int
    share: float


def html_page(view: PairsView, title: str, token: str = "") -> str:
    """Renders the page.

    Args:
        view: What to show.
        title: Name of the project.
        token: What marks are sent back to the server with; without one the page keeps them itself.
    """
    listed = entries(view.parts, view.marks)
    steps = funnel(view.counts)
    return (
        _environment()
        .get_template("pairs.html.jinja")
        .render(
            title=title,
            served=bool(token),
            sizes={name: len(pairs) for name, pairs in view.parts.items()},
            steps=[(step, step.left / max(1, steps[0].left)) for step in steps],
            figures=_figures(view.counts),
            charts=charts(listed),
            marks=view.marks.by_id,
            met=view.counts.get("marks"),
            data={**page_data(listed, view.chunks, view.marks), "token": token},
        )
    )


def page_data(listed: Sequence[Entry], chunks: Mapping[str, Chunk], marks: Marks) -> dict[str, Any]:
    """What the page's script reads: pairs, with each passage and each context once, and the marks."""
    contexts = {context: place for place, context in enumerate(dict.fromkeys(entry.pair.context for entry in listed))}
    used = dict.fromkeys(chunk for entry in listed for chunk in (*entry.pair.context, *entry.pair.oracles))
    return {
        "pairs": [
            {
                **{name: getattr(entry.pair, name) for name in _FIELDS},
                "part": entry.part,
                "context": contexts[entry.pair.context],
                "oracles": entry.pair.oracles,
                "quotes": [asdict(quote) for quote in entry.pair.quotes],
                "documents": documents(entry.pair),
                "marked": entry.mark.id if entry.mark else None,
            }
            for entry in listed
        ],
        "contexts": list(contexts),
        "chunks": {
            key: {"document": chunk.document, "start": chunk.start, "text": chunk.text, "title": chunk.title}
            for key in used
            for chunk in [chunks[key]]
        },
        "marks": [asdict(mark) for mark in marks.by_id.values()],
    }


def charts(listed: Sequence[Entry]) -> dict[str, list[Bar]]:
    """The bar lists by their heading."""
    pairs = [entry.pair for entry in listed]
    places = Counter(place for pair in pairs for place, chunk in enumerate(pair.context, 1) if chunk in pair.oracles)
    shared = Counter(Counter(pair.context for pair in pairs if pair.context).values())
    ranked = Counter(pair.rank for pair in pairs if pair.rank)
    return {
        "Kinds": _bars(Counter(pair.kind for pair in pairs).most_common()),
        "Sorts of question": _bars(Counter(pair.asks or "(not said)" for pair in pairs).most_common()),
        "Sources": _bars(Counter(pair.source or "(not said)" for pair in pairs).most_common()),
        "Rank of the oracle in retrieval": _bars(
            [*_grouped(ranked, _RANKS), ("not found", sum(bool(pair.oracles) and not pair.rank for pair in pairs))]
        ),
        "Place of the oracle in the context": _bars(sorted(places.items())),
        "Questions that share a context": _bars(_grouped(shared, _SHARED)),
    }


def _grouped(counts: Mapping[int, int], ends: Sequence[int]) -> list[tuple[str, int]]:
    """Counts of the numbers from 1 on, in groups that end with the given ones; empty groups at the end are left out.

    >>> _grouped({1: 5, 4: 1, 30: 2}, (1, 2, 5))
    [('1', 5), ('2', 0), ('3–5', 1), ('over 5', 2)]
    """
    groups = []
    for low, high in zip([0, *ends], ends, strict=False):
        label = str(high) if high - low == 1 else f"{low + 1}–{high}"
        groups.append((label, sum(count for number, count in counts.items() if low < number <= high)))
    groups.append((f"over {ends[-1]}", sum(count for number, count in counts.items() if number > ends[-1])))
    while groups and not groups[-1][1]:
        groups.pop()
    return groups


def _bars(counts: Iterable[tuple[Hashable, int]]) -> list[Bar]:
    listed = list(counts)
    most = max((count for _, count in listed), default=0)
    return [Bar(str(label), count, count / max(1, most)) for label, count in listed]


def _figures(counts: Mapping[str, Any]) -> dict[str, str]:
    """The single numbers of a manifest that no bar list shows."""
    left_out = ("dropped: ", "oracle ", "train", "dev", "candidates", "seconds")
    return {
        name: f"{value:,}"
        for name, value in counts.items()
        if isinstance(value, int | float) and not name.startswith(left_out)
    }


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    folder = resources.files("hybrid.pairs.review")
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
