"""Blind ratings of a project's last comparison: a sheet goes out, ratings come back.

write_blind_sheet(project, 50)               # PROJECT/blind/answers.csv and rate.html; the key stays in .hybrid/blind
describe(judge_blind_sheet(project, [Path("ada.csv"), Path("bob.csv")]))
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.arms import known_controls
from hybrid.errors import EvaluationError
from hybrid.eval.blind import make_sheet, read_key, write_sheet
from hybrid.eval.ratings import HumanResult, judge_ratings, read_ratings, sheet_of
from hybrid.eval.statistics import Interval
from hybrid.types import Question

if TYPE_CHECKING:
    from hybrid.project import Project

_NO_SCORE = {"value": -math.inf}  # of an arm that no question measures


def write_blind_sheet(project: Project, n: int, pairs: Sequence[tuple[str, str]] = ()) -> Path:
    """Writes a blinded sheet of answers of the last comparison.

    Args:
        project: The project.
        n: Number of questions to draw, by the project's seed.
        pairs: Pairs of arms to compare; by default the baseline and the best of the others by the comparison's metric,
            of those that can be built: an arm with oracle contexts wins without being a choice.

    Returns:
        The folder with `answers.csv` and `rate.html`, either of which a rater can use.

    Raises:
        ArtefactError: There is no comparison yet.
        EvaluationError: An arm is unknown, or the folder holds another sheet.
    """
    data = project.report().data
    questions = [
        Question(values["id"], values["question"], tuple(values["answers"]), answerable=values["answerable"])
        for values in data["questions"]
    ]
    answers = {
        arm["name"]: [values["replies"][arm["name"]]["text"] for values in data["questions"]] for arm in data["arms"]
    }
    chosen = pairs or [_best_pair(data, known_controls(project.config.compare.arms))]
    sheet, key = make_sheet(questions, answers, chosen, n=n, seed=project.config.seed)
    folder = project.folder / "blind"
    title = f"{project.folder.name}: which answer is better?"
    write_sheet(sheet, key, folder, _key_file(project, sheet.id), title=title)
    return folder


def judge_blind_sheet(project: Project, files: Sequence[Path]) -> HumanResult:
    """Reads the ratings of one or more people, a file each, and unblinds them.

    Raises:
        EvaluationError: There is no file, a file is malformed or incomplete, or its sheet is none of the project's.
    """
    if not files:
        raise EvaluationError("name at least one file of ratings, such as blind/answers.csv filled in")
    sheet = sheet_of(files[0])
    key_file = _key_file(project, sheet)
    if not sheet.isalnum() or not key_file.is_file():
        raise EvaluationError(f"{files[0]} rates sheet {sheet!r}, of which {project.folder} keeps no key")
    key = read_key(key_file)
    return judge_ratings(key, [read_ratings(file, key) for file in files])


def describe(result: HumanResult) -> str:
    """The result as lines of text: one per pair of arms, one per pair of raters, and one per rewritten sheet."""
    lines = [
        f"{found.first} against {found.second}: {found.wins} wins{_share(found.win_interval)}, {found.ties} ties, "
        f"{found.losses} losses{_share(found.loss_interval)} on {found.n} questions; sign test p = {found.p:.3f}, "
        "questions taken for independent"
        for found in result.preferences
    ]
    for agreement in result.agreements:
        kappa = "undefined" if agreement.kappa is None else f"{agreement.kappa:.2f}"
        first, second = agreement.raters
        lines.append(
            f"{first} and {second} agree on {agreement.share:.0%} of {agreement.n} items, Cohen's kappa {kappa}"
        )
    lines += [
        f"{rater}: the texts of {count} items are not those of the sheet, as where a spreadsheet makes dates of "
        "fractions; the ratings were read by item number (rate.html rewrites nothing)"
        for rater, count in zip(result.raters, result.rewritten, strict=True)
        if count
    ]
    return "\n".join(lines)


def _best_pair(data: dict[str, Any], unbuildable: Collection[str]) -> tuple[str, str]:
    baseline, metric = data["baseline"], data["metric"]
    names = [arm["name"] for arm in data["arms"]]
    others = [arm for arm in data["arms"] if arm["name"] not in {baseline, *unbuildable}]
    if baseline not in names or not others:
        raise EvaluationError(
            f"a blinded sheet compares an arm that can be built with {baseline!r}; the comparison has "
            f"{', '.join(names)}: add both to compare.arms"
        )
    return max(others, key=lambda arm: arm["scores"].get(metric, _NO_SCORE)["value"])["name"], baseline


def _key_file(project: Project, sheet: str) -> Path:
    return project.folder / ".hybrid" / "blind" / f"{sheet}.json"


def _share(interval: Interval) -> str:
    return f" ({interval.low:.0%} to {interval.high:.0%})"
