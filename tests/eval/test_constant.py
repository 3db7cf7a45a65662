"""The best answer to all questions: as good as any that is shared, whatever the metric."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from hybrid.eval.answers import score_answer
from hybrid.eval.constant import best_constant
from hybrid.types import Question


def _questions(labels: list[str]) -> list[Question]:
    return [Question(str(number), "?", (label,)) for number, label in enumerate(labels)]


@settings(deadline=None)  # the first answer loads what scores it
@given(st.lists(st.sampled_from(["yes", "no", "maybe"]), min_size=4, max_size=40))
def test_of_labels_it_is_the_most_frequent(labels: list[str]) -> None:
    constant = best_constant(_questions(labels), "accuracy")
    dummy = DummyClassifier(strategy="most_frequent").fit([[0]] * len(labels), labels)
    assert constant is not None
    assert constant.mean == pytest.approx(dummy.score([[0]] * len(labels), labels))


@pytest.mark.parametrize("metric", ["em", "f1", "rouge_l"])
def test_its_values_are_the_scores_of_its_answer(metric: str) -> None:
    questions = _questions(["every day", "every week", "every day", "in June"])
    constant = best_constant(questions, metric)
    assert constant is not None
    assert constant.answer == "every day"
    scores = [score_answer("every day", question, False)._asdict()[metric] for question in questions]
    assert list(constant.values) == pytest.approx(scores)


def test_answers_that_nobody_shares_are_no_constant() -> None:
    assert best_constant(_questions(["a day", "June", "3"]), "f1") is None
    assert best_constant([], "f1") is None


def test_an_answer_that_one_question_names_twice_is_not_shared() -> None:
    assert best_constant([Question("1", "?", ("June", "june.")), Question("2", "?", ("May",))], "f1") is None
