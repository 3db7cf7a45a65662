"""Plots are valid SVG whose marks stand where the values are, and whose names do not cover one another."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.eval.labels import standing
from hybrid.eval.plot import WIDTH, Axis, Bar, Scale, bar_plot, shortened, text_width, ticks
from hybrid.eval.plot_dots import SHAPES, Group, dot_plot, legend_places
from hybrid.eval.plot_points import Point, label_boxes, point_plot
from hybrid.eval.plot_stacks import Layer, Stack, stack_plot

SHARE = Axis("Mean", "{:.2f}", 1.0)
HOSTILE = 'a <b> & "c" with a very long name indeed'


def parsed(svg: str) -> ElementTree.Element:
    """The drawing, checked for what every drawing has."""
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    title, described = root[0], root[1]
    assert (title.tag, described.tag) == ("title", "desc")
    assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], described.attrib["id"]]
    assert title.text
    height = float(root.attrib["viewBox"].split()[3])
    for text in root.iter("text"):
        wide = text_width(text.text or "", 12) * (1 if text.attrib["class"] != "label" else 13 / 12)
        if "transform" in text.attrib:
            continue
        x = float(text.attrib["x"]) - wide * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
        assert x >= -2 and x + wide <= WIDTH + 6, text.text
        assert 0 <= float(text.attrib["y"]) <= height
    return root


def test_bars_are_as_long_as_their_values() -> None:
    bars = [Bar("rag", 0.4, 0.3, 0.5), Bar(HOSTILE, 0.8, 0.55, 0.9)]
    root = parsed(bar_plot(bars, title="F1 <of arms>", axis=SHARE, reference="rag"))
    assert root[0].text == "F1 <of arms>"
    assert "rag 0.40 (0.30 to 0.50)" in str(root[1].text)
    drawn = list(root.iter("rect"))
    assert [e.attrib["class"] for e in drawn] == ["bar reference", "bar"]
    short, long = (float(e.attrib["width"]) for e in drawn)
    assert long == pytest.approx(2 * short, abs=0.2)
    assert next(e.text for e in root.findall("text") if e.attrib["class"] == "tick") == "0.00"


@pytest.mark.parametrize("values", [[], [0.0], [1.0], [0.0, 0.0]])
def test_nothing_zero_and_everything_can_be_drawn(values: list[float]) -> None:
    bars = [Bar(f"arm {n}", value, value, value) for n, value in enumerate(values)]
    points = [Point(bar.label, bar.value, *bar[1:]) for bar in bars]
    for svg in (
        bar_plot(bars, title="t", axis=SHARE),
        dot_plot([Group(bar.label, (bar, None)) for bar in bars], ["one", "two"], key="k", title="t", axis=SHARE),
        point_plot(points, key="k", title="t", x=Axis("Seconds"), y=SHARE),
        stack_plot(
            [Stack(bar.label, (0, 0)) for bar in bars],
            [Layer("a", "a"), Layer("b", "b")],
            key="k",
            title="t",
            axis=SHARE,
        ),
    ):
        assert "nan" not in svg and "inf" not in svg
        parsed(svg)


def test_dots_of_many_series_and_below_zero() -> None:
    names = [f"series {HOSTILE} {n}" for n in range(SHAPES + 1)]
    dots = tuple(Bar(name, -0.2 + n / 10, -0.3 + n / 10, n / 10) for n, name in enumerate(names))
    root = parsed(
        dot_plot(
            [Group(HOSTILE, dots), Group("b", (None,) * len(names))],
            names,
            key="k",
            title="t",
            axis=Axis("Difference", "{:+.2f}"),
        )
    )
    places = [
        float(e.attrib["transform"][10:].split()[0])
        for group in root.iter("g")
        for e in group.iter("path")
        if e.attrib["class"].startswith("dot")
    ]
    steps = [b - a for a, b in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * len(steps), abs=0.2)
    assert len([e for e in root.iter("line") if e.attrib["class"] == "zero"]) == 1
    assert "−0.20" in "".join(root.itertext())


def test_stacks_fill_their_bar_and_leave_out_what_is_nowhere() -> None:
    layers = [Layer("one", "first"), Layer("two", "nowhere"), Layer("three", HOSTILE)]
    root = parsed(
        stack_plot(
            [Stack("a", (30, 0, 10)), Stack("b", (0, 0, 40))], layers, key="k", title="t", axis=Axis("n", "{:.0f}")
        )
    )
    boxes = [e for group in root.iter("g") for e in group.iter("rect")]
    assert [e.attrib["class"] for e in boxes] == ["part one", "part three", "part three"]
    widths = [float(e.attrib["width"]) for e in boxes]
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.2)
    assert widths[0] + widths[1] == pytest.approx(widths[2], abs=0.2)
    assert "nowhere" not in "".join(root.itertext())


def test_points_stand_at_their_values() -> None:
    points = [
        Point("low", 0.0, 0.0, 0.0, 0.1),
        Point("middle", 1.0, 0.5, 0.4, 0.6, True),
        Point("high", 2.0, 1.0, 0.9, 1.0),
    ]
    root = parsed(point_plot(points, key="k", title="t", x=Axis("Seconds"), y=SHARE))
    circles = [(float(e.attrib["cx"]), float(e.attrib["cy"]), e.attrib["class"]) for e in root.iter("circle")]
    (x0, y0, _), (x1, y1, kind), (x2, y2, _) = circles
    assert kind == "point reference"
    assert x1 == pytest.approx((x0 + x2) / 2) and y1 == pytest.approx((y0 + y2) / 2)
    assert x0 < x2 and y0 > y2


@given(
    places=st.lists(st.tuples(st.floats(60, 440), st.floats(20, 260)), min_size=1, max_size=8),
    widths=st.lists(st.floats(20, 150), min_size=8, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_names_of_points_cover_no_other_name(places: list[tuple[float, float]], widths: list[float]) -> None:
    boxes = label_boxes(places, widths[: len(places)])
    covered = [one.overlap(other) for n, one in enumerate(boxes) for other in boxes[:n]]
    assert sum(covered) == 0
    for box, width in zip(boxes, widths, strict=False):
        assert box.right - box.left == pytest.approx(width)
        assert box.left >= 0 and box.right <= WIDTH


def test_names_of_points_at_one_place_stand_apart() -> None:
    boxes = label_boxes([(430.0, 250.0)] * 8, [150.0] * 8)
    assert not [1 for n, one in enumerate(boxes) for other in boxes[:n] if one.overlap(other)]


@given(low=st.floats(-1000, 1000), span=st.floats(1e-3, 1000))
def test_ticks_are_even_and_cover_the_range(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    step = marks[1] - marks[0]
    assert marks[0] <= low + step * 1e-6 and marks[-1] >= low + span - step * 1e-6
    assert 2 <= len(marks) <= 8
    for one, other in pairwise(marks):
        assert other - one == pytest.approx(step, rel=1e-6)
    assert step / 10 ** math.floor(math.log10(step) + 1e-9) == pytest.approx(
        round(step / 10 ** math.floor(math.log10(step) + 1e-9))
    )


def test_numbers_at_an_axis_differ() -> None:
    root = parsed(dot_plot([Group("a", (Bar("a", 0.0, 0.0, 0.0),))], [""], key="k", title="t", axis=SHARE))
    told = [e.text for e in root.findall("text") if e.attrib["class"] == "tick"]
    assert len(set(told)) == len(told) > 1


def test_places_outside_a_scale_are_its_ends() -> None:
    scale = Scale(0, 2, 100, 300)
    assert [scale.at(value) for value in (-1, 0, 1, 2, 9)] == [100, 100, 200, 300, 300]


@given(st.text(max_size=60), st.integers(20, 300))
def test_a_shortened_text_fits(text: str, width: int) -> None:
    assert text_width(shortened(text, width)) <= width


@given(st.lists(st.text(max_size=50), max_size=9))
def test_entries_of_a_legend_stand_apart(names: list[str]) -> None:
    places = legend_places(names)
    for (x, line), (following, next_line), name in zip(places, places[1:], names, strict=False):
        assert next_line > line or following >= x + text_width(shortened(name, 240)) + 17


@pytest.mark.parametrize(
    ("difference", "p", "better", "expected"),
    [
        (0.2, 0.01, "high", "better"),
        (-0.2, 0.01, "high", "worse"),
        (-0.2, 0.01, "low", "better"),
        (0.2, 0.01, "low", "worse"),
        (0.2, 0.01, "", "higher"),
        (-0.2, 0.01, "", "lower"),
        (1.0, 1.0, "high", "no clear difference"),
        (1.0, 0.05, "high", "no clear difference"),
        (0.0, 0.01, "high", "no clear difference"),
    ],
)
def test_standing_asks_for_a_small_p_and_knows_which_way_is_better(
    difference: float, p: float, better: str, expected: str
) -> None:
    assert standing(difference, p, better) == expected
