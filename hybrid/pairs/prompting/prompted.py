"""The teacher that asks a language model: one prompt a chunk, one repair, and every answer held against the chunk.

Replies are journalled as they arrive, by the prompt that they answer. A run that was killed asks again only what was
not answered, whatever order the answers came in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid.artefacts import fingerprint
from hybrid.config import TeacherConfig
from hybrid.errors import EndpointError
from hybrid.journal import append_journal, read_journal
from hybrid.pairs.prompting.budget import price
from hybrid.pairs.prompting.dialogue import Reading, ask, ask_again, read
from hybrid.pairs.prompting.generator import Generator, Messages, Reply
from hybrid.pairs.surroundings import Surroundings
from hybrid.pairs.teacher import Draft, Figures
from hybrid.types import Chunk

VERSION = "prompted-3"  # raised when prompts or the reading of replies change


class PromptedTeacher:
    """Asks a generator for questions about each chunk.

    What a reply holds beside usable drafts is shown to the model once, to be written again; what is wrong then is
    dropped and counted.
    """

    alone = True

    def __init__(
        self,
        generator: Generator,
        model: str,
        settings: TeacherConfig,
        journal: Path,
        window: int = 32,
        *,
        proven: bool = False,
    ) -> None:
        """Makes the teacher; nothing is asked before `draft`.

        Args:
            generator: What is asked.
            model: Its name, for the pairs.
            settings: The number of questions and the prices.
            journal: File of the replies that arrived; what it holds is not asked again.
            window: Chunks that are asked about before the first of them is read.
            proven: It has drafted before, so that nothing but refusals is no reason to stop.
        """
        self.name = f"{VERSION} ({model})"
        self._generator = generator
        self._settings = settings
        self._window = window
        self._proven = proven
        self._journal = _Journal(journal)

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft] | None]:
        """Yields the drafts of each chunk, in the order of `chunks`; None where the generator refuses the prompt.

        Raises:
            EndpointError: The generator refuses every prompt, or fails as it says itself.
        """
        for start in range(0, len(chunks), self._window):
            yield from self._draft(chunks[start : start + self._window])

    def _draft(self, chunks: Sequence[Chunk]) -> Iterator[list[Draft] | None]:
        prompts = [ask(chunk, self._settings.questions_per_chunk) for chunk in chunks]
        replies = self._replies(prompts)
        first = [read(reply, chunk) for reply, chunk in zip(replies, chunks, strict=True)]
        faulty = [n for n, found in enumerate(first) if found.problems and replies[n].ended != "refused"]
        again = self._replies([ask_again(prompts[n], replies[n], first[n].problems) for n in faulty])
        second = {n: read(reply, chunks[n]) for n, reply in zip(faulty, again, strict=True)}
        for n, chunk in enumerate(chunks):
            drafts, dropped = join_readings(first[n], second.get(n))
            self._journal.add_dropped(chunk.id, dropped)
            yield None if replies[n].ended == "refused" else drafts

    def _replies(self, prompts: Sequence[Messages]) -> list[Reply]:
        """The replies to `prompts`, from the journal where it has them."""
        keys = [fingerprint(prompt=list(prompt)) for prompt in prompts]
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._journal.replies}
        asked = list(missing)
        if missing:
            for reply in self._generator.generate(list(missing.values())):
                self._journal.add_reply(asked[reply.place], reply)
        replies = [self._journal.replies[key] for key in keys]
        if replies and not self._proven and all(reply.ended == "refused" for reply in self._journal.replies.values()):
            raise EndpointError(replies[0].text)  # not this or that prompt is wrong, but how it is asked
        return replies

    def figures(self) -> Figures:
        """Calls, tokens and cost of all replies in the journal, and what of them was dropped."""
        replies = [reply for reply in self._journal.replies.values() if reply.ended != "refused"]
        tokens_in = sum(reply.tokens_in or 0 for reply in replies)
        tokens_out = sum(reply.tokens_out or 0 for reply in replies)
        usage: dict[str, float] = {
            "teacher calls": len(replies),
            "teacher tokens in": tokens_in,
            "teacher tokens out": tokens_out,
        }
        if self._settings.price_in or self._settings.price_out:
            usage["teacher cost"] = round(price(tokens_in, tokens_out, self._settings), 6)
        if uncounted := sum(None in {reply.tokens_in, reply.tokens_out} for reply in replies):
            usage["teacher calls without token counts"] = uncounted
        dropped: Counter[str] = Counter()
        for reasons in self._journal.dropped.values():
            dropped.update(reasons)
        return Figures(usage, dropped)


def join_readings(first: Reading, second: Reading | None) -> tuple[list[Draft], dict[str, int]]:
    """Joins a reply with its repair.

    Returns:
        The drafts of both, and how many were dropped by reason: what is wrong in the repair, and what the repair left
        out for the reason of the first reply.
    """
    if second is None:
        return first.drafts, Counter(problem.reason for problem in first.problems)
    repaired = [draft for draft in second.drafts if draft not in first.drafts]
    left_out = first.problems[len(repaired) + len(second.problems) :]
    return first.drafts + repaired, Counter(problem.reason for problem in [*second.problems, *left_out])


class _Journal:
    """Replies by prompt and dropped drafts by chunk, in memory and line by line on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.replies: dict[str, Reply] = {}
        self.dropped: dict[str, Mapping[str, int]] = {}
        read_journal(path, self._restore)

    def _restore(self, record: Mapping[str, Any]) -> None:
        if "prompt" in record:
            text, tokens_in, tokens_out, ended = record["reply"]
            self.replies[record["prompt"]] = Reply(0, text, tokens_in, tokens_out, ended)
        else:
            self.dropped[record["chunk"]] = dict(record["dropped"])

    def add_reply(self, prompt: str, reply: Reply) -> None:
        """Keeps a reply; one that the generator refused is asked for again by the next run."""
        self.replies[prompt] = reply
        if reply.ended != "refused":
            kept = (reply.text, reply.tokens_in, reply.tokens_out, reply.ended)
            append_journal(self._path, [{"prompt": prompt, "reply": kept}])

    def add_dropped(self, chunk: str, dropped: Mapping[str, int]) -> None:
        """Keeps what was dropped of a chunk's drafts."""
        self.dropped[chunk] = dropped
        if dropped:
            append_journal(self._path, [{"chunk": chunk, "dropped": dropped}])
