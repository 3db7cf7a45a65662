"""Search by shared words: BM25 (Robertson et al. 1994), in the variant of Lucene, by bm25s."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid.retrieval.fuse import Nearest

# The parameters of Anserini; Lucene's own are for longer texts.
_K1, _B = 0.9, 0.4
# All words of any alphabet; neither stop words nor stems, which would need to know the language.
_WORD = re.compile(r"\w+")


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


def words(text: str) -> list[str]:
    """Words of a text in lower case.

    >>> words("Öl it: DAILY, 2.5 l")
    ['öl', 'it', 'daily', '2', '5', 'l']
    """
    return _WORD.findall(text.lower())
