"""Whether two texts ask the same thing: by shared runs of words, by meaning, and by the numbers and names they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid.pairs.candidates import words

Vectors = NDArray[np.float32]

_WORD = re.compile(r"\d+(?:[.,:/]\d+)*(?!\w)|\w+")
# "One" is left out: it is a pronoun more often than a number.
_CARDINALS = (
    "zero two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand"
)
_DIGITS = "0 2 3 4 5 6 7 8 9 10 11 12 20 30 40 50 100 1000"
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"
_PLACES = "1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th"
_NUMBER_WORDS = dict(zip(f"{_CARDINALS} {_ORDINALS}".split(), f"{_DIGITS} {_PLACES}".split(), strict=True))
# Of a sentence in which capitals tell no names: verbs, which have one in a Title Case Question alone, and German words
# that stand in no English name.
_VERBS = frozenset("is are was were does did do has have had can could should must would".split())
_GERMAN = frozenset(
    "ist sind wird werden wurde wurden nicht eine einen einem einer eines für muss müssen kann können haben "
    "wann warum wieso wem wen welche welcher welches welchen welchem wie viele beim zum zur".split()
)
_WHOLE = 4  # a question of fewer words is only found as another question, not inside a longer one
_CELLS = 1 << 24  # cosines held at a time: 64 MiB


class EmbedsQuestions(Protocol):
    """What is needed of an embedder: vectors of length 1."""

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """Embeds questions: `[len(texts), d]`."""
        ...


class QuestionVectors:
    """Vectors of questions, each computed once however many gates ask for it."""

    def __init__(self, embedder: EmbedsQuestions) -> None:
        self._embedder = embedder
        self._known: dict[str, Vectors] = {}

    def __call__(self, questions: Sequence[str]) -> Vectors:
        """The vectors of questions, `[len(questions), d]` of length 1; there must be at least one question."""
        missing = [question for question in dict.fromkeys(questions) if question not in self._known]
        if missing:
            self._known.update(zip(missing, self._embedder.embed_questions(missing), strict=True))
        return np.stack([self._known[question] for question in questions])


class Near(NamedTuple):
    """Rows of two matrices whose vectors are near to each other."""

    left: int
    right: int
    cosine: float


def near_vectors(left: Vectors, right: Vectors, limit: float) -> Iterator[Near]:
    """Yields every two rows with a cosine of at least `limit`, in the order of `left`; a block of rows at a time."""
    block = max(1, _CELLS // max(1, len(right)))
    for start in range(0, len(left), block):
        cosines = left[start : start + block] @ right.T
        # A vector's product with itself may come out a rounding error below 1.
        for row, column in zip(*np.nonzero(cosines >= limit - 1e-6), strict=True):
            yield Near(start + int(row), int(column), float(cosines[row, column]))


def pieces(text: str) -> list[str]:
    """The words of a text as they stand; a number with its separators is one.

    >>> pieces("At 4.5 bar, or 15kg.")
    ['At', '4.5', 'bar', 'or', '15kg']
    """
    return _WORD.findall(text)


@lru_cache(1 << 16)
def particulars(text: str) -> frozenset[str]:
    """The numbers and names of a question, in lower case: what tells it from others of the same wording.

    Names are words with a capital letter; of the first word the capital must not be the first letter alone. In German,
    where every noun has one, and in Title Case, only words all in capitals are names: that takes more questions for the
    same, and no paraphrase for another. Numbers in words count as their digits.

    >>> sorted(particulars("Which valve of RO-B opens at 12 bar on Mondays?"))
    ['12', 'b', 'mondays', 'ro']
    >>> sorted(particulars("Wie oft öffnet das Ventil RO-B?")), sorted(particulars("How Deep Is Tank 3?"))
    (['b', 'ro'], ['3'])
    """
    found = set()
    said = pieces(text)
    all_capitals = _has_capitals_everywhere(said)
    for place, word in enumerate(said):
        lowered = word.lower()
        if all_capitals:
            named = word.isupper() and not text.isupper()
        else:
            named = word != lowered if place else word[1:] != lowered[1:]
        if named or lowered in _NUMBER_WORDS or any(map(str.isdigit, word)):
            found.add(_NUMBER_WORDS.get(lowered, lowered))
    return frozenset(found)


def _has_capitals_everywhere(said: Sequence[str]) -> bool:
    verbs = [word for word in said[1:] if word.lower() in _VERBS]
    in_title_case = bool(verbs) and all(word[0].isupper() for word in verbs)
    return in_title_case or not _GERMAN.isdisjoint(word.lower() for word in said)


def ask_differently(one: str, other: str) -> bool:
    """True if each text holds a number or name that the other lacks: however alike, they ask about different things.

    >>> ask_differently("How deep is tank 3?", "How deep is tank 4?"), ask_differently("Is Ada in?", "Is Ada King in?")
    (True, False)
    >>> ask_differently("How deep is tank 3?", "How deep is tank three?")
    False
    """
    return bool(_lacking(one, other)) and bool(_lacking(other, one))


def _lacking(one: str, other: str) -> frozenset[str]:
    # A lone letter may stand in the other as an article, so only its particulars count there.
    there, said = particulars(other), _words(other)
    return frozenset(mark for mark in particulars(one) - there if len(mark) == 1 or mark not in said)


@lru_cache(1 << 16)
def _words(text: str) -> frozenset[str]:
    lowered = (word.lower() for word in pieces(text))
    return frozenset(_NUMBER_WORDS.get(word, word) for word in lowered)


class SharedRuns:
    """Finds questions that share a run of words with another."""

    def __init__(self, questions: Sequence[str], n: int) -> None:
        """Indexes questions.

        Args:
            questions: Questions to find.
            n: Words of a run. A question of fewer words, at least four, is shared if all of it stands in the other.
        """
        self._n = n
        self._runs: dict[tuple[str, ...], dict[int, None]] = {}
        self._whole: dict[tuple[str, ...], dict[int, None]] = {}
        for place, question in enumerate(questions):
            said = tuple(words(question))
            self._whole.setdefault(said, {})[place] = None
            for length in range(min(_WHOLE, n), n + 1):
                for run in _runs(said, length):
                    self._runs.setdefault(run, {})[place] = None

    def find(self, question: str) -> list[int]:
        """Places of the questions that share a run with this one, in their order."""
        said = tuple(words(question))
        found = dict(self._whole.get(said, {}))
        longest = min(self._n, len(said))
        if longest >= min(_WHOLE, self._n):
            for run in _runs(said, longest):
                found |= self._runs.get(run, {})
        for length in range(_WHOLE, min(self._n, len(said) + 1)):
            for run in _runs(said, length):
                found |= self._whole.get(run, {})
        return sorted(found)


def _runs(said: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (said[start : start + length] for start in range(len(said) - length + 1))
