"""A clause as questions: one for each constituent that can be asked for, and one that asks yes or no."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybrid.pairs.constituents import OBJECTS, Part, number_in, openings, part_of, who_or_what
from hybrid.pairs.teacher import Draft

if TYPE_CHECKING:
    from spacy.tokens import Token

SUBJECTS = {"nsubj", "nsubjpass", "csubj"}
VAGUE = {
    "it",
    "they",
    "this",
    "that",
    "these",
    "those",
    "he",
    "she",
    "we",
    "i",
    "there",
    "who",
    "which",
    "what",
    "one",
}
_NAMES = {"PERSON", "ORG", "GPE", "LOC", "FAC", "NORP", "PRODUCT", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE"}
_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}
_QUESTION_WORDS = 16
_BRIEF_WORDS = 9
_QUANTITIES = {
    "hour": "How long",
    "minute": "How long",
    "second": "How long",
    "day": "How long",
    "week": "How long",
    "month": "How long",
    "year": "How long",
    "kg": "How much",
    "tonne": "How much",
    "litre": "How much",
    "km": "How far",
    "metre": "How far",
    "m": "How far",
    "knot": "At what speed",
    "°c": "At what temperature",
    "bar": "At what pressure",
    "kw": "How much power",
}
_NOT_ASKED = {"cc", "conj", "dep", "meta", "mark", "parataxis", "intj"}
_NO_ANSWER = VAGUE | {"you", "nothing", "everything", "nobody", "everybody", "none", "others", "rest", "result"}


class Clause(NamedTuple):
    """A verb with its constituents.

    Attributes:
        verb: The verb.
        subject: Its subject.
        auxiliaries: Auxiliaries and negation in front of the verb.
        parts: Objects, complements and adverbials in the order of a question.
        brief: Whether questions leave out what people leave out when they ask, such as relative clauses.
    """

    verb: Token
    subject: Part
    auxiliaries: list[Token]
    parts: list[Part]
    brief: bool

    def drafts(self, text: str, quote: tuple[int, int]) -> Iterator[Draft]:
        """Yields the questions of the clause; answers are spans of `text`, proved by the span `quote`."""
        if self.subject.head.lower_ not in _NO_ANSWER and next(self.subject.head.subtree).lower_ != "no":
            yield self._ask(text, quote, self._whole(self.subject), who_or_what(self.subject), subject=True)
        for part in self.parts:
            for answer, opening in openings(part):
                yield self._ask(text, quote, self._whole(answer), opening, remove=part)
            if number := number_in(part):
                yield self._in_place(text, quote, part, number)
        yield from self._polar(text, quote)

    def _whole(self, part: Part) -> Part:
        """Answers are given in full, even where the question is brief."""
        return part_of(part.head) if self.brief else part

    def _ask(
        self,
        text: str,
        quote: tuple[int, int],
        answer: Part,
        opening: str,
        *,
        subject: bool = False,
        remove: Part | None = None,
    ) -> Draft:
        if subject:
            words = [opening, *self._singular()]
        else:
            words = [opening, *self._inverted(text)]
        words += self._rest(text, remove, words)
        return Draft(_question(words), *_trim(text, answer), *quote, "fact")

    def _in_place(self, text: str, quote: tuple[int, int], part: Part, number: Part) -> Draft:
        """Asks for a number where it stands, or in front if it opens an object: "How many tanks has the farm?"."""
        noun = number.head
        before, after = text[part.start : number.start], text[number.end : part.end]
        opening = _QUANTITIES.get(noun.lower_.rstrip("s"))
        if opening and part.head.dep_ in {"prep", "npadvmod", *OBJECTS}:
            words = [opening, *self._inverted(text)]
        elif before.strip().lower() in {"", "the", "at least", "about", "up to"}:
            words = [f"How many {noun.text}", after, *self._inverted(text)]
        else:
            words = [f"{before}how many {noun.text}{after}", *self._inverted(text)]
        words += self._rest(text, part, words)
        return Draft(_question(words), *_trim(text, number), *quote, "number")

    def _polar(self, text: str, quote: tuple[int, int]) -> Iterator[Draft]:
        if self.parts and self.subject.head.lower_ not in VAGUE:
            words = self._inverted(text)
            words += self._rest(text, None, words)
            yield Draft(_question(words), quote[0], quote[0], *quote, "yes")

    def _inverted(self, text: str) -> list[str]:
        subject = self._text(text, self.subject)
        rest = [a.text for a in self.auxiliaries[1:]]
        if self.auxiliaries:
            return [self.auxiliaries[0].text, subject, *rest, self.verb.text]
        if self.verb.lemma_ == "be":
            return [self.verb.text, subject]
        do = "did" if self.verb.tag_ == "VBD" else "does" if self.verb.tag_ == "VBZ" else "do"
        return [do, subject, self.verb.lemma_]

    def _rest(self, text: str, remove: Part | None, words: Sequence[str]) -> list[str]:
        """The other constituents, as many as keep the question short: people do not ask in whole sentences."""
        rest: list[str] = []
        budget = (_BRIEF_WORDS if self.brief else _QUESTION_WORDS) - len(" ".join(words).split())
        for part in self.parts:
            piece = self._text(text, part)
            needed = part.head.dep_ in OBJECTS | {"acomp", "prt"} or not rest
            if part is not remove and (needed or len(piece.split()) <= budget):
                rest.append(piece)
                budget -= len(piece.split())
        return rest

    def _singular(self) -> list[str]:
        """Auxiliaries and verb to follow "who" or "what", which take the singular."""
        first, *others = [*(a.text for a in self.auxiliaries), self.verb.text]
        tag = (self.auxiliaries or [self.verb])[0].tag_
        if first.lower() in _SINGULAR:
            first = _SINGULAR[first.lower()]
        elif tag == "VBP":
            first = _third_person(first)
        return [first, *others]

    def _text(self, text: str, part: Part) -> str:
        first = text[part.start : part.end]
        head = next(iter(part.head.subtree))
        proper = head.pos_ == "PROPN" or head.ent_type_ in _NAMES or re.match(r"[A-Z][A-Z0-9]", first)
        return first if proper else first[:1].lower() + first[1:]


def clause_of(verb: Token, *, brief: bool) -> Clause | None:
    """Returns the clause of a finite verb that has a nameable subject, else None."""
    if verb.pos_ not in {"VERB", "AUX"}:
        return None
    subject = next((child for child in verb.lefts if child.dep_ in SUBJECTS), None)
    if (
        subject is None
        or subject.lower_ in VAGUE
        or any(t.lower_ in VAGUE - {"that"} for t in subject.subtree if t.dep_ == "det")
    ):
        return None
    auxiliaries = [c for c in verb.lefts if c.dep_ in {"aux", "auxpass", "neg"}]
    if not auxiliaries and verb.tag_ not in {"VBZ", "VBP", "VBD"}:
        return None
    taken = {subject.i, *(token.i for token in auxiliaries)}
    parts = []
    for child in verb.children:
        if child.i in taken or child.is_punct or child.dep_ in _NOT_ASKED:
            continue
        if child.i < subject.i and child.dep_ in {"advmod", "ccomp"}:
            continue
        parts.append(part_of(child, brief=brief))
    # A leading adverbial reads more naturally at the end of a question.
    parts.sort(key=lambda part: (part.head.i < subject.i, part.head.i))
    return Clause(verb, part_of(subject, brief=brief), auxiliaries, parts, brief)


def _trim(text: str, part: Part) -> tuple[int, int]:
    value = text[part.start : part.end]
    stripped = value.strip(" *_`,;:")
    start = part.start + value.index(stripped) if stripped else part.start
    return start, start + len(stripped)


def _third_person(verb: str) -> str:
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")


def _question(words: Sequence[str]) -> str:
    text = re.sub(r"[*_`]", "", " ".join(word.strip() for word in words if word.strip()))
    text = re.sub(r"\s+", " ", text).rstrip(" .,;:?")
    text = re.sub(r"\s+([,;:)])", r"\1", text)
    return text[:1].upper() + text[1:] + "?"
