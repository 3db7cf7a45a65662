"""What one answer to every question would score: an arm that does no better need not have read the questions."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from hybrid.eval.answers import normalise, score_answer
from hybrid.types import Question

_TRIED = 5


class Constant(NamedTuple):
    """An answer given to every question.

    Attributes:
        answer: The answer.
        values: What it scores on each question.
    """

    answer: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """What it scores on the whole."""
        return sum(self.values) / len(self.values)


def best_constant(questions: Sequence[Question], metric: str, said: Sequence[str] = ()) -> Constant | None:
    """The answer that scores best when it is given to all of these questions.

    Tried are the gold answers that several questions share, the most frequent of them, and what was `said`; None if
    there is neither. As it is chosen with the gold answers in sight, it scores a little more than such an answer would
    on other questions.

    Args:
        questions: Questions that have the metric.
        metric: A field of `AnswerScore`.
        said: Further answers to try, such as what an arm says most often.

    >>> asked = [Question("1", "?", ("yes",)), Question("2", "?", ("No",)), Question("3", "?", ("Yes.",))]
    >>> best_constant(asked, "em").answer, best_constant(asked[:2], "em")
    ('yes', None)
    """
    spelling: dict[str, str] = {}
    for question in questions:
        for answer in question.answers:
            spelling.setdefault(normalise(answer), answer)
    shared = Counter(text for question in questions for text in {normalise(answer) for answer in question.answers})
    frequent = sorted((text for text, count in shared.items() if count > 1), key=lambda text: (-shared[text], text))
    tried = dict.fromkeys([*(spelling[text] for text in frequent[:_TRIED]), *said])
    found = (Constant(text, tuple(_values(text, questions, metric))) for text in tried)
    return max(found, key=lambda constant: constant.mean, default=None) if questions else None


def _values(text: str, questions: Sequence[Question], metric: str) -> list[float]:
    scores = (score_answer(text, question, False) for question in questions)
    return [float(score._asdict()[metric] or 0.0) for score in scores]
