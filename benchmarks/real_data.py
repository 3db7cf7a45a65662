"""The whole path on public data: split the questions, learn from one part, compare the arms on the other.

    python benchmarks/real_data.py emanual_tv --data DATA --work /tmp/emanual
    python benchmarks/real_data.py squad11_dev13 --data DATA --work /tmp/squad

DATA holds one folder a set, with corpus.jsonl and qa.jsonl. `emanual_tv` is split by its groups of sections that share
text, `squad11_dev13` by article, so that no test question asks about a document that training saw. The table goes to
stderr, the figures with machine and versions to benchmarks/results/.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import report

import hybrid
from hybrid.cli.commands import format_table
from hybrid.tuning.memory import peak_memory_mb

Record = dict[str, Any]
_SPLIT_BY: dict[str, Callable[[Record], str]] = {
    "emanual_tv": lambda record: str(record["group"]),
    "squad11_dev13": lambda record: str(record["article"]),
}
_SETTINGS: dict[str, dict[str, Any]] = {
    # The manual's gold answers are whole sentences, so the prompt must not ask every arm for few words.
    "emanual_tv": {
        "prompt": {
            "instructions": "Answer the question from the passages, in the words of the passages. "
            "If they do not answer it, reply: {refusal}",
            "closed_book": "Answer the question about the television.",
        },
        "compare": {"max_new_tokens": 96},
    },
    "squad11_dev13": {},
}


def split(
    records: list[Record], group_of: Callable[[Record], str], share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """Puts whole groups aside until they hold `share` of the questions; returns (train, test)."""
    groups = sorted({group_of(record) for record in records})
    Random(seed).shuffle(groups)
    aside: set[str] = set()
    for group in groups:
        if sum(group_of(record) in aside for record in records) >= share * len(records):
            break
        aside.add(group)
    return [r for r in records if group_of(r) not in aside], [r for r in records if group_of(r) in aside]


def _write(path: Path, records: list[Record]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(_SPLIT_BY))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the project; a run that was interrupted goes on"
    )
    parser.add_argument("--test-share", type=float, default=0.3, help="share of the questions kept for the comparison")
    parser.add_argument("--limit", type=int, default=150, help="most questions compared")
    parser.add_argument("--total", type=int, default=400, help="most training pairs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    lines = (options.data / options.name / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    train, test = split([json.loads(line) for line in lines], _SPLIT_BY[options.name], options.test_share, options.seed)
    folder = options.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "train.jsonl", train)
    _write(folder / "test.jsonl", test)
    if not (folder / "hybrid.yaml").exists():
        settings = _SETTINGS[options.name]
        hybrid.Project.create(
            folder,
            options.data / options.name / "corpus.jsonl",
            folder / "test.jsonl",
            **{
                **settings,
                "seed": options.seed,
                "pairs": {"file": "train.jsonl", "total": options.total},
                "compare": {**settings.get("compare", {}), "limit": options.limit},
            },
        )
    started = time.perf_counter()
    project = hybrid.Project.open(folder)
    stages = project.run()
    compared = project.report()
    command = (
        f"python benchmarks/real_data.py {options.name} --data DATA --work WORK "
        f"--test-share {options.test_share} --limit {options.limit} --total {options.total} --seed {options.seed}"
    )
    result = {
        "set": options.name,
        **report.header(command, stages[-1].manifest["versions"]),
        "seconds": round(time.perf_counter() - started),
        "stage_seconds": {stage.stage: stage.manifest["seconds"] for stage in stages},
        "peak_memory_mb": round(peak_memory_mb()),
        "split": {"train questions": len(train), "test questions": len(test)},
        **{key: compared.data[key] for key in ("arms", "verdict", "facts", "notes")},
    }
    target = report.save(options.name, result)
    spent = f"{result['seconds']} s, {result['peak_memory_mb']} MB at most, figures in {target}"
    sys.stderr.write(f"{format_table(compared)}\n\n{compared.verdict}\n{spent}\n")


if __name__ == "__main__":
    main()
