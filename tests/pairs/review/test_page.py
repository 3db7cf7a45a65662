"""The page about all pairs: its structure, and what it does in a browser where one is installed."""

import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import ConfigError
from hybrid.pairs.review.marks import Mark, Marks, Verdict, read_marks
from hybrid.pairs.review.page import PairsView, charts, html_page
from hybrid.pairs.review.show import entries
from hybrid.server.review import make_review_server
from hybrid.types import Chunk, Pair, Quote

EVIL = "</script><script>document.title='owned'</script><!--<script><img src=x onerror=\"document.title='owned'\">'\"`"
TEXT = "😀 The pump\u2028needs a new impeller every 200 hours. " + EVIL
VOID = {"meta", "input", "br", "img", "link"}


class Page(HTMLParser):
    """Collects elements and scripts, and fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data: Any = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.elements[-1][1].get("id") == "data":
            self.data = json.loads(data)


def chunk(document: str, start: int, text: str) -> Chunk:
    return Chunk(f"{document}#{start}-{start + len(text)}", document, start, start + len(text), text, f"Title {EVIL}")


def view(size: int = 3, marks: Marks | None = None, hostile: str = EVIL) -> PairsView:
    """`size` pairs on two contexts; every third shows no oracle."""
    oracle, other = chunk(f"pumps {hostile}.md", 100, TEXT), chunk("bread.md", 0, "Ann bakes at six.")
    at = TEXT.index("every 200 hours")
    quote = Quote(oracle.document, 100 + at, 100 + at + 15, "every 200 hours")
    pairs = []
    for number in range(size):
        absent = number % 3 == 2
        pairs.append(
            Pair(
                f"p{number}",
                f"How often, number {number}? {hostile}",
                f"Not said. {hostile}" if absent else f"every 200 hours {hostile}",
                (other.id,) if absent else (other.id, oracle.id),
                (oracle.id,),
                (quote,),
                "absent" if absent else "grounded",
                f"teacher {hostile}",
                "number" if number % 2 else hostile,
                number % 4,
            )
        )
    counts = {"candidates": size + 5, f"dropped: {hostile}": 5, "train": size - 1, "dev": 1, f"G {hostile}": 2.5}
    parts = {"train": pairs[:-1], "dev": pairs[-1:]}
    return PairsView(parts, {oracle.id: oracle, other.id: other}, counts, marks or Marks())


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


# --- structure --------------------------------------------------------------------------------------------------------


def test_hostile_text_stays_text() -> None:
    marks = Marks([Mark("p0", f"How often, number 0? {EVIL}", f"every 200 hours {EVIL}", "bad", EVIL)])
    html = html_page(view(marks=marks), f"Pumps {EVIL}")
    page = parse(html)
    assert Counter(tag for tag, _ in page.elements)["script"] == 2, "the data and our own script"
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    data = html.partition('id="data">')[2].partition("</script>")[0]
    assert not set(data) & set("<>&'"), "nothing in the data can end its element"
    assert page.data["pairs"][0]["question"] == f"How often, number 0? {EVIL}"
    assert page.data["marks"][0]["reason"] == EVIL


def test_the_page_needs_no_network() -> None:
    html = html_page(view(hostile=""), "Pumps")
    page = parse(html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert not {"link", "iframe", "object", "img"} & {tag for tag, _ in page.elements}
    assert not [attributes for _, attributes in page.elements if "src" in attributes or "href" in attributes]
    assert "default-src 'none'" in html
    assert "connect-src" not in html
    assert "connect-src 'self'" in html_page(view(), "Pumps", "token")


def test_quotes_stand_where_the_page_marks_them() -> None:
    data = parse(html_page(view(), "Pumps")).data
    for pair in data["pairs"]:
        for quote in pair["quotes"]:
            (passage,) = [c for c in data["chunks"].values() if c["document"] == quote["document"]]
            place = quote["start"] - passage["start"], quote["end"] - passage["start"]
            assert passage["text"][slice(*place)] == quote["text"] == "every 200 hours"


def test_passages_and_contexts_are_stored_once() -> None:
    data = parse(html_page(view(30), "Pumps")).data
    assert len(data["pairs"]) == 30
    assert len(data["contexts"]) == len(data["chunks"]) == 2
    shown = [data["contexts"][pair["context"]] for pair in data["pairs"]]
    assert [len(context) for context in shown[:3]] == [2, 2, 1]
    assert all(set(pair["oracles"]) <= data["chunks"].keys() for pair in data["pairs"]), "also what is not shown"


def test_the_same_pairs_give_the_same_page_with_half_surrogates_too() -> None:
    assert html_page(view(), "Pumps") == html_page(view(), "Pumps")
    assert parse(html_page(view(hostile="\ud800"), "Pumps")).data["pairs"][0]["source"] == "teacher \ud800"


def test_figures_are_those_of_the_pairs() -> None:
    shown = view(30)
    found = charts(entries(shown.parts, Marks()))
    assert [(bar.label, bar.size) for bar in found["Kinds"]] == [("grounded", 20), ("absent", 10)]
    assert [(bar.label, bar.size) for bar in found["Place of the oracle in the context"]] == [("2", 20)]
    ranks = Counter(number % 4 for number in range(30))
    expected = [("1", ranks[1]), ("2", ranks[2]), ("3", ranks[3]), ("not found", ranks[0])]
    assert [(bar.label, bar.size) for bar in found["Rank of the oracle in retrieval"]] == expected
    assert [(bar.label, bar.size) for bar in found["Questions that share a context"]][-2:] == [
        ("9–16", 1),
        ("17–32", 1),
    ]
    assert max(bar.share for bar in found["Kinds"]) == 1
    assert charts([])["Kinds"] == []


def test_a_large_set_is_a_page_of_few_elements() -> None:
    html = html_page(view(3000, hostile=""), "Pumps")
    assert len(html) < 2_000_000
    assert len(parse(html).elements) < 300


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(names)} is installed")
    quiet = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program, args=[*quiet, "--disable-component-update", "--disable-sync"]
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Writes a page, opens it, and fails at the end if it reported an error."""
    tab = browser.new_page()
    tab.set_default_timeout(5000)
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))

    def opened(shown: PairsView) -> Any:
        (tmp_path / "pairs.html").write_text(html_page(shown, f"Pumps {EVIL}"), encoding="utf-8")
        tab.goto((tmp_path / "pairs.html").as_uri())
        return tab

    yield opened
    tab.close()
    assert problems == []


def count(tab: Any) -> str:
    return str(tab.locator("#count").inner_text())


def test_hostile_text_is_shown_and_quotes_are_marked_exactly(open_page: Any) -> None:
    tab = open_page(view())
    assert tab.locator(".card h3").first.inner_text() == f"How often, number 0? {EVIL}"
    tab.keyboard.press("j")
    assert tab.locator(".card.current .passage mark").all_inner_texts() == ["every 200 hours"]
    assert tab.locator(".card.current .passage").nth(1).locator("b").inner_text() == "oracle"
    passage = tab.locator(".card.current .passage").nth(1).locator("p").evaluate("node => node.textContent")
    assert passage == TEXT
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    assert "not shown to the model" in tab.locator(".card.current .passage.oracle h4").inner_text()
    assert tab.evaluate("document.title") == f"Pairs of Pumps {EVIL}"


def test_filters_and_their_counts(open_page: Any) -> None:
    tab = open_page(view(90))
    assert count(tab) == "90 pairs; 0 bad, 0 good"
    tab.locator("#kind").select_option("=absent")
    assert count(tab).startswith("30 of 90 pairs")
    tab.locator("#asks").select_option("=number")
    assert count(tab).startswith("15 of 90 pairs")
    tab.locator("#search").fill("NUMBER often 65?")
    assert count(tab).startswith("1 of 90 pairs")
    tab.locator("#part").select_option("=dev")
    assert count(tab).startswith("0 of 90 pairs")
    assert tab.locator("#nothing").is_visible()


def test_keys_mark_pairs_and_marks_stay_and_are_downloaded(open_page: Any, tmp_path: Path) -> None:
    gone = Mark("gone", f"Who bakes? {EVIL}", "Ann", "bad", "nobody asks")
    shown = view(90, Marks([gone]))
    tab = open_page(shown)
    assert tab.locator("#orphans li").count() == 1
    for key in "jbjgjbujb":
        tab.keyboard.press(key)
    tab.keyboard.press("r")
    tab.keyboard.type("jumbled")
    tab.keyboard.press("Enter")
    assert count(tab) == "90 pairs; 2 bad, 1 good"
    tab.locator("#mark").select_option("=bad")
    assert count(tab).startswith("2 of 90 pairs")
    tab.reload()
    assert count(tab) == "90 pairs; 2 bad, 1 good", "they are kept in the browser"
    with tab.expect_download() as waiting:
        tab.locator("#download").click()
    waiting.value.save_as(tmp_path / "marks.jsonl")
    marks = read_marks(tmp_path / "marks.jsonl")
    judged = [(mark.id, mark.mark, mark.reason) for mark in marks.by_id.values()]
    assert judged == [("gone", "bad", "nobody asks"), ("p0", "bad", ""), ("p1", "good", ""), ("p3", "bad", "jumbled")]
    assert marks.by_id["gone"] == gone
    assert [mark.id for mark in marks.on(shown.parts["train"][0])] == ["p0"]
    tab = open_page(view(90, marks))
    assert count(tab) == "90 pairs; 2 bad, 1 good"
    assert tab.evaluate("localStorage.length") == 0, "what is filed need not be kept"


class Review:
    """A view and the marks made on it."""

    def __init__(self, shown: PairsView) -> None:
        self.shown = shown
        self.made: list[tuple[str, Verdict | None, str]] = []
        self.refuses = False

    def page(self, token: str) -> str:
        return html_page(self.shown, "Pumps", token)

    def mark(self, key: str, verdict: Verdict | None, reason: str) -> None:
        if self.refuses:
            raise ConfigError("the disk is full")
        self.made.append((key, verdict, reason))


def test_the_served_page_saves_marks_at_once_and_says_where_it_cannot(browser: Any) -> None:
    review = Review(view(9, Marks([Mark("gone", "Who bakes?", "Ann", "bad")])))
    tab = browser.new_page()
    tab.set_default_timeout(5000)
    with make_review_server(review, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            tab.goto(server.url)
            assert tab.locator("#download").is_hidden()
            for key in "jbjug":
                if key in "bg":  # each waits for its own answer
                    with tab.expect_response("**/marks"):
                        tab.keyboard.press(key)
                else:
                    tab.keyboard.press(key)
            with tab.expect_response("**/marks"):
                tab.locator("#orphans button").click()
            assert review.made == [("p0", "bad", ""), ("p1", "good", ""), ("gone", None, "")]
            assert count(tab) == "9 pairs; 1 bad, 1 good"
            review.refuses = True
            tab.keyboard.press("b")
            tab.locator("#notice").get_by_text("Not saved: the disk is full").wait_for()
            assert count(tab) == "9 pairs; 1 bad, 1 good", "the page shows what is saved"
        finally:
            server.shutdown()
            thread.join()
            tab.close()


def test_cards_are_made_as_they_are_needed(open_page: Any) -> None:
    tab = open_page(view(3000, hostile=""))
    assert count(tab) == "3000 pairs; 0 bad, 0 good"
    assert tab.locator(".card").count() < 200
    tab.locator("#part").select_option("=train")
    tab.locator("#search").fill("number 29")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert count(tab) == f"{tab.locator('.card').count()} of 3000 pairs; 0 bad, 0 good"


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_no_wider_than_the_window(open_page: Any, width: int) -> None:
    tab = open_page(view())
    tab.set_viewport_size({"width": width, "height": 900})
    tab.keyboard.press("j")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
