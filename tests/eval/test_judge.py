"""The judge: how replies are read, what a failure counts, and swapped orders."""

import json
import math
from collections.abc import Callable, Sequence

import pytest
from scipy.stats import spearmanr

from hybrid.errors import EvaluationError
from hybrid.eval.judge import (
    Case,
    Grades,
    JudgedGrounding,
    Message,
    PairCase,
    calibration,
    grade,
    parse_preference,
    parse_score,
    prefer,
)


class Scripted:
    """Replies by a function of the parts of the prompt."""

    def __init__(self, reply: Callable[[dict[str, str]], str]) -> None:
        self.reply = reply
        self.prompts: list[Sequence[Message]] = []

    def generate(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
        self.prompts += prompts
        return [self.reply(json.loads(prompt[-1]["content"])) for prompt in prompts]


def better(choice: str) -> str:
    return json.dumps({"better": choice})


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 5}', 5),
        ('```json\n{"score": 1, "why": "wrong"}\n```', 1),
        ('{"score": 4.0}', 4),
        ('{"score": 3} and again {"score": 3}', 3),
        ('{"score": 3} or {"score": 4}', None),
        ('<think>perhaps {"score": 3}</think>{"score": 4}', 4),
        ('{"score": 4, "reason": "the set {a}"}', 4),
        ('{"score": 4', None),
        ('{"score": 0}', None),
        ('{"score": 6}', None),
        ('{"score": 4.5}', None),
        ('{"score": "4"}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": NaN}', None),
        ('{"score": Infinity}', None),
        ('{"grade": 4}', None),
        ('{"score": [4]}', None),
        ("{score: 4}", None),
        ("4", None),
        ("", None),
    ],
)
def test_parse_score(reply: str, score: int | None) -> None:
    assert parse_score(reply) == score


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        (better("A"), "A"),
        (better(" TIE "), "tie"),
        (f"{better('A')} {better('B')}", None),
        (better("C"), None),
        ('{"better": 1}', None),
        ('{"better": NaN}', None),
        ("A", None),
    ],
)
def test_parse_preference(reply: str, choice: str | None) -> None:
    assert parse_preference(reply) == choice


def test_grade_shows_the_parts_and_repeats() -> None:
    counter = iter(range(100))
    judge = Scripted(lambda parts: json.dumps({"score": 1 + next(counter) % 5}))
    grades = grade(judge, [Case("When?", ("at 5", "five"), 'at "6"'), Case("Who?", ("Ada",), "Ada")], repeats=3)
    assert grades.scores == ((1, 3, 5), (2, 4, 1))
    assert len(judge.prompts) == 6
    assert json.loads(judge.prompts[0][-1]["content"]) == {
        "Question": "When?",
        "Reference": "at 5 / five",
        "Answer": 'at "6"',
    }
    assert grades.spread == pytest.approx((4.0 + 7 / 3) / 2)
    assert grades.failures == 0


def test_a_failed_judgement_is_counted_and_never_dropped() -> None:
    judge = Scripted(lambda parts: '{"score": 5}' if parts["Answer"] == "good" else '{"score": NaN}')
    grades = grade(judge, [Case("?", ("x",), "good"), Case("?", ("x",), "odd")], repeats=2)
    assert grades.scores == ((5, 5), (None, None))
    assert grades.failures == 2
    assert grades.means == (5.0, 1.0)
    assert grades.spread == 0.0


def test_half_failed_judgements_lower_the_mean() -> None:
    grades = Grades(((5, None), (None, None)))
    assert grades.means == (3.0, 1.0)
    assert grades.spread is None


def test_the_better_answer_wins_in_both_orders() -> None:
    judge = Scripted(lambda parts: better("A" if len(parts["Answer A"]) > len(parts["Answer B"]) else "B"))
    found = prefer(judge, [PairCase("?", ("x",), "longer", "short"), PairCase("?", ("x",), "ab", "longest")])
    assert found.verdicts == ("first", "second")
    assert found.inconsistent == 0


@pytest.mark.parametrize("position", ["A", "B"])
def test_a_verdict_that_follows_the_position_is_a_tie_and_shown(position: str) -> None:
    found = prefer(Scripted(lambda parts: better(position)), [PairCase("?", ("x",), "one", "two")] * 3)
    assert found.verdicts == ("tie",) * 3
    assert found.inconsistent == 3
    assert found.count("tie") == 3


def test_ties_and_half_ties() -> None:
    found = prefer(Scripted(lambda parts: better("tie")), [PairCase("?", ("x",), "one", "two")])
    assert (found.verdicts, found.inconsistent) == (("tie",), 0)
    judge = Scripted(lambda parts: better("A" if parts["Answer A"] == "one" else "tie"))
    found = prefer(judge, [PairCase("?", ("x",), "one", "two"), PairCase("?", ("x",), "two", "one")])
    assert (found.verdicts, found.inconsistent) == (("first", "second"), 0)


def test_one_unreadable_order_fails_the_case() -> None:
    judge = Scripted(lambda parts: better("A") if parts["Answer A"] == "one" else "I prefer the first.")
    found = prefer(judge, [PairCase("?", ("x",), "one", "two")])
    assert found.verdicts == ("failed",)
    assert found.count("failed") == 1
    assert found.inconsistent == 0


def test_grounding_by_a_judge() -> None:
    replies = {"full": '{"score": 5}', "half": '{"score": 3}', "none": '{"score": 1}', "odd": "?"}
    method = JudgedGrounding(Scripted(lambda parts: replies[parts["Claim"]]))
    assert method.score([("source", claim) for claim in replies]) == [1.0, 0.5, 0.0, 0.0]
    assert method.failures == 1


def test_a_judge_must_answer_every_prompt() -> None:
    class Silent:
        def generate(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
            return []

    with pytest.raises(EvaluationError, match="0 replies to 1 prompts"):
        grade(Silent(), [Case("?", ("x",), "y")])
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        grade(Silent(), [], repeats=0)


def test_calibration_is_the_rank_correlation() -> None:
    judged, f1 = [1.0, 2.0, 2.0, 5.0, 4.0], [0.0, 0.3, 0.1, 0.9, 1.0]
    assert calibration(judged, f1) == pytest.approx(spearmanr(judged, f1).statistic)
    assert calibration([1, 2, 3], [0.1, 0.5, 0.9]) == pytest.approx(1.0)
    assert calibration([3, 3, 3], [0.1, 0.5, 0.9]) is None
    assert calibration([1, 2], [0, 1]) is None
    for judged in ([1.0, 2.0], [1.0, math.nan, 3.0]):
        with pytest.raises(EvaluationError, match="finite values for the same answers"):
            calibration(judged, [0.0, 0.5, 1.0])
