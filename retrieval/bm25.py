"""Search by shared words: BM25 (Robertson et al. 1994), in the variant of Lucene, by bm25s."""

import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from hybrid.retrieval.fuse import Nearest

# The parameters of Anserini; Lucene's own are for longer texts.
_K1, _B = 0.9, 0.4


class Bm25:
    """Word statistics of passages.

    A script that is written without spaces is one word from punctuation to punctuation, and hardly found.

    Args:
        passages: What is searched.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        import bm25s

        numbers: dict[str, int] = {}
        tokens = [[numbers.setdefault(word, len(numbers)) for word in words(passage)] for passage in passages]
        self._numbers = numbers
        self._idf = _idf(tokens, len(numbers))
        self._size = len(passages)
        self._model: Any = None
        if numbers:
            self._model = bm25s.BM25(k1=_K1, b=_B)
            self._model.index((tokens, numbers), show_progress=False)

    def search(self, question: str, k: int) -> Nearest:
        """Finds the `k` passages with the highest score; those that share no word are left out.

        Equal scores keep the order of the passages.
        """
        known = sorted({self._numbers[word] for word in words(question) if word in self._numbers})
        if not known:
            return Nearest((), ())
        scores = self._model.get_scores(known)
        found = np.flatnonzero(scores > 0)
        best = found[np.argsort(-scores[found], kind="stable")[:k]]
        return Nearest(tuple(map(int, best)), tuple(map(float, scores[best])))

    def most(self, question: str) -> float:
        """The score that no passage exceeds: each word of the question counts what its rarity allows at most.

        A word that no passage has is as rare as can be, so that a question of such words is known to be matched badly.
        """
        rarest = math.log(1 + (self._size + 0.5) / 0.5)
        asked = set(words(question))
        return math.fsum(self._idf[self._numbers[word]] if word in self._numbers else rarest for word in asked)


def words(text: str) -> list[str]:
    """Words of a text of any script, whatever its case and however its accents are encoded.

    Neither stop words are left out nor stems taken, which would need to know the language.

    >>> words("Öl it: DAILY, 2.5 l")
    ['öl', 'it', 'daily', '2', '5', 'l']
    >>> words("STRASSE") == words("Straße"), len(words("पानी की टंकी"))
    (True, 3)
    """
    return list(_word().findall(unicodedata.normalize("NFKC", text).casefold()))


@cache
def _word() -> Any:  # noqa: ANN401 - a compiled pattern of regex
    import regex

    return regex.compile(r"[\w\p{M}]+")


def _idf(tokens: Sequence[Sequence[int]], words: int) -> list[float]:
    """The rarity of every word, as Lucene counts it."""
    holding = [0] * words
    for passage in tokens:
        for word in set(passage):
            holding[word] += 1
    return [math.log(1 + (len(tokens) - count + 0.5) / (count + 0.5)) for count in holding]
