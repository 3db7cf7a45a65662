"""Tells distractors from chunks that answer after all: a false negative would teach a model to overlook the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from hybrid.pairs.candidates import Candidate
from hybrid.pairs.gates.alike import particulars, pieces
from hybrid.types import Chunk

Verdict = Literal["distractor", "oracle", "ambiguous"]

_SHARE = 0.6  # of the question's words; counted with the answer's, six of eight oracles found in a handbook were wrong
_SHARE_OF_PLAIN = 0.8  # where the answer proves little
_QUOTE = 4  # words; a shorter quote, such as a cell of a table, stands in many places
_COMMON, _MANY, _SAMPLE = 0.05, 10, 512
_ARTICLES = {"a", "an", "the"}
_DECISION = re.compile(r"yes|no|maybe")
_BARE = re.compile(r"\w|[\d.,:/ ]+")


class Guard:
    """Judges whether a chunk that is no oracle of a candidate answers its question all the same.

    A chunk is an oracle too if it holds a quote that proves the answer, word for word and of at least four words (a
    repeated passage, an overlap of neighbouring chunks); or if it holds the answer, all numbers and names of the
    question, and 60 % of the question's words. A chunk with the answer but less of the question is ambiguous: nobody
    can tell whether it answers, so it belongs in no context of the candidate.

    Some answers stand everywhere and prove little. That a chunk holds a yes, no or maybe says nothing: only quotes
    count there. For a lone letter or number, and for words that 5 % of the chunks hold (and at least ten of up to 512
    looked at, evenly spaced), a chunk must have 80 % of the words to be an oracle, and is a plain distractor otherwise.

    Args:
        chunks: All chunks by id. The title counts as part of the text, as the prompt shows it.
    """

    def __init__(self, chunks: Mapping[str, Chunk]) -> None:
        self._chunks = chunks
        self._texts: dict[str, str] = {}
        self._common: dict[str, bool] = {}
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        ids = list(chunks)
        self._sample = ids[:: max(1, -(-len(ids) // _SAMPLE))]

    def judge(self, candidate: Candidate, chunk: str) -> Verdict:
        """What the chunk is to the candidate; its own oracles are oracles."""
        key = candidate.id, chunk
        if key not in self._verdicts:
            self._verdicts[key] = self._judge(candidate, chunk)
        return self._verdicts[key]

    def may_answer(self, candidate: Candidate, chunk: str) -> bool:
        """True if a refusal could be wrong where this chunk is shown: common words of an answer count here too."""
        answer = _said(candidate.answer)
        if self.judge(candidate, chunk) != "distractor":
            return True
        return bool(candidate.oracles) and not _is_bare(answer) and self._holds(answer, chunk)

    def _judge(self, candidate: Candidate, chunk: str) -> Verdict:
        if chunk in candidate.oracles or self._holds_quote(candidate, chunk):
            return "oracle"
        answer = _said(candidate.answer)
        if not candidate.oracles or _DECISION.fullmatch(answer) or not self._holds(answer, chunk):
            return "distractor"
        proves_little = _is_bare(answer) or self._is_common(answer)
        if self._supports(candidate, chunk, _SHARE_OF_PLAIN if proves_little else _SHARE):
            return "oracle"
        return "distractor" if proves_little else "ambiguous"

    def _holds(self, said: str, chunk: str) -> bool:
        return bool(said) and f" {said} " in self._text(chunk)

    def _holds_quote(self, candidate: Candidate, chunk: str) -> bool:
        quotes = (_said(quote.text) for quote in candidate.quotes)
        return any(quote.count(" ") >= _QUOTE - 1 and self._holds(quote, chunk) for quote in quotes)

    def _supports(self, candidate: Candidate, chunk: str, share: float) -> bool:
        held = frozenset(self._text(chunk).split())
        wanted = frozenset(_said(candidate.question).split())
        return particulars(candidate.question) - _ARTICLES <= held and len(wanted & held) >= share * len(wanted)

    def _is_common(self, answer: str) -> bool:
        if answer not in self._common:
            holding = sum(self._holds(answer, chunk) for chunk in self._sample)
            self._common[answer] = holding >= max(_MANY, _COMMON * len(self._sample))
        return self._common[answer]

    def _text(self, chunk: str) -> str:
        """Words with a space on either side of each, so that a run of words is found by its letters."""
        if chunk not in self._texts:
            found = self._chunks[chunk]
            self._texts[chunk] = f" {_said(found.title)} | {_said(found.text)} "
        return self._texts[chunk]


@lru_cache(1 << 16)
def _said(text: str) -> str:
    return " ".join(word for word in map(str.lower, pieces(text)) if word not in _ARTICLES)


def _is_bare(said: str) -> bool:
    """True for a decision, a lone letter and a number alone."""
    return bool(_DECISION.fullmatch(said) or _BARE.fullmatch(said))
