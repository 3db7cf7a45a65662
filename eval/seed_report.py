"""A comparison over seeds as files: seeds.json for machines, seeds.md for a pull request, seeds.html to read."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid.errors import EvaluationError
from hybrid.eval.figures import comparisons, over_seeds
from hybrid.eval.labels import ALPHA, label, p_value
from hybrid.eval.merge import Report, common_arms
from hybrid.eval.pages import paragraphs, render
from hybrid.eval.report import write_pages
from hybrid.eval.seeds import SeedEffect, by_seed, merge_seeds
from hybrid.eval.statistics import holm

_PAGES = {"seeds.md": "seeds.md.jinja", "seeds.html": "seeds.html.jinja"}


def seed_data(
    reports: Mapping[str, Report],
    *,
    title: str,
    facts: Mapping[str, str],
    notes: Sequence[str],
    groups: Mapping[str, str] | None = None,
    controls: Collection[str] = (),
) -> dict[str, Any]:
    """Returns the content of seeds.json: plain dicts, lists, strings and finite numbers.

    Args:
        reports: The content of each report.json by its name, with at least two seeds; see `check_fit`.
        title: Heading.
        facts: What was compared, in the order to show.
        notes: What a reader must know.
        groups: A label per question id to take questions together by, in place of their gold documents.
        controls: Arms that nobody can build, which the verdict leaves out.

    Raises:
        EvaluationError: The seeds have no question in common, or none that has the deciding metric.
    """
    arms = common_arms(reports)
    seeds = by_seed(list(reports.values()), arms)
    effects = merge_seeds(seeds, groups)
    metric, baseline = seeds[0]["metric"], seeds[0]["baseline"]
    common = [own[metric].questions for own in effects.values() if metric in own]
    if not common:
        raise EvaluationError(f"no question that all seeds were asked has the deciding metric {metric!r}")
    data = {
        "title": title,
        "metric": metric,
        "baseline": baseline,
        "facts": dict(facts),
        "seeds": [report["seed"] for report in seeds],
        "questions": max(common),
        "asked": len({record["id"] for report in reports.values() for record in report["questions"]}),
        "effects": _adjusted(effects),
        "comparisons": [comparison_part(name, report) for name, report in reports.items()],
        "arms": [{"name": arm["name"], "description": arm["description"]} for arm in arms],
        "notes": list(notes),
    }
    return {**data, "verdict": _verdict(data, controls)}


def write_seeds(data: Mapping[str, Any], folder: Path) -> None:
    """Writes seeds.json, seeds.md and seeds.html into the folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    values = {
        "data": data,
        "metric": label(data["metric"]),
        "reasons": list(paragraphs(data["verdict"])),
        "others": list(data["effects"]),
        "figures": [over_seeds(data), *comparisons(data)],
    }
    pages = {"seeds.json": text, **{name: render(template, **values) for name, template in _PAGES.items()}}
    write_pages(pages, folder)


def _adjusted(effects: Mapping[str, Mapping[str, SeedEffect]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The effects as plain values, their p-values adjusted for the number of arms, measure by measure."""
    found: dict[str, dict[str, dict[str, Any]]] = {arm: {} for arm in effects}
    for name in dict.fromkeys(name for own in effects.values() for name in own):
        tested = [arm for arm, own in effects.items() if name in own]
        for arm, p in zip(tested, holm([effects[arm][name].p for arm in tested]), strict=True):
            found[arm][name] = {**effects[arm][name]._asdict(), "p_holm": p}
    return found


def comparison_part(name: str, report: Report) -> dict[str, Any]:
    """What one comparison found by its deciding metric, and what its verdict chose, as plain values."""
    found = {arm["name"]: arm["versus"].get(report["metric"]) for arm in report["arms"]}
    return {
        "name": name,
        "seed": report["seed"],
        "questions": len(report["questions"]),
        "choice": (report.get("decision") or {}).get("choice"),
        "versus": {arm: {key: own[key] for key in ("difference", "low", "high")} for arm, own in found.items() if own},
    }


def _verdict(data: Mapping[str, Any], controls: Collection[str]) -> str:
    """Which arm is ahead whatever the seed, in sentences."""
    metric, baseline, count = data["metric"], data["baseline"], len(data["seeds"])
    known = {arm: own[metric] for arm, own in data["effects"].items() if arm not in controls and metric in own}
    if not known:
        return f"Only {baseline} ran, beside arms that nobody can build; there is nothing to decide."
    # Adjusted for the arms that could be chosen, as in the verdict of a comparison.
    p_values = dict(zip(known, holm([own["p"] for own in known.values()]), strict=True))
    ahead = [arm for arm, own in known.items() if own["mean"] > 0 and p_values[arm] < ALPHA]
    best = max(ahead or known, key=lambda arm: known[arm]["mean"])
    about = f"over {count} seeds and {data['questions']} questions"
    if ahead:
        lead = f"{best} is ahead of {baseline} {about}"
    elif all(own["high"] < 0 for own in known.values()):
        lead = f"Every arm is behind {baseline} {about}; {best} comes closest"
    else:
        lead = f"Not enough evidence {about} that any arm is ahead of {baseline}; {best} comes closest"
    own = known[best]
    by_seed_ = ", ".join(f"{value:+.3f}" for value in own["per_seed"])
    choices = ", ".join(f"{part['name']}: {part['choice'] or 'none'}" for part in data["comparisons"])
    few = " Two seeds tell little about others: a third narrows the interval much." if count == 2 else ""
    return (
        f"{lead}: {label(metric).name} {own['mean']:+.3f} (95% interval {own['low']:+.3f} to {own['high']:+.3f}, "
        f"{p_value(p_values[best], len(known))}).{few}\n\n"
        f"By seed: {by_seed_}. By themselves the comparisons choose: {choices}.\n\n"
        f"This goes by {label(metric).name} alone; compare.weights, and what one answer to every question would score, "
        "count in the verdict of each comparison."
    )
