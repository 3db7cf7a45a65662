"""A teacher that stops before it costs more than its owner wants."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from hybrid.config import TeacherConfig
from hybrid.pairs.prompting.dialogue import ask
from hybrid.pairs.prompting.generator import Messages
from hybrid.pairs.surroundings import Surroundings
from hybrid.pairs.teacher import Draft, Figures, Teacher
from hybrid.types import Chunk

_BYTES_PER_TOKEN = 2.0  # tokens of real text are longer, in every script
_CALLS = 2  # a prompt and its repair


def price(tokens_in: float, tokens_out: float, settings: TeacherConfig) -> float:
    """What so many tokens cost.

    >>> price(2_000_000, 500_000, TeacherConfig(price_in=0.5, price_out=2.0))
    2.0
    """
    return (tokens_in * settings.price_in + tokens_out * settings.price_out) / 1e6


def most_cost(prompt: Messages, settings: TeacherConfig) -> float:
    """The most that one call may cost."""
    tokens = sum(len(message["content"].encode()) for message in prompt) / _BYTES_PER_TOKEN
    return price(tokens, settings.max_new_tokens, settings)


class FrugalTeacher:
    """Asks a teacher as long as what may still come cannot cost more than `max_cost`.

    A chunk counts with the longest replies to its prompt and to a repair until its true cost is known. Where a server
    does not tell its tokens, that stays its cost. Calls that failed without a reply are not counted.
    """

    def __init__(self, teacher: Teacher, settings: TeacherConfig) -> None:
        """Wraps a teacher whose figures tell the cost.

        Args:
            teacher: The teacher.
            settings: The prices and the limit.
        """
        self.name = teacher.name
        self.alone = teacher.alone
        self._teacher = teacher
        self._settings = settings

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft] | None]:
        """Yields the drafts of each chunk, in the order of `chunks`; ends early when the money is spent."""
        done, uncounted = 0, 0.0
        while done < len(chunks):
            before = self.figures().usage
            room = self._settings.max_cost - before.get("teacher cost", 0.0) - uncounted
            share = []
            for chunk in chunks[done:]:
                room -= self._most(chunk)
                if room < 0:
                    break
                share.append(chunk)
            if not share:
                sys.stderr.write(self._said(done, len(chunks)))
                return
            yield from self._teacher.draft(share, around[done : done + len(share)])
            done += len(share)
            silent = "teacher calls without token counts"
            if self.figures().usage.get(silent, 0) > before.get(silent, 0):
                uncounted += sum(map(self._most, share))

    def _most(self, chunk: Chunk) -> float:
        """The most that drafting a chunk may cost."""
        settings = self._settings
        first = most_cost(ask(chunk, settings.questions_per_chunk), settings)
        # The repair shows the prompt, the reply and what is wrong with it.
        return _CALLS * first + price(2 * settings.max_new_tokens, 0, settings)

    def _said(self, done: int, chunks: int) -> str:
        return (
            f"stopped before pairs.teacher_model.max_cost = {self._settings.max_cost:g} could be exceeded: {done} of "
            f"{chunks} chunks are drafted; raise it and run: hybrid pairs --force, which asks about the others alone\n"
        )

    def figures(self) -> Figures:
        """What the teacher's drafts took."""
        return self._teacher.figures()
