"""Constituents of a clause, and what can be asked for them: "in six tanks" -> "Where", "for a day" -> "How long"."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Token

OBJECTS = {"dobj", "attr", "oprd", "dative"}
_DETAILS = {",", "(", "–", "—", ":", ";", "["}
_PLACES = {"GPE", "LOC", "FAC"}
_ROLE = re.compile(
    r"^(?:mechanic|cook|officer|leader|doctor|nurse|captain|king|queen|president|minister|bishop|pope|emperor|"
    r"engineer|electrician|plumber|technician|meteorologist|manager|supervisor|director|crew|staff|coxswain|pilot|"
    r"diver|driver|visitor|volunteer|guard|student|teacher|scientist|historian|scholar|author|writer|artist|"
    r"architect|physicist|chemist|astronaut|soldier|settler|colonist|merchant|explorer|missionary|priest|pastor|"
    r"people|person|child|man|woman|keeper|attendant|deputy|controller|operator|owner|farmer|worker|player|coach|"
    r"singer|actor|actress|producer|general|governor|mayor|senator|judge|lawyer|mathematician|philosopher|leader)s?$",
    re.I,
)
_MAY_ACT = re.compile(
    r"(?:[^w]er|or|ist|ian|ant|men|team|pair|party|group|company|body|family|user|one|everyone|somebody)$", re.I
)
_LANDMARK = re.compile(r"(?:point|hill|bay|base|bridge|park|square|mount|lake|cape|creek|falls)$", re.I)
_PLACE_NOUNS = re.compile(
    r"(?:house|room|store|shed|hut|block|building|hall|office|farm|tank|bay|locker|cabinet|box|cupboard|shelf|rack|"
    r"drawer|corridor|wall|roof|deck|jetty|beach|hill|ridge|camp|site|city|town|country|island|"
    r"river|lake|coast|kitchen|mess|surgery|library|laboratory|workshop|garden|museum|church|school|"
    r"university|stadium|theatre|street|valley|mountain|region|province|port|apron|yard|cellar)s?$",
    re.I,
)
_MONTH = (
    "january|february|march|april|may|june|july|august|september|october|november|december|"
    "monday|tuesday|wednesday|thursday|friday|saturday|sunday|spring|summer|autumn|winter|midnight|noon|dawn|dusk"
)
_CONCRETE_TIME = re.compile(rf"\d|\b(?:{_MONTH})s?\b", re.I)
_VAGUE_TIME = re.compile(
    r"\b(?:that|this|same|next|previous|following|later|earlier|ago|recent|now|last|first|second|past|after|before|"
    r"season|early|late|then|each|every)\b",
    re.I,
)
_UNIT_OF_TIME = re.compile(r"^(?:second|minute|hour|day|night|week|month|year|decade|century|centurie)s?$", re.I)


class Part(NamedTuple):
    """A constituent of a clause: its head token and its text span in the text that was parsed."""

    head: Token
    start: int
    end: int

    def tokens(self) -> list[Token]:
        """The tokens of the span."""
        span = self.head.doc.char_span(self.start, self.end, alignment_mode="expand")
        return list(span) if span else []


def part_of(head: Token) -> Part:
    """Returns the constituent of a head without what is only added to it: "the boat, which is red" -> "the boat".

    Enumerations are kept whole.
    """
    first, last = head.left_edge, head.right_edge
    if not any(child.dep_ == "conj" for child in head.subtree):
        cut = next((t for t in head.doc[head.i + 1 : last.i + 1] if t.text in _DETAILS), None)
        last = cut.nbor(-1) if cut is not None else last
    while last.is_punct and last.text not in {")", "%", '"', "”", "'"} and last.i > first.i:
        last = last.nbor(-1)
    return Part(head, first.idx, last.idx + len(last.text))


def who_or_what(head: Token) -> str | None:
    """Returns "Who" for people, "What" for things, and None for what may be either, such as a name or a "reader"."""
    if head.ent_type_ == "PERSON" and _is_no_person(head):
        return None
    if (head.ent_type_ == "PERSON" and head.pos_ == "PROPN") or _ROLE.match(head.lemma_):
        return "Who"
    if head.tag_ == "NNPS":
        return None  # "the Panthers"
    if head.pos_ == "PROPN":
        return (
            "What"
            if any(child.lower_ in {"the", "a", "an"} for child in head.lefts) and not head.is_sent_start
            else None
        )
    if head.pos_ != "NOUN" or _MAY_ACT.search(head.lemma_):
        return None
    return "What"


def _is_no_person(head: Token) -> bool:
    """True where the tagger takes a landmark or a product for a person ("Tern Hill", "Schedule Recording")."""
    common = head.text.endswith("ing") or any(token.text == head.lower_ for token in head.doc)
    return common or bool(_PLACE_NOUNS.search(head.text) or _LANDMARK.match(head.text))


def when(phrase: Part, text: str, *, past: bool) -> bool:
    """True if a phrase is a time that answers "When": a date, not "the same year" and, in the past, with its year."""
    said = text[phrase.start : phrase.end]
    if not _CONCRETE_TIME.search(said) or _VAGUE_TIME.search(said):
        return False
    calendar = {token.ent_type_ for token in phrase.tokens()} & {"DATE", "TIME"}
    if any(
        token.pos_ == "PROPN" and not token.ent_type_ and not _CONCRETE_TIME.search(token.text)
        for token in phrase.tokens()
    ):
        return False
    if {token.ent_type_ for token in phrase.tokens()} - {"DATE", "TIME", "CARDINAL", "ORDINAL", ""}:
        return False  # "Franconia in 1524" is a place and a time
    named = re.fullmatch(rf"(?:the )?(?:{_MONTH})s?", said, re.I)
    if not (calendar or named) or _UNIT_OF_TIME.match(phrase.head.text):
        return False
    return bool(re.search(r"\b1?\d{3}\b|\b20\d\d\b", said)) if past else True


def how_long(phrase: Part) -> bool:
    """True for a number of units of time, such as "ten minutes"."""
    counted = any(child.dep_ == "nummod" for child in phrase.head.children)
    return bool(_UNIT_OF_TIME.match(phrase.head.text)) and counted


def is_place(head: Token) -> bool:
    """True for names of places and for nouns such as "shed"."""
    return head.ent_type_ in _PLACES or bool(_PLACE_NOUNS.search(head.text))


def object_of(preposition: Token) -> Token | None:
    """The noun that a preposition governs, if it governs one."""
    return next((c for c in preposition.children if c.dep_ == "pobj"), None)
