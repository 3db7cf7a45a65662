"""The verdict follows the numbers, and may be "do not fine-tune"."""

import pytest

from hybrid.advice import verdict
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.types import Question

N = 40


def _comparison(right: dict[str, int]) -> Comparison:
    """Arms that answer the first so many questions right."""
    questions = [Question(str(n), f"Q{n}?", (f"answer {n}",)) for n in range(N)]
    questions.append(Question("x", "Unanswerable?", answerable=False))
    runs = [
        ArmRun(
            name,
            name,
            tuple(
                Reply(q.id, f"answer {q.id}" if n < count else "wrong", False, (), (), 0.1)
                for n, q in enumerate(questions)
            ),
        )
        for name, count in right.items()
    ]
    return compare(questions, runs, k=4)


def test_a_clearly_better_arm_is_recommended_with_its_evidence() -> None:
    text = verdict(_comparison({"base": 0, "rag": 10, "tuned": 8, "hybrid": 30}))
    assert text.startswith("Hybrid")
    assert "0.750 against 0.250" in text
    assert "p < 0.001" in text
    assert f"on {N} questions" in text


def test_of_several_better_arms_the_best_is_recommended() -> None:
    assert verdict(_comparison({"rag": 5, "tuned": 25, "hybrid": 20})).startswith("Fine-tuning alone")


def test_a_clearly_better_retrieval_says_do_not_fine_tune() -> None:
    text = verdict(_comparison({"base": 0, "rag": 35, "tuned": 2, "hybrid": 12}))
    assert text.startswith("Retrieval alone")
    assert text.endswith("Do not fine-tune.")


def test_a_small_difference_is_not_enough() -> None:
    text = verdict(_comparison({"rag": 20, "hybrid": 21}))
    assert text.startswith("Retrieval alone")
    assert "not enough evidence" in text
    assert "hybrid differs by +0.025" in text
    assert "p = 1.000" in text


@pytest.mark.parametrize(("arms", "best"), [({"base": 3, "hybrid": 9}, "Hybrid"), ({"base": 3}, "The base model")])
def test_without_the_baseline_the_verdict_says_so(arms: dict[str, int], best: str) -> None:
    text = verdict(_comparison(arms))
    assert text.startswith(best)
    assert "'rag' was not among the arms" in text
