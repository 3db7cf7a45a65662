"""The choice follows rows and memory, and says why."""

import pytest

from hybrid.plan_choice import Choice, choose

TOTALS = {"lora": 2000.0, "qlora": 1000.0, "full": 6000.0}


def chosen(pairs: int = 500, tokens: int = 3000, room: float = 4000, is_instruct: bool = True) -> Choice:
    return choose(
        pairs=pairs,
        answer_tokens=tokens,
        adapter_parameters=10_000,
        totals_mb=TOTALS,
        room_mb=room,
        is_instruct=is_instruct,
    )


@pytest.mark.parametrize(
    ("pairs", "start"), [(299, "instruct"), (300, "either"), (999, "either"), (1000, "base"), (10_000, "base")]
)
def test_more_rows_allow_a_base_model(pairs: int, start: str) -> None:
    found = chosen(pairs)
    assert found.start == start
    assert str(pairs) in found.reasons[0]


@pytest.mark.parametrize(
    ("room", "tokens", "method"),
    [
        (999, 3000, "none"),
        (1000, 3000, "qlora"),
        (2000, 3000, "lora"),
        (9000, 3000, "lora"),
        (9000, 20_000, "lora"),
        (9000, 20_001, "full"),
        (5999, 20_001, "lora"),
    ],
)
def test_the_method_follows_memory_and_what_is_to_be_learnt(room: float, tokens: int, method: str) -> None:
    found = chosen(tokens=tokens, room=room)
    assert found.method == method
    assert ("rank" in found.reasons[1]) is (tokens > 20_000 and method == "lora")


def test_the_model_in_use_is_named() -> None:
    assert "This model is one." in chosen(100).reasons[0]
    assert "no chat template" in chosen(100, is_instruct=False).reasons[0]
    assert "This one is a base model." in chosen(2000, is_instruct=False).reasons[0]
