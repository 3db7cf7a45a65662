"""Questions about Markdown tables: one for a cell, by its column heading and the first cell of its row."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hybrid.pairs.offline.askable import can_lead, with_title
from hybrid.pairs.teacher import MAX_ANSWER_WORDS, Draft, DraftKind

# Headings that name an attribute by themselves; "Normal", "Under ice" or "What you do" do not.
_MEASURES = frozenset(
    "length width height depth weight mass capacity size volume area speed pressure temperature power voltage current "
    "rating range duration price cost age diameter thickness frequency population elevation distance density "
    "resolution colour color name type date founder author director manufacturer owner".split()
)
_ATTRIBUTES = frozenset(
    "interval limit contents provision instrument season place location crew action task method tool lamp setting "
    "point share dose order purpose code symbol unit default value approach bottle example time".split()
)
_COUNTS = frozenset("seats beds bunks pages doors wheels engines members employees students rooms berths".split())
_MEANINGS = frozenset({"meaning", "definition", "description", "explanation"})
# First headings that say nothing about what the row names.
_LOOSE = frozenset(
    "item quantity reading limit check type category stage grade what name thing term function colour color".split()
)
_DEGREES = frozenset("mild moderate severe low medium high normal none small large total other all average".split())
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
    r"""Asks for the cells of a Markdown table by column heading and first cell of the row.

    Only columns whose heading names an attribute are asked for ("Length", not "Under ice"), of rows whose label says
    what they are about; where it might be anything, the title is added.

    >>> text = "| Pump | Interval |\n|---|---|\n| Feed pump | 500 hours |"
    >>> table_drafts(text, [(0, 19), (20, 29), (30, 55)], "Pumps")[0].question
    'What is the interval for the feed pump?'
    """
    if len(lines) < 3 or not _TABLE_RULE.match(text[slice(*lines[1])].lstrip()):
        return []
    header = [_plain(text[start:end]) for start, end in _cells(text, lines[0])]
    drafts = []
    for line in lines[2:]:
        cells = _cells(text, line)
        if len(cells) != len(header):
            continue
        subject = _subject(_plain(text[slice(*cells[0])]), header[0], title)
        for name, (start, end) in zip(header[1:], cells[1:], strict=True):
            answer = text[start:end]
            question = _asked(name, subject, title) if subject and _is_value(answer) else ""
            if question and answer.lower() not in question.lower():
                kind: DraftKind = "definition" if name.lower() in _MEANINGS else "table"
                drafts.append(Draft(question, start, end, line[0], line[1], kind))
    return drafts


def _plain(text: str) -> str:
    return re.sub(r"[*_`]", "", text).strip()


def _is_value(answer: str) -> bool:
    says = re.search(r"\w", answer) and answer.strip(" .").lower() not in {
        "none",
        "n/a",
        "na",
        "same",
        "yes",
        "no",
        "x",
    }
    return bool(says) and len(answer.split()) <= MAX_ANSWER_WORDS


def _subject(label: str, heading: str, title: str) -> str:
    """The first cell of a row as a question names it; empty if it names nothing by itself."""
    if not re.match(r"[A-Za-z]", label) or len(label.split()) > 6 or re.search(r"[;:?/()\[\]]|\bother", label, re.I):
        return ""
    if label.lower() in _DEGREES:
        return ""
    if len(label) < 4 or " " not in label:
        kind = heading.lower()
        if kind in _LOOSE or not re.fullmatch(r"[a-z]+(?: [a-z]+)?", kind):
            return "" if len(label) < 4 else _lower(label)
        if label.endswith("s"):
            return _lower(label)
        return f"{kind} {label}" if len(label) < 3 or re.search(r"\d", label) else f"the {_lower(label)} {kind}"
    return _lower(label)


def _asked(name: str, subject: str, title: str) -> str:
    """The question for a column, or nothing if its heading names no attribute."""
    words = re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", name).lower())
    if not words:
        return ""
    head = words[words.index("of") - 1] if "of" in words[1:] else words[-1]
    known = _stems(title) & _stems(subject)
    specific = known or re.search(r"\d{2}|\w [A-Z]\w|^[A-Z]", subject)
    question = _of_cell(head, name, subject)
    return with_title(question, title) if question and not specific and can_lead(title) else question


def _stems(text: str) -> set[str]:
    return {word.removesuffix("s") for word in re.findall(r"[a-z]{4,}", text.lower())}


def _of_cell(head: str, name: str, subject: str) -> str:
    attribute = _lower(re.sub(r"\s*\(.*?\)", "", name))
    bare = (
        subject.startswith("the ")
        or subject.endswith("s")
        or " " not in subject
        or re.search(r"^[A-Z0-9]|\d$|^class ", subject)
    )
    article = "" if bare else "the "
    if attribute in subject.split():
        return ""
    if head == "use":
        return f"What is {article}{subject} used for?"
    if name.lower() in _MEANINGS:
        return f"What does {_article(subject)} mean?"
    if head in _COUNTS:
        owner = subject if subject.startswith("the ") else f"the {subject}"
        return f"How many {attribute} does {owner} have?" if not subject.endswith("s") else ""
    if head in _MEASURES:
        return f"What is the {attribute} of {article}{subject}?"
    if head in _ATTRIBUTES:
        verb = "are" if re.search(r"[^s]s$", head) else "is"
        return f"What {verb} the {attribute} for {article}{subject}?"
    return ""


def _article(subject: str) -> str:
    if subject.startswith("the ") or re.search(r"\w [A-Z]|^[A-Z0-9]|s$", subject):
        return subject
    return f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}"


def _lower(text: str) -> str:
    words = text.split(" ")
    if re.search(r"\w [A-Z0-9]", text):
        return text
    return " ".join([words[0].lower() if words[0][1:].islower() else words[0], *words[1:]])
