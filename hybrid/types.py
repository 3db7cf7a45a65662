"""The values that all parts of Hybrid exchange: frozen dataclasses without behaviour, and what their ids mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PairKind = Literal["grounded", "multi", "absent", "conflict"]
Search = Literal["fused", "dense", "bm25"]


@dataclass(frozen=True, slots=True)
class Document:
    """One source file or record.

    Attributes:
        id: Stable under re-ingestion: the path relative to the documents folder, or the record's id.
        text: The text that spans refer to.
        title: A heading for the reader; may be empty.
        metadata: Free values of the source, such as its path or page count.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span `[start, end)` of a document's text: the unit that is indexed, retrieved and cited.

    Attributes:
        id: `document#start-end`.
        document: Id of the document.
        text: Exactly `document.text[start:end]`.
        title: Title of the document.
    """

    id: str
    document: str
    start: int
    end: int
    text: str
    title: str = ""


def document_of(chunk_id: str) -> str:
    """The document that a chunk is of; empty if the id is not `document#start-end`.

    >>> document_of("guide#2.md#120-300")
    'guide#2.md'
    """
    return chunk_id.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk with its score and rank (from 1) for one query, and its cosine to that, if it was computed."""

    chunk: Chunk
    score: float
    rank: int
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A verbatim span `[start, end)` of a document's text."""

    document: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold answers.

    Attributes:
        id: Unique within its file.
        question: The question as a user would ask it.
        answers: Acceptable answers; empty for an unanswerable question.
        gold: Ids of the documents that hold the answer; may be empty.
        answerable: False where the documents do not answer it.
        kind: Free label for slices of the report.
        quotes: What the gold documents say that proves the answer, word for word; may be empty.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    answerable: bool = True
    kind: str = ""
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A grounded training example.

    Attributes:
        id: Stable for the same documents, settings and seed.
        question: The question.
        answer: The target answer.
        context: Ids of the chunks the prompt shows, in order; empty for a closed-book pair.
        oracles: Ids of the chunks that support the answer, whether or not the context shows them.
        quotes: Spans of the oracle that prove the answer.
        kind: `grounded`, `multi`, `absent` (the context shows no oracle) or `conflict`.
        source: What made the pair, such as the teacher's name or the question file.
        asks: What sort of question it is, such as `fact`, `number`, `yes_no`, `procedure`, `definition` or
            `comparison`; empty if nobody said.
        rank: Rank of its best oracle in its own retrieval; 0 where it has none or was not found.
        closed_book: Whether a model answered it without a context; False where nobody tried.
    """

    id: str
    question: str
    answer: str
    context: tuple[str, ...]
    oracles: tuple[str, ...]
    quotes: tuple[Quote, ...] = ()
    kind: PairKind = "grounded"
    source: str = ""
    asks: str = ""
    rank: int = 0
    closed_book: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """Where an answer is supported: passage number in the prompt and a span of the document.

    The span is one of characters of the document's text: of a Markdown, text or JSONL file its decoded content without
    a byte order mark, of HTML and PDF what is read from it. `page` is that of a PDF on which it begins, from 1.
    """

    number: int
    document: str
    start: int
    end: int
    quote: str
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An assistant's answer.

    Attributes:
        text: The answer as the user reads it.
        citations: Supporting spans, best first; empty if the assistant abstained or nothing supports the text.
        hits: What the retriever returned, in the order of the prompt.
        abstained: True if the assistant said that the documents do not answer the question.
        seconds: Wall time from question to last token.
        invalid_citations: Numbers and quotes of the model's own that no passage shown stands for; they are left out.
        cut_off: True if `compare.max_new_tokens` ended it, and not the model.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    hits: tuple[Hit, ...] = ()
    abstained: bool = False
    seconds: float = 0.0
    invalid_citations: int = 0
    cut_off: bool = False
