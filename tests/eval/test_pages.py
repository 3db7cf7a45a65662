"""The report's page: its structure, and what it does in a browser where one is installed."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.pages import html_page, questions_data
from hybrid.eval.report import report_data
from hybrid.types import Citation, Question

EVIL = "</script><script>document.title='owned'</script><!--<script><img src=x onerror=\"document.title='owned'\">'\"`"
VOID = {"meta", "input", "br", "img", "link", "rect", "line", "path", "circle"}
ARMS = {
    "base": (0.05, 0.0),
    "rag": (0.3, 0.55),
    "tuned": (0.2, 0.0),
    "tuned_rag": (0.35, 0.6),
    "hybrid": (0.72, 0.85),
    "hybrid_without_retrieval": (0.22, 0.0),
    "rag_oracle": (0.5, 0.2),
    "rag_distractors": (0.05, 0.7),
}
KINDS = ("number", "procedure", "definition", "who or what", "comparison of two")
WORDS = "pump valve impeller seal bearing every hours replace turn clean the of after before bolt torque".split()
CONDITIONS = ("as asked", "0 distractors", "4 distractors", "oracle first", "oracle last", "contradicted", "injection")


class Page(HTMLParser):
    """Collects elements and the data, and fails where tags do not nest."""

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


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def passage(number: int) -> str:
    """Text of the only chunk of a document, from character 100 on; it holds the answer to its questions."""
    rng = Random(number)
    filler = [" ".join(rng.choices(WORDS, k=rng.randint(20, 60))) for _ in range(2)]
    hostile = EVIL if number % 5 == 0 else ""
    return f"😀 {filler[0]}.\u2028It is {number} hours exactly. {hostile} {filler[1]}."


def chunk(number: int) -> str:
    return f"manuals/pump {number}.md#100-{100 + len(passage(number))}"


def reply(rng: Random, question: Question, number: int, arm: str, hostile: str) -> Reply:
    skill, refuses = ARMS[arm]
    closed = arm in {"base", "tuned", "hybrid_without_retrieval"}
    others = [(number + step) % 20 for step in (3, 5, 7)]
    shown = [] if closed else [*others[:1], number, *others[1:]] if rng.random() < 0.8 else others
    contexts = tuple(chunk(each) for each in shown)
    documents = tuple(id_.partition("#")[0] for id_ in contexts)
    cosine = None if closed else round(rng.uniform(0.3, 0.8) + 0.1 * question.answerable, 3)
    seconds = round(rng.lognormvariate(-1.2 if closed else 0.1, 0.35), 3)
    if rng.random() < 0.01:
        failed = Reply(question.id, "", False, documents, contexts, 0.1, error=f"the model stopped {hostile}")
        return replace(failed, cosine=cosine)
    if rng.random() < (refuses if not question.answerable else refuses / 8):
        return Reply(question.id, "The documents do not say.", True, documents, contexts, seconds, cosine=cosine)
    said = " ".join(rng.choices(WORDS, k=rng.choice([2, 4, 8, 120])))
    citations: tuple[Citation, ...] = ()
    if question.answerable and rng.random() < skill:
        said = f"{number} hours" if rng.random() < 0.7 else f"It is {number} hours, I think, {said}"
        if number in shown:
            start = 100 + passage(number).index(f"{number} hours")
            quote = f"{number} hours exactly"
            citations = (
                Citation(shown.index(number) + 1, documents[shown.index(number)], start, start + len(quote), quote),
            )
    text = f"{said} {hostile}".strip() if rng.random() < 0.05 else said
    return Reply(
        question.id,
        text,
        False,
        documents,
        contexts,
        seconds,
        citations,
        tokens_in=60 + 200 * len(shown),
        tokens_out=9,
        confidence=min(0.99, rng.random() + 0.3 * (question.answerable and said.startswith(str(number)))),
        cosine=cosine,
    )


def made_comparison(size: int = 120, arms: int = 6, hostile: str = EVIL) -> Comparison:
    """Replies of several arms to questions of several kinds, a sixth of them unanswerable."""
    questions = [
        Question(
            f"q{number}",
            f"After how many hours is part {number} of the pump due, and why? {hostile if number % 10 == 0 else ''}",
            () if number % 6 == 5 else (f"{number % 20} hours", "per hour"),
            () if number % 6 == 5 else (chunk(number % 20).partition("#")[0],),
            answerable=number % 6 != 5,
            quotes=() if number % 6 == 5 else (f"It is {number % 20} hours exactly.",),
            kind="absent" if number % 6 == 5 else KINDS[number % 5],
        )
        for number in range(size)
    ]
    runs = [
        ArmRun(
            arm,
            f"what {arm} is made of {hostile}" if arm == "base" else f"what {arm} is made of",
            tuple(reply(Random(f"{arm} {n}"), q, n % 20, arm, hostile) for n, q in enumerate(questions)),
        )
        for arm in list(ARMS)[:arms]
    ]
    return compare(questions, runs, k=4)


def made_data(comparison: Comparison, hostile: str = EVIL) -> dict[str, Any]:
    """The content of a report.json with everything in it."""
    names = [run.name for run in comparison.runs]
    costs = [
        {
            **{"arm": arm.name, "tokens_in": 812.0, "tokens_out": 11.5, "seconds_p50": arm.seconds_p50},
            **{"seconds_p95": arm.seconds_p95, "peak_memory_mb": 1234.5, "training_seconds": None},
            "price": None if arm.name == "tuned" else arm.seconds_p50 / 3 + place / 50,
        }
        for place, arm in enumerate(comparison.summaries)
    ]
    scores = [
        {
            **{"arm": arm, "condition": condition, "n": 40, "wanted": "refuse" if "missing" in condition else "answer"},
            **{"score": ARMS[arm][0], "low": ARMS[arm][0] * 0.8, "high": ARMS[arm][0] * 1.2},
            **{"refused": 0.1, "misled": None, "errors": 0},
        }
        for condition in (*CONDITIONS, "oracle missing")
        for arm in names
        if "rag" in arm
    ]
    decision = {
        "choice": "hybrid" if "hybrid" in names else None,
        "reasons": [
            "Hybrid (fine-tuned on retrieved contexts, served with retrieval): token F1 0.536 against 0.262 for rag, "
            "+27.4 points (95% interval +20.1 to +35.0, p < 0.001, adjusted for 4 arms) on 100 questions.",
            "An answer takes 0.02 s more.",
            f"It took 14 minutes to train, and needs it again when the documents change much. {hostile}",
        ],
        "warnings": [
            "Few documents: the questions are about 20 separate groups of documents.",
            "rag: 2 of 120 failed.",
        ],
        "standings": [],
    }
    parts = {
        "corpus": {name: {"bleu": 0.0123, "chrf": 0.4567} for name in names},
        "perplexity": {names[0]: {"value": 12.34, "low": 11.1, "high": 13.9, "n": 30}},
        "forgetting": [{"arms": ["tuned"], "before": 20.5, "after": 22.55, "change": 0.1, "low": -0.05, "high": 0.2}],
        "judge": {
            **{"mode": "pairwise", "metric": "f1", "questions": 20, "asked": 31, "identical": 7, "failed_replies": 2},
            **{"failures": 3, "calibration": {"spearman": 0.61, "n": 28}},
        },
        "robustness": {"metric": "f1", "questions": 40, "seed": 0, "scores": scores},
        "prompts": [{"name": "3-shot, k=1", "score": 0.174}, {"name": "zero-shot, k=4", "score": 0.083}],
    }
    return report_data(
        comparison,
        title=f"handbook: which way answers best? {hostile}",
        facts={"Model": "SmolLM2-135M-Instruct", "Documents": "20 documents, 20 chunks", "Seed": "0"},
        verdict="unused",
        notes=["With 100 questions, a difference under 9.1 points cannot be seen reliably.", f"A note {hostile}"],
        costs=costs,
        decision=decision,
        passages=PASSAGES,
        parts=parts,
    )


PASSAGES = {chunk(number): passage(number) for number in range(20)}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return made_comparison(36, 4)


@pytest.fixture(scope="module")
def data(comparison: Comparison) -> dict[str, Any]:
    return made_data(comparison)


# --- structure --------------------------------------------------------------------------------------------------------


def test_hostile_text_stays_text(data: dict[str, Any]) -> None:
    html = html_page(data, PASSAGES)
    page = parse(html)
    assert Counter(tag for tag, _ in page.elements)["script"] == 2, "the data and our own script"
    assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    embedded = html.partition('id="data">')[2].partition("</script>")[0]
    assert not set(embedded) & set("<>&'"), "nothing in the data can end its element"
    assert page.data["questions"][0]["question"].endswith(EVIL)
    assert "default-src 'none'" in html


def test_every_figure_is_there_and_named_once() -> None:
    page = parse(
        html_page(made_data(made_comparison(60, 4)), PASSAGES)
    )  # ten unanswerable questions, as one figure needs
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    names = [str(attributes["aria-labelledby"]) for attributes in drawings]
    assert len(set(names)) == len(names)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {name for pair in names for name in pair.split()} <= set(ids)
    for key in (
        "bars-f1",
        "differences",
        "latency",
        "price",
        "causes",
        "retrieval",
        "coverage",
        "confidence",
        "refusals",
        "nearness",
    ):
        assert f"{key}-title {key}-desc" in names
    assert "robustness-answer-title robustness-answer-desc" in names
    assert "robustness-refuse-title robustness-refuse-desc" in names


def test_further_measures_are_shown_where_there_are_any(data: dict[str, Any]) -> None:
    html = html_page(data, PASSAGES)
    for words in ("0.457", "12.3", "22.55", "+10.0 %", "−5.0 %", "is 0.61", "zero-shot, k=4"):
        assert words in html
    lead = " ".join(html.partition("<h3>The judge</h3>")[2].partition("</p>")[0].split())
    for words in (
        "31 pairs of answers to 20",
        "3 judgements failed",
        "7 identical",
        "2 with a failed",
        "on the 28 pairs",
    ):
        assert words in lead
    rest = {key: value for key, value in data.items() if key not in {"corpus", "perplexity", "forgetting", "judge"}}
    assert 'id="language"' in html
    assert 'id="language"' not in html_page(rest, PASSAGES)


def test_what_cannot_be_drawn_is_said() -> None:
    comparison = compare(
        [Question("a", "?", ("x",)), Question("b", "?", ("y",))],
        [ArmRun("rag", "", tuple(Reply(id_, "", False, (), (), 0.0, error="down") for id_ in "ab"))],
        k=1,
    )
    html = html_page(report_data(comparison, facts={}, verdict="Nothing.", notes=()), {})
    parse(html)
    for words in (
        "No arm is compared with the baseline.",
        "No price is known",
        "No answer was timed.",
        "Every question is answerable",
        "No arm answered any question.",
        "It is not known for which questions",
        "Costs were not measured.",
    ):
        assert words in html


def test_no_answerable_question() -> None:
    comparison = compare(
        [Question("a", "?", answerable=False), Question("b", "?", answerable=False)],
        [ArmRun(name, "", tuple(Reply(id_, "", True, (), (), 0.1) for id_ in "ab")) for name in ("rag", "base")],
        k=1,
    )
    html = html_page(report_data(comparison, facts={}, verdict="Nothing.", notes=()), {})
    parse(html)
    assert "No question has the measure Token F1." in html


def test_passages_are_kept_once_and_citations_stand_where_they_say(data: dict[str, Any]) -> None:
    shown = questions_data(data, PASSAGES)
    assert len(shown["passages"]) == len({(name, start) for name, start, _ in shown["passages"]}) <= 20
    cited = 0
    for question in shown["questions"]:
        for answer in question["replies"]:
            for _, document, start, end, quote in answer["citations"]:
                (found,) = [passage for passage in shown["passages"] if passage[0] == document]
                assert found[2][start - found[1] : end - found[1]] == quote
                cited += 1
    assert cited > 5


def test_the_same_data_give_the_same_page(data: dict[str, Any]) -> None:
    assert html_page(data, PASSAGES) == html_page(json.loads(json.dumps(data)), PASSAGES)


def test_many_questions_are_a_page_of_few_elements(data: dict[str, Any]) -> None:
    many = {**data, "questions": [{**q, "id": f"{q['id']} {n}"} for n in range(14) for q in data["questions"]]}
    html = html_page(many, PASSAGES)
    assert len(html) < 2_000_000
    assert len(parse(html).elements) == len(parse(html_page(data, PASSAGES)).elements)


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
def tab(browser: Any, data: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """The page, open; at the end it must have reported no error and asked for nothing but itself."""
    page = browser.new_page(color_scheme="light")
    page.set_default_timeout(5000)
    problems: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    file = tmp_path / "report.html"
    file.write_text(html_page(data, PASSAGES), encoding="utf-8", errors="replace")
    page.goto(file.as_uri())
    yield page
    page.close()
    assert problems == []
    assert set(asked) == {file.as_uri()}


def count(tab: Any) -> str:
    return str(tab.locator("#count").inner_text())


def test_filters_and_their_counts(tab: Any, data: dict[str, Any]) -> None:
    assert count(tab) == "36 questions"
    tab.locator("#kind").select_option("=absent")
    assert count(tab) == "6 of 36 questions"
    tab.locator("#kind").select_option("")
    tab.locator("#search").fill("PART 33 pump")
    assert count(tab) == "1 of 36 questions"
    tab.locator("#search").fill("")
    places = {
        "outcome exact": ("outcome", "exact"),
        "cause missed": ("cause", "missed"),
        "cause refused": ("cause", "refused"),
    }
    for value, (field, wanted) in places.items():
        tab.locator("#result").select_option(value)
        for number, arm in enumerate(arm["name"] for arm in data["arms"]):
            tab.locator("#arm").select_option(str(number))
            expected = sum(q["replies"][arm][field] == wanted for q in data["questions"])
            assert count(tab) == f"{expected} of 36 questions"
    tab.locator("#arm").select_option("")
    expected = sum(any(r["cause"] == "refused" for r in q["replies"].values()) for q in data["questions"])
    assert count(tab) == f"{expected} of 36 questions"
    tab.locator("#result").select_option("")
    tab.locator("#differ").check()
    differing = sum(len({r["outcome"] for r in q["replies"].values()}) > 1 for q in data["questions"])
    assert 0 < differing < 36
    assert count(tab) == f"{differing} of 36 questions"
    tab.locator("#search").fill("no such words")
    assert tab.locator("#nothing").is_visible()


def test_hostile_text_is_shown_as_text(tab: Any) -> None:
    assert tab.locator(".card h3").first.evaluate("node => node.textContent").endswith(EVIL)
    assert tab.evaluate("document.title").endswith(EVIL)


def test_keys_move_and_open_the_passages_with_the_citation_marked(tab: Any, data: dict[str, Any]) -> None:
    place = next(n for n, q in enumerate(data["questions"]) if any(r["citations"] for r in q["replies"].values()))
    for _ in range(place + 2):
        tab.keyboard.press("j")
    tab.keyboard.press("k")
    card = tab.locator(".card:focus")
    assert card.locator(".tags code").inner_text() == f"q{place}"
    tab.keyboard.press("o")
    marks = card.locator("mark")
    marks.first.wait_for()
    expected = [c["quote"] for r in data["questions"][place]["replies"].values() for c in r["citations"]]
    assert marks.all_inner_texts() == expected
    body = card.locator(".passage-text", has=tab.locator("mark")).first.evaluate("node => node.textContent")
    assert body in PASSAGES.values(), "the passage itself is unchanged"
    tab.keyboard.press("/")
    tab.keyboard.type("jjk")
    assert tab.locator("#search").input_value() == "jjk", "keys are for moving only outside of fields"


def test_light_and_dark_by_the_system_and_by_the_button(tab: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(paper)
    tab.locator("#theme").click()
    dark = tab.evaluate(paper)
    assert light != dark
    tab.reload()
    assert tab.evaluate(paper) == dark, "the choice is kept"
    tab.locator("#theme").click()
    assert tab.evaluate(paper) == light
    tab.evaluate("localStorage.clear()")
    tab.emulate_media(color_scheme="dark")
    tab.reload()
    assert tab.evaluate(paper) == dark
    tab.emulate_media(media="print")
    assert tab.evaluate(paper) == "rgb(255, 255, 255)"


def test_cards_are_made_as_they_are_needed_and_few_are_printed(tab: Any) -> None:
    tab.set_viewport_size({"width": 1280, "height": 600})
    assert 0 < tab.locator(".card").count() < 36
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator(".card").count() == 36


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.keyboard.press("j")
    tab.keyboard.press("o")
    for summary in tab.locator(".fold > summary").all()[:2]:
        summary.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_texts_of_a_drawing_do_not_cover_one_another(tab: Any) -> None:
    covered = tab.evaluate(
        """() => [...document.querySelectorAll('.figures svg')].flatMap((svg) => {
          const texts = [...svg.querySelectorAll('text:not([transform])')];
          const boxes = texts.map((text) => [text.textContent, text.getBBox()]);
          return boxes.flatMap(([one, a], n) => boxes.slice(n + 1).filter(([, b]) =>
            Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > 2 &&
            Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > 5).map(([other]) => `${one} / ${other}`));
        })"""
    )
    assert covered == []
