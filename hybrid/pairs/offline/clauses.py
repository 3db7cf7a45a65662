"""The main clauses of a sentence, with their words in the order of a question."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybrid.pairs.offline.constituents import Part, part_of

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

SUBJECTS = {"nsubj", "nsubjpass"}
_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}
_UNSURE = {
    "dep",
    "meta",
    "parataxis",
    "intj",
    "csubj",
    "expl",
    "csubjpass",
    "preconj",
    "relcl",
}  # the parse fails or is complex
_LINKS = frozenset(
    "also however then therefore thus hence instead again too still just even yet so furthermore moreover otherwise "
    "indeed finally first similarly additionally consequently meanwhile nevertheless nonetheless accordingly "
    "further".split()
)
_PHRASES = {
    "in addition", "for example", "for instance", "as a result", "in general", "in fact", "of course", "in turn",
    "by contrast", "in contrast", "on the other hand", "at present", "in particular", "as well", "at least",
}  # fmt: skip
_DENYING = {"no", "nothing", "nobody", "neither", "none"}
_WITHOUT_COMMA = {"dobj", "attr", "oprd", "dative", "acomp", "npadvmod", "agent"}
_NAMES = {"PERSON", "GPE", "ORG", "NORP", "LOC", "FAC"}
_NO_SUBJECT = frozenset("it they this that these those he she we i there who which what you".split())


class Clause(NamedTuple):
    """A verb with its constituents.

    Attributes:
        verb: The verb.
        subject: Its subject.
        front: Auxiliaries and adverbs that stand between subject and verb, without the negation.
        parts: Objects, complements and adverbials in the order of a question.
        negated: Whether it is negated.
    """

    verb: Token
    subject: Part
    front: list[Token]
    parts: list[Part]
    negated: bool

    @property
    def past(self) -> bool:
        """True if the clause tells of the past."""
        return bool(self._first().tag_ == "VBD")

    @property
    def passive(self) -> bool:
        """True for a passive clause."""
        return any(token.dep_ == "auxpass" for token in self.front)

    def _first(self) -> Token:
        return next((t for t in self.front if t.dep_ in {"aux", "auxpass"}), self.verb)

    def inverted(self, text: str) -> list[str]:
        """The clause as it follows a question word, without its parts: "is fuel stored"."""
        subject = lowered(text, self.subject)
        helper = next((t for t in self.front if t.dep_ in {"aux", "auxpass"}), None)
        rest = [token.text for token in self.front if token is not helper]
        if helper is not None:
            return [helper.text.lower(), subject, *rest, self.verb.text]
        if self.verb.lemma_ == "be":
            return [self.verb.text, subject, *rest]
        do = {"VBD": "did", "VBZ": "does"}.get(self.verb.tag_, "do")
        return [do, subject, *rest, self.verb.lemma_]

    def predicate(self, *, singular: bool = True) -> list[str]:
        """Adverbs, auxiliaries and verb as they follow "who" or "what", which take the singular."""
        words = [*(token.text for token in self.front), self.verb.text]
        if not singular:
            return words
        first = self._first()
        place = next(i for i, token in enumerate([*self.front, self.verb]) if token is first)
        if words[place].lower() in _SINGULAR:
            words[place] = _SINGULAR[words[place].lower()]
        elif first.tag_ == "VBP":
            words[place] = _third_person(first.text)
        return words

    def rest(self, text: str, without: Part | None = None) -> list[str]:
        """The text of all parts but one."""
        return [lowered(text, part) for part in self.parts if part is not without]

    def tokens(self, without: Part | None = None) -> list[Token]:
        """All tokens of a question that does not ask for `without`."""
        used = [token for part in (self.subject, *self.parts) if part is not without for token in part.tokens()]
        return sorted([*used, self.verb, *self.front], key=lambda token: token.i)


def clauses_of(sentence: Span) -> Iterator[Clause]:
    """Yields the main clauses of a sentence that have a subject which can be named."""
    root = sentence.root
    yield from filter(None, [_clause(root)])
    leading = any(c.i < root.i and c.dep_ in {"prep", "advcl", "npadvmod", "advmod"} for c in root.children)
    denied = any(token.lower_ in {"no", "not", "never", "nobody", "nothing", "until", "unless"} for token in sentence)
    if leading or denied:
        return  # what stands in front may hold for all clauses, and is no part of the others
    for verb in root.conjuncts:
        if any(child.dep_ in SUBJECTS for child in verb.lefts):
            yield from filter(None, [_clause(verb)])


def _clause(verb: Token) -> Clause | None:
    subject = next((child for child in verb.lefts if child.dep_ in SUBJECTS), None)
    if verb.pos_ not in {"VERB", "AUX"} or subject is None or subject.lower_ in _NO_SUBJECT:
        return None
    if next(subject.subtree).lower_ in _DENYING:
        return None
    children = list(verb.children)
    helpers = [c for c in verb.lefts if c.dep_ in {"aux", "auxpass"}]
    finite = verb.tag_ in {"VBZ", "VBP", "VBD"} or (helpers and helpers[0].tag_ in {"VBZ", "VBP", "VBD", "MD"})
    if not finite or any(child.dep_ in _UNSURE for child in children) or any(h.i < subject.i for h in helpers):
        return None
    negated = any(child.dep_ == "neg" for child in children)
    between = [c for c in children if subject.i < c.i < verb.i and c.dep_ == "advmod" and c.n_lefts + c.n_rights == 0]
    front = sorted([*helpers, *(c for c in between if c.lower_ not in _LINKS)], key=lambda token: token.i)
    parts = _parts(verb, {subject, *helpers, *between})
    if parts is None or _is_parted(subject, verb) or _cuts_words([part_of(subject), *parts]):
        return None
    if _disagrees(subject, verb, helpers) or _is_doubtful_name(subject.left_edge):
        return None
    return Clause(verb, part_of(subject), front, parts, negated)


def _parts(verb: Token, taken: Collection[Token]) -> list[Part] | None:
    """The constituents of a verb but those taken, in the order of a question; None if the parser went wrong."""
    parts = []
    for child in verb.children:
        if child in taken or child.is_punct or child.dep_ in {"cc", "conj", "neg"} or child.lower_ in _LINKS:
            continue
        if child.dep_ == "mark" or (child.dep_ == "prep" and child.n_rights == 0):
            return None
        part = part_of(child)
        if text_of(part).lower() not in _PHRASES and not _is_added(part):
            parts.append(part)
    # A leading adverbial reads more naturally at the end of a question, a particle next to its verb.
    parts.sort(key=lambda part: (part.head.dep_ != "prt", part.head.i < verb.i, part.head.i))
    return parts if all(_is_whole(part, verb) for part in parts) else None


def text_of(part: Part) -> str:
    """The text of a part as it stands."""
    return str(part.head.doc.text)[part.start : part.end]


def _is_whole(part: Part, verb: Token) -> bool:
    """False where a constituent breaks off ("rather than"), which shows that the parser went wrong."""
    last = part.tokens()[-1]
    if part.head.dep_ == "advcl" and part.head.left_edge.lower_ in {"when", "if", "once", "while", "until", "unless"}:
        if not any(token.dep_ in {*SUBJECTS, "csubj", "expl"} for token in part.head.children):
            return False
    broken = last.pos_ in {"ADP", "CCONJ", "SCONJ", "DET"} and part.head.dep_ not in {"prt", "prep", "advmod"}
    loose = last.pos_ in {"CCONJ", "SCONJ", "DET"} or (last.pos_ == "ADP" and len(part.tokens()) > 1)
    return not (broken or loose or (part.head.dep_ == "ccomp" and part.head.i < verb.i))


def _is_added(part: Part) -> bool:
    """True for ", giving birth to ...", which the clause is true without."""
    first = part.head.left_edge
    return bool(part.head.dep_ == "advcl" and part.head.tag_ == "VBG" and first.i > 0 and first.nbor(-1).text == ",")


def _cuts_words(parts: Sequence[Part]) -> bool:
    """True if a part begins or ends within a word with a hyphen, or takes up an enumeration that the parser lost."""
    text = parts[0].head.doc.text
    hyphen = any(
        text[part.end : part.end + 1] == "-" or text[max(0, part.start - 1) : part.start] == "-" for part in parts
    )
    lost = any(
        text[: part.start].rstrip().endswith(",") and part.head.dep_ in _WITHOUT_COMMA and part.start > parts[0].end
        for part in parts[1:]
    )
    return hyphen or lost


def _disagrees(subject: Token, verb: Token, helpers: Sequence[Token]) -> bool:
    """True for "Rotate left" and "a quarter turn keeps": where subject and verb do not agree, the parser went wrong."""
    first = helpers[0] if helpers else verb
    single = subject.tag_ in {"NN", "NNP"} and not any(child.dep_ == "conj" for child in subject.children)
    lonely = all(child.is_punct for child in subject.children)
    alone = (
        lonely
        and subject.ent_type_ not in _NAMES
        and all(not t.is_alpha for t in subject.sent[: subject.i - subject.sent.start])
    )
    plural = first.tag_ == "VBP" and any(child.dep_ == "det" for child in subject.lefts)
    return single and (plural or (alone and first.tag_ in {"VBP", "VBD"} and not helpers))


def _is_doubtful_name(first: Token) -> bool:
    """True for a single word that the tagger takes for a name where any word has a capital."""
    if not first.is_sent_start or first.pos_ != "PROPN" or first.text[1:] != first.text[1:].lower() or len(first) < 2:
        return False
    goes_on = first.i + 1 < len(first.doc) and first.nbor(1).text[0].isupper()
    elsewhere = any(t.text in {first.text, first.lower_} and t.i != first.i and not t.is_sent_start for t in first.doc)
    return not (goes_on or elsewhere or first.ent_type_ in {"PERSON", "GPE", "NORP"})


def _is_parted(subject: Token, verb: Token) -> bool:
    """True if one comma stands between subject and verb: two would enclose an insertion."""
    between = subject.doc[subject.i : verb.i]
    listed = any(token.dep_ == "conj" for token in subject.subtree)
    return not listed and sum(token.text == "," for token in between) == 1


def lowered(text: str, part: Part) -> str:
    """The text of a part, without the capital that only the start of a sentence gave it."""
    said = text[part.start : part.end]
    first = part.tokens()[0]
    return said if _keeps_capital(first) or re.match(r"[A-Z][A-Z0-9]", said) else said[:1].lower() + said[1:]


def _keeps_capital(first: Token) -> bool:
    if first.pos_ in {"DET", "ADP", "SCONJ", "PRON", "ADV"}:
        return False
    if not first.is_sent_start:
        return str(first.text)[0].isupper()
    # At the start of a sentence everything has a capital, and the tagger takes "Bedding" for a name.
    goes_on = first.i + 1 < len(first.doc) and first.nbor(1).text[0].isupper()
    others = {token.text for token in first.doc if not token.is_sent_start}
    if first.lower_ in others:
        return False
    if first.pos_ == "ADJ":
        return first.ent_type_ in _NAMES
    return first.pos_ in {"PROPN", "NOUN"} and (goes_on or first.text in others or first.ent_type_ in _NAMES)


def _third_person(verb: str) -> str:
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")


def as_question(words: Sequence[str]) -> str:
    """Joins words to a question, without markup and stray punctuation."""
    text = re.sub(r"[*_`]", "", " ".join(word.strip() for word in words if word.strip()))
    text = re.sub(r"\s+", " ", text).rstrip(" .,;:?")
    text = re.sub(r"\s+([,;:)])", r"\1", text)
    return text[:1].upper() + text[1:] + "?"
