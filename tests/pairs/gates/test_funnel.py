"""The table of the gates."""

from hybrid.pairs.gates.funnel import GATES, funnel_table


def test_gates_stand_in_their_order_whatever_the_order_of_the_counts() -> None:
    dropped = {f"dropped: {gate}": number for number, gate in enumerate(GATES, 1)}
    total = sum(dropped.values())
    backwards = dict(reversed([*dropped.items(), ("candidates", total + 7), ("train", 5), ("dev", 2)]))
    lines = funnel_table(backwards).split("\n")
    assert [line.split("  ")[0].strip() for line in lines[2:-2]] == [f"- {gate}" for gate in GATES]
    assert lines[-3].split()[-3] == "7"
    assert len({line.index("  ", len("- " + max(GATES, key=len))) for line in lines}) == 1


def test_what_the_teacher_lost_comes_first() -> None:
    table = funnel_table({"candidates": 4, "dropped: duplicate": 1, "dropped: no JSON object": 2, "train": 1, "dev": 0})
    assert table.index("no JSON object") < table.index("duplicate")


def test_an_empty_funnel_has_a_table() -> None:
    assert "0 %" in funnel_table({})
