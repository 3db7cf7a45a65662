"""Scores of one answer against its gold answers; with several of these, the best counts, as in SQuAD.

Exact match and token F1 are those of SQuAD, ROUGE by rouge-score, BLEU and chrF by sacrebleu, all in 0..1.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.errors import EvaluationError
from hybrid.types import Question

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+")
_JOINED_WORD = re.compile(r"[^\W_]+(?:(?:[-'\u2019]|[.,](?=\d))[^\W_]+)*")
# Thai to Khmer, kana, and Chinese ideographs: written without spaces, so each character is a token, as in MLQA.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


LABELS = ("yes", "no", "maybe")


class AnswerScore(NamedTuple):
    """Scores of one answer, or all None where the question has no answer.

    All but `words` lie in 0..1. An abstention scores 0 throughout, its length included.

    Attributes:
        em: Exact match.
        f1: F1 of the bags of tokens.
        rouge_l: ROUGE-L F-measure.
        contains: Whether the answer contains a gold answer.
        rouge_1: ROUGE-1 F-measure.
        rouge_2: ROUGE-2 F-measure.
        bleu: Sentence BLEU.
        chrf: Sentence chrF.
        accuracy: Whether the first label that the answer states is a gold one; None where the gold answers are no
            labels.
        words: Length of the answer in words.
    """

    em: float | None
    f1: float | None
    rouge_l: float | None
    contains: float | None
    rouge_1: float | None = None
    rouge_2: float | None = None
    bleu: float | None = None
    chrf: float | None = None
    accuracy: float | None = None
    words: int | None = None


UNSCORED = AnswerScore(None, None, None, None)
WRONG = AnswerScore(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, 0)


def normalise(text: str) -> str:
    """Lowers the text and drops punctuation, English articles and surplus white space.

    The steps and their order are those of the official SQuAD v1.1 script (Rajpurkar et al. 2016). Two additions leave
    plain English as it is there: Unicode punctuation counts as punctuation (as in MLQA), and of a text made of nothing
    but articles these are kept, of one made of nothing but punctuation this, so that the answers "+" and "-" differ.

    >>> normalise("The  Eiffel-Tower, Paris!")
    'eiffeltower paris'
    >>> normalise("東京。"), normalise("A.")
    ('東京', 'a')
    """
    lowered = unicodedata.normalize("NFC", text).lower()
    kept = lowered.translate({ord(character): None for character in set(lowered) if _is_punctuation(character)})
    return " ".join(_ARTICLES.sub(" ", kept).split()) or " ".join(kept.split()) or " ".join(lowered.split())


def tokens(text: str) -> list[str]:
    """Splits the normalised text at white space, and between the characters of scripts that are written without it.

    >>> tokens("The 3 pumps"), tokens("東京 2020")
    (['3', 'pumps'], ['東', '京', '2020'])
    """
    return spaced(normalise(text)).split()


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


def rouge_1(prediction: str, golds: Sequence[str]) -> float:
    """Best ROUGE-1 F-measure over the gold answers; see `rouge_l`.

    >>> rouge_1("the sat cat", ["the cat ran"])
    0.6666666666666666
    """
    return _rouge(prediction, golds)["rouge1"]


def rouge_2(prediction: str, golds: Sequence[str]) -> float:
    """Best ROUGE-2 F-measure over the gold answers; see `rouge_l`.

    >>> rouge_2("the cat sat", ["the cat ran"])
    0.5
    """
    return _rouge(prediction, golds)["rouge2"]


def rouge_l(prediction: str, golds: Sequence[str]) -> float:
    """Best ROUGE-L F-measure (Lin 2004) over the gold answers, by rouge-score without stemming.

    The words are those of rouge-score for ASCII text; letters and digits of other scripts, which it drops, count too.

    >>> rouge_l("the cat sat", ["the cat ran"])
    0.6666666666666666
    """
    return _rouge(prediction, golds)["rougeL"]


def bleu(prediction: str, golds: Sequence[str]) -> float:
    """Best sentence BLEU over the gold answers, by sacrebleu (signature `case:mixed|eff:yes|tok:13a|smooth:exp`).

    Effective order: a text shorter than four words is judged by the n-grams it has. Scripts written without spaces are
    split into characters first.

    >>> round(bleu("the cat sat down", ["the cat sat there", "a dog"]), 3)
    0.595
    """
    return _best(lambda gold: _bleu_scorer().sentence_score(spaced(prediction), [spaced(gold)]).score, golds)


def chrf(prediction: str, golds: Sequence[str]) -> float:
    """Best sentence chrF over the gold answers, by sacrebleu (signature `case:mixed|eff:yes|nc:6|nw:0|space:no`).

    >>> chrf("Seine", ["Seine", "Loire"])
    1.0
    """
    return _best(lambda gold: _chrf_scorer().sentence_score(prediction, [gold]).score, golds)


def accuracy(prediction: str, golds: Sequence[str], labels: Collection[str] = LABELS) -> float | None:
    """1 if the first label that the prediction states is a gold one, else 0; None unless all gold answers are labels.

    The first label counts, whatever follows: a reply that lists the choices before it chooses is judged by the list.

    Args:
        prediction: The answer, such as `Yes, because …` or `The answer is no.`
        golds: Gold answers.
        labels: All answers that a question of this sort can have, each of one word or more, in any case.

    >>> accuracy("Yes, because it is known.", ["yes"]), accuracy("I do not know.", ["no"])
    (1.0, 0.0)
    >>> accuracy("Yes", ["every 200 hours"]) is None
    True
    """
    known = {_joined_words(label) for label in labels} - {()}
    wanted = {_joined_words(gold) for gold in golds}
    if not wanted or not wanted <= known:
        return None
    return float(_first_label(_joined_words(prediction), known) in wanted)


def word_count(text: str) -> int:
    """Words of a text, punctuation left out; each character of a script that is written without spaces is one.

    >>> word_count("Every 200 hours, or yearly."), word_count("東京 2020")
    (5, 3)
    """
    return len(_JOINED_WORD.findall(spaced(text)))


def spaced(text: str) -> str:
    """The text with a space on both sides of each character of the scripts that are written without spaces.

    >>> spaced("in 東京"), spaced("in Paris")
    ('in  東  京 ', 'in Paris')
    """
    return _UNSPACED.sub(r" \1 ", text)


def score_answer(prediction: str, question: Question, abstained: bool, labels: Collection[str] = LABELS) -> AnswerScore:
    """Scores an answer to a question: 0 for an abstention, None where the question has no answer.

    A reply that failed scores as an abstention does.

    Args:
        prediction: The answer.
        question: The question with its gold answers.
        abstained: Whether the answer is a refusal.
        labels: Labels that `accuracy` knows.

    Raises:
        EvaluationError: The question is answerable but names no answer.
    """
    if not question.answerable:
        return UNSCORED
    golds = question.answers
    if not golds:
        raise EvaluationError(f"question {question.id!r} has no answers; give some, or set answerable to false")
    if abstained:
        return WRONG._replace(accuracy=accuracy("", golds, labels))
    rouge = _rouge(prediction, golds)
    return AnswerScore(
        em=exact_match(prediction, golds),
        f1=token_f1(prediction, golds),
        rouge_l=rouge["rougeL"],
        contains=contains(prediction, golds),
        rouge_1=rouge["rouge1"],
        rouge_2=rouge["rouge2"],
        bleu=bleu(prediction, golds),
        chrf=chrf(prediction, golds),
        accuracy=accuracy(prediction, golds, labels),
        words=word_count(prediction),
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
        return _WORD.findall(spaced(composed))


_ROUGES = ("rouge1", "rouge2", "rougeL")


def _rouge(prediction: str, golds: Sequence[str]) -> dict[str, float]:
    scored = [_rouge_scorer().score(gold, prediction) for gold in golds]
    return {kind: max((float(scores[kind].fmeasure) for scores in scored), default=0.0) for kind in _ROUGES}


@cache
def _rouge_scorer() -> Any:  # noqa: ANN401 - rouge-score has no types
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_ROUGES), tokenizer=_Words())


def _best(percent_of: Callable[[str], float], golds: Sequence[str]) -> float:
    # sacrebleu rounds to a little more than 100 for equal texts.
    return max((min(1.0, percent_of(gold) / 100) for gold in golds), default=0.0)


@cache
def _bleu_scorer() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


@cache
def _chrf_scorer() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _joined_words(text: str) -> tuple[str, ...]:
    return tuple(_JOINED_WORD.findall(text.lower()))


def _first_label(words: tuple[str, ...], labels: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """The label that stands first; of two at the same place, the longer; empty without any."""
    longest_first = sorted(labels, key=lambda label: (-len(label), label))
    found = (label for at in range(len(words)) for label in longest_first if words[at : at + len(label)] == label)
    return next(found, ())
