"""The decision table: whom the verdict recommends, when it says "do not fine-tune", and what it warns of."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from json import dumps

import pytest

from hybrid.advice import Decision, decide
from hybrid.arms import ARMS, Arm, controls
from hybrid.cautions import power_note
from hybrid.config import ArmConfig, WeightsConfig
from hybrid.costs import ArmCost
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.types import Question

N = 40


def _comparison(
    right: Mapping[str, int | range],
    *,
    n: int = N,
    per_document: int = 1,
    seconds: Mapping[str, float] | None = None,
    recall: float = 1.0,
    metric: str = "f1",
    failed: Mapping[str, int] | None = None,
    controls: Collection[str] = (),
) -> Comparison:
    """Arms that answer the first so many questions, or those of a range, right."""
    questions = [Question(str(i), f"Q{i}?", (f"answer {i}",), (f"d{i // per_document}",)) for i in range(n)]
    questions.append(Question("x", "Unanswerable?", answerable=False))
    runs = []
    for name, hits in right.items():
        chosen = hits if isinstance(hits, range) else range(hits)
        closed = name in {"base", "tuned"}
        runs.append(
            ArmRun(
                name,
                name,
                tuple(
                    Reply(
                        q.id,
                        f"answer {q.id}" if i in chosen else "wrong",
                        abstained=False,
                        documents=() if closed else q.gold if i < recall * n else ("other",),
                        contexts=(),
                        seconds=(seconds or {}).get(name, 0.1),
                        error="boom" if i < (failed or {}).get(name, 0) else "",
                    )
                    for i, q in enumerate(questions)
                ),
            )
        )
    return compare(questions, runs, metric=metric, k=4, controls=controls)


def cost(arm: str, *, training: float | None = None, price: float | None = None) -> ArmCost:
    return ArmCost(arm, None, None, 0.1, 0.1, None, training, price)


COSTS = {"tuned": cost("tuned", training=120.0), "hybrid": cost("hybrid", training=245.0)}


def _decide(right: Mapping[str, int | range], **settings: object) -> Decision:
    return decide(_comparison(right, **settings), costs=COSTS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "choice", "fine_tune"),
    [
        # A fine-tuned arm is clearly better: take it, the best of several.
        ({"base": 0, "rag": 10, "tuned": 8, "hybrid": 30}, "hybrid", True),
        ({"rag": 5, "tuned": 25, "hybrid": 20}, "tuned", True),
        ({"rag": 10, "hybrid": 16}, "hybrid", True),  # p = 2 / 2**6
        # Clearly worse, or exactly as good on enough questions: do not fine-tune.
        ({"base": 0, "rag": 35, "tuned": 2, "hybrid": 12}, "rag", False),
        ({"rag": 30, "hybrid": 30}, "rag", False),
        ({"rag": 40, "hybrid": 34}, "rag", False),
        # No clear difference.
        ({"rag": 20, "hybrid": 21}, None, None),
        ({"rag": 20, "hybrid": range(1, 20)}, "rag", False),
        ({"rag": 20, "hybrid": range(2, 21)}, None, None),
        ({"base": 9, "rag": 10, "tuned": 9, "hybrid": 16}, None, None),  # three arms: p = 3 * 2 / 2**6
        # Fine-tuning is settled, another arm is not.
        ({"base": range(2, 21), "rag": 20, "hybrid": 1}, None, False),
        # An arm without training wins.
        ({"base": 30, "rag": 10}, "base", None),
        ({"base": 38, "rag": 20, "hybrid": 2, "tuned": 0}, "base", False),
        ({"base": 30, "rag": 10, "tuned": range(2, 31)}, "base", None),
        # As good without training: prefer that; clearly better than it: train.
        ({"base": 30, "rag": 10, "tuned": 31}, "base", None),
        ({"base": 20, "rag": 10, "tuned": 38}, "tuned", True),
        # Few questions show little, however clear they look.
        ({"base": 0, "rag": 10}, "rag", None),
        # The controls bound what is possible; nobody can build them.
        ({"rag": 10, "rag_oracle": 40, "hybrid_oracle": 40, "hybrid": 10}, "rag", False),
    ],
)
def test_decisions(right: dict[str, int | range], choice: str | None, fine_tune: bool | None) -> None:
    decision = _decide(right)
    assert (decision.choice, decision.fine_tune) == (choice, fine_tune), decision.text
    assert ("Do not fine-tune" in decision.text) >= (fine_tune is False)
    assert ("not enough evidence" in decision.text) == (choice is None)
    if fine_tune:
        assert "Do not fine-tune" not in decision.text


def _labelled(labels: str, said: Mapping[str, str]) -> Comparison:
    """Arms that answer questions whose right answers are y(es) and n(o)."""
    words = {"y": "yes", "n": "no"}
    questions = [Question(str(i), f"Q{i}?", (words[label],), (f"d{i}",)) for i, label in enumerate(labels)]
    runs = [
        ArmRun(
            name,
            name,
            tuple(Reply(q.id, words[a], False, (), (), 0.1) for q, a in zip(questions, text, strict=True)),
        )
        for name, text in said.items()
    ]
    return compare(questions, runs, metric="accuracy", k=1)


def test_an_arm_that_always_says_the_same_is_no_evidence() -> None:
    labels = "y" * 65 + "n" * 35
    decision = decide(_labelled(labels, {"rag": "n" * 100, "hybrid": "y" * 100}))
    assert (decision.choice, decision.fine_tune) == (None, None)
    assert "accuracy 0.650 against 0.350 for rag, +30.0 points" in decision.text
    assert "No arm shows that it reads the questions" in decision.text
    assert "Not clearly better than answering 'yes' to every question (accuracy 0.650): rag, hybrid." in decision.text


def test_an_arm_that_reads_is_chosen_before_one_that_always_says_the_same() -> None:
    labels = "y" * 60 + "n" * 40
    decision = decide(_labelled(labels, {"rag": "n" * 100, "tuned": "y" * 100, "hybrid": labels[:-3] + "yyy"}))
    assert (decision.choice, decision.fine_tune) == ("hybrid", True)
    assert "every question (accuracy 0.600): rag, tuned." in decision.text


@pytest.mark.parametrize("said", ["y" * 100, "n" * 100])
def test_a_baseline_that_always_says_the_same_is_not_recommended(said: str) -> None:
    decision = decide(_labelled("y" * 60 + "n" * 40, {"rag": said, "hybrid": "n" * 100}))
    assert (decision.choice, decision.fine_tune) == (None, None)
    assert "No arm shows that it reads the questions: not enough evidence" in decision.text


def test_an_arm_that_is_only_faster_does_not_take_the_evidence_from_a_baseline_that_reads() -> None:
    labels = "yn" * 50
    comparison = _labelled(labels, {"rag": labels[:-10] + labels[-10:][::-1], "base": "y" * 100})
    slow = tuple(replace(reply, seconds=9.0) for reply in comparison.runs[0].replies)
    runs = [replace(comparison.runs[0], replies=slow), comparison.runs[1]]
    decision = decide(replace(comparison, runs=tuple(runs)), weights=WeightsConfig(latency=10.0))
    assert decision.choice == "rag"
    assert "no other arm shows that it reads the questions" in decision.text


def test_partial_credit_for_one_answer_is_no_evidence() -> None:
    questions = [Question(str(i), "How long?", (f"{i} hours",), (f"d{i}",)) for i in range(100)]
    runs = [
        ArmRun(name, name, tuple(Reply(q.id, text, False, (), (), 0.1) for q in questions))
        for name, text in {"rag": "Nobody knows.", "hybrid": "500 hours"}.items()
    ]
    assert decide(compare(questions, runs, k=1)).choice is None


def test_nobody_scores_or_most_answers_fail() -> None:
    nothing = _decide({"rag": 0, "hybrid": 0})
    assert (nothing.choice, nothing.fine_tune) == (None, None)
    assert "No arm scores anything" in nothing.text
    outage = _decide({"rag": 30, "hybrid": 30}, failed={"rag": 25})
    assert outage.choice is None
    assert "Most answers of the baseline 'rag' failed" in outage.text
    assert "rag: 25 of 41 answers failed" in outage.text
    arm = _decide({"base": 20, "rag": 30, "hybrid": 40}, failed={"hybrid": 30})
    assert (arm.choice, arm.fine_tune) == ("rag", None), "an arm that failed tells nothing about fine-tuning"


def test_a_handful_of_questions_excludes_nothing() -> None:
    decision = _decide({"rag": 3, "hybrid": 0}, n=3)
    assert (decision.choice, decision.fine_tune) == (None, None)
    assert "Few questions: 3" in decision.text


def test_a_clearly_better_arm_is_recommended_with_its_numbers() -> None:
    text = _decide({"base": 0, "rag": 10, "tuned": 8, "hybrid": 30}).text
    assert text.startswith(
        "Hybrid (fine-tuned on retrieved contexts, served with retrieval): token F1 0.750 against 0.250"
    )
    assert "+50.0 points (95% interval" in text
    assert "p < 0.001, adjusted for 3 arms) on 40 questions." in text
    assert "It took 245 s to train" in text
    assert "tuned is" not in text
    assert "An answer takes" not in text


def test_do_not_fine_tune_names_what_training_cost() -> None:
    decision = _decide({"rag": 35, "tuned": 2, "hybrid": 12})
    assert decision.text.startswith("Retrieval alone (RAG): no other arm gains on it (token F1 0.875 on 40 questions).")
    assert "Do not fine-tune: 365 s of training bought nothing." in decision.text


def test_rivals_that_are_not_clearly_apart_are_named() -> None:
    text = _decide({"rag": 5, "tuned": 24, "hybrid": 25}).text
    assert "tuned is not clearly apart from it: hybrid leads by +2.5 points (+0.0 to" in text


def test_clusters_can_take_the_evidence_away() -> None:
    assert _decide({"rag": 0, "hybrid": 40}, per_document=5).choice == "hybrid"
    few = _decide({"rag": 0, "hybrid": 40}, per_document=10)  # 4 clusters: p is at least 2 / 2**4
    assert few.choice is None
    assert "Few documents: the questions are about 4 separate groups" in few.text


@pytest.mark.parametrize(
    ("weights", "choice"),
    [
        (WeightsConfig(), "hybrid"),
        (WeightsConfig(latency=20), None),  # 20 points of quality for one second
        (WeightsConfig(latency=60), "rag"),
        (WeightsConfig(latency=60, quality=30), "hybrid"),
        (WeightsConfig(cost=50), "rag"),  # one unit more for 1,000 answers
        (WeightsConfig(changes=90), "hybrid"),  # retrieval keeps it up to date
    ],
)
def test_weights_decide(weights: WeightsConfig, choice: str | None) -> None:
    data = _comparison({"rag": 20, "hybrid": 28}, seconds={"rag": 0.5, "hybrid": 1.5})
    costs = {"rag": cost("rag", price=1.0), "hybrid": cost("hybrid", price=2.0)}
    decision = decide(data, weights=weights, costs=costs)
    assert decision.choice == choice, decision.text
    assert ("after your weights" in decision.text) == (weights not in {WeightsConfig(), WeightsConfig(quality=30)})
    assert decision.standings[0].quality == pytest.approx(20)
    assert decision.standings[0].seconds == pytest.approx(1.0)
    assert decision.standings[0].price == pytest.approx(1.0)


def test_changing_documents_count_against_what_is_known_by_heart() -> None:
    data = _comparison({"rag": 20, "tuned": 30, "hybrid": 28})
    assert decide(data).choice == "tuned"
    assert decide(data, weights=WeightsConfig(changes=10)).choice == "hybrid"
    own = {**ARMS, "mine": Arm("mine", "", context="none", other=ArmConfig("mine", adapter="folder"))}
    mine = _comparison({"rag": 20, "mine": 30})
    assert decide(mine, arms=own, weights=WeightsConfig(changes=60)).choice == "rag"
    assert decide(mine, weights=WeightsConfig(changes=60)).choice == "mine"  # an arm that nobody describes


def test_the_metric_of_the_comparison_decides() -> None:
    text = _decide({"rag": 10, "hybrid": 30}, metric="rouge_l", seconds={"hybrid": 0.35}).text
    assert "ROUGE-L 0.750 against" in text
    assert "An answer takes 0.25 s more." in text


def test_warnings() -> None:
    calm = _decide({"rag": 60, "hybrid": 10}, n=100)
    assert calm.warnings == ()
    assert "Few questions: 40; ask at least 50." in _decide({"rag": 35, "hybrid": 12}).warnings
    wide = _decide({"rag": 20, "hybrid": range(10, 40)}, n=50)
    assert any(warning.startswith("Wide interval: ") and warning.endswith("for hybrid.") for warning in wide.warnings)
    failed = _decide({"rag": 60, "hybrid": 10}, n=100, failed={"hybrid": 2})
    assert failed.warnings == ("hybrid: 2 of 101 answers failed and count as wrong.",)


def test_retrieval_is_fixed_first() -> None:
    decision = _decide({"rag": 50, "rag_oracle": 90, "hybrid": 10}, n=100, recall=0.5)
    assert decision.warnings == (
        "Retrieval is the bottleneck: it finds 50% of the gold documents. Fix it first (chunks, embedder, prompt.k), "
        "then compare again. With the right chunks it would reach token F1 0.900.",
    )
    assert _decide({"base": 50, "tuned": 10}, n=100).warnings == ()


def test_a_weight_without_a_price_is_pointed_out() -> None:
    decision = decide(_comparison({"rag": 60, "hybrid": 10}, n=100), weights=WeightsConfig(cost=1))
    assert decision.warnings == (
        "No price is known for rag, hybrid, so compare.weights.cost takes it for free; set compare.price_hour.",
    )


def test_one_arm_alone_settles_nothing() -> None:
    decision = _decide({"rag": 3, "rag_oracle": 9})
    assert decision.text == "Only rag ran (token F1 0.075); with one arm there is nothing to compare."
    assert (decision.choice, decision.fine_tune) == (None, None)


@pytest.mark.parametrize(("right", "best"), [({"base": 3, "hybrid": 9}, "Hybrid"), ({"base": 3}, "The base model")])
def test_without_the_baseline_the_verdict_says_so(right: dict[str, int], best: str) -> None:
    decision = _decide(right)
    assert decision.text.startswith(best)
    assert "'rag' was not among the arms" in decision.text
    assert decision.choice is None


def test_the_numbers_go_into_the_report() -> None:
    decision = _decide({"rag": 10, "hybrid": 30, "rag_oracle": 40})
    data = asdict(decision)
    dumps(data, allow_nan=False)
    assert [standing["arm"] for standing in data["standings"]] == ["hybrid"]
    assert data["standings"][0]["training_seconds"] == 245.0
    assert data["standings"][0]["trained"]


def test_the_note_says_what_cannot_be_seen() -> None:
    note = power_note(_comparison({"rag": 10, "hybrid": 16})) or ""
    # 6 of 40 differences are 1: sd 0.3616, and (2.023 + 0.851) * sd / sqrt(40)
    assert note.startswith(f"With {N} questions, a difference under 16.4 points of token F1 cannot be seen reliably")
    among = power_note(_comparison({"rag": 10, "hybrid": 16, "tuned": 10, "base": 10})) or ""
    assert "a difference under 19.2 points" in among, "one of three arms"
    grouped = power_note(_comparison({"rag": 10, "hybrid": 20}, per_document=5)) or ""
    assert "With 40 questions in 8 groups of common documents" in grouped
    assert power_note(_comparison({"base": 3, "hybrid": 9})) is None


def test_groups_that_can_show_nothing_say_so() -> None:
    few: dict[str, int | range] = {"rag": 0, "hybrid": range(0, 40, 3), "tuned": 0, "base": 0}
    note = power_note(_comparison(few, per_document=6)) or ""  # 7 groups: p = 3 * 2 / 2**7
    assert note.startswith("With 40 questions in 7 groups"), note
    assert power_note(_comparison(few, per_document=8)) == (
        "40 questions in 5 groups of common documents cannot show any difference, however large (5% level, adjusted "
        "for the number of arms): ask about more documents, or compare fewer arms."
    )


def test_controls_are_no_arms_that_the_others_are_adjusted_for() -> None:
    right = {"rag": 10, "hybrid": 16, "rag_oracle": 40, "hybrid_oracle": 40, "hybrid_distractors": 10}
    comparison = _comparison(right, controls=controls(ARMS.values()))
    decision = decide(comparison, costs=COSTS)
    (shown,) = (arm.versus["f1"].p_holm for arm in comparison.summaries if arm.name == "hybrid")
    assert decision.choice == "hybrid"
    assert shown == decision.standings[0].p_holm == 2 / 2**6
    (oracle,) = (arm.versus["f1"] for arm in comparison.summaries if arm.name == "rag_oracle")
    assert oracle.p_holm > oracle.p


def test_making_answers_up_is_told() -> None:
    questions = [Question(f"a{n}", "?", (f"right {n}",), (f"d{n}",)) for n in range(30)]
    questions += [Question(f"u{n}", "?", answerable=False) for n in range(30)]

    def run(name: str, right: int, refuses: bool) -> ArmRun:
        said = (
            (f"right {n}" if n < right else "wrong", False) if q.answerable else ("" if refuses else "rubbish", refuses)
            for n, q in enumerate(questions)
        )
        replies = (
            Reply(q.id, text, abstained, q.gold, (), 0.1) for q, (text, abstained) in zip(questions, said, strict=True)
        )
        return ArmRun(name, "", tuple(replies))

    told = "It makes answers up: of the unanswerable questions hybrid refuses 0%, rag 100%."
    for refuses in (False, True):
        decision = decide(compare(questions, [run("rag", 5, True), run("hybrid", 25, refuses)], k=1))
        assert decision.choice == "hybrid"
        assert (told in decision.warnings) is not refuses


def test_gold_ids_that_the_index_lacks_are_no_fault_of_retrieval() -> None:
    comparison = _comparison({"rag": 10, "hybrid": 30}, recall=0.0)
    lost = decide(comparison, documents=["other"]).text
    assert "40 of 40 are not in the index under the ids that the questions name" in lost
    assert "bottleneck" not in lost
    there = {document for question in comparison.questions for document in question.gold}
    assert "Retrieval is the bottleneck" in decide(comparison, documents=there).text


def test_seconds_are_those_of_all_questions() -> None:
    comparison = _comparison({"rag": 10, "hybrid": 30}, seconds={"rag": 0.1, "hybrid": 0.1})
    slow = comparison.runs[1]
    last = replace(slow.replies[-1], seconds=41.1)  # the unanswerable question takes a second more on average
    runs = (comparison.runs[0], replace(slow, replies=(*slow.replies[:-1], last)))
    (standing,) = decide(compare(comparison.questions, runs, k=4), WeightsConfig(latency=1)).standings
    assert standing.seconds == pytest.approx(1.0)
    assert standing.net == pytest.approx(standing.quality - 1.0)


def test_an_arm_left_out_for_its_failures_is_named() -> None:
    reason = _decide({"rag": 10, "hybrid": 40}, failed={"hybrid": 30}).reasons[0]
    assert reason == (
        "Only rag ran (token F1 0.250), as most answers of hybrid failed; with one arm there is nothing to compare."
    )


def test_questions_without_an_answer_decide_nothing() -> None:
    questions = [Question(str(n), "?", answerable=False) for n in range(9)]
    runs = [
        ArmRun(name, "", tuple(Reply(q.id, "x", False, (), (), 0.1) for q in questions)) for name in ("rag", "hybrid")
    ]
    assert "No question has an answer to score" in decide(compare(questions, runs, k=1)).text
