"""What a teacher is: it drafts questions whose answers are spans of a chunk."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from hybrid.pairs.surroundings import Surroundings
from hybrid.types import Chunk

MAX_ANSWER_WORDS = 16
# An explanation that is cut short is wrong, and steps of which one is missing are dangerous: these are longer.
MAX_DEFINITION_WORDS = 30
MAX_STEPS_WORDS = 40  # of steps in a sentence
MAX_LIST_WORDS = 90  # of a whole list; what the largest chunk by default holds beside a heading

DraftKind = Literal["fact", "number", "table", "yes", "sentence", "affirmed", "denied", "procedure", "definition"]


class Draft(NamedTuple):
    """A question with its answer as a span of the chunk's text.

    Attributes:
        question: The question.
        start: Start of the answer in the chunk's text.
        end: End of the answer; equal to `start` for a yes/no question, whose answer is no span.
        quote_start: Start of the passage that proves the answer.
        quote_end: End of that passage.
        kind: How the question came about; `yes` marks a statement that the quote affirms and that another number makes
            false, `affirmed` and `denied` a question whose answer is yes or no as it stands.
    """

    question: str
    start: int
    end: int
    quote_start: int
    quote_end: int
    kind: DraftKind


class Figures(NamedTuple):
    """What drafting took and what was lost on the way, interrupted runs included.

    Attributes:
        usage: Calls, tokens and cost; empty for a teacher that asks no model.
        dropped: How many drafts could not be used, by reason.
    """

    usage: Mapping[str, float]
    dropped: Mapping[str, int]


class Teacher(Protocol):
    """Drafts questions for chunks.

    Attributes:
        name: Identifies the teacher and its version in fingerprints.
        alone: Whether the drafts of a chunk depend on it alone, not on what is around it.
    """

    name: str
    alone: bool

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft] | None]:
        """Yields the drafts of each chunk, in the order of `chunks`; None where it could not ask this time.

        Args:
            chunks: Chunks to draft.
            around: What is around each of them; if left out, `chunks` are all chunks and tell it.
        """
        ...

    def figures(self) -> Figures:
        """Returns the figures of what was drafted so far."""
        ...
