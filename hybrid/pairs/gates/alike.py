"""Whether two texts ask the same thing: by shared runs of words, by meaning, and by the numbers and names they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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
# Of a sentence in which capitals tell no names: verbs, which have one in a Title Case Question alone, German words, and
# those of which one may stand in an English sentence as well, as in "van der Waals", but not two.
_VERBS = frozenset("is are was were does did do has have had can could should must would".split())
_GERMAN = frozenset(
    "ist sind wird werden wurde wurden nicht eine einen einem einer eines für muss müssen kann können haben "
    "wann warum wieso wem wen welche welcher welches welchen welchem wie viele beim zum zur".split()
)
_GERMAN_TOO = frozenset("wo wer was der den dem des und mit das steht darf soll sich auf aus bei nach ein im".split())
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


def near_vectors(left: Vectors, right: Vectors, limit: float) -> Iterator[NDArray[np.int64]]:
    """Yields, for each row of `left`, the rows of `right` with a cosine of at least `limit`, in order."""
    block = max(1, _CELLS // max(1, len(right)))
    for start in range(0, len(left), block):
        # A vector's product with itself may come out a rounding error below 1.
        for near in left[start : start + block] @ right.T >= limit - 1e-6:
            yield np.flatnonzero(near)


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
    rest = said[1:]
    verbs = [word for word in rest if word.lower() in _VERBS]
    in_title_case = bool(verbs) and all(word[0].isupper() for word in verbs)
    if in_title_case and not any(word.islower() and len(word) > 3 for word in rest):
        return True
    # Inside a sentence such a word is no part of a name if it has no capital.
    plain = {word for word in rest if word.islower()} | {word.lower() for word in said[:1]}
    return not _GERMAN.isdisjoint(plain) or len(plain & _GERMAN_TOO) > 1


def ask_differently(one: str, other: str) -> bool:
    """True if each text holds a number or name that the other lacks: however alike, they ask about different things.

    >>> ask_differently("How deep is tank 3?", "How deep is tank 4?"), ask_differently("Is Ada in?", "Is Ada King in?")
    (True, False)
    >>> ask_differently("How deep is tank 3?", "How deep is tank three?")
    False
    """
    return not (particulars(one) <= _held(other) or particulars(other) <= _held(one))


@lru_cache(1 << 16)
def _held(text: str) -> frozenset[str]:
    """The particulars of a text, and its other words, which may be particulars elsewhere."""
    lowered = (word.lower() for word in pieces(text))
    said = (_NUMBER_WORDS.get(word, word) for word in lowered)
    # A lone letter may stand here as an article, so only as a particular does it count.
    return particulars(text).union(word for word in said if len(word) > 1)


class Alike(NamedTuple):
    """Places of questions, as sets that need not be joined to look some places up."""

    parts: Sequence[set[int]]

    def among(self, places: Iterable[int]) -> set[int]:
        """Those of the places that are in one of the parts."""
        return set[int]().union(*(part.intersection(places) for part in self.parts))


class Subjects:
    """Finds the questions that another does not ask differently from, without comparing it with all."""

    def __init__(self, questions: Sequence[str]) -> None:
        """Indexes questions by their numbers, names and words."""
        self._all = set(range(len(questions)))
        self._holding: dict[str, set[int]] = {}
        self._about: dict[frozenset[str], set[int]] = {frozenset(): set()}
        for place, question in enumerate(questions):
            self._about.setdefault(particulars(question), set()).add(place)
            for mark in _held(question):
                self._holding.setdefault(mark, set()).add(place)
        # A question that holds all of some particulars holds the rarest of them.
        self._rarest: dict[str, list[frozenset[str]]] = {}
        for about in filter(None, self._about):
            rarest = min(about, key=lambda mark: (len(self._holding[mark]), mark))
            self._rarest.setdefault(rarest, []).append(about)

    def find(self, question: str) -> Alike:
        """Places of the questions of which `ask_differently` is false."""
        own, held = particulars(question), _held(question)
        if not own:
            return Alike([self._all])
        holders = sorted((self._holding.get(mark, set()) for mark in own), key=len)
        fewer = (about for mark in held for about in self._rarest.get(mark, ()) if about <= held)
        return Alike([set.intersection(*holders), self._about[frozenset()], *(self._about[about] for about in fewer)])


class SharedRuns:
    """Finds questions that share a run of words with another."""

    def __init__(self, questions: Sequence[str], n: int) -> None:
        """Indexes questions.

        Args:
            questions: Questions to find.
            n: Words of a run. A question of fewer words, at least four, is shared if all of it stands in the other.
        """
        self._n = n
        self._runs: dict[tuple[str, ...], set[int]] = {}
        self._whole: dict[tuple[str, ...], set[int]] = {}
        for place, question in enumerate(questions):
            said = tuple(words(question))
            self._whole.setdefault(said, set()).add(place)
            for length in range(min(_WHOLE, n), n + 1):
                for run in _runs(said, length):
                    self._runs.setdefault(run, set()).add(place)

    def find(self, question: str, alike: Alike) -> set[int]:
        """Places, of those that are `alike`, of the questions that share a run with this one."""
        return set[int]().union(*map(alike.among, self._sharing(question)))

    def _sharing(self, question: str) -> Iterator[set[int]]:
        said = tuple(words(question))
        yield self._whole.get(said, set())
        longest = min(self._n, len(said))
        if longest >= min(_WHOLE, self._n):
            yield from (self._runs.get(run, set()) for run in _runs(said, longest))
        for length in range(_WHOLE, min(self._n, len(said) + 1)):
            yield from (self._whole.get(run, set()) for run in _runs(said, length))


def _runs(said: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (said[start : start + length] for start in range(len(said) - length + 1))
