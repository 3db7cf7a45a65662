"""Comparisons of the same arms, read back from their reports and put together: other questions, or other seeds.

merged = merge_reports({"fold0": first, "fold1": second})
compare(merged.questions, merged.runs, k=merged.k, groups=merged.groups)
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from hybrid.errors import EvaluationError
from hybrid.eval.clusters import clusters
from hybrid.eval.comparison import ArmRun, Reply
from hybrid.eval.further import further_measure
from hybrid.eval.measures import Measure
from hybrid.eval.seeds import SeedEffect, merge_seeds
from hybrid.types import Citation, Question

Report = Mapping[str, Any]

# Its values are means over tokens, of which reports do not tell the number.
_WEIGHTED = "gold_nll"


class Merged(NamedTuple):
    """Several comparisons as one, with a row for every question of every report.

    Attributes:
        questions: The rows; where seeds repeat a question, the id names the seed.
        runs: The arms that all reports have, with a reply per row.
        groups: The label of the group of every row, by its id: rows of one question share it.
        further: What the reports measured beside the scores.
        seeds: Per arm and measure, the difference over seeds; None for other questions with each report.
        rows: Ids of the rows of each report, by its name.
        metric: The deciding metric.
        baseline: The arm that the others are compared with.
        k: Number of retrieved documents that recall looks at.
    """

    questions: list[Question]
    runs: list[ArmRun]
    groups: dict[str, str]
    further: list[dict[str, Measure]]
    seeds: dict[str, dict[str, SeedEffect]] | None
    rows: dict[str, list[str]]
    metric: str
    baseline: str
    k: int


def merge_reports(reports: Mapping[str, Report], groups: Mapping[str, str] | None = None) -> Merged:
    """Puts reports together, each question of each seed once.

    Args:
        reports: The content of each report.json, by a name for messages.
        groups: A label per question id to take questions together by, in place of their gold documents.

    Raises:
        EvaluationError: There are no two reports, they decide by different measures or have no arm in common but the
            baseline, two ask the same question with the same seed, or mean another question by the same id.
    """
    if len(reports) < 2:
        raise EvaluationError(f"at least two comparisons are put together, got {', '.join(reports) or 'none'}")
    metric, baseline, k = (_common(reports, key) for key in ("metric", "baseline", "k"))
    arms = _common_arms(reports, baseline)
    asked = _asked(reports)
    several = len(asked) < sum(len(report["questions"]) for report in reports.values())
    ids = {
        name: [f"{own['id']} (seed {report['seed']})" if several else own["id"] for own in report["questions"]]
        for name, report in reports.items()
    }
    records = [own for report in reports.values() for own in report["questions"]]
    rows = [id_ for own in ids.values() for id_ in own]
    numbers = dict(zip(asked, clusters(list(asked.values()), groups), strict=True))
    return Merged(
        [replace(asked[own["id"]], id=id_) for id_, own in zip(rows, records, strict=True)],
        [_run(arm, records, rows) for arm in arms],
        {id_: str(numbers[own["id"]]) for id_, own in zip(rows, records, strict=True)},
        _further(arms, records),
        merge_seeds(_by_seed(list(reports.values()), arms)) if several else None,
        ids,
        metric,
        baseline,
        k,
    )


def read_questions(report: Report) -> list[Question]:
    """The questions of a report.json."""
    return [
        Question(
            record["id"],
            record["question"],
            tuple(record["answers"]),
            tuple(record["gold"]),
            record["answerable"],
            record["kind"],
            tuple(record["quotes"]),
        )
        for record in report["questions"]
    ]


def _common(reports: Mapping[str, Report], key: str) -> Any:  # noqa: ANN401 - a value of JSON
    found = {name: report[key] for name, report in reports.items()}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{value!r} in {name}" for name, value in found.items())
        raise EvaluationError(f"comparisons with different {key} cannot be put together: {told}")
    return next(iter(found.values()))


def _common_arms(reports: Mapping[str, Report], baseline: str) -> list[Mapping[str, Any]]:
    """The arms of the first report that all others have, too."""
    named = [{arm["name"] for arm in report["arms"]} for report in reports.values()]
    first = next(iter(reports.values()))
    common = [arm for arm in first["arms"] if all(arm["name"] in own for own in named)]
    if {arm["name"] for arm in common} <= {baseline}:
        told = "; ".join(f"{name}: {', '.join(sorted(own))}" for name, own in zip(reports, named, strict=True))
        raise EvaluationError(f"the comparisons have no arm in common beside {baseline!r} ({told})")
    return common


def _asked(reports: Mapping[str, Report]) -> dict[str, Question]:
    """Every question that is asked, by its id, in the order of the reports."""
    found: dict[str, Question] = {}
    where: dict[tuple[str, int], str] = {}
    for name, report in reports.items():
        for question in read_questions(report):
            known = found.setdefault(question.id, question)
            if known.question != question.question:
                raise EvaluationError(
                    f"{name}: question {question.id!r} is {question.question!r}, but {known.question!r} in another "
                    "comparison; give the questions of each file ids of their own"
                )
            other = where.setdefault((question.id, report["seed"]), name)
            if other != name:
                raise EvaluationError(
                    f"{other} and {name} both ask question {question.id!r} with seed {report['seed']}; comparisons are "
                    "put together that ask other questions, or were run with another seed"
                )
    return found


def _run(arm: Mapping[str, Any], records: Sequence[Mapping[str, Any]], rows: Sequence[str]) -> ArmRun:
    said = (record["replies"][arm["name"]] for record in records)
    return ArmRun(arm["name"], arm["description"], tuple(map(_reply, rows, said)))


def _reply(id_: str, record: Mapping[str, Any]) -> Reply:
    values = {field.name: record[field.name] for field in fields(Reply) if field.name in record}
    values |= {name: tuple(values[name]) for name in ("documents", "contexts")}
    values["citations"] = tuple(Citation(**citation) for citation in values["citations"])
    return Reply(id_, **values)


def _further(arms: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Measure]]:
    own = {arm["name"]: [record["replies"][arm["name"]]["further"] for record in records] for arm in arms}
    names = dict.fromkeys(name for values in own.values() for reply in values for name in reply if name != _WEIGHTED)
    return [
        further_measure(name, {arm: [reply.get(name) for reply in values] for arm, values in own.items()})
        for name in names
    ]


def _by_seed(reports: Sequence[Report], arms: Sequence[Mapping[str, Any]]) -> list[Report]:
    """One report per seed, with these arms and the questions of all reports that have it."""
    found = defaultdict[int, list[Report]](list)
    for report in reports:
        found[report["seed"]].append(report)
    return [
        {**own[0], "arms": arms, "questions": [question for report in own for question in report["questions"]]}
        for own in found.values()
    ]
