"""BM25: equal to its formula, whatever the words."""

import math
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.retrieval.bm25 import Bm25, words

TEXTS = ["Oil the pump daily", "the PUMP: oil, oil", "Öl für die Pumpe", "クリーン フィルター", "...", "motor"]


def formula(passages: list[str], question: str) -> list[float]:
    """Lucene's BM25 with k1 = 0.9 and b = 0.4, word by word."""
    split = [words(passage) for passage in passages]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for own in split:
        counts = Counter(own)
        total = 0.0
        for word in set(words(question)) & set(own):
            holding = sum(word in other for other in split)
            idf = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
            total += idf * counts[word] / (counts[word] + 0.9 * (1 - 0.4 + 0.4 * len(own) / mean))
        scores.append(total)
    return scores


@pytest.mark.parametrize("question", ["oil pump", "die Pumpe ölen: Öl!", "フィルター", "motor motor daily"])
def test_it_is_the_formula(question: str) -> None:
    expected = formula(TEXTS, question)
    found = Bm25.build(TEXTS).search(question, 10)
    assert list(found.positions) == [at for at in np.argsort(-np.array(expected), kind="stable") if expected[at] > 0]
    np.testing.assert_allclose(found.scores, [expected[at] for at in found.positions], rtol=1e-5)


@given(
    st.lists(st.text("ab ö-", max_size=12), min_size=1, max_size=12), st.text("ab öx", max_size=6), st.integers(1, 5)
)
def test_any_passages(passages: list[str], question: str, k: int) -> None:
    found = Bm25.build(passages).search(question, k)
    sharing = [at for at, passage in enumerate(passages) if set(words(passage)) & set(words(question))]
    assert len(found.positions) == min(k, len(sharing))
    assert set(found.positions) <= set(sharing)
    assert list(found.scores) == sorted(found.scores, reverse=True)


@pytest.mark.parametrize("passages", [[], ["", "..."]])
def test_nothing_to_search(passages: list[str]) -> None:
    assert Bm25.build(passages).search("oil", 3) == ((), ())


def test_equal_passages_keep_their_order() -> None:
    assert Bm25.build(["oil"] * 5).search("oil", 3).positions == (0, 1, 2)


@given(st.lists(st.text("ab ö-", max_size=9), min_size=1, max_size=9), st.text("ab öx", max_size=6))
def test_no_score_exceeds_the_most(passages: list[str], question: str) -> None:
    bm25 = Bm25.build(passages)
    assert all(score <= bm25.most(question) + 1e-6 for score in bm25.search(question, 9).scores)


@given(st.lists(st.text("ab ö-", max_size=9), min_size=1, max_size=9), st.text("ab öx", max_size=6))
def test_saved_statistics_find_the_same(passages: list[str], question: str) -> None:
    made = Bm25.build(passages)
    with TemporaryDirectory() as folder:
        made.save(Path(folder) / "words")
        read = Bm25.load(Path(folder) / "words")
    assert read.search(question, 9) == made.search(question, 9)
    assert read.most(question) == made.most(question)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Tür", "Tu\u0308r"), ("STRASSE", "straße"), ("ﬁlter", "FILTER"), ("पानी", "पानी"), ("İstanbul", "i̇stanbul")],
)
def test_a_word_is_found_however_it_is_written(one: str, other: str) -> None:
    assert len(words(one)) == 1
    assert Bm25.build([one, "else"]).search(other, 2).positions == (0,)
