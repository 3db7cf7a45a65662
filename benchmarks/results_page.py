"""Writes the tables of docs/results.md from benchmarks/results/, so that no figure is copied by hand.

    python benchmarks/results_page.py

A table stands between `<!-- NAME: measure, measure … -->` and `<!-- end -->` and is replaced by that of NAME.json: one
row an arm, its measures, and the paired difference of the first measure to rag; over several seeds the differences of
all measures, and those of the first seed by seed.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import RESULTS

from hybrid.eval.labels import label

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"
_BLOCK = re.compile(
    r"(?P<head><!-- (?P<name>[\w-]+): (?P<measures>[\w, ]+) -->\n)(?:(?!<!--).)*(?P<end><!-- end -->)", re.DOTALL
)
_BASELINE = "rag"


def main() -> None:
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stderr.write(f"wrote {PAGE}\n")


def render(page: str, results: Path = RESULTS) -> str:
    """Returns the page with every table made anew.

    Raises:
        OSError: There is no result of a name.
        KeyError: No arm of a result has a measure.
        ValueError: A table has no end.
    """

    def block(found: re.Match[str]) -> str:
        result = json.loads((results / f"{found['name']}.json").read_text(encoding="utf-8"))
        measures = [name.strip() for name in found["measures"].split(",")]
        made = seed_table(result, measures) if "effects" in result else table(result, measures)
        return f"{found['head']}{describe(found['name'], result)}\n\n{made}\n{found['end']}"

    made, tables = _BLOCK.subn(block, page)
    if 2 * tables != page.count("<!--"):
        raise ValueError(f"{page.count('<!--')} marks, but {tables} tables from a name to its end")
    return made


def describe(name: str, result: Mapping[str, Any]) -> str:
    """What was run, where and when, in a paragraph."""
    facts, split, stages = result["facts"], result["split"], result["stage_seconds"]
    asked = facts["Questions"].split(",")[0]
    seconds = ", ".join(f"{stage} {round(spent):,}" for stage, spent in stages.items())
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    sentences = (
        f"[Figures](../benchmarks/results/{name}.json) of {result['date']}, commit {result['commit']}.",
        f"{_counts(split['train'])} questions to learn from, {_counts(split['test'])} put aside, "
        f"of which {asked} were asked.",
        f"{facts['Documents']}; search {facts['Search']}, {facts['Context']} shown; {facts['Training pairs']};",
        f"seed {facts['Seed']}.",
        f"{facts['Model']} and {facts['Embedding model']} on {result['machine']}:",
        f"{result['seconds']:,} s ({seconds}), {result['peak_memory_mb']:,} MB at most. {versions}.",
    )
    return f"    {result['command']}\n\n{' '.join(sentences)}"


def _counts(value: int | Sequence[int]) -> str:
    """A number, or those of several folds."""
    return " and ".join(f"{count:,}" for count in ([value] if isinstance(value, int) else value))


def table(result: Mapping[str, Any], measures: Sequence[str]) -> str:
    """The arms in Markdown."""
    if missing := [name for name in measures if not any(name in arm["scores"] for arm in result["arms"])]:
        raise KeyError(f"no arm has {', '.join(missing)}")
    names = [label(measure).name for measure in measures]
    heads = ["arm", *names, "s/question", f"{names[0]} against rag"]
    lines = [heads, ["---", *["--:"] * (len(measures) + 1), "---"]]
    lines += [[_title(arm), *_values(arm, measures), _difference(arm, measures[0])] for arm in result["arms"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seed_table(result: Mapping[str, Any], measures: Sequence[str]) -> str:
    """The differences of the arms over seeds in Markdown."""
    names = [label(measure).name for measure in measures]
    baseline = result["baseline"]
    heads = ["arm", *[f"{name} against {baseline}" for name in names], f"{names[0]}, seed by seed"]
    lines = [heads, ["---"] * len(heads)]
    for arm, effects in result["effects"].items():
        first = effects.get(measures[0], {"per_seed": []})
        by_seed = ", ".join(f"{value:+.3f}" for value in first["per_seed"])
        told = [_told(effects[name]["mean"], effects[name]) if name in effects else "–" for name in measures]
        lines.append([f"`{arm}`", *told, by_seed])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(arm: Mapping[str, Any]) -> str:
    return f"`{arm['name']}`"


def _values(arm: Mapping[str, Any], measures: Sequence[str]) -> list[str]:
    scores = arm["scores"]
    found = [label(name).form.format(scores[name]["value"]) if name in scores else "–" for name in measures]
    return [*found, f"{arm['seconds']:.2f}"]


def _difference(arm: Mapping[str, Any], measure: str) -> str:
    if arm["name"] == _BASELINE:
        return "baseline"
    if (found := arm["versus"].get(measure)) is None:
        return "–"
    return _told(found["difference"], found)


def _told(difference: float, found: Mapping[str, Any]) -> str:
    p = "p < .001" if found["p_holm"] < 0.001 else f"p = {found['p_holm']:.3f}"
    return f"{difference:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}), {p}"


if __name__ == "__main__":
    main()
