"""Whether an answer is grounded in its context: how far a source supports a claim, by methods that need no judge.

scores = Lexical().score([("The pump was built in 1969.", "It was built in 1969.")])

Every method gives higher scores to claims that are supported better, on a scale of its own. benchmarks/groundedness.py
measures how well each tells supported claims from others.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hybrid.errors import EvaluationError
from hybrid.eval.answers import spaced
from hybrid.eval.text_metrics import Embed, cosine, embed_once

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|neither|nobody|nothing|without|cannot|unable)\b|n['\u2019]t\b", re.I
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class Grounding(Protocol):
    """Tells how far sources support claims."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One score per pair of source and claim, higher where the source supports the claim better."""
        ...


class Lexical:
    """The share of the claim's words that the source has, 0..1; 0 for a claim without words."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        """Makes the method.

        Args:
            weights: Weight of each word, such as `inverse_document_frequency`; a word that is not there weighs as much
                as the heaviest. Without weights all words weigh the same.
        """
        self._weights = weights
        self._unknown = max(weights.values(), default=1.0) if weights else 1.0

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores pairs of source and claim.

        >>> Lexical().score([("The pump is new.", "the old pump")])
        [0.6666666666666666]
        """
        return [self._share(source, claim) for source, claim in pairs]

    def _share(self, source: str, claim: str) -> float:
        known = set(words(source))
        weighed = [(word, self._weight(word)) for word in words(claim)]
        total = math.fsum(weight for _, weight in weighed)
        return math.fsum(weight for word, weight in weighed if word in known) / total if total else 0.0

    def _weight(self, word: str) -> float:
        return self._weights.get(word, self._unknown) if self._weights is not None else 1.0


class Facts:
    """The share of words, less what the claim's numbers and negations contradict; -0.5..1.

    A quarter is taken off if none of the claim's numbers stands in the source, less if some do, and a quarter if
    either the claim or the sentence of the source that shares most of its words is negated, but not both.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        """Makes the method; for `weights` see `Lexical`."""
        self._lexical = Lexical(weights)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores pairs of source and claim.

        >>> Facts().score([("It holds 5 litres.", "It holds 6 litres."), ("It is new.", "It is not new.")])
        [0.5, 0.5]
        """
        shares = self._lexical.score(pairs)
        return [
            share - (_missing_numbers(*pair) + self._negation_differs(*pair)) / 4
            for share, pair in zip(shares, pairs, strict=True)
        ]

    def _negation_differs(self, source: str, claim: str) -> bool:
        parts = sentences(source)
        shares = self._lexical.score([(part, claim) for part in parts])
        nearest = max(zip(shares, parts, strict=True), key=lambda pair: pair[0], default=(0.0, source))[1]
        return bool(_NEGATION.search(nearest)) is not bool(_NEGATION.search(claim))


class Similarity:
    """The cosine of claim and source by an embedder, or that of the claim's nearest sentence; -1..1."""

    def __init__(self, embed: Embed, *, by_sentence: bool) -> None:
        """Makes the method.

        Args:
            embed: Turns texts, each once and none of them empty, into vectors of length 1.
            by_sentence: Whether the sentences of the source are compared one by one, and the nearest counts.
        """
        self._embed = embed
        self._by_sentence = by_sentence

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores pairs of source and claim; 0 where one is empty.

        Raises:
            EvaluationError: The embedder gives other than one finite vector per text.
        """
        parts = [(sentences(source) if self._by_sentence else [source]) for source, _ in pairs]
        texts = [text for part, (_, claim) in zip(parts, pairs, strict=True) for text in (*part, claim)]
        vectors = embed_once(texts, self._embed)
        return [
            max((cosine(vectors, text, claim) for text in part), default=0.0)
            for part, (_, claim) in zip(parts, pairs, strict=True)
        ]


def inverse_document_frequency(sources: Collection[str]) -> dict[str, float]:
    """How rare each word is among the distinct sources, ``log(1 + (n - df + 0.5) / (df + 0.5))`` as in BM25.

    >>> weights = inverse_document_frequency(["a pump", "a tank"])
    >>> weights["a"] < weights["pump"] == weights["tank"]
    True
    """
    distinct = dict.fromkeys(sources)
    found = Counter(word for source in distinct for word in sorted(set(words(source))))
    return {word: math.log(1 + (len(distinct) - n + 0.5) / (n + 0.5)) for word, n in found.items()}


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case; each character of a script written without spaces is one.

    >>> words("The pump's 2.5 bar")
    ['the', 'pump', 's', '2', '5', 'bar']
    """
    return _WORD.findall(spaced(text.lower()))


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, none of them empty.

    >>> sentences("It is new. Is it? Version 2.5 is.")
    ['It is new.', 'Is it?', 'Version 2.5 is.']
    """
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def auroc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """Chance that a supported claim scores higher than another, ties counting half: the area under the ROC curve.

    Raises:
        EvaluationError: There is no claim of one of the two sorts, or a score is not a number.

    >>> auroc([True, True, False], [0.9, 0.4, 0.4])
    0.75
    """
    from scipy.stats import rankdata

    values, positive = _checked(labels, scores)
    above = rankdata(values)[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / (positive.sum() * (~positive).sum()))


def auroc_interval(
    labels: Sequence[bool],
    scores: Sequence[float],
    groups: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `auroc`; claims of a group, such as those of one source, are drawn together.

    Resamples with claims of one sort alone say nothing and are left out.

    Raises:
        EvaluationError: There is no claim of one of the two sorts, or a score is not a number.
    """
    _checked(labels, scores)
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    members = [np.array(some) for some in rows.values()]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        some = [labels[row] for row in drawn]
        if 0 < sum(some) < len(some):
            found.append(auroc(some, [scores[row] for row in drawn]))
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]) if found else (0.0, 1.0)
    return float(low), float(high)


def _checked(labels: Sequence[bool], scores: Sequence[float]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if values.shape != positive.shape or np.isnan(values).any():
        raise EvaluationError(
            f"{len(labels)} labels need as many scores; found {len(scores)}, {int(np.isnan(values).sum())} of them NaN"
        )
    if not 0 < positive.sum() < len(positive):
        raise EvaluationError(f"{int(positive.sum())} of {len(positive)} claims are supported; AUROC needs both sorts")
    return values, positive


def _missing_numbers(source: str, claim: str) -> float:
    """Share of the claim's distinct numbers that the source lacks; 0 without any."""
    claimed = set(_NUMBER.findall(claim))
    return len(claimed - set(_NUMBER.findall(source))) / len(claimed) if claimed else 0.0
