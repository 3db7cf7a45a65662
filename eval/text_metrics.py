"""Scores that need a whole set of answers or a model: corpus BLEU and chrF, perplexity, embedding similarity."""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from hybrid.errors import EvaluationError
from hybrid.eval.answers import spaced

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]


def corpus_bleu(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> float:
    """BLEU of all answers together, in 0..1, by sacrebleu; an n-gram counts if any gold answer has it.

    Scripts written without spaces are split into characters first.

    Args:
        predictions: The answers.
        golds: The gold answers of each, at least one.

    Raises:
        EvaluationError: There is no answer, or their numbers differ, or one has no gold answer.
    """
    from sacrebleu.metrics.bleu import BLEU

    references = _references(predictions, [[spaced(gold) for gold in some] for some in golds])
    return min(1.0, float(BLEU().corpus_score([spaced(text) for text in predictions], references).score) / 100)


def corpus_chrf(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> float:
    """ChrF of all answers together, in 0..1, by sacrebleu; of several gold answers the nearest counts.

    Args:
        predictions: The answers.
        golds: The gold answers of each, at least one.

    Raises:
        EvaluationError: There is no answer, or their numbers differ, or one has no gold answer.
    """
    from sacrebleu.metrics.chrf import CHRF

    return min(1.0, float(CHRF().corpus_score(list(predictions), _references(predictions, golds)).score) / 100)


def perplexity(log_probs: Sequence[Sequence[float]]) -> float:
    """Perplexity of all tokens of some texts, ``exp(-mean(log p))``.

    Long texts weigh more than short ones, as each token counts once. A token that the model holds impossible makes it
    infinite.

    Args:
        log_probs: The natural logarithm of the probability of each token, a sequence for each text.

    Raises:
        EvaluationError: There is no token, or a value is not the logarithm of a probability.

    >>> round(perplexity([[math.log(0.5), math.log(0.5)], [math.log(0.25)]]), 4)
    2.5198
    """
    values = list(chain.from_iterable(log_probs))
    if not values:
        raise EvaluationError("perplexity needs at least one token; the texts are empty")
    # Rounding in half precision can lift a certain token a little above probability 1.
    if wrong := [value for value in values if not value <= 1e-3]:
        raise EvaluationError(f"{wrong[0]} is not the logarithm of a probability (place {values.index(wrong[0])})")
    mean = math.fsum(values) / len(values) if min(values) > -math.inf else -math.inf
    return math.exp(-mean) if mean > -700 else math.inf


def embedding_similarity(predictions: Sequence[str], golds: Sequence[Sequence[str]], embed: Embed) -> list[float]:
    """Cosine of each answer with the nearest of its gold answers; 0 for an empty text, which means nothing.

    Args:
        predictions: The answers.
        golds: The gold answers of each.
        embed: Turns texts, each once and none of them empty, into vectors of length 1.

    Returns:
        One value in -1..1 per answer.

    Raises:
        EvaluationError: There are not as many lists of gold answers as answers, or the embedder gives other than
            finite vectors.
    """
    _check_lengths(predictions, golds)
    vectors = embed_once([*predictions, *chain.from_iterable(golds)], embed)
    return [
        max((cosine(vectors, prediction, gold) for gold in some), default=0.0)
        for prediction, some in zip(predictions, golds, strict=True)
    ]


def embed_once(texts: Sequence[str], embed: Embed) -> dict[str, Vectors]:
    """The vector of each distinct text that is not empty.

    Raises:
        EvaluationError: The embedder gives other than one finite vector per text.
    """
    distinct = [text for text in dict.fromkeys(texts) if text.strip()]
    if not distinct:
        return {}
    vectors = np.asarray(embed(distinct), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(distinct) or not np.isfinite(vectors).all():
        raise EvaluationError(f"the embedder gave no {len(distinct)} finite vectors, but an array of {vectors.shape}")
    return dict(zip(distinct, vectors, strict=True))


def cosine(vectors: dict[str, Vectors], left: str, right: str) -> float:
    """Cosine of two texts by their vectors of length 1, clipped to -1..1; 0 if one of them has none."""
    if left not in vectors or right not in vectors:
        return 0.0
    return float(np.clip(vectors[left] @ vectors[right], -1.0, 1.0))


def _references(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> list[list[str]]:
    """The gold answers as sacrebleu takes them: the first of each answer, the second of each, and so on."""
    _check_lengths(predictions, golds)
    if not predictions:
        raise EvaluationError("a corpus score needs at least one answer")
    if empty := [place for place, some in enumerate(golds) if not some]:
        raise EvaluationError(f"answer {empty[0]} has no gold answer; leave unanswerable questions out")
    most = max(map(len, golds))
    # An answer with fewer gold answers repeats its first, which changes no score.
    return [[some[column] if column < len(some) else some[0] for some in golds] for column in range(most)]


def _check_lengths(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(golds):
        raise EvaluationError(f"{len(predictions)} answers, but gold answers for {len(golds)}")
