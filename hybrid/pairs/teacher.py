"""What a teacher is: it drafts questions whose answers are spans of a chunk."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from hybrid.types import Chunk

MAX_ANSWER_WORDS = 16

DraftKind = Literal["fact", "number", "table", "yes", "sentence"]


class Draft(NamedTuple):
    """A question with its answer as a span of the chunk's text.

    Attributes:
        question: The question.
        start: Start of the answer in the chunk's text.
        end: End of the answer; equal to `start` for a yes/no question, whose answer is no span.
        quote_start: Start of the passage that proves the answer.
        quote_end: End of that passage.
        kind: How the question came about; `yes` marks a statement that the quote affirms.
    """

    question: str
    start: int
    end: int
    quote_start: int
    quote_end: int
    kind: DraftKind


class Teacher(Protocol):
    """Drafts questions for chunks. `name` identifies the teacher and its version in fingerprints."""

    name: str

    def draft(self, chunks: Sequence[Chunk]) -> Iterator[list[Draft]]:
        """Yields the drafts of each chunk, in the order of `chunks`."""
        ...
