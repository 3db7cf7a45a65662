import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.pages import standing
from hybrid.eval.plot import Bar, bar_plot
from hybrid.eval.report import write_report
from hybrid.eval.statistics import Difference
from hybrid.types import Citation, Question

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'|`"
VOID = {"meta", "input", "br", "img", "link", "rect", "line", "path"}


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
    assert list(data) == ["arms", "baseline", "verdict", "facts", "notes", "k", "seed", "questions"]
    assert set(data["arms"][0]) == {
        *("name", "description", "n", "em", "f1", "rouge_l", "contains", "recall_at_k", "abstained"),
        *("refused_unanswerable", "over_refused", "errors", "seconds", "vs_rag"),
    }
    assert data["arms"][0]["vs_rag"] is None
    assert set(data["arms"][1]["vs_rag"]) == {"f1_difference", "low", "high", "p", "p_holm"}
    question = data["questions"][0]
    assert set(question) == {"id", "question", "kind", "answerable", "answers", "gold", "replies"}
    assert question["replies"]["rag"] == {
        **{"text": "every 200 hours", "em": 1.0, "f1": 1.0, "rouge_l": 1.0, "contains": 1.0, "abstained": False},
        **{"documents": ["d1", "every 200 hours"], "contexts": ["every 200 hours"], "seconds": 0.5, "error": ""},
        "citations": [{"number": 1, "document": "every 200 hours", "start": 3, "end": 9, "quote": "every 200 hours"}],
    }
    assert data["questions"][1]["replies"]["rag"]["em"] is None
    assert data["questions"][2]["question"] == "水泵多久更换一次？"


def test_hostile_text_cannot_run(tmp_path: Path) -> None:
    page = parse(write(tmp_path, EVIL))
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert any("<script>alert(1)</script>" in text for text in page.text)


def test_page_needs_no_network(tmp_path: Path) -> None:
    html = (write(tmp_path) / "report.html").read_text(encoding="utf-8")
    page = parse(tmp_path / "new")
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [attributes for _, attributes in page.elements if "src" in attributes or "href" in attributes]
    assert "default-src 'none'" in html


def test_page_serves_light_dark_print_and_narrow(tmp_path: Path) -> None:
    html = (write(tmp_path) / "report.html").read_text(encoding="utf-8")
    for query in ("prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert query in html


def test_page_shows_verdict_first_and_every_reply(tmp_path: Path) -> None:
    html = (write(tmp_path) / "report.html").read_text(encoding="utf-8")
    page = parse(tmp_path / "new")
    assert html.index("Use rag.") < html.index("<table") < html.index('class="card"')
    cards = [attributes for tag, attributes in page.elements if tag == "article"]
    assert [card["data-kind"] for card in cards] == ["=interval", "=absent", "=every 200 hours"]
    assert [card["data-differ"] for card in cards] == ["1", "1", "0"]
    assert [(card["data-failed"] or "").split() for card in cards] == [["1"], ["1"], ["0", "1"]]
    replies = [
        attributes["class"] for tag, attributes in page.elements if tag == "section" and "reply" in str(attributes)
    ]
    assert len(replies) == 6
    for words in (
        "exact",
        "wrong",
        "rightly refused",
        "error",
        "no answer in the documents",
        "arms differ",
        "rag wrong",
    ):
        assert words in html


@pytest.mark.parametrize("text", ["every 200 hours", EVIL])
def test_markdown(tmp_path: Path, text: str) -> None:
    markdown = (write(tmp_path, text) / "report.md").read_text(encoding="utf-8")
    for heading in ("# Pumps", "**Verdict.** Use rag.", "## Arms", "## By kind of question", "## Notes"):
        assert heading in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "<script" not in markdown.replace(f"Use rag. {text}", "")


def test_same_comparison_same_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    for name in ("report.json", "report.md", "report.html"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_one_arm_without_kinds_or_notes(tmp_path: Path) -> None:
    alone = compare([Question("q", "?", ("x",))], [ArmRun("base", "", ())], k=1)
    write_report(alone, tmp_path, title="T", facts={}, verdict="V", notes=())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "By kind of question" not in html
    assert "not tested" in html


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (Difference(0.2, 0.1, 0.3, 0.01), "better"),
        (Difference(-0.2, -0.3, -0.1, 0.01), "worse"),
        (Difference(1.0, 1.0, 1.0, 1.0), "no clear difference"),
    ],
)
def test_standing_asks_for_a_small_p(difference: Difference, expected: str) -> None:
    assert standing(difference) == expected


def test_plot_is_labelled_valid_svg() -> None:
    svg = bar_plot(
        [Bar("rag", 0.4, 0.3, 0.5), Bar('a <b> & "c" with a long name', 0.61, 0.55, 0.72)],
        title="F1 <of arms>",
        description="rag 0.4",
        axis="Mean",
        reference="rag",
    )
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert root.find("title").text == "F1 <of arms>"  # type: ignore[union-attr]
    assert [e.attrib["class"] for e in root.iter("rect")] == ["bar reference", "bar"]
    ticks = [e.text for e in root.findall("text") if e.attrib.get("text-anchor") == "middle"]
    assert ticks == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]


@pytest.mark.parametrize("bars", [[], [Bar("a", 0.0, 0.0, 0.0)], [Bar("a", 1.0, 1.0, 1.0)]])
def test_plot_edges(bars: list[Bar]) -> None:
    ElementTree.fromstring(bar_plot(bars, title="t", description="d", axis="x"))
