"""Search by shared words: BM25 (Robertson et al. 1994), in the variant of Lucene, by bm25s."""

import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.retrieval.fuse import Nearest

# The parameters of Anserini; Lucene's own are for longer texts.
_K1, _B = 0.9, 0.4


class Bm25:
    """Word statistics of passages. Built by `build` or `load`.

    A script that is written without spaces is one word from punctuation to punctuation, and hardly found.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - bm25s.BM25, or None if no passage has a word
        self._model = model
        self._numbers: dict[str, int] = model.vocab_dict if model else {}

    @classmethod
    def build(cls, passages: Sequence[str]) -> "Bm25":
        """Counts the words of what is searched."""
        import bm25s

        numbers: dict[str, int] = {}
        tokens = [[numbers.setdefault(word, len(numbers)) for word in words(passage)] for passage in passages]
        if not numbers:
            return cls(None)
        model = bm25s.BM25(k1=_K1, b=_B)
        model.index((tokens, numbers), show_progress=False)
        return cls(model)

    def save(self, folder: Path) -> None:
        """Write the statistics into `folder`, which is made; nothing if no passage has a word."""
        if self._model:
            self._model.save(folder)

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """Read what `save` wrote."""
        import bm25s

        return cls(bm25s.BM25.load(folder) if folder.is_dir() else None)

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
        return math.fsum(map(self._idf, set(words(question))))

    def _idf(self, word: str) -> float:
        """The rarity of a word, as Lucene counts it."""
        if not self._model:
            return 0.0
        starts, number = self._model.scores["indptr"], self._numbers.get(word)
        # Each passage that holds the word has one score for it.
        holding = 0 if number is None else int(starts[number + 1] - starts[number])
        return math.log(1 + (self._model.scores["num_docs"] - holding + 0.5) / (holding + 0.5))


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
