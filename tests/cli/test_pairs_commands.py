"""`hybrid pairs show`, `mark`, `page` and `review`; and that `hybrid pairs` alone is still the stage."""

import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hybrid import Project
from hybrid.cli import main
from hybrid.pairs.review.marks import read_marks, short_id

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process and returns its stdout."""

    def command(project: Project, *arguments: str | Path, code: int = 0) -> str:
        capsys.readouterr()
        assert main([*map(str, arguments), "--project", str(project.folder)]) == code
        told = capsys.readouterr()
        return told.out if code == 0 else told.err

    return command


def test_pairs_alone_is_the_stage(finished_project: Project, run: Run) -> None:
    assert run(finished_project, "pairs").startswith("pairs        fresh, skipped")
    stages = json.loads(run(finished_project, "pairs", "--json"))["stages"]
    assert [(stage["stage"], stage["skipped"]) for stage in stages] == [("pairs", True)]


def test_show_lists_pairs_after_the_funnel(finished_project: Project, run: Run) -> None:
    pairs = [*finished_project.training_pairs(), *finished_project.training_pairs("dev")]
    text = run(finished_project, "pairs", "show", "--limit", "4")
    assert text.startswith("candidates ")
    assert f"4 of {len(pairs)} pairs; --limit 0 shows all" in text
    assert text.count("\n  id ") == 4
    assert run(finished_project, "pairs", "show", "--limit", "0").count("\n  id ") == len(pairs)
    assert "no pair fits" in run(finished_project, "pairs", "show", "--search", "zzzz")


def test_show_filters_and_speaks_json(finished_project: Project, run: Run) -> None:
    listed = json.loads(
        run(finished_project, "pairs", "show", "--kind", "absent", "--part", "train", "--json", "--limit", "2")
    )
    absent = [pair for pair in finished_project.training_pairs() if pair.kind == "absent"]
    assert listed["matching"] == len(absent)
    assert [pair["id"] for pair in listed["pairs"]] == [pair.id for pair in absent[:2]]
    assert {pair["part"] for pair in listed["pairs"]} == {"train"}
    assert listed["funnel"][0]["name"] == "candidates"
    assert "must be 0, for all pairs, or more" in run(finished_project, "pairs", "show", "--limit", "-1", code=2)


def test_mark_by_id_and_short_id(finished_copy: Project, run: Run) -> None:
    one, other = (pair.id for pair in finished_copy.training_pairs()[:2])
    assert "2 marked bad" in run(finished_copy, "pairs", "mark", one, short_id(other), "--bad", "--reason", "jumbled")
    assert {key: mark.reason for key, mark in read_marks(finished_copy.marks).by_id.items()} == {
        one: "jumbled",
        other: "jumbled",
    }
    shown = json.loads(run(finished_copy, "pairs", "show", "--mark", "bad", "--json"))
    assert {pair["id"] for pair in shown["pairs"]} == {one, other}
    assert "marks: 2 bad, 0 good; made after the last run" in run(finished_copy, "pairs", "show")
    assert "1 cleared" in run(finished_copy, "pairs", "mark", one, "--clear")
    assert json.loads(run(finished_copy, "pairs", "mark", other, "--good", "--json"))["changed"] == 1
    assert [mark.mark for mark in read_marks(finished_copy.marks).by_id.values()] == ["good"]


def test_mistakes_are_named(finished_copy: Project, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    key = finished_copy.training_pairs()[0].id
    assert "there is no pair 'nobody'" in run(finished_copy, "pairs", "mark", "nobody", "--bad", code=2)
    assert "--reason belongs to" in run(finished_copy, "pairs", "mark", key, "--clear", "--reason", "x", code=2)
    for wrong in (["mark", key], ["mark", key, "--bad", "--good"], ["shwo"], ["--force", "show"], ["page"]):
        with pytest.raises(SystemExit) as caught:
            main(["pairs", *wrong, "--project", str(finished_copy.folder)])
        assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
    assert not finished_copy.marks.exists()


def test_page_is_written(finished_project: Project, run: Run, tmp_path: Path) -> None:
    assert run(finished_project, "pairs", "page", "--out", tmp_path / "p.html") == f"wrote {tmp_path / 'p.html'}\n"
    written = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert written == (finished_project.path("pairs") / "pairs.html").read_text(encoding="utf-8")
    told = run(finished_project, "pairs", "page", "--out", tmp_path / "none" / "p.html", code=1)
    assert "No such file or directory" in told


def test_a_project_without_pairs_says_what_to_run(toy_project: Project, run: Run, tmp_path: Path) -> None:
    for arguments in (["show"], ["mark", "a", "--bad"], ["page", "--out", tmp_path / "p.html"], ["review"]):
        assert "has no pairs; run: hybrid pairs --project" in run(toy_project, "pairs", *arguments, code=1)


def test_review_serves_the_page_and_saves_marks(finished_copy: Project) -> None:
    program = "import sys; from hybrid.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "pairs", "review", "--port", "0", "--json", "--project"]
    with subprocess.Popen(
        [*command, str(finished_copy.folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as review:
        try:
            assert review.stdout
            url = urlsplit(json.loads(review.stdout.readline())["url"])
            assert url.hostname == "127.0.0.1"
            connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=60)
            connection.request("GET", "/")
            html = connection.getresponse().read().decode()
            data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
            body = json.dumps({"id": data["pairs"][0]["id"], "mark": "bad", "reason": "jumbled"})
            connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=60)
            connection.request("POST", "/marks", body, {"X-Hybrid-Token": data["token"]})
            assert connection.getresponse().status == 200
        finally:
            review.terminate()
    assert read_marks(finished_copy.marks).by_id[data["pairs"][0]["id"]].reason == "jumbled"
