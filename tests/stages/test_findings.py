"""What a report notes for its reader."""

from types import SimpleNamespace
from typing import cast

import pytest

from hybrid.arms import PromptChoice
from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.retrieval.index import Index
from hybrid.stages.findings import report_notes
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
