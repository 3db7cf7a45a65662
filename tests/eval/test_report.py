import csv
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.report import write_files, write_report
from hybrid.types import Citation, Question

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'|`"
_REPLY = ("abstained", "documents", "contexts", "seconds", "error", "citations")
VOID = {"meta", "input", "br", "img", "link", "rect", "line", "path", "circle"}


class Page(HTMLParser):
    """Collects the elements of a page and fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def comparison(text: str = "every 200 hours") -> Comparison:
    questions = [
        Question("q1", f"How often? {text}", ("every 200 hours", text), ("d1",), kind="interval"),
        Question("q2", "Why?", answerable=False, kind="absent"),
        Question("q3", "水泵多久更换一次？", ("每两年",), kind=text),
    ]
    cited = (Citation(1, text, 3, 9, text),)
    rag = (
        Reply("q1", text, False, ("d1", text), (text,), 0.5, cited),
        Reply("q2", "", True, (), (), 0.1),
        Reply("q3", "", False, (), (), 0.1, error=text),
    )
    base = (Reply("q1", "yearly\ud800", False, (), (), 0.25),)
    return compare(questions, [ArmRun("rag", text, rag), ArmRun(text, "closed book", base)], k=4)


def write(folder: Path, text: str = "every 200 hours") -> Path:
    write_report(
        comparison(text),
        folder / "new",
        title=f"Pumps {text}",
        facts={text: text},
        verdict=f"Use rag. {text}",
        notes=[text],
    )
    return folder / "new"


def parse(folder: Path) -> Page:
    page = Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_json_has_the_agreed_shape(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = (write(tmp_path) / "report.json").read_text(encoding="utf-8")
    data = json.loads(text, parse_constant=refuse)
    assert set(data) == {
        *("arms", "baseline", "metric", "verdict", "decision", "facts", "notes", "costs", "clusters", "failures"),
        *("title", "slices", "confidence", "nearness", "k", "seed", "questions"),
    }
    assert set(data["arms"][0]) == {
        *("name", "description", "n", "em", "f1", "rouge_l", "contains", "recall_at_k", "abstained"),
        *("refused_unanswerable", "over_refused", "errors", "failed", "seconds", "seconds_p50", "seconds_p95"),
        *("vs_rag", "scores", "versus"),
    }
    assert data["arms"][0]["failed"] == ["q3"]
    assert set(data["arms"][0]["scores"]["f1"]) == {"value", "low", "high", "n"}
    assert data["arms"][1]["versus"]["em"]["mcnemar"]["lost"] == 1
    assert data["arms"][1]["versus"]["f1"]["mcnemar"] is None
    assert data["clusters"] == {"clusters": 3, "largest": 1, "by": "document"}
    assert data["failures"][0]["counts"]["error"] == 1
    assert [part["label"] for part in data["slices"]] == ["interval", "absent", "every 200 hours"]
    assert data["arms"][0]["vs_rag"] is None
    assert set(data["arms"][1]["vs_rag"]) == {"f1_difference", "low", "high", "p", "p_holm"}
    question = data["questions"][0]
    assert set(question) == {"id", "question", "kind", "answerable", "answers", "gold", "quotes", "replies"}
    own = question["replies"]["rag"]
    assert {key: own[key] for key in own if key in {"text", "em", "f1", "rouge_l", "contains", "cause", *_REPLY}} == {
        **{"text": "every 200 hours", "em": 1.0, "f1": 1.0, "rouge_l": 1.0, "contains": 1.0, "abstained": False},
        **{"cause": "right"},
        **{"documents": ["d1", "every 200 hours"], "contexts": ["every 200 hours"], "seconds": 0.5, "error": ""},
        "citations": [asdict(Citation(1, "every 200 hours", 3, 9, "every 200 hours"))],
    }
    assert data["questions"][1]["replies"]["rag"]["em"] is None
    assert data["questions"][2]["question"] == "水泵多久更换一次？"


def test_hostile_text_cannot_run(tmp_path: Path) -> None:
    page = parse(write(tmp_path, EVIL))
    assert [tag for tag, _ in page.elements].count("script") == 2, "the data and our own script"
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert any("<script>alert(1)</script>" in text for text in page.text)


def test_page_needs_no_network(tmp_path: Path) -> None:
    html = (write(tmp_path) / "report.html").read_text(encoding="utf-8")
    page = parse(tmp_path / "new")
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [attributes for _, attributes in page.elements if "src" in attributes]
    assert all((attributes.get("href") or "#").startswith("#") for _, attributes in page.elements)
    assert "default-src 'none'" in html


def test_page_serves_light_dark_print_and_narrow(tmp_path: Path) -> None:
    html = (write(tmp_path) / "report.html").read_text(encoding="utf-8")
    for query in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert query in html


def test_page_shows_verdict_first_then_scores_figures_and_questions(tmp_path: Path) -> None:
    html = (write(tmp_path) / "report.html").read_text(encoding="utf-8")
    places = [html.index(what) for what in ("Use rag.", "<table", "<svg", 'id="slices"', 'id="data"')]
    assert places == sorted(places)
    for words in ("no clear difference", "baseline", "Refused rightly", "arms differ", "failed"):
        assert words in html


@pytest.mark.parametrize("text", ["every 200 hours", EVIL])
def test_markdown(tmp_path: Path, text: str) -> None:
    markdown = (write(tmp_path, text) / "report.md").read_text(encoding="utf-8")
    for heading in ("# Pumps", "**Verdict.** Use rag.", "## Arms", "## Why answers are wrong", "## Slices", "## Notes"):
        assert heading in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "<script" not in markdown


def test_same_comparison_same_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    for name in ("report.json", "report.md", "report.csv", "report.html"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_one_arm_without_kinds_or_notes(tmp_path: Path) -> None:
    alone = compare([Question("q", "?", ("x",))], [ArmRun("base", "", ())], k=1)
    write_report(alone, tmp_path, title="T", facts={}, verdict="V", notes=())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not tested" in html
    assert "No arm is compared with the baseline." in html


@pytest.mark.parametrize("text", ["every 200 hours", EVIL, '=HYPERLINK("x")', "+1", "-1", "@x", "\tx"])
def test_the_sheet_has_a_row_per_question_and_arm_and_no_formula(tmp_path: Path, text: str) -> None:
    with (write(tmp_path, text) / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["q1", "q1", "q2", "q2", "q3", "q3"]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert rows[0]["text"].removeprefix("'") == text
    assert (rows[0]["f1"], rows[0]["outcome"], rows[0]["cause"], rows[2]["f1"]) == ("1.0", "exact", "right", "")


def test_pages_say_what_questions_of_a_group_have_in_common(tmp_path: Path) -> None:
    write(tmp_path)
    data = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    told = ("groups that share a gold passage", "groups that share a gold document")
    for by, text in (({"by": "passage"}, told[0]), ({}, told[1])):
        counts = {key: value for key, value in data["clusters"].items() if key != "by"}
        write_files({**data, "clusters": {**counts, **by}}, tmp_path / "new", {})
        for name in ("report.html", "report.md"):
            assert text in (tmp_path / "new" / name).read_text(encoding="utf-8")
