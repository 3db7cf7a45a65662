"""Scores of one answer. The SQuAD reference below restates the official v1.1 script for ASCII text."""

import math
import re
import string
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu, sentence_chrf

from hybrid.errors import EvaluationError
from hybrid.eval.answers import (
    UNSCORED,
    WRONG,
    AnswerScore,
    accuracy,
    bleu,
    chrf,
    contains,
    exact_match,
    normalise,
    rouge_1,
    rouge_2,
    rouge_l,
    score_answer,
    token_f1,
    tokens,
    word_count,
)
from hybrid.types import Question

METRICS = [exact_match, token_f1, contains, rouge_1, rouge_2, rouge_l, bleu, chrf]
ascii_text = st.text(alphabet=string.ascii_letters + string.digits + " .,'-$%?", max_size=40)


def without_punctuation(text: str) -> str:
    return "".join(character for character in text.lower() if character not in set(string.punctuation))


def squad_normalise(text: str) -> str:
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", without_punctuation(text)).split())


def squad_f1(prediction: str, gold: str) -> float:
    predicted, wanted = squad_normalise(prediction).split(), squad_normalise(gold).split()
    same = sum((Counter(predicted) & Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


@settings(deadline=None)
@given(ascii_text)
@example("?A")
@example(" the, An ")
@example("?- !")
def test_normalise_equals_squad_unless_nothing_is_left(text: str) -> None:
    forms = [squad_normalise(text), without_punctuation(text), text.lower()]
    assert normalise(text) == next((" ".join(form.split()) for form in forms if form.strip()), "")


@settings(deadline=None)
@given(ascii_text.filter(squad_normalise), st.lists(ascii_text.filter(squad_normalise), min_size=1, max_size=3))
def test_f1_and_exact_match_equal_squad(prediction: str, golds: list[str]) -> None:
    assert token_f1(prediction, golds) == pytest.approx(max(squad_f1(prediction, gold) for gold in golds))
    assert exact_match(prediction, golds) == max(squad_normalise(prediction) == squad_normalise(g) for g in golds)


@pytest.mark.parametrize(
    ("prediction", "golds", "em", "f1"),
    [
        ("The Denver Broncos!", ["Denver Broncos"], 1.0, 1.0),
        ("an  apple\n a day", ["apple day"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos", "The Denver Broncos"], 0.0, 2 / 3),
        ("gold gold", ["gold"], 0.0, 2 / 3),
        ("Carolina Panthers", ["Denver Broncos"], 0.0, 0.0),
        ("", ["Denver Broncos"], 0.0, 0.0),
        ("10,000", ["10000"], 1.0, 1.0),
        ("Denver", [], 0.0, 0.0),
    ],
)
def test_known_examples(prediction: str, golds: list[str], em: float, f1: float) -> None:
    assert exact_match(prediction, golds) == em
    assert token_f1(prediction, golds) == pytest.approx(f1)


@pytest.mark.parametrize(
    "text", ["東京", "Москва", "القاهرة", "प्रकाश", "กรุงเทพ", "서울", "Αθήνα", "ירושלים", "+", "The", "A"]
)
def test_no_script_normalises_to_nothing(text: str) -> None:
    assert normalise(text)
    for metric in (exact_match, token_f1, contains):
        assert metric(text, [text]) == 1.0


@pytest.mark.parametrize("text", ["東京", "Москва", "القاهرة", "प्रकाश", "กรุงเทพ", "서울"])
def test_rouge_sees_every_script(text: str) -> None:
    assert rouge_l(text, [text]) == 1.0


def test_unspaced_scripts_are_scored_by_character() -> None:
    assert token_f1("中国的首都是北京。", ["北京"]) == pytest.approx(2 * (2 / 8) / (2 / 8 + 1))
    assert contains("中国的首都是北京。", ["北京"]) == 1.0
    assert contains("中国的首都是南京。", ["北京"]) == 0.0


def test_composed_and_decomposed_accents_are_equal() -> None:
    assert exact_match("cafe\u0301", ["caf\u00e9"]) == 1.0


def test_symbols_alone_are_told_apart() -> None:
    assert exact_match("+", ["-"]) == 0.0
    assert exact_match("", ["the"]) == 0.0


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("It takes 15 days", "5", 0.0),
        ("It takes 5 days", "5", 1.0),
        ("the answer is: Every 200 hours.", "every 200 hours", 1.0),
        ("hours 200 every", "every 200 hours", 0.0),
        ("every 200 or 300 hours", "every 200 hours", 0.0),
        ("", "5", 0.0),
        ("anything", "", 0.0),
    ],
)
def test_contains_asks_for_a_run_of_tokens(prediction: str, gold: str, expected: float) -> None:
    assert contains(prediction, [gold]) == expected


@settings(deadline=None)
@given(ascii_text, ascii_text)
def test_rouge_equals_rouge_score_on_ascii(prediction: str, gold: str) -> None:
    expected = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(gold, prediction)
    assert rouge_1(prediction, [gold]) == pytest.approx(expected["rouge1"].fmeasure)
    assert rouge_2(prediction, [gold]) == pytest.approx(expected["rouge2"].fmeasure)
    assert rouge_l(prediction, [gold]) == pytest.approx(expected["rougeL"].fmeasure)


@settings(deadline=None)
@given(ascii_text, ascii_text)
def test_bleu_and_chrf_equal_sacrebleu_on_ascii(prediction: str, gold: str) -> None:
    assert bleu(prediction, [gold]) == pytest.approx(
        sentence_bleu(prediction, [gold], use_effective_order=True).score / 100
    )
    assert chrf(prediction, [gold]) == pytest.approx(sentence_chrf(prediction, [gold]).score / 100)


def test_bleu_of_short_and_of_unspaced_answers() -> None:
    assert bleu("5", ["5"]) == 1.0
    assert bleu("中国的首都是北京", ["中国的首都是北京"]) == 1.0
    assert 0 < bleu("中国的首都是南京", ["中国的首都是北京"]) < 1


def test_the_best_gold_answer_counts_for_each_metric() -> None:
    prediction, golds = "the pump runs every 200 hours", ["every 200 hours", "the pump runs", "never"]
    for metric in METRICS:
        assert (
            metric(prediction, golds) == max(metric(prediction, [gold]) for gold in golds) > 0 or metric is exact_match
        )


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("yes", 1.0),
        ("Yes, because the pump was replaced.", 1.0),
        ("The answer is: YES.", 1.0),
        ("Yes\u2014no doubt.", 1.0),
        ("**Yes**", 1.0),
        ("The answer is no.", 0.0),
        ("No, yes would be wrong.", 0.0),
        ("Maybe yes.", 0.0),
        ("Yesterday", 0.0),
        ("a yes-man", 0.0),
        ("It works.", 0.0),
        ("", 0.0),
    ],
)
def test_accuracy_is_by_the_first_label(prediction: str, expected: float) -> None:
    assert accuracy(prediction, ["yes"]) == expected


def test_not_and_know_are_not_no() -> None:
    assert accuracy("I know that none do not work", ["no"]) == 0.0


def test_accuracy_is_for_label_questions_alone() -> None:
    assert accuracy("yes", ["yes", "It does."]) is None
    assert accuracy("yes", ["every 200 hours"]) is None
    assert accuracy("yes", []) is None
    assert accuracy("no", ["Yes.", "no"]) == 1.0


def test_accuracy_with_given_labels() -> None:
    labels = ("supported", "not supported", "unknown")
    assert accuracy("It is not supported.", ["Not supported"], labels) == 1.0
    assert accuracy("It is not supported.", ["supported"], labels) == 0.0
    assert accuracy("Supported, not unknown.", ["supported"], labels) == 1.0
    assert accuracy("yes", ["yes"], labels) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), (" - … ", 0), ("don't stop", 2), ("a state-of-the-art pump", 3), ("10,000 hours at 2.5 bar.", 5)],
)
def test_word_count(text: str, words: int) -> None:
    assert word_count(text) == words


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3))
def test_bounds_and_order_of_golds(prediction: str, golds: list[str]) -> None:
    for metric in METRICS:
        value = metric(prediction, golds)
        assert 0.0 <= value <= 1.0
        assert value == metric(prediction, golds[::-1])


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetric_and_exact_match_is_the_strictest(left: str, right: str) -> None:
    assert token_f1(left, [right]) == pytest.approx(token_f1(right, [left]))
    if exact_match(left, [right]) and tokens(right):
        assert token_f1(left, [right]) == pytest.approx(1.0)
        assert contains(left, [right]) == 1.0


def test_score_answer() -> None:
    question = Question("q", "When?", answers=("every 200 hours",))
    assert score_answer("Every 200 hours.", question, False) == AnswerScore(
        em=1.0,
        f1=1.0,
        rouge_l=1.0,
        contains=1.0,
        rouge_1=1.0,
        rouge_2=1.0,
        bleu=bleu("Every 200 hours.", ["every 200 hours"]),
        chrf=chrf("Every 200 hours.", ["every 200 hours"]),
        accuracy=None,
        words=3,
    )
    assert score_answer("Every 200 hours.", question, True) == WRONG
    assert score_answer("", question, False) == WRONG
    assert score_answer("Every 200 hours.", Question("q", "?", answerable=False), False) == UNSCORED


def test_a_refused_label_question_is_a_wrong_label() -> None:
    question = Question("q", "Does it?", answers=("yes",))
    assert score_answer("Yes, it does.", question, False).accuracy == 1.0
    assert score_answer("Yes, it does.", question, True).accuracy == 0.0
    assert score_answer("on", Question("q", "?", answers=("on",)), False, labels=("on", "off")).accuracy == 1.0


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3), st.booleans())
def test_no_score_is_nan(prediction: str, golds: list[str], abstained: bool) -> None:
    score = score_answer(prediction, Question("q", "?", answers=tuple(golds)), abstained)
    assert all(value is None or math.isfinite(value) for value in score)
    assert None not in score._replace(accuracy=0.0)


def test_an_answerable_question_needs_an_answer() -> None:
    with pytest.raises(EvaluationError, match="'q7' has no answers"):
        score_answer("x", Question("q7", "?"), False)


@pytest.mark.parametrize("said", ["A", "A.", "(a)", "a)"])
def test_an_article_alone_is_an_answer(said: str) -> None:
    question = Question("q", "Which blood group?", ("A",))
    score = score_answer(said, question, abstained=False)
    assert (score.em, score.f1, score.contains) == (1.0, 1.0, 1.0)
    assert score_answer("The.", question, abstained=False).em == 0.0
