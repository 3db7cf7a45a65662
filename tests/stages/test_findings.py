"""What a report notes for its reader."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hybrid.arms import PromptChoice
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.project import Project
from hybrid.retrieval.index import Index
from hybrid.robustness import Robustness, write
from hybrid.stages.findings import report_notes, report_parts
from hybrid.types import Question


@pytest.mark.parametrize("unanswerable", [0, 1, 3])
def test_the_score_of_refusing_everything_is_noted(unanswerable: int) -> None:
    questions = [Question(str(n), "?", ("a",), ("d",)) for n in range(4)]
    questions += [Question(f"u{n}", "?", answerable=False) for n in range(unanswerable)]
    replies = tuple(Reply(question.id, "", True, (), (), 0.1) for question in questions)
    comparison = compare(questions, [ArmRun("rag", "refuses", replies)], k=1)
    index = cast(Index, SimpleNamespace(documents={"d": None}))
    notes = report_notes([PromptChoice("zero-shot", 1, ())], comparison, index)
    scored = comparison.summaries[0].value("refusal_f1")
    assert notes == ([f"To refuse every question would score a refusal F1 of {scored:.3f}."] if unanswerable else [])


@pytest.mark.parametrize("damage", [lambda text: text[:20], lambda _: b"", lambda _: b"\xff", lambda _: b"[]"])
def test_a_damaged_robustness_is_left_out_with_a_way_out(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = cast(Project, SimpleNamespace(store=tmp_path))
    assert report_parts(project, [])["robustness"] is None
    file = tmp_path / "runs" / "robustness" / "robustness.json"
    write(Robustness("f1", 5, 0, ()), file.parent)
    assert report_parts(project, [])["robustness"] == {"metric": "f1", "questions": 5, "seed": 0, "scores": []}
    assert capsys.readouterr().err == ""
    file.write_bytes(damage(file.read_bytes()))
    assert report_parts(project, [])["robustness"] is None
    assert capsys.readouterr().err == (
        f"{file} is damaged and left out of the report; to renew it, run: hybrid compare --robustness\n"
    )
