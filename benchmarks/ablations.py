"""What a setting of the training pairs is worth: the hybrid arm trained with each variant, asked the same questions.

    python benchmarks/ablations.py handbook --work /tmp/ablations
    python benchmarks/ablations.py squad11_dev13 --own --data DATA --work /tmp/ablations/squad --limit 150

Every variant is a project of its own below WORK, made from the same index: the teacher writes the questions (never the
set's own), the adapter is trained on them and answers the same questions on retrieved contexts. With --own, it learns
from the set's own questions about other documents instead, as in `hybrid compare --benchmark`. Differences are to the
variant `default`, paired by question; intervals are over questions and do not cover the choice of the seed.

A run that was interrupted goes on, and a variant that is finished is not repeated, so several processes can work
through the variants together if each is given its own. The table goes to stderr, the figures of all finished variants
to benchmarks/results/.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import report

import hybrid
from hybrid.artefacts import installed_versions
from hybrid.benchmarks import create_benchmark
from hybrid.config import apply_override
from hybrid.eval.statistics import mean_interval, paired_bootstrap

Figures = dict[str, Any]
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
METRICS = ("f1", "em", "rouge_l", "contains")
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "random distractors": ("pairs.distractors=random",),
    "p_absent 0": ("pairs.p_absent=0",),
    "p_absent 0.2": ("pairs.p_absent=0.2",),
    "p_absent 0.4": ("pairs.p_absent=0.4",),
    "answers cited": ("prompt.answers=cited",),
    "answers quoted": ("prompt.answers=quoted",),
    "fewer gates": (
        "pairs.duplicate_words=1",
        "pairs.duplicate_meaning=2",
        "pairs.paraphrases=1000",
        "pairs.oracle_in_top=0",
    ),
    "100 pairs": ("pairs.total=100",),
    "300 pairs": ("pairs.total=300",),
    "1000 pairs": ("pairs.total=1000",),
    "3000 pairs": ("pairs.total=3000",),
    "100 steps": ("tune.min_steps=100",),
}
# Where all variants start from, whatever the defaults have become by what was found.
BASE = ("pairs.total=800", "pairs.p_absent=0.08")
# What --own takes in place of the settings of the benchmark: those with which rag is strongest (docs/experiments.md).
OWN = ("index.chunk_tokens=128", "prompt.k=2", "tune.max_tokens=1024", "pairs.total=400")
BENCHMARK = {"squad11_dev13": "squad", "emanual_tv": "emanual"}


def make_project(folder: Path, base: Path | None, options: argparse.Namespace, settings: Sequence[str]) -> Figures:
    """Runs a variant in its folder, with the index of `base` if there is one, and returns what its report says."""
    common = (f"compare.limit={options.limit}", f"compare.arms=[{','.join(options.arms)}]", f"seed={options.seed}")
    if options.own:
        overrides = [*common, *BASE, *OWN, *settings]
        create_benchmark(BENCHMARK[options.name], options.data / options.name, folder, overrides)
    elif not (folder / "hybrid.yaml").exists():
        values: Figures = {}
        for setting in (*common, *BASE, *settings):
            apply_override(values, setting)
        documents, questions = sources(options)
        hybrid.Project.create(folder, documents, questions, **values)
    if base and not (folder / ".hybrid" / "index").exists():
        for part in ("index", "cache"):
            shutil.copytree(base / ".hybrid" / part, folder / ".hybrid" / part)
    project = hybrid.Project.open(folder)
    stages = {result.stage: result.manifest for result in project.run()}
    return {"report": project.report().data, "pairs": stages["pairs"], "tune": stages["tune/hybrid"]}


def sources(options: argparse.Namespace) -> tuple[Path, Path]:
    """Documents and questions of a set."""
    if options.name == "handbook":
        return EXAMPLES / "handbook" / "docs", EXAMPLES / "handbook" / "questions.jsonl"
    if options.data is None:
        raise SystemExit(f"{options.name} is read from a folder: name it with --data")
    return options.data / options.name / "corpus.jsonl", options.data / options.name / "qa.jsonl"


def make_row(name: str, settings: Sequence[str], found: Figures, default: Figures | None) -> Figures:
    """The figures of a variant, and its paired differences to the default."""
    mine = scores(found["report"])
    (arm,) = (arm for arm in found["report"]["arms"] if arm["name"] == "hybrid")
    row: Figures = {
        "variant": name,
        "settings": list(settings),
        "n": len(next(iter(mine.values()), ())),
        **{metric: round(arm[metric], 4) for metric in METRICS},
        "f1_interval": [round(bound, 4) for bound in mean_interval(list(mine["f1"].values()))],
        **{key: arm[key] for key in ("over_refused", "refused_unanswerable")},
        "minus_rag": arm["vs_rag"],
        "others": {
            other["name"]: {metric: round(other[metric], 4) for metric in METRICS}
            for other in found["report"]["arms"]
            if other["name"] != "hybrid"
        },
        **{key: found["pairs"].get(key) for key in ("candidates", "train", "contexts", "questions per context")},
        **{key: found["tune"].get(key) for key in ("steps", "tokens", "loss_last", "seconds")},
    }
    if default is not None:
        theirs = scores(default["report"])
        row["minus_default"] = {
            metric: {key: round(value, 4) for key, value in _difference(mine[metric], theirs[metric]).items()}
            for metric in METRICS
        }
    return row


def scores(data: Figures) -> dict[str, dict[str, float]]:
    """By metric and question id, the scores of the answerable questions."""
    answerable = [question for question in data["questions"] if question["answerable"]]
    return {metric: {q["id"]: q["replies"]["hybrid"][metric] for q in answerable} for metric in METRICS}


def _difference(mine: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    ids = sorted(mine)
    return paired_bootstrap([mine[i] for i in ids], [theirs[i] for i in ids])._asdict()


def table(rows: Sequence[Figures]) -> str:
    """The rows as text."""
    columns = [
        report.Column("variant", "variant"),
        *(report.Column(title, key, ".3f") for title, key in (("F1", "f1"), ("EM", "em"), ("contains", "contains"))),
        report.Column("over-refused", "over_refused", ".2f"),
        report.Column("refused unanswerable", "refused_unanswerable", ".2f"),
        report.Column("pairs", "train"),
        report.Column("steps", "steps"),
        report.Column("F1 - default", "versus"),
    ]
    return report.table(columns, [{**row, "versus": _versus(row)} for row in rows])


def _versus(row: Figures) -> str:
    if "minus_default" not in row:
        return "-"
    found = row["minus_default"]["f1"]
    return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}] p={found['p']:.3f}"


def collect(work: Path, limit: int) -> list[Figures]:
    """Rows of all finished variants."""
    found = {
        name: json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        for name in VARIANTS
        if (folder := place(work, name)) and (folder / "figures.json").exists()
    }
    default = found.get("default")
    if any(len(figures["report"]["questions"]) > limit > 0 for figures in found.values()):
        raise SystemExit(f"{work} holds variants that were asked more than {limit} questions: choose another --work")
    return [
        make_row(name, VARIANTS[name], figures, default if name != "default" else None)
        for name, figures in found.items()
    ]


def place(work: Path, variant: str) -> Path:
    """Folder of a variant's project."""
    return work / variant.replace(" ", "-")


def main() -> None:
    """Runs the variants and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["handbook", "emanual_tv", "squad11_dev13"])
    parser.add_argument("--data", type=Path, help="folder that holds the sets; not needed for the handbook")
    parser.add_argument("--work", type=Path, required=True, help="folder for the projects of all variants")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--limit", type=int, default=0, help="most questions asked; 0 asks all")
    parser.add_argument("--own", action="store_true", help="learn from the set's own questions, not the teacher's")
    parser.add_argument("--arms", nargs="+", default=["hybrid"], help="arms compared; hybrid is one of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.own and (options.data is None or options.name not in BENCHMARK):
        parser.error(f"--own needs --data and one of {', '.join(BENCHMARK)}")
    work = options.work.resolve()
    base = place(work, "default")
    for name in options.variants:
        folder = place(work, name)
        if not (folder / "figures.json").exists():
            index = base if name != "default" and (base / ".hybrid" / "index" / "manifest.json").exists() else None
            figures = make_project(folder, index, options, VARIANTS[name])
            (folder / "figures.json").write_text(report.dump(figures), encoding="utf-8")
            sys.stderr.write(table([make_row(name, VARIANTS[name], figures, None)]) + "\n")
    rows = collect(work, options.limit)
    result = {
        "set": options.name,
        **report.header(
            f"python benchmarks/ablations.py {options.name}{' --own' * options.own} --data DATA --work WORK "
            f"--limit {options.limit} --seed {options.seed} --arms {' '.join(options.arms)}",
            installed_versions(),
        ),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "rows": rows,
    }
    target = report.save(f"ablations_{options.name}{'_own' * options.own}", result)
    sys.stderr.write(f"{table(rows)}\nfigures in {target}\n")


if __name__ == "__main__":
    main()
