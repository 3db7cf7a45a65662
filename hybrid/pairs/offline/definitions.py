"""Questions for what something is: sentences that define, and lines of a glossary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybrid.pairs.offline.askable import Topic, is_name, points_outside
from hybrid.pairs.offline.clauses import as_question, lowered
from hybrid.pairs.offline.constituents import Part, who_or_what
from hybrid.pairs.teacher import MAX_DEFINITION_WORDS, Draft

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

_LINE = re.compile(
    r"^[ \t]*(?:[-*+•][ \t]+)?"
    r"(?:(?:\*\*|__)(?P<bold>[^*_\n]{2,60}?):?(?:\*\*|__)[ \t]*[:–—-]?|(?P<plain>[A-Z][^\n:–—.]{1,40}?)[ \t]+[–—-])"
    r"[ \t]+(?P<text>[^\n]{12,300})$",
    re.M,
)
# "X is the exception" does not say what X is.
_NO_CLASS = frozenset(
    "exception result example reason same way one case cause problem time part member number lot majority only most "
    "place thing something question purpose aim goal task step basis key matter fact source subject".split()
)


def definition_draft(sentence: Span, text: str, topic: Topic) -> Draft | None:
    """Returns "What is X?" for a sentence "X is a Y that ...", else None.

    Args:
        sentence: A sentence of the parse of `text`.
        text: What was parsed.
        topic: The title: "the greenhouse" is a name in its own chapter.
    """
    root = sentence.root
    subject = next((c for c in root.lefts if c.dep_ == "nsubj"), None)
    kind = next((c for c in root.rights if c.dep_ == "attr"), None)
    if root.lemma_ != "be" or root.tag_ not in {"VBZ", "VBP", "VBD"} or subject is None or kind is None:
        return None
    person = who_or_what(subject) == "Who" and subject.ent_type_ == "PERSON"
    if (root.tag_ == "VBD" and not person) or any(c.dep_ in {"neg", "aux", "advcl", "prep"} for c in root.children):
        return None
    if person and who_or_what(kind) == "What":
        return None
    if not (_is_term(subject, topic) and _is_class(kind)) or any(c.dep_ == "conj" for c in root.children):
        return None
    term = Part(subject, subject.left_edge.idx, subject.right_edge.idx + len(subject.right_edge.text))
    answer = (kind.left_edge.idx, kind.right_edge.idx + len(kind.right_edge.text))
    said = text[slice(*answer)].rstrip(" .,;")
    if not 4 <= len(said.split()) <= MAX_DEFINITION_WORDS or len(term.tokens()) > 6:
        return None
    word = "Who" if person else "What"
    question = as_question([word, root.text, lowered(text, term)])
    return Draft(question, answer[0], answer[0] + len(said), sentence.start_char, sentence.end_char, "definition")


def _is_term(subject: Token, topic: Topic) -> bool:
    tokens = list(subject.subtree)
    if any(points_outside(t) or t.is_punct or t.dep_ in {"relcl", "conj"} for t in tokens):
        return False
    definite = any(t.lower_ == "the" for t in subject.lefts)
    known = subject.lower_ in topic.words or is_name(subject)
    return known or (not definite and any(t.dep_ in {"compound", "amod"} for t in subject.lefts))


def _is_class(kind: Token) -> bool:
    tokens = list(kind.subtree)
    says_more = any(child.dep_ in {"relcl", "acl", "prep", "amod", "compound"} for child in kind.children)
    determined = any(child.lower_ in {"a", "an", "the"} for child in kind.lefts) or kind.tag_ == "NNS"
    vague = kind.lemma_.lower() in _NO_CLASS or any(t.lower_ in _NO_CLASS for t in kind.lefts)
    pointing = any(points_outside(t) and t.lower_ not in {"its", "their", "it", "whose"} for t in tokens)
    return kind.pos_ in {"NOUN", "PROPN"} and says_more and determined and not vague and not pointing


def glossary_drafts(text: str) -> Iterator[Draft]:
    r"""Asks what the terms of glossary lines are: "**Term**: text" or "Term - text".

    A single such line may be anything; two make a glossary.

    >>> text = "**Day tank**: a small tank beside the engine\n**Bund**: a wall that holds spilt fuel"
    >>> [(draft.question, text[draft.start : draft.end]) for draft in glossary_drafts(text)][1]
    ('What is a bund?', 'a wall that holds spilt fuel')
    """
    lines = [match for match in _LINE.finditer(text) if _is_glossary_line(match)]
    for match in lines if len(lines) > 1 else ():
        term = (match["bold"] or match["plain"]).strip()
        explained = match["text"].rstrip(" .;")
        start = match.start("text")
        question = f"What {'are' if _is_plural(term) else 'is'} {_with_article(term, explained)}?"
        yield Draft(question, start, start + len(explained), *match.span(), "definition")


def _is_glossary_line(match: re.Match[str]) -> bool:
    words = match["text"].split()
    term = match["bold"] or match["plain"]
    explains = re.match(r"(?:an?|the|any|all|what|where|short for|abbreviation)\b", match["text"], re.I)
    return 3 <= len(words) <= MAX_DEFINITION_WORDS and len(term.split()) <= 5 and bool(explains)


def _is_plural(term: str) -> bool:
    return bool(re.search(r"[^sui]s$", term)) and not term.isupper()


def _with_article(term: str, explained: str) -> str:
    if term[1:] != term[1:].lower() or re.search(r"\d", term):
        return term
    lower = term[0].lower() + term[1:]
    counted = re.match(r"an?\b", explained, re.I) and not _is_plural(term)
    return f"{'an' if lower[0] in 'aeiou' else 'a'} {lower}" if counted else lower
