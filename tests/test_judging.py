"""Arms before a judge: the sample, failures, equal answers, both orders, calibration."""

import json
from collections.abc import Callable, Sequence

import pytest

from hybrid.eval.comparison import Reply
from hybrid.eval.judge import Message
from hybrid.judge_settings import JudgeConfig
from hybrid.judging import Judged, judge_arms
from hybrid.types import Question

QUESTIONS = [Question(str(n), f"Question {n}?", ("ten litres",)) for n in range(4)]
QUESTIONS.insert(2, Question("no", "Unanswerable?", answerable=False))
SEEN = ("asked", "identical", "failed_replies")


class Judge:
    """Judges by a function of the parts of the prompt."""

    def __init__(self, say: Callable[[dict[str, str]], str]) -> None:
        self.say = say
        self.asked: list[dict[str, str]] = []

    def generate(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
        parts = [json.loads(prompt[1]["content"]) for prompt in prompts]
        self.asked += parts
        return [self.say(part) for part in parts]


def replies(*texts: str, to: Sequence[Question] = tuple(QUESTIONS)) -> list[Reply]:
    return [
        Reply(q.id, "" if text == "!" else text, False, (), (), 0.1, error="broken" if text == "!" else "")
        for q, text in zip(to, texts, strict=True)
    ]


ARMS = {
    "rag": replies("ten litres", "two", "x", "!", "ten"),
    "hybrid": replies("ten litres", "ten litres", "x", "ten", "ten litres"),
}


def by_words(part: dict[str, str]) -> str:
    if part["Answer"] == "two":
        return "I like it"
    return json.dumps({"score": 1 + 2 * len(set(part["Answer"].split()) & {"ten", "litres"})})


def judged(judge: Judge, **values: object) -> Judged:
    settings = JudgeConfig(**{"mode": "rubric", **values})  # type: ignore[arg-type]
    return judge_arms(judge, settings, QUESTIONS, ARMS, baseline="rag", metric="f1", seed=0)


def test_a_rubric_grades_every_answer() -> None:
    judge = Judge(by_words)
    found = judged(judge)
    assert found.values == {"rag": [5, 1, None, 1, 3], "hybrid": [5, 5, None, 3, 5]}
    assert found.figures["arms"] == {"rag": {"failures": 1}, "hybrid": {"failures": 0}}
    assert found.figures["failures"] == 1
    assert found.figures["questions"] == 4
    # The answer of both arms to the first question is asked for once, the failed reply not at all.
    assert len(judge.asked) == 6
    assert {name: found.figures[name] for name in SEEN} == {"asked": 6, "identical": 1, "failed_replies": 1}
    assert found.figures["calibration"] == {"spearman": None, "n": 5}, "the judgement that failed is no grade"
    assert found.figures["spread"] is None


def test_repeats_show_how_far_a_judge_agrees_with_itself() -> None:
    turn = iter([1, 3] * 100)
    found = judged(Judge(lambda _: json.dumps({"score": next(turn)})), repeats=2)
    assert found.figures["spread"] == pytest.approx(0.0)  # an even number of cases: each case gets one score twice
    steady = judged(Judge(by_words), repeats=3)
    assert steady.figures["spread"] == 0.0
    assert steady.figures["failures"] == 3
    by_turns = iter([1, 2, 3] * 100)
    moody = judged(Judge(lambda _: json.dumps({"score": next(by_turns)})), repeats=3, sample=1)
    assert moody.figures["spread"] == pytest.approx(1.0)


def test_a_sample_is_of_the_answerable_questions_and_the_same_for_all_arms() -> None:
    found = judged(Judge(by_words), sample=2)
    places = [[place for place, value in enumerate(own) if value is not None] for own in found.values.values()]
    assert places[0] == places[1]
    assert len(places[0]) == 2
    assert 2 not in places[0]
    assert found == judged(Judge(by_words), sample=2)
    assert found.figures["questions"] == 2


def longer(part: dict[str, str]) -> str:
    a, b = (len(part[f"Answer {side}"]) for side in "AB")
    return json.dumps({"better": "A" if a > b else "B" if b > a else "tie"})


def shorter(part: dict[str, str]) -> str:
    return longer({"Answer A": part["Answer B"], "Answer B": part["Answer A"]})


def test_pairs_are_shown_in_both_orders() -> None:
    judge = Judge(longer)
    found = judged(judge, mode="pairwise")
    # Equal answers tie and a failed one loses, both without a call.
    assert found.values == {"rag": [None] * 5, "hybrid": [0.5, 1.0, None, 1.0, 1.0]}
    assert len(judge.asked) == 4
    seen = {"asked": 2, "identical": 1, "failed_replies": 1}
    counts = {"wins": 3, "losses": 0, "ties": 1, "inconsistent": 0, "failures": 0}
    assert found.figures["arms"] == {"hybrid": counts | seen}
    assert {name: found.figures[name] for name in SEEN} == seen
    assert found.figures["calibration"]["n"] == 2


def test_a_judge_of_positions_favours_nobody() -> None:
    found = judged(Judge(lambda _: '{"better": "A"}'), mode="pairwise")
    assert found.values["hybrid"] == [0.5, 0.5, None, 1.0, 0.5]
    assert found.figures["arms"]["hybrid"]["inconsistent"] == 2
    silent = judged(Judge(lambda _: "who knows"), mode="pairwise")
    assert silent.figures["failures"] == 2
    assert silent.figures["calibration"] == {"spearman": None, "n": 0}
    assert silent.values["hybrid"] == [0.5, 0.5, None, 1.0, 0.5]


MANY = [Question(str(n), f"Question {n}?", ("ten litres",)) for n in range(40)]


def many(differ: int, broken: int) -> dict[str, list[Reply]]:
    """Two arms: `differ` pairs that a judge has to see, in half of which rag is right; `broken` ones; equal ones."""
    sides = [("ten litres", "no") if n % 2 else ("no", "ten litres") for n in range(differ)]
    sides += [("!", "ten litres")] * broken
    sides += [("ten litres", "ten litres")] * (len(MANY) - len(sides))
    return {name: replies(*(pair[arm] for pair in sides), to=MANY) for arm, name in enumerate(("rag", "hybrid"))}


def calibrated(arms: dict[str, list[Reply]], mode: str, say: Callable[[dict[str, str]], str]) -> dict[str, object]:
    settings = JudgeConfig(mode=mode)  # type: ignore[arg-type]
    found = judge_arms(Judge(say), settings, MANY, arms, baseline="rag", metric="f1", seed=0)
    return {name: found.figures[name] for name in (*SEEN, "calibration")}


def test_what_no_judge_saw_says_nothing_about_it() -> None:
    """Ties of equal answers and losses of failed ones agree with any metric."""
    found = calibrated(many(0, 20), "pairwise", longer)
    nobody = {"spearman": None, "n": 0}
    assert found == {"asked": 0, "identical": 20, "failed_replies": 20, "calibration": nobody}


def test_a_judge_is_calibrated_on_the_pairs_that_it_saw() -> None:
    seen = {"asked": 20, "identical": 10, "failed_replies": 10}
    good = calibrated(many(20, 10), "pairwise", longer)
    assert good == {**seen, "calibration": {"spearman": pytest.approx(1.0), "n": 20}}
    contrary = calibrated(many(20, 10), "pairwise", shorter)
    assert contrary == {**seen, "calibration": {"spearman": pytest.approx(-1.0), "n": 20}}


def test_few_judged_pairs_calibrate_nothing() -> None:
    assert calibrated(many(9, 10), "pairwise", longer)["calibration"] == {"spearman": None, "n": 9}
    assert calibrated(many(10, 10), "pairwise", longer)["calibration"] == {"spearman": pytest.approx(1.0), "n": 10}


def test_a_rubric_is_calibrated_on_the_grades_that_were_given() -> None:
    """A judgement that failed counts as the lowest grade, but a judge that is silent on wrong answers knows nothing."""
    seen = {"asked": 70, "identical": 6, "failed_replies": 4}
    found = calibrated(many(30, 4), "rubric", lambda part: "?" if part["Answer"] == "no" else '{"score": 5}')
    assert found == {**seen, "calibration": {"spearman": None, "n": 40}}
    found = calibrated(many(30, 4), "rubric", by_words)
    assert found == {**seen, "calibration": {"spearman": pytest.approx(1.0), "n": 70}}
