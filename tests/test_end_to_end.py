"""The main job on real documents with the real embedded models, small enough for every test run."""

import json
import shutil
from pathlib import Path

import pytest

from hybrid import Project
from hybrid.cli import main

SETTINGS = {
    "pairs.total": 24,
    "pairs.dev_share": 0.2,
    "prompt.k": 2,
    "pairs.p_absent": 0.1,
    "compare.limit": 6,
    "compare.dev_questions": 3,
    "compare.shots": 1,
    "compare.max_new_tokens": 16,
}


def test_from_documents_to_a_verdict(handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = sorted(handbook.glob("docs/*/*.md"))[:10]
    documents = tmp_path / "docs"
    for page in pages:
        target = documents / page.relative_to(handbook / "docs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, target)
    names = {page.relative_to(handbook / "docs").as_posix() for page in pages}
    lines = (handbook / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    mine = [line for line in lines if set(json.loads(line)["gold"]) <= names]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(mine) + "\n", encoding="utf-8")

    project = tmp_path / "project"
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    init = ["init", str(project), "--documents", str(documents), "--questions", str(questions)]
    assert main([*init, *settings]) == 0
    capsys.readouterr()
    assert main(["run", "--project", str(project), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)

    stages = {stage["stage"]: stage for stage in result["stages"]}
    assert list(stages) == ["index", "pairs", "tune/tuned", "tune/hybrid", "compare"]
    assert stages["index"]["documents"] == 10
    assert stages["pairs"]["train"] == 24
    assert stages["pairs"]["train absent"] > 0
    assert stages["tune/hybrid"]["pairs"] == 24
    assert stages["tune/hybrid"]["stats"]["mean_branches"] > 1, "contexts are shared"
    assert [arm["name"] for arm in result["arms"]] == ["base", "rag", "tuned", "hybrid"]
    for arm in result["arms"]:
        assert arm["n"] == 6
        assert arm["errors"] == 0
        assert all(0 <= arm[key] <= 1 for key in ("em", "f1", "rouge_l", "contains", "abstained"))
        assert arm["seconds"] > 0
    by_name = {arm["name"]: arm for arm in result["arms"]}
    assert by_name["rag"]["recall_at_k"] >= 0.5, "the retriever finds the page of most questions"
    assert result["verdict"]

    opened = Project.open(project)
    assert {state.state for state in opened.status()} == {"fresh"}
    for name in ("report.html", "report.md", "report.json"):
        assert (opened.report().folder / name).stat().st_size > 1000
    answer = opened.assistant().ask(json.loads(mine[0])["question"])
    assert len(answer.hits) == 2
    for citation in answer.citations:
        text = (documents / citation.document).read_text(encoding="utf-8")
        assert text[citation.start : citation.end] == citation.quote
