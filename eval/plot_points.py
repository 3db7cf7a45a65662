"""One measure against another: a point per arm, each with its name beside it and no name over another."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from hybrid.eval.plot import (
    WIDTH,
    Axis,
    Scale,
    drawing,
    grid,
    grid_upward,
    shortened,
    signless,
    text,
    text_width,
    ticks,
)

_LEFT, _TOP, _RIGHT, _BOTTOM, _FOOT = 58, 14, 16, 268, 44
_HALF = 6  # of a marker's width
_TALL = 15  # of a line of text
_SPACE = 6  # between two names on a line
_RADII = (10, 16, 24, 34, 46, 60, 78, 100, 126, 158, 200)
_ANGLES = (0, 180, -90, 90, -40, 40, -140, 140, -65, 65, -115, 115)


class Point(NamedTuple):
    """An arm; an interval of equal ends is not drawn."""

    label: str
    x: float
    y: float
    low: float
    high: float
    reference: bool = False


class Box(NamedTuple):
    """A rectangle on the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """The common area."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, tall)


def point_plot(points: Sequence[Point], *, key: str, title: str, x: Axis, y: Axis) -> str:
    """Draws points with vertical whiskers, named directly.

    Args:
        points: The arms.
        key: Unique on the page.
        title: Name of the plot, for a screen reader.
        x: The measure to the right, from 0.
        y: The measure upwards, from 0.
    """
    across = _marks([point.x for point in points], x)
    upward = _marks([max(point.y, point.high) for point in points], y)
    right = Scale(0, across[-1], _LEFT, WIDTH - _RIGHT)
    up = Scale(0, upward[-1], _BOTTOM, _TOP)
    parts = [*grid(right, across, x, _TOP, _BOTTOM), *grid_upward(up, upward, y, right)]
    places = [(right.at(point.x), up.at(point.y)) for point in points]
    names = [shortened(point.label, 200) for point in points]
    boxes = label_boxes(places, [text_width(name) + _SPACE for name in names])
    for point, place in zip(points, places, strict=True):
        parts.append(_interval(point, place[0], up))
    for point, place, name, box in zip(points, places, names, boxes, strict=True):
        parts += _named(point, place, name, box, (x, y))
    described = "; ".join(_told(point, x, y) for point in points)
    return drawing(key, title, described, _BOTTOM + _FOOT, parts)


def label_boxes(places: Sequence[tuple[float, float]], widths: Sequence[float]) -> list[Box]:
    """Finds a place for each name near its point where it covers no other name and no marker, if there is one.

    Points with the nearest neighbours choose first.

    Args:
        places: The points on the drawing.
        widths: Width of each name.
    """
    markers = [Box(x - _HALF, y - _HALF, x + _HALF, y + _HALF) for x, y in places]
    order = sorted(range(len(places)), key=lambda n: (_nearest(n, places), n))
    chosen: dict[int, Box] = {}
    for number in order:
        taken = [*markers, *chosen.values()]
        best = math.inf
        for box in _candidates(places[number], widths[number]):
            covered = sum(box.overlap(other) for other in taken)
            if covered < best:
                best, chosen[number] = covered, box
            if not covered:
                break
    return [chosen[number] for number in range(len(places))]


def _candidates(place: tuple[float, float], width: float) -> Iterator[Box]:
    for radius in _RADII:
        for angle in _ANGLES:
            sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
            x, y = place[0] + radius * cosine, place[1] + radius * sine
            left = x - width * (1 - cosine) / 2
            box = Box(left, y - _TALL / 2, left + width, y + _TALL / 2)
            if box.left >= _LEFT and box.right <= WIDTH - 2 and box.top >= 0 and box.bottom <= _BOTTOM:
                yield box
    left = min(max(place[0], _LEFT), WIDTH - 2 - width)
    yield Box(left, place[1] - _TALL / 2, left + width, place[1] + _TALL / 2)


def _nearest(number: int, places: Sequence[tuple[float, float]]) -> float:
    return min((math.dist(places[number], other) for n, other in enumerate(places) if n != number), default=math.inf)


def _marks(values: Sequence[float], axis: Axis) -> list[float]:
    furthest = min(axis.most, max(values, default=0.0)) or 1e-2
    return [mark for mark in ticks(0.0, furthest) if mark <= axis.most + 1e-9]


def _interval(point: Point, x: float, up: Scale) -> str:
    if point.low == point.high:
        return ""
    low, high = up.at(point.low), up.at(point.high)
    return f'<path class="whisker faint" d="M{x - 3:g} {low:g}h6M{x:g} {low:g}V{high:g}M{x - 3:g} {high:g}h6"/>'


def _named(point: Point, place: tuple[float, float], name: str, box: Box, axes: tuple[Axis, Axis]) -> list[str]:
    x, y = place
    middle = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    end = (min(max(x, box.left), box.right), min(max(y, box.top), box.bottom))
    leader = f'<path class="leader" d="M{x:g} {y:g}L{end[0]:.1f} {end[1]:.1f}"/>' if math.dist(place, end) > 13 else ""
    kind = "point reference" if point.reference else "point"
    return [
        f"<g><title>{escape(_told(point, *axes))}</title>{leader}",
        f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="5.5"/>',
        text(round(middle[0], 1), round(middle[1] + 4.5, 1), name, "label halo", "middle"),
        "</g>",
    ]


def _told(point: Point, x: Axis, y: Axis) -> str:
    values = [y.form.format(point.y), y.form.format(point.low), y.form.format(point.high), x.form.format(point.x)]
    value, low, high, along = map(signless, values)
    interval = "" if point.low == point.high else f" ({low} to {high})"
    return f"{point.label}: {y.label} {value}{interval}, {x.label} {along}"
