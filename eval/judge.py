"""A language model as judge: a rubric from 1 to 5, and pairs of answers shown in both orders.

A judgement that cannot be read is a failure: it is counted, and never left out of a mean. How far a judge can be
trusted is measured by `calibration` against exact metrics, and by `spread` over repeated judgements.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Literal, NamedTuple, Protocol

from hybrid.errors import EvaluationError

Message = dict[str, str]
Verdict = Literal["first", "second", "tie", "failed"]

LOWEST, HIGHEST = 1, 5

_RUBRIC = (
    "You grade an answer against a reference answer. 5: same facts. 4: small omission. 3: partly right. "
    '2: mostly wrong. 1: wrong or no answer. Reply with JSON only: {"score": 1}'
)
_PAIR = (
    "You compare two answers to a question by the reference answer. Length and style do not count. "
    'Reply with JSON only: {"better": "A"}, {"better": "B"} or {"better": "tie"}'
)
_SUPPORT = (
    "You check whether a source supports a claim, by the source alone. 5: fully supported. 3: partly. "
    '1: contradicted or not mentioned. Reply with JSON only: {"score": 1}'
)
_DECODER = json.JSONDecoder()


class TextGenerator(Protocol):
    """Answers prompts of chat messages."""

    def generate(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
        """One reply per prompt, in order; an empty one where there is none."""
        ...


class Case(NamedTuple):
    """An answer to judge."""

    question: str
    references: tuple[str, ...]
    answer: str


class PairCase(NamedTuple):
    """Two answers to compare."""

    question: str
    references: tuple[str, ...]
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Grades:
    """What a judge gave.

    Attributes:
        scores: Per case one score of 1 to 5 for each repeat, or None where the judgement failed.
    """

    scores: tuple[tuple[int | None, ...], ...]

    @property
    def failures(self) -> int:
        """Number of judgements that failed."""
        return sum(score is None for some in self.scores for score in some)

    @property
    def means(self) -> tuple[float, ...]:
        """Mean score per case; a failed judgement counts as the lowest score."""
        return tuple(fmean(LOWEST if score is None else score for score in some) for some in self.scores)

    @property
    def spread(self) -> float | None:
        """Mean variance of the scores of one case over the repeats; None without two judgements of any case."""
        judged = [[score for score in some if score is not None] for some in self.scores]
        variances = [variance(some) for some in judged if len(some) > 1]
        return fmean(variances) if variances else None


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What a judge preferred; wins are those of the first answer.

    Attributes:
        verdicts: One per case.
        inconsistent: Number of ties that come from a judge who changed its mind with the order of the answers.
    """

    verdicts: tuple[Verdict, ...]
    inconsistent: int

    def count(self, verdict: Verdict) -> int:
        """Number of cases with a verdict."""
        return self.verdicts.count(verdict)


def grade(judge: TextGenerator, cases: Sequence[Case], *, repeats: int = 1) -> Grades:
    """Asks for the score of every answer, `repeats` times.

    Raises:
        ValueError: `repeats` is below 1.
        EvaluationError: The judge gave other than one reply per prompt.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    prompts = [_prompt(_RUBRIC, question, references, {"Answer": answer}) for question, references, answer in cases]
    rounds = [[parse_score(reply) for reply in _ask(judge, prompts)] for _ in range(repeats)]
    return Grades(tuple(tuple(scores[place] for scores in rounds) for place in range(len(cases))))


def prefer(judge: TextGenerator, cases: Sequence[PairCase]) -> Comparisons:
    """Asks which of two answers is better, in both orders.

    An answer wins if it is preferred in both orders, or in one with a tie in the other. If each order prefers another,
    the verdict follows the position and counts as a tie. If either reply cannot be read, the case has failed.

    Raises:
        EvaluationError: The judge gave other than one reply per prompt.
    """
    prompts = []
    for question, references, first, second in cases:
        for a, b in ((first, second), (second, first)):
            prompts.append(_prompt(_PAIR, question, references, {"Answer A": a, "Answer B": b}))
    said = [parse_preference(reply) for reply in _ask(judge, prompts)]
    straight = said[::2]
    swapped = [{"A": "B", "B": "A"}.get(choice or "", choice) for choice in said[1::2]]
    verdicts = tuple(_verdict(one, other) for one, other in zip(straight, swapped, strict=True))
    return Comparisons(verdicts, sum({one, other} == {"A", "B"} for one, other in zip(straight, swapped, strict=True)))


class JudgedGrounding:
    """Whether a source supports a claim, by a judge; 0..1, see `hybrid.eval.grounding.Grounding`.

    Attributes:
        failures: Number of judgements so far that could not be read; they count as not supported.
    """

    def __init__(self, judge: TextGenerator) -> None:
        self._judge = judge
        self.failures = 0

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores pairs of source and claim.

        Raises:
            EvaluationError: The judge gave other than one reply per prompt.
        """
        prompts = [_messages(_SUPPORT, {"Source": source, "Claim": claim}) for source, claim in pairs]
        scores = [parse_score(reply) for reply in _ask(self._judge, prompts)]
        self.failures += scores.count(None)
        return [((LOWEST if score is None else score) - LOWEST) / (HIGHEST - LOWEST) for score in scores]


def calibration(judged: Sequence[float], metric: Sequence[float]) -> float | None:
    """Spearman's rank correlation of a judge's scores with an exact metric, such as F1, on the same answers.

    None for fewer than three answers or where one side does not vary: there is nothing to correlate.

    Raises:
        EvaluationError: The two have different lengths, or hold a value that is not finite.
    """
    from scipy.stats import spearmanr

    if len(judged) != len(metric) or not all(map(math.isfinite, (*judged, *metric))):
        raise EvaluationError(f"calibration needs finite values for the same answers: {len(judged)} and {len(metric)}")
    if len(judged) < 3 or len(set(judged)) < 2 or len(set(metric)) < 2:
        return None
    return float(spearmanr(judged, metric).statistic)


def parse_score(reply: str) -> int | None:
    """The score of a reply; None unless it names exactly one whole number from 1 to 5.

    >>> parse_score('Here it is: {"score": 4}'), parse_score('{"score": NaN}'), parse_score("4")
    (4, None, None)
    """
    found = _values(reply, "score")
    if len(found) != 1 or isinstance(found[0], bool) or not isinstance(found[0], int | float):
        return None
    score = found[0]
    return int(score) if score in range(LOWEST, HIGHEST + 1) else None


def parse_preference(reply: str) -> Literal["A", "B", "tie"] | None:
    """The choice of a reply; None unless it names exactly one of A, B and tie.

    >>> parse_preference('{"better": "b"}'), parse_preference('{"better": "both"}')
    ('B', None)
    """
    found = _values(reply, "better")
    if len(found) != 1 or not isinstance(found[0], str):
        return None
    choices: dict[str, Literal["A", "B", "tie"]] = {"a": "A", "b": "B", "tie": "tie"}
    return choices.get(found[0].strip().lower())


def _values(reply: str, key: str) -> list[Any]:
    """What the JSON objects of a reply hold under the key, each value once; not what a model says while it thinks."""
    found: list[Any] = []
    text = reply.rpartition("</think>")[2]
    at = text.find("{")
    while at >= 0:
        try:
            values, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            values, end = {}, at + 1
        if key in values and values[key] not in found:
            found.append(values[key])
        at = text.find("{", end)
    return found


def _verdict(straight: str | None, swapped: str | None) -> Verdict:
    if straight is None or swapped is None:
        return "failed"
    lead = [straight, swapped].count("A") - [straight, swapped].count("B")
    return "first" if lead > 0 else "second" if lead < 0 else "tie"


def _prompt(system: str, question: str, references: Sequence[str], parts: Mapping[str, str]) -> list[Message]:
    return _messages(system, {"Question": question, "Reference": " / ".join(references), **parts})


def _messages(system: str, parts: Mapping[str, str]) -> list[Message]:
    # As JSON, so that a text to be judged cannot pass for another part of the prompt.
    content = json.dumps(parts, ensure_ascii=False, indent=0)
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def _ask(judge: TextGenerator, prompts: Sequence[Sequence[Message]]) -> list[str]:
    replies = judge.generate(prompts)
    if len(replies) != len(prompts):
        raise EvaluationError(f"the judge gave {len(replies)} replies to {len(prompts)} prompts")
    return replies
