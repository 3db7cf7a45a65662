"""The verdict follows the numbers, and may be "do not fine-tune"."""

import pytest

from hybrid.advice import power_note, verdict
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


def test_many_arms_need_more_evidence_than_one() -> None:
    assert verdict(_comparison({"rag": 10, "hybrid": 16})).startswith("Hybrid")  # p = 2 / 2**6
    several = _comparison({"base": 9, "rag": 10, "tuned": 9, "hybrid": 16})
    (hybrid,) = (arm for arm in several.summaries if arm.name == "hybrid")
    assert hybrid.vs_rag
    assert hybrid.vs_rag.p < 0.05
    assert hybrid.p_holm == pytest.approx(3 * hybrid.vs_rag.p)
    assert "not enough evidence" in verdict(several)


def test_the_note_says_what_cannot_be_seen() -> None:
    note = power_note(_comparison({"rag": 10, "hybrid": 16})) or ""
    # 6 of 40 differences are 1: sd 0.3616, and (1.96 + 0.84) * sd / sqrt(40)
    assert f"With {N} answerable questions, a difference in F1 under 0.160" in note
    assert power_note(_comparison({"base": 3, "hybrid": 9})) is None


def test_one_arm_alone_settles_nothing() -> None:
    assert verdict(_comparison({"rag": 3})) == "Only rag ran (F1 0.075); with one arm there is nothing to compare."
    assert "Do not fine-tune" not in verdict(_comparison({"base": 0, "rag": 30}))


@pytest.mark.parametrize(("arms", "best"), [({"base": 3, "hybrid": 9}, "Hybrid"), ({"base": 3}, "The base model")])
def test_without_the_baseline_the_verdict_says_so(arms: dict[str, int], best: str) -> None:
    text = verdict(_comparison(arms))
    assert text.startswith(best)
    assert "'rag' was not among the arms" in text
