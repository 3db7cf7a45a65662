"""How measures, causes and verdicts are called and written in a report."""

import math
from typing import Literal, NamedTuple

ALPHA = 0.05


def p_value(p: float, arms: int) -> str:
    """A p-value, and for how many arms it was adjusted.

    >>> p_value(0.0206, 4)
    'p = 0.021, adjusted for 4 arms'
    """
    told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{told}, adjusted for {arms} arms" if arms > 1 else told


def duration(seconds: float) -> str:
    """How long something takes, for people.

    >>> duration(90), duration(1500), duration(160_000), duration(1e6)
    ('90 s', '25 minutes', '44 hours', '12 days')
    """
    units = ((600, 1, "s"), (7200, 60, "minutes"), (172_800, 3600, "hours"), (math.inf, 86_400, "days"))
    size, unit = next((size, unit) for most, size, unit in units if seconds < most)
    return f"{seconds / size:.0f} {unit}"


class Label(NamedTuple):
    """How a measure is called and written.

    Attributes:
        name: For headings.
        form: Format of one value.
        better: Which way is better: `high`, `low`, or neither.
        explained: What it is, in a sentence.
        most: Its largest value.
    """

    name: str
    form: str = "{:.3f}"
    better: Literal["high", "low", ""] = "high"
    explained: str = ""
    most: float = 1.0


_SHARE = "{:.0%}"
_MEASURES = {
    "f1": Label("Token F1", explained="Overlap of the words of answer and gold answer, as in SQuAD."),
    "em": Label("Exact match", _SHARE, explained="Answers that equal a gold answer, but for case and punctuation."),
    "contains": Label("Contains it", _SHARE, explained="Share of answers that contain a gold answer word for word."),
    "accuracy": Label("Label accuracy", _SHARE, explained="Share of answers whose first label is the right one."),
    "rouge_1": Label("ROUGE-1", explained="Overlap of single words with the gold answer."),
    "rouge_2": Label("ROUGE-2", explained="Overlap of pairs of words with the gold answer."),
    "rouge_l": Label("ROUGE-L", explained="Longest common run of words with the gold answer."),
    "bleu": Label("BLEU", explained="Overlap of runs of up to four words with the gold answer, by sentence."),
    "chrf": Label("chrF", explained="Overlap of runs of characters with the gold answer, by sentence."),
    "words": Label("Words", "{:.1f}", "", "Length of an answer in words.", float("inf")),
    "abstained": Label("Refused", _SHARE, "", "Share of all questions that the arm refused to answer."),
    "over_refused": Label("Refused wrongly", _SHARE, "low", "Share of answerable questions that the arm refused."),
    "refused_unanswerable": Label(
        "Refused rightly",
        _SHARE,
        "high",
        "Share of unanswerable questions that were refused: recall of refusals.",
    ),
    "refusal_precision": Label(
        "Refusal precision", _SHARE, "high", "Share of refusals that were right, the question being unanswerable."
    ),
    "refusal_f1": Label("Refusal F1", explained="Harmonic mean of precision and recall of refusals."),
    "coverage": Label("Coverage", _SHARE, "", "Share of all questions that were answered, neither refused nor failed."),
    "answered_precision": Label(
        "Precision when answering",
        explained="Mean of the deciding metric over what was answered; an unanswerable question is 0.",
    ),
    "recall_at_k": Label("Retrieval recall", _SHARE, "high", "Share of the gold documents among those retrieved."),
    "gold_shown": Label("Gold shown", _SHARE, "high", "Share of the gold documents of which a passage was shown."),
    "mrr": Label("Reciprocal rank", explained="1 / rank of the first gold document retrieved; 0 where there is none."),
    "ndcg_at_k": Label("nDCG", explained="How near the top the gold documents stand among those retrieved."),
    "similarity": Label("Embedding similarity", explained="Cosine of answer and nearest gold answer."),
    "grounded": Label("Groundedness", explained="How far the passages shown support the answer; refusals have none."),
    "citation_precision": Label("Citation precision", explained="Share of what is cited that stands in a gold quote."),
    "citation_recall": Label("Citation recall", explained="Share of the gold quotes that is cited."),
    "citation_f1": Label("Citation F1", explained="Harmonic mean of citation precision and recall."),
    "quotes_verbatim": Label("Quotes verbatim", explained="Share of citations that stand word for word in a passage."),
    "gold_nll": Label(
        "Gold answer, nats a token", "{:.3f}", "low", "How unlikely the arm finds the gold answer.", float("inf")
    ),
    "judge_grade": Label("Judge's grade", "{:.2f}", "high", "Mean grade by the judge.", float("inf")),
    "judge_preference": Label("Judge's preference", explained="Share of comparisons that the judge gives to the arm."),
    "seconds": Label("Mean seconds", "{:.2f}", "low", "Mean time of an answer.", float("inf")),
}
CAUSES = {
    "right": "right",
    "format": "right, but wordy",
    "missed": "retrieval missed it",
    "unused": "passage not used",
    "misused": "passage used wrongly",
    "refused": "refused wrongly",
    "wrong": "wrong, cause unknown",
    "made_up": "answered the unanswerable",
    "error": "failed",
}
OUTCOMES = {
    "exact": "exact",
    "partial": "partly right",
    "refused": "rightly refused",
    "wrong": "wrong",
    "abstained": "abstained",
    "answered": "should refuse",
    "error": "error",
}

Standing = Literal["better", "worse", "higher", "lower", "no clear difference"]


def label(measure: str) -> Label:
    """How a measure is called; an unknown one by its key.

    >>> label("em").name, label("own_score").name
    ('Exact match', 'own_score')
    """
    return _MEASURES.get(measure, Label(measure, better="", most=float("inf")))


def standing(difference: float, p: float, better: str = "high") -> Standing:
    """Names a difference, if its p-value, adjusted for the number of arms, is below 0.05.

    The p-value decides, not the interval: with a handful of questions a bootstrap interval is too narrow.

    Args:
        difference: Arm minus baseline.
        p: Its p-value.
        better: Which way is better, as in `Label`.

    >>> standing(-0.2, 0.01, "low"), standing(0.1, 0.09)
    ('better', 'no clear difference')
    """
    if not p < ALPHA or not difference:
        return "no clear difference"
    if not better:
        return "higher" if difference > 0 else "lower"
    return "better" if (difference > 0) == (better == "high") else "worse"
