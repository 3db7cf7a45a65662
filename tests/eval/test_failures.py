"""Each cause on a case of its own, and the split of retrieval errors from those of the model."""

from typing import get_args

import pytest

from hybrid.eval.comparison import ArmRun, Reply, compare
from hybrid.eval.failures import Cause, analyse
from hybrid.eval.statistics import paired_bootstrap
from hybrid.types import Question

PASSAGES = {
    "pumps#0-60": "The impeller of the pump must be replaced every 200 hours.",
    "pumps#60-99": "The pump is painted blue and stands in hall four.",
    "boats#0-50": "The Petrel takes fourteen passengers to the island.",
    "law#0-90": "Tenants shall give written notice to the landlord at least three months before the end of the term.",
}
HOURS = Question("q", "How often must the impeller be replaced?", ("every 200 hours",), ("pumps",))
LONG = Question("q", "When?", ("notice in writing to the landlord at least three months before the end",), ("law",))
LABEL = Question("q", "Is it blue?", ("yes",), ("pumps",))
NONE = Question("q", "Why?", answerable=False)


def cause(question: Question, text: str, *contexts: str, abstained: bool = False, error: str = "") -> Cause:
    reply = Reply("q", text, abstained, (), contexts, 0.1, error=error)
    # A second question keeps an arm that was shown nothing here an arm that retrieves.
    other = Reply("other", "x", False, (), ("boats#0-50",) if contexts != ("closed",) else (), 0.1)
    reply = reply if contexts != ("closed",) else Reply("q", text, abstained, (), (), 0.1, error=error)
    questions = (question, Question("other", "?", ("x",), ("boats",)))
    (failures,) = analyse(compare(questions, [ArmRun("rag", "", (reply, other))], k=1), PASSAGES)
    assert failures.counts[failures.causes[0]] >= 1
    return failures.causes[0]


@pytest.mark.parametrize(
    ("question", "text", "contexts", "wanted"),
    [
        (HOURS, "Every 200 hours.", ["pumps#0-60"], "right"),
        (HOURS, "Every 200 hours.", ["boats#0-50"], "right"),
        (HOURS, "every 200", ["pumps#0-60"], "right"),
        (HOURS, "You will have to do that about every 200 hours or so, I think, sometimes", ["pumps#0-60"], "format"),
        (HOURS, "monthly", ["boats#0-50"], "missed"),
        (HOURS, "monthly", [], "missed"),
        # The document is right, the chunk is not: the answer was not shown.
        (HOURS, "monthly", ["pumps#60-99"], "missed"),
        (HOURS, "monthly", ["boats#0-50", "pumps#0-60"], "unused"),
        (HOURS, "the pump", ["pumps#0-60"], "misused"),
        (HOURS, "impeller replaced", ["pumps#0-60"], "unused"),
        (HOURS, "200 of the pump monthly", ["pumps#0-60", "boats#0-50"], "misused"),
        (HOURS, "monthly", ["closed"], "wrong"),
        (LONG, "within a week", ["law#0-90"], "unused"),
        (LONG, "within a week", ["pumps#0-60"], "missed"),
        (LABEL, "Yes, it is blue.", ["pumps#0-60"], "right"),
        (LABEL, "No, but some say yes", ["pumps#60-99"], "unused"),
        (LABEL, "No", ["boats#0-50"], "missed"),
        (Question("q", "Is it?", ("yes",)), "No", ["boats#0-50"], "wrong"),
        (Question("q", "Which boat?", ("Petrel",)), "Tern", ["boats#0-50"], "unused"),
        (Question("q", "Which boat?", ("Petrel",)), "Tern", ["law#0-90"], "missed"),
        (NONE, "Because.", ["boats#0-50"], "made_up"),
    ],
)
def test_causes(question: Question, text: str, contexts: list[str], wanted: Cause) -> None:
    assert cause(question, text, *contexts) == wanted


def test_refusals() -> None:
    assert cause(NONE, "", "boats#0-50", abstained=True) == "right"
    assert cause(HOURS, "", "pumps#0-60", abstained=True) == "refused"
    assert cause(HOURS, "", "boats#0-50", abstained=True) == "missed"
    assert cause(HOURS, "", "closed", abstained=True) == "refused"


def test_failed_answers() -> None:
    assert cause(HOURS, "", "pumps#0-60", error="boom") == "error"
    assert cause(NONE, "", "pumps#0-60", abstained=True, error="boom") == "error"


def test_without_texts_the_documents_of_the_chunks_tell() -> None:
    questions = [HOURS]
    runs = [ArmRun("rag", "", (Reply("q", "monthly", False, (), ("pumps#60-99",), 0.1),))]
    assert analyse(compare(questions, runs, k=1), {})[0].causes == ("unused",)


def test_errors_of_retrieval_are_separated_from_those_of_the_model() -> None:
    """Both arms are shown the oracle of the first 8 of 12 questions; hybrid reads better, tuned guesses."""
    questions = [Question(str(i), "?", (f"answer {i}",), (f"d{i}",)) for i in range(12)]
    passages = {f"d{i}#0-9": f"Here is answer {i} now." for i in range(12)} | {"x#0-9": "Nothing."}

    def run(name: str, right: set[int], retrieves: bool = True) -> ArmRun:
        return ArmRun(
            name,
            "",
            tuple(
                Reply(
                    *(str(i), f"answer {i}" if i in right else "no", False, ()),
                    *((f"d{i}#0-9" if i < 8 else "x#0-9",) if retrieves else (), 0.1),
                )
                for i in range(12)
            ),
        )

    runs = [run("rag", {0, 1}), run("hybrid", set(range(7))), run("tuned", {0, 9, 10}, retrieves=False)]
    rag, hybrid, tuned = analyse(compare(questions, runs, k=1, seed=3), passages)
    assert rag.counts == {**dict.fromkeys(get_args(Cause), 0), "right": 2, "unused": 6, "missed": 4}
    assert hybrid.counts["missed"] == 4
    assert tuned.counts == {**dict.fromkeys(get_args(Cause), 0), "right": 3, "wrong": 9}
    assert rag.found.mean is not None
    assert (rag.found.mean.value, rag.found.mean.n, rag.found.versus) == (2 / 8, 8, None)
    seven = [1.0] * 7 + [0.0]
    assert hybrid.found.versus == paired_bootstrap(seven, [1.0, 1.0] + [0.0] * 6, seed=3)
    assert hybrid.missed.versus is not None
    assert hybrid.missed.versus.difference == 0.0
    # A closed-book arm is split as the baseline was shown it.
    assert tuned.missed.mean is not None
    assert (tuned.missed.mean.value, tuned.missed.mean.n) == (0.5, 4)


def test_counts_and_shares_add_up() -> None:
    questions = [HOURS, Question("r", "Which boat?", ("Petrel",), ("boats",)), Question("u", "?", answerable=False)]
    replies = (
        Reply("q", "every 200 hours", False, (), ("pumps#0-60",), 0.1),
        Reply("r", "Tern", False, (), ("boats#0-50",), 0.1),
        Reply("u", "So.", False, (), (), 0.1),
    )
    (failures,) = analyse(compare(questions, [ArmRun("rag", "", replies)], k=1), PASSAGES)
    assert sum(failures.counts.values()) == 3
    assert sum(share.value for share in failures.shares.values()) == pytest.approx(1)
    assert all(share.low <= share.value <= share.high for share in failures.shares.values())
    assert failures.shares["made_up"].value == pytest.approx(1 / 3)
