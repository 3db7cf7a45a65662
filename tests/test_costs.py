"""What an arm costs."""

import numpy as np
import pytest

from hybrid.config import ArmConfig
from hybrid.costs import ArmCost, arm_cost, peak_memory_mb, reset_peak_memory
from hybrid.eval.comparison import Reply


def _reply(seconds: float, tokens_in: int = 100, tokens_out: int = 10, error: str = "") -> Reply:
    return Reply("q", "x", False, (), (), seconds, error=error, tokens_in=tokens_in, tokens_out=tokens_out)


def _cost(replies: list[Reply], price_hour: float = 0.0, endpoint: ArmConfig | None = None) -> ArmCost:
    return arm_cost("a", replies, memory_mb=512.0, training_seconds=60.0, price_hour=price_hour, endpoint=endpoint)


def test_times_are_quantiles_of_the_answers_that_came() -> None:
    seconds = [0.1, 0.4, 0.2, 0.9, 0.3]
    cost = _cost([*map(_reply, seconds), _reply(99.0, error="down")])
    assert cost.seconds_p50 == pytest.approx(np.quantile(seconds, 0.5))
    assert cost.seconds_p95 == pytest.approx(np.quantile(seconds, 0.95))
    assert (cost.tokens_in, cost.tokens_out, cost.price) == (100, 10, None)
    assert (cost.peak_memory_mb, cost.training_seconds) == (512.0, 60.0)


def test_a_machine_is_paid_by_the_hour() -> None:
    assert _cost([_reply(1.0), _reply(3.0)], price_hour=1.8).price == pytest.approx(1.8 * 2.0 * 1000 / 3600)


def test_an_endpoint_is_paid_by_the_token() -> None:
    endpoint = ArmConfig("far", model="m", base_url="http://h/v1", price_in=2.0, price_out=8.0)
    cost = _cost([_reply(1.0, 100, 10), _reply(1.0, 300, 30)], price_hour=1.8, endpoint=endpoint)
    assert cost.price == pytest.approx(1000 * (200 * 2.0 + 20 * 8.0) / 1e6)
    assert cost.peak_memory_mb is None


def test_without_an_answer_nothing_is_known() -> None:
    cost = _cost([_reply(1.0, error="down")], price_hour=1.8)
    assert (cost.tokens_in, cost.tokens_out, cost.seconds_p50, cost.price) == (None, None, 0.0, None)


def test_the_peak_is_that_since_the_reset() -> None:
    if not reset_peak_memory():
        pytest.skip("this system cannot forget a peak")
    before = peak_memory_mb()
    assert before is not None
    block = np.ones(64 << 17)  # 64 MB
    after = peak_memory_mb()
    assert after is not None
    assert after - before > 60
    del block
    assert reset_peak_memory()
    assert (peak_memory_mb() or 0) < after - 30
