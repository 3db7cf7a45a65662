"""Refusing without asking a model: in a comparison and in an assistant alike."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hybrid import Project
from hybrid.errors import ConfigError
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.nearness import is_too_far, nearest_cosine, refuse
from hybrid.stages.findings import nearness_note
from hybrid.stages.parts import project_retriever
from hybrid.types import Chunk, Hit, Question
from tests.conftest import Command


def _hits(*cosines: float | None) -> list[Hit]:
    chunks = [Chunk(f"d{n}#0-6", f"d{n}", 0, 6, f"Fact {n}") for n in range(len(cosines))]
    return [Hit(chunk, 1.0, rank, cosine) for rank, (chunk, cosine) in enumerate(zip(chunks, cosines, strict=True), 1)]


def test_the_nearest_hit_decides() -> None:
    assert nearest_cosine(_hits(0.2, None, 0.6)) == 0.6
    assert is_too_far(_hits(0.2, 0.6), 0.7)
    assert not is_too_far(_hits(0.2, 0.6), 0.6)
    assert not is_too_far(_hits(None), 0.9), "what is not known refuses nothing"
    reply = refuse(Question("q", "?"), _hits(0.1, 0.2, 0.1), 2, "No.")
    assert (reply.text, reply.abstained, reply.documents) == ("No.", True, ("d0", "d1", "d2"))
    assert reply.contexts == ("d0#0-6", "d1#0-6")


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("a model was asked")


def _nearest(project: Project, questions: Sequence[str]) -> list[float]:
    hits = project_retriever(project).search(questions, project.config.prompt.k)
    return [nearest_cosine(found) or 0.0 for found in hits]


def test_a_comparison_refuses_what_lies_too_far(finished_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = finished_copy.report().data
    cosines = sorted(_nearest(finished_copy, [question["question"] for question in before["questions"]]))
    floor = (cosines[3] + cosines[4]) / 2
    project = Project.open(finished_copy.folder, [f"serve.min_cosine={floor}"])
    stale = [status.stage for status in project.status() if status.state == "stale"]
    assert stale == ["compare"], "no model depends on it"
    monkeypatch.setattr("hybrid.stages.compare.load_answerer", _forbidden)
    project.compare()
    after = project.report().data
    for old, new in zip(before["questions"], after["questions"], strict=True):
        (cosine,) = _nearest(project, [new["question"]])
        for arm, reply in new["replies"].items():
            closed = arm in {"base", "tuned"}
            assert reply["cosine"] == (None if closed else pytest.approx(cosine))
            if closed or cosine >= floor:
                assert reply["text"] == old["replies"][arm]["text"]
            else:
                assert (reply["text"], reply["abstained"]) == (project.config.prompt.refusal, True)
                assert reply["documents"] == old["replies"][arm]["documents"]
                assert reply["tokens_out"] == 0
    assert sum(question["replies"]["rag"]["tokens_out"] == 0 for question in after["questions"]) == 4
    assert after["facts"]["Refused unasked"].startswith("below a cosine of 0.")
    assert any("refused 4 of 8 questions in the name of the arms with retrieval" in note for note in after["notes"])
    assert "Refused unasked" not in before["facts"]


def test_a_function_is_asked_everything(finished_copy: Project) -> None:
    project = Project.open(finished_copy.folder, ["serve.min_cosine=1", "compare.arms=[rag]"])
    project.compare(extra_arms={"mine": lambda question, hits: "an answer"})
    replies = [question["replies"] for question in project.report().data["questions"]]
    assert all(own["rag"]["abstained"] and own["mine"]["text"] == "an answer" for own in replies)


def test_an_assistant_refuses_alike(finished_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assistant = Project.open(finished_project.folder, ["serve.min_cosine=1"]).assistant()
    monkeypatch.setattr("hybrid.generate.generate_batch", _forbidden)
    monkeypatch.setattr("hybrid.generate.stream_tokens", _forbidden)
    refusal = finished_project.config.prompt.refusal
    question = "Where does the beacon stand?"
    stream = assistant.stream(question)
    assert list(stream) == [refusal]
    for answer in (assistant.ask(question), stream.answer):
        assert (answer.text, answer.abstained, answer.citations) == (refusal, True, ())
    assert stream.answer.hits == assistant.ask(question).hits != ()


def test_asking_prints_the_refusal_and_nothing_else(finished_project: Project, hybrid_command: Command) -> None:
    done = hybrid_command(
        "ask", "--project", finished_project.folder, "--set", "serve.min_cosine=1", "Where does the beacon stand?"
    )
    assert (done.returncode, done.stdout.strip()) == (0, finished_project.config.prompt.refusal)
    assert "kernels" not in done.stderr, "no library advertises"
    assert "question/s" not in done.stderr, "no bar over nothing"


def test_the_nearest_of_all_retrieved_decides_though_one_is_shown(finished_project: Project) -> None:
    assistant = finished_project.assistant()
    question = "Where does the beacon stand?"
    all_of_them = _nearest(finished_project, [question])[0]
    one = replace(assistant, choice=assistant.choice._replace(k=1), min_cosine=all_of_them)
    assert nearest_cosine(one._retrieve([question])[0]) == pytest.approx(all_of_them)


def test_a_value_out_of_range(finished_project: Project) -> None:
    with pytest.raises(ConfigError, match=r"serve.min_cosine is 62.0; it must lie between 0 and 1"):
        Project.open(finished_project.folder, ["serve.min_cosine=62"])


def _comparison(near: float, far: float) -> Comparison:
    questions = [Question(f"q{n}", "?", ("yes",) if n % 2 else (), answerable=bool(n % 2)) for n in range(40)]
    cosines = [near if question.answerable else far for question in questions]
    replies = (Reply(q.id, "yes", False, (), (), 0.1, cosine=c) for q, c in zip(questions, cosines, strict=True))
    return compare(questions, [ArmRun("rag", "", tuple(replies))], k=1)


def test_the_note_proposes_a_value_where_one_helps() -> None:
    note = nearness_note(_comparison(0.8, 0.4))
    assert "AUROC of 1.00 (1.00 to 1.00). serve.min_cosine=0.6 would refuse" in note
    assert "refuses 100% of the unanswerable and 0% of the answerable ones (refusal F1 1.000)" in note
    assert "do not set serve.min_cosine by it" in nearness_note(_comparison(0.4, 0.8))
    assert "do not set serve.min_cosine by it" in nearness_note(_comparison(0.4, 0.4))
