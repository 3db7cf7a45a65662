"""How much worse a model reads general text after fine-tuning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from hybrid.errors import EvaluationError
from hybrid.eval.resampling import bootstrap_totals
from hybrid.eval.text_metrics import perplexity


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Perplexity of the same texts before and after.

    Attributes:
        before: Perplexity of the model as it was.
        after: Perplexity of the fine-tuned model.
        change: ``after / before - 1``: 0.1 if the perplexity rose by a tenth.
        low: Lower end of the 95 % bootstrap interval of `change`, drawn by text.
        high: Upper end.
    """

    before: float
    after: float
    change: float
    low: float
    high: float


def forgetting(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], *, resamples: int = 10_000, seed: int = 0
) -> Forgetting:
    """Compares two models by the log-probabilities that they give the tokens of the same texts.

    Args:
        before: Natural logarithms of the model as it was, a sequence for each text.
        after: Those of the fine-tuned model.
        resamples: Number of bootstrap resamples.
        seed: The same seed gives the same interval.

    Raises:
        EvaluationError: The texts or their tokens differ in number, there is no token, or a value is not the finite
            logarithm of a probability.

    >>> found = forgetting([[-1.0, -1.0]], [[-1.5, -1.5]])
    >>> round(found.change, 4) == round(math.exp(0.5) - 1, 4)
    True
    """
    tokens = [len(text) for text in before]
    if tokens != [len(text) for text in after]:
        raise EvaluationError("before and after must score the same tokens of the same texts, by the same tokenizer")
    start, end = perplexity(before), perplexity(after)
    lost = [math.fsum(old) - math.fsum(new) for old, new in zip(before, after, strict=True)]
    if not all(map(math.isfinite, (start, end, *lost))):
        raise EvaluationError("a token is impossible for one of the models, so the change is not finite")
    columns = np.array([lost, tokens], dtype=np.float64).T
    totals = bootstrap_totals(columns[columns[:, 1] > 0], resamples=resamples, seed=seed)
    low, high = np.expm1(np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975]))
    return Forgetting(start, end, math.expm1(math.fsum(lost) / sum(tokens)), float(low), float(high))


def general_texts() -> list[str]:
    """Paragraphs of general English in the public domain; general_text.txt names their sources."""
    text = resources.files("hybrid.eval").joinpath("general_text.txt").read_text(encoding="utf-8")
    return [" ".join(part.split("\n")) for part in text.strip().split("\n\n") if not part.startswith("#")]
