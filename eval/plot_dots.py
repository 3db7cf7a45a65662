"""Values with intervals as dots on lines: one per arm, or several series per group."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from hybrid.eval.plot import (
    FONT,
    WIDTH,
    Axis,
    Bar,
    Scale,
    drawing,
    grid,
    in_words,
    label_column,
    row_label,
    shortened,
    signless,
    text,
    text_width,
    ticks,
    whisker,
)

SHAPES = 8  # how many series have a shape and a colour of their own
_LINE, _GAP, _TOP, _FOOT, _LEGEND, _LEGEND_TEXT = 15, 13, 8, 44, 20, 240


class Group(NamedTuple):
    """Dots under one label: one per series, None where the series has no value."""

    label: str
    dots: tuple[Bar | None, ...]


def dot_plot(
    groups: Sequence[Group], series: Sequence[str], *, key: str, title: str, axis: Axis, lowest: float = 0.0
) -> str:
    """Draws groups of dots with whiskers, from top to bottom; series differ in shape, colour and lightness.

    Args:
        groups: With as many dots each as there are series.
        series: Names for the legend, which a single series does not need.
        key: Unique on the page.
        title: Name of the plot, for a screen reader.
        axis: What is measured.
        lowest: Where the axis starts, if no dot lies lower.
    """
    head = _TOP + (legend_height(series) if len(series) > 1 else 0)
    tall = [_LINE * max(1, sum(dot is not None for dot in group.dots)) + _GAP for group in groups]
    bottom = head + sum(tall)
    left = label_column(group.label for group in groups)
    known = [dot for group in groups for dot in group.dots if dot]
    low = min([lowest, *(dot.low for dot in known), *(dot.value for dot in known)])
    high = max([low + 0.01, *(min(axis.most, max(dot.high, dot.value)) for dot in known)])
    values = 26 + max([0.0, *(text_width("".join(_numbers(dot, axis)), FONT - 1) for dot in known)])
    marks = [mark for mark in ticks(low, high, max(2, int((WIDTH - values - left) / 46))) if mark <= axis.most + 1e-9]
    scale = Scale(marks[0], marks[-1], left, round(WIDTH - values))
    parts = [*(legend(series) if len(series) > 1 else ()), *grid(scale, marks, axis, head, bottom)]
    for number, group in enumerate(groups):
        top = head + sum(tall[:number])
        parts += _group(group, series, scale, axis, top, tall[number])
    described = "; ".join(
        f"{group.label}: " + ", ".join(in_words(dot, axis) for dot in group.dots if dot) for group in groups
    )
    return drawing(key, title, described, bottom + _FOOT, parts)


def marker(number: int, x: float, y: float, kind: str = "dot") -> str:
    """The mark of a series; after `SHAPES` of them they repeat."""
    shapes = (
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
        "M-4 -4h8v8h-8z",
        "M0 -5L5 4h-10z",
        "M0 -5.5L5.5 0L0 5.5L-5.5 0z",
        "M0 5L5 -4h-10z",
        "M-1.7 -5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
        "M-5 -2.5h10v5h-10z",
        "M-2.5 -5h5v10h-5z",
    )
    own = number % SHAPES
    return f'<path class="{kind} series-{own}" transform="translate({x:g} {y:g})" d="{shapes[own]}"/>'


def _group(group: Group, series: Sequence[str], scale: Scale, axis: Axis, top: float, tall: float) -> list[str]:
    parts = [row_label(scale.start - 8, top + tall / 2, group.label, scale.start - 10)]
    shown = [(number, dot) for number, dot in enumerate(group.dots) if dot]
    parts += [f'<line class="rule" x1="4" x2="{WIDTH - 4}" y1="{top + tall:g}" y2="{top + tall:g}"/>']
    for place, (number, dot) in enumerate(shown):
        y = top + _GAP / 2 + _LINE * place + _LINE / 2
        value, interval = _numbers(dot, axis)
        told = in_words(dot._replace(label=f"{group.label}, {dot.label}" if len(series) > 1 else dot.label), axis)
        parts += [
            f"<g><title>{escape(told)}</title>",
            whisker(scale.at(dot.low), scale.at(dot.high), y),
            marker(number, scale.at(dot.value), y),
            text(scale.end + 10, y + 4, value, "value"),
            text(WIDTH - 4, y + 4, interval, "tick", "end"),
            "</g>",
        ]
    return parts


def _numbers(dot: Bar, axis: Axis) -> tuple[str, str]:
    value, low, high = (signless(axis.form.format(given)) for given in dot[1:])
    return value, f"{low}…{high}"


def legend_places(names: Sequence[str]) -> list[tuple[float, int]]:
    """Where the entries of a legend stand: distance from the left, and line."""
    places, x, line = [], 4.0, 0
    for name in names:
        wide = text_width(shortened(name, _LEGEND_TEXT)) + 26
        if x > 4 and x + wide > WIDTH:
            x, line = 4.0, line + 1
        places.append((x, line))
        x += wide
    return places


def legend_height(names: Sequence[str]) -> int:
    """How much a legend takes at the top."""
    return _LEGEND * (legend_places(names)[-1][1] + 1) + 4


def legend(names: Sequence[str]) -> list[str]:
    """The names of series with their markers, at the top of a drawing."""
    parts = []
    for number, (name, (x, line)) in enumerate(zip(names, legend_places(names), strict=True)):
        y = _TOP + _LEGEND * line + FONT / 2
        parts += [marker(number, x + 7, y), text(x + 17, y + 4.5, shortened(name, _LEGEND_TEXT), "label")]
    return parts
