"""Pairs as JSON lines: our own format, prompt and completion, and chat messages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid.config import PromptConfig
from hybrid.errors import ArtefactError
from hybrid.prompt import render_messages, render_turn
from hybrid.types import Chunk, Pair, Quote


def pair_to_dict(pair: Pair) -> dict[str, Any]:
    """A pair as JSON values."""
    return dataclasses.asdict(pair)


def pair_from_dict(values: Mapping[str, Any]) -> Pair:
    """The inverse of `pair_to_dict`."""
    quotes = tuple(Quote(**quote) for quote in values["quotes"])
    return Pair(
        **{**values, "context": tuple(values["context"]), "oracles": tuple(values["oracles"]), "quotes": quotes}
    )


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line in UTF-8."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_pairs(path: Path) -> list[Pair]:
    """Reads pairs that `write_jsonl` wrote.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    try:
        # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [pair_from_dict(json.loads(line)) for line in lines if line]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is missing or damaged ({error}); run: hybrid pairs --force") from error


def as_messages(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """The chat format that most trainers read: `messages` with system, user and assistant."""
    prompt = render_messages(pair.question, [chunks[c] for c in pair.context], config)
    return {"id": pair.id, "messages": [*prompt, {"role": "assistant", "content": pair.answer}]}


def as_prompt_completion(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """Plain text prompt and completion, without a chat template."""
    turn = render_turn(pair.question, [chunks[c] for c in pair.context])
    system = render_messages(pair.question, [chunks[c] for c in pair.context], config)[0]["content"]
    return {"id": pair.id, "prompt": f"{system}\n\n{turn}\n\nAnswer:", "completion": f" {pair.answer}"}


def export_pairs(
    folder: Path, name: str, pairs: Sequence[Pair], chunks: Mapping[str, Chunk], config: PromptConfig
) -> None:
    """Writes `NAME.jsonl`, `NAME.messages.jsonl` and `NAME.prompt_completion.jsonl` into the folder."""
    write_jsonl(folder / f"{name}.jsonl", map(pair_to_dict, pairs))
    write_jsonl(folder / f"{name}.messages.jsonl", (as_messages(p, chunks, config) for p in pairs))
    write_jsonl(folder / f"{name}.prompt_completion.jsonl", (as_prompt_completion(p, chunks, config) for p in pairs))
