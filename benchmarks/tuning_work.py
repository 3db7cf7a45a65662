"""What tuning.py asks its processes to measure, how they are run, and the token ids that all systems train on."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from processes import run_child
from report import Row

SYSTEMS = {
    "cpu": ("hybrid", "trl", "trl multi-turn"),
    "cuda": ("hybrid", "hybrid unshared", "unsloth", "trl", "trl liger", "unsloth multi-turn", "trl multi-turn"),
}
VOCABULARY = range(100, 40_000)


class Shape(NamedTuple):
    """G questions on a context of P tokens; question and answer have s tokens, of which the answer has `answer`."""

    context: int
    sample: int
    per_context: int
    answer: int

    def __str__(self) -> str:
        return f"{self.context}/{self.sample}/{self.per_context}"


class Pair(NamedTuple):
    """Token ids of one training pair and the number of its context."""

    context: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Work(NamedTuple):
    """What one process does, in JSON on its command line.

    Attributes:
        system: One of SYSTEMS, "models" to write the models, or "reference" to write a reference gradient.
        device: "cpu" or "cuda".
        shape: Of the pairs.
        pairs: Pairs of an optimiser step.
        per_pass: Contexts (where the system shares them, otherwise pairs) of a forward pass.
        checkpointing: Whether each layer is recomputed in the backward pass.
        warmup: Steps that are not counted.
        steps: Steps that are.
        seconds: Training stops after the step that ends later than this; 0 for no limit.
        model: Folder of the model that is timed.
        small: Folder of the model whose gradient is compared.
        reference: File of the reference gradient of `small`; empty to compare none.
    """

    system: str
    device: str
    shape: Shape
    pairs: int
    per_pass: int
    checkpointing: bool
    warmup: int
    steps: int
    seconds: float
    model: str
    small: str
    reference: str

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> "Work":
        """Reads what `to_json` wrote."""
        values = cls(*json.loads(text))
        return values._replace(shape=Shape(*values.shape))


def shares(system: str) -> bool:
    """Whether a system computes a context once for all of its questions."""
    return system == "hybrid" or system.endswith("multi-turn")


def passes(system: str, shape: Shape, pairs: int, tokens: int) -> list[int]:
    """What a forward pass may hold, in contexts or pairs: divisors of a step, the largest within `tokens` first."""
    together = shape.per_context if shares(system) else 1
    size = shape.context + together * shape.sample
    count = pairs // together
    return [n for n in range(count, 0, -1) if count % n == 0 and (n * size <= tokens or n == 1)]


def make_pairs(shape: Shape, contexts: int) -> list[Pair]:
    """Random token ids, always the same: speed does not depend on what they mean."""
    rng = Random(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.choices(VOCABULARY, k=count))

    pairs = []
    for number in range(contexts):
        shared = draw(shape.context)
        for _ in range(shape.per_context):
            pairs.append(Pair(number, shared + draw(shape.sample - shape.answer), draw(shape.answer)))
    return pairs


def records(pairs: Sequence[Pair], shape: Shape, *, multi_turn: bool) -> list[dict[str, list[int]]]:
    """The pairs with labels, one by one, or as the turns of one conversation per context."""
    if not multi_turn:
        return [_record(pair.prompt, pair.answer) for pair in pairs]
    talks: dict[int, dict[str, list[int]]] = {}
    for pair in pairs:
        if pair.context not in talks:
            talks[pair.context] = _record(pair.prompt, pair.answer)
            continue
        turn = _record(pair.prompt[shape.context :], pair.answer)
        talks[pair.context]["input_ids"] += turn["input_ids"]
        talks[pair.context]["labels"] += turn["labels"]
    return list(talks.values())


def _record(prompt: Sequence[int], answer: Sequence[int]) -> dict[str, list[int]]:
    return {"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + list(answer)}


class Measurements:
    """Runs processes, and keeps what they measure in a file from which a later run goes on."""

    def __init__(self, folder: Path, kept: Path | None, unsloth_path: Path | None, minutes: float) -> None:
        self.folder = folder
        self.kept = kept.resolve() if kept else None
        self.unsloth_path = unsloth_path
        self.ends = time.monotonic() + 60 * minutes
        self.done: dict[str, Row] = {}
        if self.kept and self.kept.exists():
            lines = map(json.loads, self.kept.read_text(encoding="utf-8").splitlines())
            self.done = {line["work"]: line["figures"] for line in lines}

    def run(self, work: Work, number: int) -> Row:
        """The figures of a system in a round, or {"reason": why there are none}; failures are not kept."""
        key = f"{number} {work._replace(model='', small='', reference='').to_json()}"
        if key not in self.done:
            figures = self.child(work)
            sys.stderr.write(f"{work.system} {work.shape}, {work.per_pass} a pass: {json.dumps(figures)}\n")
            if "reason" in figures:
                return figures
            self.done[key] = figures
            if self.kept:
                with self.kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"work": key, "figures": figures}) + "\n")
        return self.done[key]

    def child(self, work: Work) -> Row:
        """Does the work in a process of its own."""
        left = min(self.ends - time.monotonic(), 1e6)
        if left <= 0:
            return {"reason": "the time of --minutes is over"}
        # Systems write into the folder where they run.
        packages = self.unsloth_path if work.system.startswith("unsloth") else None
        arguments = ["--measure", work.to_json()]
        return run_child("tuning.py", arguments, packages=packages, folder=self.folder, timeout=left)
