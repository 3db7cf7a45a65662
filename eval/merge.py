"""Comparisons read back from their reports, to be put together: what fits, and the parts of one question set as one.

check_fit({"fold0": first, "fold1": second})
merged = merge_parts({"fold0": first, "fold1": second})
compare(merged.questions, merged.runs, k=first["k"], further=merged.further)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from hybrid.errors import EvaluationError
from hybrid.eval.comparison import ArmRun, Reply, restore_reply
from hybrid.eval.further import further_measure
from hybrid.eval.measures import Measure
from hybrid.types import Question

Report = Mapping[str, Any]

# Alike in all comparisons that are put together; what else differs may be what is asked about.
_ALIKE = ("metric", "baseline", "k")
_ALIKE_FACTS = ("Model", "Embedding model")


class Merged(NamedTuple):
    """Several comparisons as one.

    Attributes:
        questions: The questions of all reports.
        runs: The arms that all reports have, with a reply per question.
        further: What the reports measured beside the scores, all in the same way.
    """

    questions: list[Question]
    runs: list[ArmRun]
    further: list[dict[str, Measure]]


def check_fit(reports: Mapping[str, Report]) -> None:
    """Refuses reports that cannot be put together.

    Args:
        reports: The content of each report.json, by a name for messages.

    Raises:
        EvaluationError: There are no two reports, one is damaged, they decide by different measures, other models
            answered, an arm means another thing, or a question means another by the same id.
    """
    if len(reports) < 2:
        raise EvaluationError(f"at least two comparisons are put together, got {', '.join(reports) or 'none'}")
    for name, report in reports.items():
        try:
            _read(report)
        except (AttributeError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{name}: its report.json is damaged or of an older version ({error!r}); "
                "to make it anew, run: hybrid compare --force"
            ) from error
    for key in _ALIKE:
        _check_alike(key, {name: report[key] for name, report in reports.items()})
    for key in _ALIKE_FACTS:
        _check_alike(key, {name: report["facts"][key] for name, report in reports.items()})
    for arm in common_arms(reports):
        described = {name: _arm(report, arm["name"])["description"] for name, report in reports.items()}
        _check_alike(f"arms {arm['name']!r}", described)
    _check_questions(reports)


def common_arms(reports: Mapping[str, Report]) -> list[Mapping[str, Any]]:
    """The arms of the first report that all others have, too.

    Raises:
        EvaluationError: There is none but the baseline, or not even that.
    """
    first, *_ = reports.values()
    named = {name: {arm["name"] for arm in report["arms"]} for name, report in reports.items()}
    common = [arm for arm in first["arms"] if all(arm["name"] in own for own in named.values())]
    if len(common) < 2 or first["baseline"] not in {arm["name"] for arm in common}:
        told = "; ".join(f"{name}: {', '.join(sorted(own))}" for name, own in named.items())
        raise EvaluationError(f"the comparisons do not share {first['baseline']!r} and another arm ({told})")
    return common


def is_repeated(reports: Mapping[str, Report]) -> bool:
    """Whether a question is asked by more than one of the comparisons."""
    times = Counter(record["id"] for report in reports.values() for record in report["questions"])
    return max(times.values(), default=0) > 1


def merge_parts(reports: Mapping[str, Report]) -> Merged:
    """Puts reports of different questions together; see `check_fit` and `is_repeated`."""
    records = [record for report in reports.values() for record in report["questions"]]
    arms = common_arms(reports)
    differing = _differing(list(reports.values()))
    own = {arm["name"]: [record["replies"][arm["name"]]["further"] for record in records] for arm in arms}
    names = dict.fromkeys(name for values in own.values() for reply in values for name in reply)
    return Merged(
        [question for report in reports.values() for question in read_questions(report)],
        [_run(arm, records) for arm in arms],
        [
            further_measure(name, {arm: [reply.get(name) for reply in values] for arm, values in own.items()})
            for name in names
            if name not in differing
        ],
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


def _read(report: Report) -> None:
    """Reads all that is needed of a report.

    Raises:
        KeyError: Something is missing.
        AttributeError: Something has another form.
        TypeError: Likewise.
    """
    for arm in report["arms"]:
        arm["versus"].keys()
        _run(arm, report["questions"])
        for record in report["questions"]:
            record["replies"][arm["name"]]["further"].keys()
    read_questions(report)
    for key in ("seed", "notes", *_ALIKE):
        report[key]
    for key in _ALIKE_FACTS:
        report["facts"][key]
    for cost in report["costs"]:
        for key in ("arm", "peak_memory_mb", "training_seconds", "price"):
            cost[key]
    if not report["questions"]:
        raise KeyError("questions")


def _check_alike(key: str, found: Mapping[str, Any]) -> None:
    if len(set(found.values())) > 1:
        told = ", ".join(f"{value!r} in {name}" for name, value in found.items())
        raise EvaluationError(f"comparisons with different {key} cannot be put together: {told}")


def _check_questions(reports: Mapping[str, Report]) -> None:
    known: dict[str, tuple[str, Question]] = {}
    seeds: dict[tuple[str, int], str] = {}
    for name, report in reports.items():
        for question in read_questions(report):
            where, other = known.setdefault(question.id, (name, question))
            if other != question:
                raise EvaluationError(
                    f"question {question.id!r} is not the same in {where} and {name}, or has other answers there; "
                    "give questions that differ ids of their own"
                )
            earlier = seeds.setdefault((question.id, report["seed"]), name)
            if earlier != name:
                raise EvaluationError(
                    f"{earlier} and {name} both ask question {question.id!r} with seed {report['seed']}; comparisons "
                    "are put together that ask other questions, or were run with another seed"
                )


def _arm(report: Report, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(arm for arm in report["arms"] if arm["name"] == name)
    return found


def _run(arm: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> ArmRun:
    replies = (_reply(record["id"], record["replies"][arm["name"]]) for record in records)
    return ArmRun(arm["name"], arm["description"], tuple(replies))


def _reply(id_: str, record: Mapping[str, Any]) -> Reply:
    values = {field.name: record[field.name] for field in fields(Reply) if field.name in record}
    return restore_reply({"question_id": id_, **values})


def _differing(reports: Sequence[Report]) -> set[str]:
    """Measures that are not the same in all reports, or whose weights reports do not tell."""
    differing = {"gold_nll"}  # a mean over tokens
    for key, names in (("grounding", ("grounded",)), ("judge_cost", ("judge_grade", "judge_preference"))):
        ways = {str((report.get(key) or {}).get(part)) for report in reports for part in ("method", "model")}
        if len(ways - {"None"}) > 1:
            differing |= set(names)
    return differing
