"""The limit of what drafting may cost, with a teacher whose true cost is known."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.config import TeacherConfig, config_from_dict
from hybrid.errors import ConfigError
from hybrid.pairs.prompting.budget import FrugalTeacher
from hybrid.pairs.surroundings import Surroundings
from hybrid.pairs.teacher import Draft, Figures
from hybrid.types import Chunk


class _Paid:
    """Every chunk takes two calls, of `tokens_in` and `tokens_out` each; the server tells so if `counts`."""

    name = "paid"
    alone = True

    def __init__(self, settings: TeacherConfig, tokens_in: int, tokens_out: int, *, counts: bool = True) -> None:
        self.settings, self.tokens_in, self.tokens_out, self.counts = settings, tokens_in, tokens_out, counts
        self.asked: list[str] = []

    @property
    def cost(self) -> float:
        each = self.tokens_in * self.settings.price_in + self.tokens_out * self.settings.price_out
        return len(self.asked) * 2 * each / 1e6

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft]]:
        for chunk in chunks:
            self.asked.append(chunk.id)
            yield []

    def figures(self) -> Figures:
        if self.counts:
            return Figures({"teacher cost": self.cost}, {})
        return Figures({"teacher cost": 0.0, "teacher calls without token counts": 2 * len(self.asked)}, {})


def _chunks(count: int) -> list[Chunk]:
    return [Chunk(f"d#{n}-{n + 1}", "d", n, n + 1, "word " * 20) for n in range(count)]


@given(limit=st.floats(0.001, 1.0), tokens_in=st.integers(1, 600), tokens_out=st.integers(1, 100))
def test_the_limit_is_never_exceeded_and_nearly_reached(limit: float, tokens_in: int, tokens_out: int) -> None:
    settings = TeacherConfig(max_new_tokens=100, price_in=2.0, price_out=8.0, max_cost=limit)
    teacher = _Paid(settings, tokens_in, tokens_out)
    frugal = FrugalTeacher(teacher, settings)
    chunks = _chunks(60)
    assert len(list(frugal.draft(chunks))) == len(teacher.asked)
    assert teacher.asked == [chunk.id for chunk in chunks][: len(teacher.asked)]
    assert teacher.cost <= limit
    assert len(teacher.asked) == 60 or teacher.cost > limit - 0.02  # the most that one chunk may cost


def test_it_says_where_it_stopped_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    settings = TeacherConfig(max_new_tokens=100, price_out=1000.0, max_cost=1.0)
    teacher = _Paid(settings, 1, 100)
    assert len(list(FrugalTeacher(teacher, settings).draft(_chunks(9)))) == 5
    said = capsys.readouterr().err
    assert "stopped before pairs.teacher_model.max_cost = 1 could be exceeded: 5 of 9 chunks are drafted" in said
    assert "hybrid pairs --force" in said


def test_replies_without_token_counts_cost_the_most_they_can() -> None:
    settings = TeacherConfig(max_new_tokens=100, price_out=1000.0, max_cost=1.0)
    teacher = _Paid(settings, 1, 10, counts=False)
    assert len(list(FrugalTeacher(teacher, settings).draft(_chunks(9)))) == 5


def test_a_limit_needs_prices() -> None:
    values: dict[str, Any] = {"pairs": {"teacher_model": {"max_cost": 2}}}
    with pytest.raises(ConfigError, match=r"max_cost is 2, but nothing has a price; set price_in and price_out"):
        config_from_dict(values)
    values["pairs"]["teacher_model"]["price_out"] = 0.5
    assert config_from_dict(values).pairs.teacher_model.max_cost == 2
