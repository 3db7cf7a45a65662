"""Replies on disk, so that no arm is asked the same twice: they outlast the comparison that asked for them.

A file belongs to one arm and to all that decides its replies beside the questions: model, adapter, prompt settings and
the prompt that was chosen. A line holds the reply to one question under a hash of the question and the passages that
were retrieved for it, so an edited question is asked again, and so are those for which other passages are found. Lines
are only added, each as soon as its reply is there. A reply that failed is not kept: the next run asks again. A line
also holds the seconds of its reply and the memory it took, so that these figures survive as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from hybrid.arms import Answerer, PromptChoice
from hybrid.artefacts import fingerprint, is_forced
from hybrid.costs import peak_memory_mb, reset_peak_memory
from hybrid.eval.comparison import Reply, restore_reply
from hybrid.journal import append_journal, read_journal
from hybrid.types import Hit, Question

_VERSION = 1  # raised when prompts are rendered or replies are read in another way


class Answers(NamedTuple):
    """Replies in the order of the questions, and most memory held for any of them; None if it was not measured."""

    replies: list[Reply]
    peak_memory_mb: float | None


class Kept(NamedTuple):
    """A reply, and most memory held from the first question of its run to it."""

    reply: Reply
    peak_memory_mb: float | None


def replies_folder(store: Path, work: Path) -> Path:
    """Where a comparison keeps its replies: by `--force` apart, so that it takes none of an earlier run over.

    Args:
        store: Folder of all artefacts.
        work: The stage's work folder.
    """
    return work / "replies" if is_forced(work) else store / "cache" / "replies"


def keep_forced(store: Path, work: Path) -> None:
    """Puts the replies of a comparison by `--force` in place of those that it did not take over."""
    if is_forced(work) and replies_folder(store, work).is_dir():
        shutil.copytree(replies_folder(store, work), store / "cache" / "replies", dirs_exist_ok=True)


def replies_file(folder: Path, arm: str, answerer: Mapping[str, Any] | None, choice: PromptChoice) -> Path | None:
    """The file of an arm's replies; None where nothing tells whether they would be the same again.

    Args:
        folder: Where such files are.
        arm: Name of the arm.
        answerer: What the replies depend on beside question, passages and prompt; None where that is not known.
        choice: How the arm prompts.
    """
    if answerer is None:
        return None
    shown = choice._replace(name="", score=None)
    return folder / f"{arm}-{fingerprint(version=_VERSION, answerer=answerer, choice=shown)}.jsonl"


def kept_replies(store: Path, arm: str) -> bool:
    """Whether any replies of an arm are kept, whatever decided them."""
    return any((store / "cache" / "replies").glob(f"{arm}-*.jsonl"))


def reply_key(question: Question, hits: Sequence[Hit]) -> str:
    """What a reply is kept under: a hash of the question and of the passages retrieved for it, whatever its id."""
    passages = [(hit.chunk.id, hit.chunk.title, hit.chunk.text) for hit in hits]
    return fingerprint(question=question.question, passages=passages)


def read_replies(file: Path) -> dict[str, Kept]:
    """The replies of a file by their keys; none if there is no file."""
    return dict(read_journal(file, _restored))


def append_replies(file: Path, kept: Mapping[str, Kept]) -> None:
    """Adds replies by their keys to a file, which is made if it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    records = ({"key": key, "memory": memory, "reply": asdict(reply)} for key, (reply, memory) in kept.items())
    append_journal(file, records)


def _restored(record: Mapping[str, Any]) -> tuple[str, Kept]:
    return record["key"], Kept(restore_reply(record["reply"]), record["memory"])


def answer_once(
    load: Callable[[], Answerer],
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    choice: PromptChoice,
    *,
    label: str,
    file: Path | None,
) -> Answers:
    """Asks the questions whose replies are not kept, and keeps them.

    Memory is that of answering alone, over all runs that asked; where all replies are kept, nothing is loaded.

    Args:
        load: Loads what answers.
        questions: The questions, with distinct ids.
        hits: What was retrieved for each.
        choice: How to prompt.
        label: Text of the progress bar.
        file: Where the replies are kept, see `replies_file`; None takes none over and keeps none.
    """
    keys = {question.id: reply_key(question, found) for question, found in zip(questions, hits, strict=True)}
    known = read_replies(file) if file else {}
    kept = {id_: known[key] for id_, key in keys.items() if key in known}
    peaks = [memory for _, memory in kept.values()]
    done = {id_: replace(reply, question_id=id_) for id_, (reply, _) in kept.items()}
    if len(done) == len(keys):
        return Answers([done[question.id] for question in questions], _most(peaks))
    answerer = load()
    is_measured = reset_peak_memory()

    def record(fresh: Sequence[Reply]) -> None:
        peaks.append(peak_memory_mb() if is_measured else None)
        if file:
            append_replies(file, {keys[r.question_id]: Kept(r, peaks[-1]) for r in fresh if not r.error})

    replies = answerer.answer(questions, hits, choice, label=label, done=done, record=record)
    return Answers(replies, _most(peaks))


def _most(peaks: Sequence[float | None]) -> float | None:
    return max((peak for peak in peaks if peak is not None), default=None)
