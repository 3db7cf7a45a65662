"""Curves: one line per arm."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from hybrid.eval.plot import WIDTH, Axis, Scale, drawing, grid, grid_upward, signless, ticks
from hybrid.eval.plot_dots import SHAPES, legend, legend_height, marker

_LEFT, _TOP, _RIGHT, _HEIGHT, _FOOT = 58, 8, 16, 240, 44


class Line(NamedTuple):
    """A curve by its points, from left to right."""

    label: str
    points: tuple[tuple[float, float], ...]


def line_plot(lines: Sequence[Line], *, key: str, title: str, x: Axis, y: Axis) -> str:
    """Draws curves from 0, each with a marker at its right end.

    Args:
        lines: The arms, each with a point.
        key: Unique on the page.
        title: Name of the plot, for a screen reader.
        x: The measure to the right, from 0 to its most.
        y: The measure upwards, from 0.
    """
    names = [line.label for line in lines]
    top = _TOP + legend_height(names)
    bottom = top + _HEIGHT
    across = ticks(0.0, x.most)
    highest = max(value for line in lines for _, value in line.points)
    upward = [mark for mark in ticks(0.0, min(y.most, max(highest, 1e-2))) if mark <= y.most + 1e-9]
    right, up = Scale(0, across[-1], _LEFT, WIDTH - _RIGHT), Scale(0, upward[-1], bottom, top)
    parts = [*legend(names), *grid(right, across, x, top, bottom), *grid_upward(up, upward, y, right)]
    for number, line in enumerate(lines):
        places = [(right.at(along), up.at(value)) for along, value in line.points]
        path = "L".join(f"{along:.1f} {value:.1f}" for along, value in places)
        parts += [
            f"<g><title>{escape(_told(line, x, y))}</title>",
            f'<path class="line series-{number % SHAPES}" d="M{path}"/>',
            marker(number, *places[-1]),
            "</g>",
        ]
    return drawing(key, title, "; ".join(_told(line, x, y) for line in lines), bottom + _FOOT, parts)


def _told(line: Line, x: Axis, y: Axis) -> str:
    """The curve at its ends, in words."""
    ends = dict.fromkeys((line.points[0], line.points[-1]))
    told = (f"{signless(y.form.format(value))} at {signless(x.form.format(along))}" for along, value in ends)
    return f"{line.label}: {y.label} {', '.join(told)}"
