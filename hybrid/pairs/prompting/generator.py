"""What a text generator is: it answers prompts, in whatever order it is done with them."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from hybrid.prompt import Message

Messages = Sequence[Message]


class Reply(NamedTuple):
    """What came back for a prompt.

    Attributes:
        place: Place of the prompt in the sequence that was asked, from 0.
        text: The reply, without special tokens; the generator's reason if it refused.
        tokens_in: Tokens of the prompt; None if the generator did not tell.
        tokens_out: Tokens of the reply, likewise.
        ended: `length` if the longest reply cut it off, `refused` if the generator will not answer this prompt.
        seconds: Time that this prompt alone took; None if the generator does not tell, as one that asks in batches.
    """

    place: int
    text: str
    tokens_in: int | None
    tokens_out: int | None
    ended: Literal["stop", "length", "refused"] = "stop"
    seconds: float | None = None


class Generator(Protocol):
    """Answers prompts."""

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        """Yields one reply for every prompt, each as soon as it is there."""
        ...
