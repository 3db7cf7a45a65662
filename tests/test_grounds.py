"""Grounds of answers: what is a claim, what it is held against, and citations against gold quotes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hybrid.config import Grounding
from hybrid.errors import ConfigError
from hybrid.eval.comparison import Reply
from hybrid.eval.grounding import Facts, Lexical, inverse_document_frequency
from hybrid.eval.text_metrics import Vectors
from hybrid.grounds import AUROC, citation_values, gold_spans, groundedness, make_method
from hybrid.types import Citation, Document, Question

PASSAGES = {"a#0-30": "The pump holds 5 litres.", "b#0-9": "It is new."}
TEXT = "The pump holds\n5 litres. It is \u201cnew\u201d."
DOCUMENTS = {"a": Document("a", TEXT), "b": Document("b", "Other words.")}
QUESTION = Question("1", "How much?", ("5 litres",), ("b", "a"), quotes=("holds 5 litres", 'is "new"', "never said"))


class Recorder:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.pairs += pairs
        return [float(len(claim)) for _, claim in pairs]


def forbidden(texts: Sequence[str]) -> Vectors:
    raise AssertionError(f"embedded {texts}")


def reply(text: str, contexts: tuple[str, ...] = ("b#0-9", "a#0-30"), **values: object) -> Reply:
    return Reply("1", text, bool(values.pop("abstained", False)), (), contexts, 0.1, **values)  # type: ignore[arg-type]


def test_the_measured_worth_is_that_of_the_benchmark() -> None:
    file = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "groundedness.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    measured = {(row["method"], row["set"]): row["auroc"] for row in rows}
    for method, sets in AUROC.items():
        assert sets == {name: measured[{"lexical": "idf"}.get(method, method), name] for name in sets}


def test_rare_words_weigh_more() -> None:
    weights = inverse_document_frequency(PASSAGES.values())
    pairs = [("It is new.", "the new pump")]
    assert make_method("facts", PASSAGES, forbidden).score(pairs) == Facts(weights).score(pairs)
    assert make_method("lexical", PASSAGES, forbidden).score(pairs) == Lexical(weights).score(pairs)
    with pytest.raises(ConfigError, match=r"compare\.grounding is entailment"):
        make_method("entailment", PASSAGES, forbidden)


@pytest.mark.parametrize(("name", "claim"), [("facts", "5 litres"), ("judge", "How much? 5 litres")])
def test_an_answer_is_held_against_the_passages_it_was_shown(name: Grounding, claim: str) -> None:
    method = Recorder()
    replies = {
        "rag": [reply("5 litres"), reply("5 litres", abstained=True), reply("", error="broken"), reply("5 litres")],
        "base": [reply("5 litres", ())] * 4,
    }
    found = groundedness(name, method, [QUESTION] * 4, replies, PASSAGES)
    assert found == {"rag": [float(len(claim)), None, None, float(len(claim))], "base": [None] * 4}
    assert method.pairs == [("It is new.\n\nThe pump holds 5 litres.", claim)], "equal claims are scored once"


def test_a_bare_yes_claims_nothing_by_its_words() -> None:
    replies = {"rag": [reply("Yes."), reply("Yes, it is new.")]}
    found = groundedness("lexical", Lexical(), [QUESTION] * 2, replies, PASSAGES)["rag"]
    assert found == [None, 0.75]
    assert groundedness("judge", Recorder(), [QUESTION] * 2, replies, PASSAGES)["rag"][0] is not None


def test_no_claims_ask_nobody() -> None:
    class Nobody:
        def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
            raise AssertionError

    assert groundedness("facts", Nobody(), [QUESTION], {"base": [reply("x", ())]}, PASSAGES) == {"base": [None]}


def test_quotes_are_found_in_the_gold_documents_as_models_copy_them() -> None:
    spans = gold_spans(QUESTION, DOCUMENTS)
    assert [span.text for span in spans] == ["holds\n5 litres", "is \u201cnew\u201d"]
    assert all(TEXT[span.start : span.end] == span.text and span.document == "a" for span in spans)
    assert gold_spans(QUESTION, {}) == ()


def test_citations_are_scored_against_gold_quotes() -> None:
    right = Citation(2, "a", 9, 24, "holds 5 litres")
    wrong = Citation(1, "b", 0, 5, "Other")
    replies = {
        "rag": [reply("5 litres", citations=(right, wrong), invalid_citations=2), reply("x")],
        "base": [reply("5 litres", ())] * 2,
    }
    found = citation_values([QUESTION, Question("2", "?", ("x",))], replies, DOCUMENTS, PASSAGES)
    assert found["citation_precision"] == {"rag": [0.5, None], "base": [None, None]}
    assert found["citation_recall"]["rag"] == [0.5, None]
    assert found["citation_f1"]["rag"] == [0.5, None]
    # Of four citations one stands in its passage: the passage of the other says something else, two exist nowhere.
    assert found["quotes_verbatim"] == {"rag": [0.25, None], "base": [None, None]}


def test_a_refusal_with_a_context_cites_nothing() -> None:
    found = citation_values([QUESTION] * 2, {"rag": [reply("no", abstained=True), reply("x")]}, DOCUMENTS, PASSAGES)
    assert found["citation_recall"]["rag"] == [0.0, 0.0]
