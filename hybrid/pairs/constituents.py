"""What can be asked for a constituent of a clause: "in six tanks" -> "Where", "every 500 hours" -> "How often"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Token

_TIME = {"DATE", "TIME"}
_PLACES = {"GPE", "LOC", "FAC"}
_ROLE = re.compile(
    r"(?:er|or|ist|ian|man|leader|doctor|crew|staff|cook|guide|team|president|captain|king|queen)s?$", re.I
)
_NOT_ROLE = re.compile(
    r"(?:generator|compressor|container|number|order|water|power|paper|letter|timer|meter|boiler|heater|freezer|filter|"
    r"computer|winter|summer|weather|cover|radiator|inverter|breaker|door|floor|motor|sensor|detector|cylinder|"
    r"locker|shower|trailer|register|corner|error|factor|sector|supper|dinner|border|matter|river|december|"
    r"september|october|november|layer|centre|center|transformer|alternator|indicator|locator|recorder|buffer)s?$",
    re.I,
)
_UNITS = re.compile(
    r"^(?:%|percent|per|km|m|cm|mm|kg|g|kw|kwh|bar|litres?|liters?|metres?|meters?|hours?|minutes?|seconds?|days?|"
    r"weeks?|months?|years?|knots?|degrees?|°c|volts?|amps?|people|persons?|times|tonnes?)$",
    re.I,
)
_PREPOSITION_QUESTIONS = {
    "after": "After what",
    "before": "Before what",
    "until": "Until when",
    "since": "Since when",
    "with": "With what",
    "from": "From where",
    "to": "To where",
    "for": "For what",
    "through": "Through what",
    "by": "How",
    "without": "Without what",
    "into": "Into what",
    "under": "Under what",
    "above": "Above what",
    "below": "Below what",
    "during": "During what",
    "between": "Between what",
    "against": "Against what",
    "about": "About what",
    "as": "As what",
}
_MARK_QUESTIONS = {
    "because": "Why",
    "if": "When",
    "when": "When",
    "while": "When",
    "unless": "In what case",
    "until": "Until when",
    "before": "When",
    "after": "When",
    "so": "Why",
    "since": "Why",
    "once": "When",
    "where": "Where",
}
_DETAILS = {"relcl", "acl", "appos", "advcl", "prep", "parataxis"}
_SEASONS = re.compile(
    r"^(?:spring|summer|autumn|winter|night|day|morning|evening|season|week|weekend|month|year|dawn|dusk|noon|midnight)s?$",
    re.I,
)
_PLACE_NOUNS = re.compile(
    r"(?:house|room|store|shed|hut|block|building|hall|office|farm|tank|bay|locker|cabinet|box|cupboard|shelf|rack|"
    r"drawer|corridor|wall|roof|deck|floor|door|jetty|beach|hill|ridge|camp|station|site|city|town|country|island|sea|"
    r"river|lake|coast|kitchen|mess|surgery|library|laboratory|workshop|garden|screen|menu|panel|museum|church|school|"
    r"university|stadium|theatre|street|valley|mountain|region|province|state|port|apron|yard|cell|plant)s?$",
    re.I,
)
OBJECTS = {"dobj", "attr", "oprd", "dative"}


class Part(NamedTuple):
    """A constituent of a clause: its head token and its text span in the chunk."""

    head: Token
    start: int
    end: int


def part_of(head: Token, *, brief: bool = False) -> Part:
    """Returns the constituent of a head; a brief noun phrase ends before its relative clauses and other details."""
    last = head.right_edge
    if brief and head.pos_ in {"NOUN", "PROPN"}:
        detail = next((child for child in head.rights if child.dep_ in _DETAILS and child.lower_ != "of"), None)
        last = detail.left_edge.nbor(-1) if detail else last
    while last.is_punct and last.text not in {")", "%"} and last.i > head.left_edge.i:
        last = last.nbor(-1)
    first = head.left_edge
    return Part(head, first.idx, last.idx + len(last.text))


def who_or_what(part: Part) -> str:
    """Returns "Who" for names of people and roles, else "What"."""
    head = part.head
    if head.ent_type_ == "PERSON" or (_ROLE.search(head.text) and not _NOT_ROLE.search(head.text)):
        return "Who"
    return "What"


def openings(part: Part) -> Iterator[tuple[Part, str]]:
    """Yields (answer, opening words) for a constituent that is not the subject."""
    head, dep = part.head, part.head.dep_
    if dep in OBJECTS:
        yield part, who_or_what(part)
        if which := _which(head):
            yield part, which
    elif dep == "acomp" and part.end - part.start > len(head.text):
        yield part, "How"
    elif dep == "npadvmod":
        yield part, "How often" if head.left_edge.lower_ in {"every", "each", "once", "twice"} else "When"
    elif dep == "agent":
        agents = [part_of(child) for child in head.children if child.dep_ == "pobj"]
        yield from ((agent, "By whom" if who_or_what(agent) == "Who" else "By what") for agent in agents)
    elif dep == "advcl":
        yield from _adverbial_clause(part)
    elif dep in {"ccomp", "xcomp"}:
        yield part, "What"
    elif dep == "prep":
        yield from _prepositional(part)


def _adverbial_clause(part: Part) -> Iterator[tuple[Part, str]]:
    mark = next((c.lower_ for c in part.head.children if c.dep_ in {"mark", "advmod"}), "")
    if mark in _MARK_QUESTIONS:
        yield part, _MARK_QUESTIONS[mark]
    elif any(c.dep_ == "aux" and c.lower_ == "to" for c in part.head.children):
        yield part, "Why"


def _prepositional(part: Part) -> Iterator[tuple[Part, str]]:
    target = next((c for c in part.head.children if c.dep_ in {"pobj", "pcomp"}), None)
    if target is None:
        return
    inner, preposition = part_of(target), part.head.lower_
    kinds = {t.ent_type_ for t in target.subtree}
    if kinds & _TIME or _SEASONS.match(target.text) or re.fullmatch(r"\d{1,2}[:.]\d\d", target.text):
        duration = preposition in {"for", "within"}
        yield inner, "How long" if duration else "At what time" if preposition == "at" else "When"
    elif preposition in {"in", "at", "on", "inside", "behind", "beside", "near", "outside", "over"}:
        place = target.ent_type_ in _PLACES or _PLACE_NOUNS.search(target.text)
        yield inner, "Where" if place else f"{preposition.capitalize()} what"
    elif preposition in _PREPOSITION_QUESTIONS:
        yield inner, _PREPOSITION_QUESTIONS[preposition]
    else:
        yield inner, f"{preposition.capitalize()} what"
    if which := _which(target):
        yield inner, f"{preposition.capitalize()} {which.lower()}"


def _which(noun: Token) -> str | None:
    """Asks for the modifier of a noun: "which drums" for "black drums"."""
    described = any(child.dep_ in {"amod", "compound"} for child in noun.lefts)
    return f"Which {noun.text}" if described and noun.tag_ in {"NN", "NNS"} else None


def number_in(part: Part) -> Part | None:
    """Finds a counted noun, as in "six tanks" or "4,000 running hours", and returns the span of number and noun."""
    for token in part.head.subtree:
        noun = token.head
        counted = noun.tag_ in {"NNS", "NNPS"} or _UNITS.match(noun.text)
        if token.dep_ == "nummod" and counted and token.i < noun.i:
            return Part(noun, token.idx, noun.idx + len(noun.text))
    return None
