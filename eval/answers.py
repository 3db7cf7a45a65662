"""Scores of one answer against its gold answers: exact match, token F1, containment and ROUGE-L, all in 0..1."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from hybrid.errors import EvaluationError
from hybrid.types import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+")
# Thai to Khmer, kana, and Chinese ideographs: written without spaces, so each character is a token, as in MLQA.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


class AnswerScore(NamedTuple):
    """Scores of one answer, each in 0..1, or all None where the question has no answer."""

    em: float | None
    f1: float | None
    rouge_l: float | None
    contains: float | None


UNSCORED = AnswerScore(None, None, None, None)
WRONG = AnswerScore(0.0, 0.0, 0.0, 0.0)


def normalise(text: str) -> str:
    """Lowers the text and drops punctuation, English articles and surplus white space.

    The steps and their order are those of the official SQuAD v1.1 script (Rajpurkar et al. 2016). Two additions leave
    plain English as it is there: Unicode punctuation counts as punctuation (as in MLQA), and a text made of nothing
    but punctuation and articles keeps it, so that the answers "+" and "-" differ.

    >>> normalise("The  Eiffel-Tower, Paris!")
    'eiffeltower paris'
    >>> normalise("東京。")
    '東京'
    """
    lowered = unicodedata.normalize("NFC", text).lower()
    kept = lowered.translate({ord(character): None for character in set(lowered) if _is_punctuation(character)})
    return " ".join(_ARTICLES.sub(" ", kept).split()) or " ".join(lowered.split())


def tokens(text: str) -> list[str]:
    """Splits the normalised text at white space, and between the characters of scripts that are written without it.

    >>> tokens("The 3 pumps"), tokens("東京 2020")
    (['3', 'pumps'], ['東', '京', '2020'])
    """
    return _UNSPACED.sub(r" \1 ", normalise(text)).split()


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 if the normalised prediction equals a normalised gold answer, else 0.

    >>> exact_match("The Seine.", ["Loire", "seine"])
    1.0
    """
    predicted = normalise(prediction)
    return float(any(predicted == normalise(gold) for gold in golds))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Best F1 of the two bags of tokens over the gold answers, as in SQuAD v1.1; 0 without a gold answer.

    >>> token_f1("the river Seine", ["Seine", "Loire"])
    0.6666666666666666
    """
    predicted = Counter(tokens(prediction))
    return max((_bag_f1(predicted, Counter(tokens(gold))) for gold in golds), default=0.0)


def contains(prediction: str, golds: Sequence[str]) -> float:
    """1 if the tokens of a gold answer stand next to each other, in order, in the prediction, else 0.

    >>> contains("It takes 15 days.", ["5"]), contains("It takes 15 days.", ["15 days"])
    (0.0, 1.0)
    """
    predicted = tokens(prediction)
    return float(any(_has_run(predicted, tokens(gold)) for gold in golds))


def rouge_l(prediction: str, golds: Sequence[str]) -> float:
    """Best ROUGE-L F-measure (Lin 2004) over the gold answers, by rouge-score without stemming.

    The words are those of rouge-score for ASCII text; letters and digits of other scripts, which it drops, count too.

    >>> rouge_l("the cat sat", ["the cat ran"])
    0.6666666666666666
    """
    scorer = _rouge_scorer()
    return max((float(scorer.score(gold, prediction)["rougeL"].fmeasure) for gold in golds), default=0.0)


def score_answer(prediction: str, question: Question, abstained: bool) -> AnswerScore:
    """Scores an answer to a question: 0 for an abstention, None where the question has no answer.

    Raises:
        EvaluationError: The question is answerable but names no answer.
    """
    if not question.answerable:
        return UNSCORED
    golds = question.answers
    if not golds:
        raise EvaluationError(f"question {question.id!r} has no answers; give some, or set answerable to false")
    if abstained:
        return WRONG
    return AnswerScore(
        em=exact_match(prediction, golds),
        f1=token_f1(prediction, golds),
        rouge_l=rouge_l(prediction, golds),
        contains=contains(prediction, golds),
    )


@cache
def _is_punctuation(character: str) -> bool:
    # string.punctuation adds the ASCII symbols ($, +, <, …) that Unicode does not class as punctuation.
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _bag_f1(predicted: Counter[str], gold: Counter[str]) -> float:
    common = (predicted & gold).total()
    if common == 0:
        return 0.0
    precision, recall = common / predicted.total(), common / gold.total()
    return 2 * precision * recall / (precision + recall)


def _has_run(sequence: list[str], run: list[str]) -> bool:
    return bool(run) and any(sequence[i : i + len(run)] == run for i in range(len(sequence) - len(run) + 1))


class _Words:
    """The tokenizer that rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        composed = unicodedata.normalize("NFC", text).lower()
        return _WORD.findall(_UNSPACED.sub(r" \1 ", composed))


@cache
def _rouge_scorer() -> Any:  # noqa: ANN401 - rouge-score has no types
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())
