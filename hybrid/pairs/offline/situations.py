"""Questions of somebody with a task or a trouble: "How do I ...?", "What should I do if ...?", "What happens if ...?".

Manuals answer them in sentences such as "To change over, open valve 3" and "If no press follows, an alarm is raised".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybrid.pairs.align import Span as Place
from hybrid.pairs.offline.askable import Topic, points_outside, put
from hybrid.pairs.offline.clauses import SUBJECTS, as_question, lowered
from hybrid.pairs.offline.constituents import Part
from hybrid.pairs.teacher import MAX_STEPS_WORDS, Draft, DraftKind

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

_MAX_EFFECT_WORDS = 24
_FEWEST_WORDS = 4  # "Configure the TV" is no answer to anybody
_ABOUT_CONDITION = {"it", "its", "they", "their", "them"}  # in an answer they mean what the condition names
_NO_STEP = frozenset("make be try allow need remember see refer note let do ensure have get keep wait".split())
_AM = {"are": "am", "were": "was", "'re": "'m", "’re": "’m"}
_ASKER = {"you": "I", "your": "my", "yours": "mine", "yourself": "myself"}


class _Found(NamedTuple):
    words: Sequence[str]
    answer: Place
    asked: Sequence[Token]
    kind: DraftKind


def situation_drafts(sentence: Span, text: str, topic: Topic) -> Iterator[Draft]:
    """Yields what a sentence answers of how to reach a purpose, and of what to do or what happens in a case.

    Args:
        sentence: A sentence of the parse of `text`.
        text: What was parsed.
        topic: The title.
    """
    root = sentence.root
    quote = (sentence.start_char, sentence.end_char)
    for found in (*_in_case(sentence, root, text), *_for_purpose(sentence, root, text)):
        bare = as_question(found.words)
        start, end = found.answer
        said = text[start:end]
        longest = MAX_STEPS_WORDS if found.kind == "procedure" else _MAX_EFFECT_WORDS
        if (
            5 <= len(bare.split()) <= 24
            and _FEWEST_WORDS <= len(said.split()) <= longest
            and not re.search(r"[:;()\"]", bare)
            and (question := put(bare, found.asked, topic, 1.0))
        ):
            yield Draft(question, start, end, *quote, found.kind)


def for_asker(tokens: Sequence[Token], text: str) -> str:
    """The words of tokens as the asker says them: "you select your device" -> "I select my device"."""
    words = []
    for token in tokens:
        word = _ASKER.get(token.lower_, token.text)
        if token.lower_ == "you" and token.dep_ not in SUBJECTS:
            word = "me"
        if token.lower_ in _AM and any(c.lower_ == "you" and c.dep_ in SUBJECTS for c in _near(token)):
            word = _AM[token.lower_]
        words.append(word + token.whitespace_)
    said = "".join(words).strip()
    return (
        said
        if not tokens[0].is_sent_start
        else lowered(text, Part(tokens[0], tokens[0].idx, tokens[0].idx + 1)) + said[1:]
    )


def _near(token: Token) -> list[Token]:
    return [*token.children, *(token.head.children if token.dep_ in {"aux", "auxpass"} else ())]


def is_imperative(root: Token, *, start: int) -> bool:
    """True for a command that begins at token `start`, a linking adverb left out."""
    bare = root.tag_ in {"VB", "VBP"} and (root.text.islower() or root.is_sent_start)
    opened = all(
        t.dep_ in {"advmod", "neg", "aux", "punct"} and t.lower_ not in {"to", "may"} for t in root.doc[start : root.i]
    )
    subject = any(child.dep_ in {*SUBJECTS, "csubj", "expl"} for child in root.children)
    return bare and opened and not subject and root.pos_ == "VERB"


def _in_case(sentence: Span, root: Token, text: str) -> Iterator[_Found]:
    case = next((c for c in root.children if c.dep_ == "advcl" and _mark(c) in {"if", "when", "whenever"}), None)
    if case is None:
        return
    first, last = case.left_edge, case.right_edge
    word = "if" if _mark(case) == "if" else "when"
    if first.i == sentence.start and last.i + 2 < sentence.end and (last.text == "," or last.nbor(1).text == ","):
        begin = last.i + (1 if last.text == "," else 2)
        tokens = [t for t in sentence.doc[first.i + 1 : begin - 1]]
        answer = _place(sentence.doc[begin : sentence.end])
        main = sentence.doc[begin : sentence.end]
        if not tokens or not _follows(main):
            return
        if is_imperative(root, start=begin):
            yield _Found([f"What should I do {word}", for_asker(tokens, text)], answer, tokens, "procedure")
        elif _is_event(root):
            yield _Found([f"What happens {word}", for_asker(tokens, text)], answer, tokens, "fact")
    elif is_imperative(root, start=sentence.start) and first.i > root.i and last.i >= sentence.end - 2:
        tokens = [t for t in sentence.doc[first.i + 1 : last.i + 1] if not t.is_punct]
        answer = _place(sentence.doc[sentence.start : first.i])
        main = sentence.doc[sentence.start : first.i]
        if tokens and _follows(main) and not any(token.text == "," for token in main[:-1]):
            yield _Found([f"What should I do {word}", for_asker(tokens, text)], answer, tokens, "procedure")


def _mark(clause: Token) -> str:
    first = clause.left_edge
    return first.lower_ if first.dep_ in {"mark", "advmod"} and first.head == clause else ""


def _follows(main: Span) -> bool:
    """True if an answer says all by itself, but for what the question names."""
    return not any(points_outside(token) and token.lower_ not in _ABOUT_CONDITION for token in main) and (
        main[0].lower_ not in {"it", "they"}
    )


def _is_event(root: Token) -> bool:
    subject = any(child.dep_ in SUBJECTS for child in root.children)
    helpers = {child.lower_ for child in root.children if child.dep_ == "aux"}
    passive = any(child.dep_ == "auxpass" for child in root.children)
    return (
        subject
        and (root.lemma_ not in {"be", "have"} or passive)
        and helpers <= {"will"}
        and root.tag_ != "VBD"
        and not any(child.lower_ == "were" or child.lower_ == "was" for child in root.children)
    )


def _for_purpose(sentence: Span, root: Token, text: str) -> Iterator[_Found]:
    command = is_imperative(root, start=sentence.start)
    purpose = _purpose(sentence, root)
    if purpose is None:
        return
    tokens = [
        t for t in purpose.subtree if t.i > purpose.left_edge.i and not (t.is_punct and t.i >= purpose.right_edge.i)
    ]
    if any(token.tag_ == "TO" for token in tokens):
        return  # "... and the other to ..." belongs to the answer
    leading = purpose.left_edge.i == sentence.start
    if leading:
        begin = purpose.right_edge.i + 1
        begin += sentence.doc[begin].text == ","
        main = sentence.doc[begin : sentence.end]
        if is_imperative(root, start=begin) and _follows(main):
            yield _Found(["How do I", for_asker(tokens, text)], _place(main), tokens, "procedure")
        return
    main = sentence.doc[sentence.start : purpose.left_edge.i]
    if purpose.right_edge.i < sentence.end - 2 or root.lemma_ in _NO_STEP:
        return
    if command and _follows(main):
        yield _Found(["How do I", for_asker(tokens, text)], _place(main), tokens, "procedure")
    elif _may(root) and _follows(main):
        steps = sentence.doc[root.i : purpose.left_edge.i]
        yield _Found(["How can I", for_asker(tokens, text)], _place(steps), tokens, "procedure")


def _purpose(sentence: Span, root: Token) -> Token | None:
    """The verb of "to do something" that opens or ends a sentence."""
    near = [*root.children, *(child for o in root.children if o.dep_ in {"dobj", "prep"} for child in o.children)]
    for token in near:
        infinitive = token.tag_ == "VB" and token.left_edge.lower_ == "to" and token.left_edge.dep_ == "aux"
        if infinitive and token.dep_ in {"advcl", "xcomp", "relcl", "acl"} and token.left_edge.head == token:
            if token.left_edge.i == sentence.start or (token.i > root.i + 1 and token.left_edge.i > root.i + 1):
                return token
    return None


def _may(root: Token) -> bool:
    """True for "you can use"."""
    subject = next((c for c in root.lefts if c.dep_ in SUBJECTS), None)
    negated = any(c.dep_ == "neg" for c in root.children)
    return (
        subject is not None
        and subject.lower_ == "you"
        and not negated
        and any(c.lower_ in {"can", "may", "could"} for c in root.lefts)
    )


def _place(span: Span) -> Place:
    tokens = list(span)
    while tokens and (tokens[-1].is_punct or tokens[-1].is_space) and tokens[-1].text not in {")", '"', "”"}:
        tokens.pop()
    return (tokens[0].idx, tokens[-1].idx + len(tokens[-1].text)) if tokens else (0, 0)
