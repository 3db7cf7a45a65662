"""Questions about Markdown tables: one for every cell, by its column heading and the first cell of its row."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hybrid.pairs.teacher import MAX_ANSWER_WORDS, Draft

_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}")


def split_tables(text: str) -> tuple[list[tuple[int, int]], list[list[tuple[int, int]]]]:
    """Separates prose from Markdown tables.

    Returns:
        Spans of prose blocks (one per line, headings left out), and for each table the spans of its lines.
    """
    prose: list[tuple[int, int]] = []
    tables: list[list[tuple[int, int]]] = []
    previous_row = False
    for match in re.finditer(r"[^\n]+", text):
        line = match.group()
        row = line.count("|") >= 2
        if row and not previous_row:
            tables.append([])
        if row:
            tables[-1].append(match.span())
        elif not line.lstrip().startswith("#"):
            marker = re.match(r"\s*(?:[-*+]|\d+[.)])\s+", line)
            prose.append((match.start() + (marker.end() if marker else 0), match.end()))
        previous_row = row
    return prose, tables


def _cells(text: str, span: tuple[int, int]) -> list[tuple[int, int]]:
    cells = []
    for match in re.finditer(r"[^|]+", text[span[0] : span[1]]):
        value = match.group().strip()
        if value:
            start = span[0] + match.start() + match.group().index(value)
            cells.append((start, start + len(value)))
    return cells


def table_drafts(text: str, lines: Sequence[tuple[int, int]], title: str) -> list[Draft]:
    r"""Asks for every cell of a Markdown table by its column heading and the first cell of its row.

    >>> text = "| Pump | Interval |\n|---|---|\n| Feed pump | 500 hours |"
    >>> table_drafts(text, [(0, 19), (20, 29), (30, 55)], "Pumps")[0].question
    'What is the interval for feed pump?'
    """
    if len(lines) < 3 or not _TABLE_RULE.match(text[slice(*lines[1])].lstrip()):
        return []
    header = [text[start:end] for start, end in _cells(text, lines[0])]
    drafts = []
    for line in lines[2:]:
        cells = _cells(text, line)
        if len(cells) != len(header):
            continue
        label = text[slice(*cells[0])].strip("*_` ")
        for name, (start, end) in zip(header[1:], cells[1:], strict=True):
            answer = text[start:end]
            if answer in {"-", "–", "—"} or len(answer.split()) > MAX_ANSWER_WORDS:
                continue
            question = f"What is the {_lower(name)} for {_lower(label)}?"
            drafts.append(Draft(question, start, end, line[0], line[1], "table"))
    return drafts


def _lower(text: str) -> str:
    words = text.split(" ")
    return " ".join([words[0].lower() if words[0][1:].islower() else words[0], *words[1:]])
