"""Questions that a whole list answers: steps under "Replacing the impeller", parts behind "The kit contains:"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybrid.pairs.align import Span
from hybrid.pairs.offline.askable import Topic, points_outside, put
from hybrid.pairs.offline.clauses import SUBJECTS, as_question, clauses_of
from hybrid.pairs.offline.situations import for_asker, is_imperative
from hybrid.pairs.teacher import MAX_LIST_WORDS, Draft, DraftKind

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

Parse = Callable[[str], "Doc"]

_MARKER = re.compile(r"[ \t]*(?:[-*+•]|\d{1,2}[.)])[ \t]+")
_GOES_ON = re.compile(rf"{_MARKER.pattern}|[ \t]*[a-z]")  # another item, or the rest of the last
_HEADING = re.compile(r"#{1,6}[ \t]+([^\n]+?)[ \t]*#*$")
_CONTAINING = frozenset("contain hold need require comprise carry bring include want cover".split())
_CASES = {"if", "when", "before", "after"}
_FEWEST = 2
_NAMED_TASK = 0.25  # a task is clear where its title stands in front: "About boats: how do I moor?"


class Listing(NamedTuple):
    """A list in a text.

    Attributes:
        lead: The heading or the line in front of it; empty if there is none.
        lead_start: Where that begins.
        start: Start of the first item.
        end: End of the last.
        items: The text of each item, without its marker.
        numbered: Whether the items have numbers.
    """

    lead: str
    lead_start: int
    start: int
    end: int
    items: list[str]
    numbered: bool


def listings(text: str, following: str = "", preceding: str = "") -> Iterator[Listing]:
    r"""Yields the complete lists of a text.

    Args:
        text: Any text.
        following: How the document goes on; a list that goes on there is left out, and so is one that began before
            the text.
        preceding: How the document went before, where the lead of a list that opens the text may be.

    >>> [listing.items for listing in listings("To stop:\n\n1. Press STOP.\n2. Wait.")]
    [['Press STOP.', 'Wait.']]
    >>> list(listings("To stop:\n\n1. Press STOP.\n2. Wait.", "3. Go."))
    []
    """
    lines = [match.span() for match in re.finditer(r"[^\n]+", text) if match.group().strip()]
    place = 0
    while place < len(lines):
        size = _run(text, lines[place:])
        if size:
            run = lines[place : place + size]
            last = place + size == len(lines)
            found = _listing(text, lines[place - 1] if place else None, run)
            if found and not place and preceding.strip():
                line = preceding.rstrip().rpartition("\n")[2]
                found = found._replace(lead=_lead(line, (0, len(line)))[0])
            if found and not (last and _GOES_ON.match(following.lstrip("\n"))):
                yield found
        place += size or 1


def _run(text: str, lines: Sequence[Span]) -> int:
    """How many lines from the first on are one list; an indented line goes on with its item."""
    size = 0
    for start, end in lines:
        line = text[start:end]
        if not (_MARKER.match(line) or (size and re.match(r"[ \t]{2,}\S", line))):
            break
        size += 1
    return size


def _listing(text: str, before: Span | None, run: Sequence[Span]) -> Listing | None:
    items: list[str] = []
    for start, end in run:
        marker = _MARKER.match(text[start:end])
        if marker:
            items.append(text[start + marker.end() : end].strip())
        else:
            items[-1] += " " + text[start:end].strip()
    first = text[slice(*run[0])].strip()
    numbered = first[0].isdigit()
    if len(items) < _FEWEST or (numbered and not re.match(r"1[.)]", first)):
        return None
    start = run[0][0] + len(text[slice(*run[0])]) - len(text[slice(*run[0])].lstrip())
    end = run[-1][0] + len(text[slice(*run[-1])].rstrip())
    lead, lead_start = _lead(text, before) if before else ("", start)
    return Listing(lead, lead_start, start, end, items, numbered)


def _lead(text: str, line: Span) -> tuple[str, int]:
    said = text[slice(*line)].strip()
    heading = _HEADING.match(said)
    if heading:
        return heading[1], line[0]
    if not said.endswith(":"):
        return "", line[0]
    begin = [match.end() for match in re.finditer(r"[.!?]\s+(?=[A-Z])", said)]
    at = begin[-1] if begin else 0
    return said[at:-1], line[0] + at


def list_drafts(text: str, following: str, preceding: str, topic: Topic, parse: Parse) -> Iterator[Draft]:
    """Yields the question that each complete list of a text answers as a whole.

    Args:
        text: The text of a chunk.
        following: How the document goes on.
        preceding: How it went before.
        topic: The title.
        parse: The parser.
    """
    for found in listings(text, following, preceding):
        if found.lead and len(text[found.start : found.end].split()) <= MAX_LIST_WORDS:
            question = _question(found, topic, parse)
            if question:
                kind: DraftKind = "procedure"
                yield Draft(question, found.start, found.end, found.lead_start, found.end, kind)
    yield from _sections(text, following, topic, parse)


def _question(found: Listing, topic: Topic, parse: Parse) -> str:
    lead = parse(re.sub(r"[*_`]", "", found.lead))
    if not len(lead) or any(points_outside(token) for token in lead) or re.search(r"[()\[\]<>|:;]", found.lead):
        return ""
    commands = sum(_is_command(parse(item)) for item in found.items) * 2 > len(found.items)
    question = _of_task(lead, topic, commands=commands, numbered=found.numbered)
    if not question and commands:
        question = _of_case(lead, topic)
    return question or ("" if commands else _of_contents(lead, topic))


def _is_command(item: Doc) -> bool:
    sentence = next(iter(item.sents), None)
    root = sentence.root if sentence is not None else None
    if root is None or any(token.dep_ in SUBJECTS and token.head == root for token in item):
        return False
    first = next((token for token in item if not token.is_punct and not token.is_space), root)
    return first.tag_ in {"VB", "VBP"} or is_imperative(root, start=0) or (first.lower_ == "do")


def _of_task(lead: Doc, topic: Topic, *, commands: bool, numbered: bool) -> str:
    """Asks for the way: "Replacing the impeller" and "To replace the impeller" as "How do I replace the impeller?"."""
    first, tokens = lead[0], list(lead)
    if first.lower_ == "to" and len(lead) > 2 and lead[1].tag_ == "VB" and commands:
        asked = [token for token in tokens[1:] if not token.is_punct or token.text == "-"]
        return _if_alone(["How do I", for_asker(asked, lead.text)], asked, topic)
    if not (first.tag_ == "VBG" or (first.text.endswith("ing") and first.pos_ in {"VERB", "NOUN"} and len(lead) > 2)):
        return ""
    verb = first.lemma_.lower() if first.pos_ == "VERB" else ""
    rest = lead[1:].text if len(lead) > 1 else ""
    if commands and verb and not verb.endswith("ing") and rest:
        return _if_alone(["How do I", verb, rest], tokens[1:], topic)
    if numbered and rest and not commands:
        return _if_alone(["What are the steps for", first.lower_, rest], tokens[1:], topic)
    return ""


def _if_alone(words: Sequence[str], used: Sequence[Token], topic: Topic) -> str:
    return (put(as_question(words), used, topic, 1.0, with_topic=_NAMED_TASK) or "") if used else ""


def _of_case(lead: Doc, topic: Topic) -> str:
    """Asks what to do: "If oil catches light" as "What should I do if oil catches light?"."""
    if lead[0].lower_ not in _CASES or len(lead) < 3:
        return ""
    says = any(token.pos_ in {"VERB", "AUX"} for token in lead)
    tokens = list(lead)[1:]
    words = ["What should I do", lead[0].lower_, for_asker(tokens, lead.text)]
    return put(as_question(words), tokens, topic, 1.0, with_topic=_NAMED_TASK if says else 1.0) or ""


def _of_contents(lead: Doc, topic: Topic) -> str:
    """Asks for the parts: "The first-aid kit contains" as "What does the first-aid kit contain?"."""
    sentence = next(iter(lead.sents), None)
    clause = next(clauses_of(sentence), None) if sentence is not None else None
    if clause is None or clause.negated or clause.verb.lemma_ not in _CONTAINING:
        return ""
    text = lead.text
    others = [part for part in clause.parts if "following" not in text[part.start : part.end]]
    if any(part.head.dep_ == "dobj" for part in others):
        return ""
    words = ["What", *clause.inverted(text), *(text[part.start : part.end] for part in others)]
    used = [
        token
        for token in clause.tokens()
        if token.lower_ not in {"the", "following"} or token in clause.subject.tokens()
    ]
    return put(as_question(words), used, topic, 1.0) or ""


def _sections(text: str, following: str, topic: Topic, parse: Parse) -> Iterator[Draft]:
    """Sections of one paragraph of commands under a heading that names a task."""
    for match in re.finditer(r"^(#{1,6}[ \t]+[^\n]+)\n\s*([^\n#|]+)$", text, re.M):
        body = match[2]
        rest = text[match.end() :].strip()
        ends = rest.startswith("#") or (not rest and (not following.strip() or following.lstrip().startswith("#")))
        if _MARKER.match(body) or not ends or not 8 <= len(body.split()) <= MAX_LIST_WORDS:
            continue
        doc = parse(re.sub(r"[*_`]", " ", body))
        commands = [is_imperative(sentence.root, start=sentence.start) for sentence in doc.sents]
        heading = _HEADING.match(match[1])
        if heading and len(commands) > 1 and commands[0] and sum(commands) * 3 >= 2 * len(commands):
            question = _of_task(parse(heading[1]), topic, commands=True, numbered=False)
            if question:
                end = match.start(2) + len(body.rstrip())
                yield Draft(question, match.start(2), end, match.start(), end, "procedure")


def enumeration_draft(sentence: str, start: int, topic: Topic, parse: Parse) -> Draft | None:
    """Returns "What does the kit contain?" for "The kit contains: ..." in one sentence, else None.

    Args:
        sentence: The sentence.
        start: Where it begins in its text.
        topic: The title.
        parse: The parser.
    """
    match = re.match(r"([A-Z][^:]{8,90}):\s+([^:]{10,400}?)[.;]?$", sentence.rstrip())
    if match is None or not re.search(r",|\band\b|;", match[2]) or len(match[2].split()) > MAX_LIST_WORDS:
        return None
    question = _of_contents(parse(match[1]), topic)
    if not question:
        return None
    return Draft(
        question, start + match.start(2), start + match.end(2), start, start + len(sentence.rstrip()), "procedure"
    )
