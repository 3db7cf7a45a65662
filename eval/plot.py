"""A bar plot as a string of SVG: no library, no script, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 720, 132, 128, 10, 38, 48
BAR = 16


class Bar(NamedTuple):
    """One bar: a value with its interval, all in 0..1."""

    label: str
    value: float
    low: float
    high: float


def bar_plot(bars: Sequence[Bar], *, title: str, description: str, axis: str, reference: str = "") -> str:
    """Draws horizontal bars with whiskers as one `<svg>` element; every text is escaped.

    The axis starts at 0 and ends at the first tenth that all whiskers fit under. Style it through the classes `bar`,
    `bar reference`, `whisker`, `grid`, `guide`, `label`, `value` and `tick`.

    Args:
        bars: From top to bottom.
        title: Name of the plot, for a screen reader.
        description: What the plot shows, for a screen reader.
        axis: Text under the axis.
        reference: Label of the bar that a dashed line runs from; none if empty.
    """
    end = _axis_end(bars)
    height = TOP + ROW * len(bars) + BOTTOM
    bottom = TOP + ROW * len(bars)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="plot-title plot-desc">',
        f'<title id="plot-title">{escape(title)}</title><desc id="plot-desc">{escape(description)}</desc>',
        *(_tick(step / 10, end, bottom) for step in range(round(end * 10) + 1)),
        f'<text class="tick axis" x="{LEFT}" y="{bottom + 40}">{escape(axis)}</text>',
        *(_guide(bar, end, bottom) for bar in bars if bar.label == reference),
        *(_row(bar, row, end, bar.label == reference) for row, bar in enumerate(bars)),
        "</svg>",
    ]
    return "\n".join(parts)


def _axis_end(bars: Sequence[Bar]) -> float:
    furthest = max((max(bar.value, bar.high) for bar in bars), default=1.0)
    return min(1.0, max(0.1, math.ceil(round(furthest * 10, 9)) / 10))


def _x(value: float, end: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * value / end, 1)


def _tick(value: float, end: float, bottom: int) -> str:
    x = _x(value, end)
    return (
        f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="tick" x="{x}" y="{bottom + 18}" text-anchor="middle">{value:.1f}</text>'
    )


def _guide(bar: Bar, end: float, bottom: int) -> str:
    x = _x(bar.value, end)
    return f'<line class="guide" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>'


def _row(bar: Bar, row: int, end: float, is_reference: bool) -> str:
    middle = TOP + ROW * row + ROW // 2
    low, high = _x(bar.low, end), _x(bar.high, end)
    kind = "bar reference" if is_reference else "bar"
    return "".join(
        [
            f"<g><title>{escape(bar.label)}: {bar.value:.3f} ({bar.low:.3f} to {bar.high:.3f})</title>",
            f'<text class="label" x="{LEFT - 12}" y="{middle + 5}" text-anchor="end">',
            f"{escape(_short(bar.label))}</text>",
            f'<rect class="{kind}" x="{LEFT}" y="{middle - BAR // 2}" width="{_x(bar.value, end) - LEFT:.1f}"',
            f' height="{BAR}" rx="2"/>',
            f'<path class="whisker" d="M{low} {middle - 5}v10M{low} {middle}H{high}M{high} {middle - 5}v10"/>',
            f'<text class="value" x="{WIDTH - RIGHT + 14}" y="{middle + 5}">{bar.value:.3f}',
            f'<tspan class="tick" dx="8">{bar.low:.2f}–{bar.high:.2f}</tspan></text></g>',
        ]
    )


def _short(label: str) -> str:
    return label if len(label) <= 16 else label[:15] + "…"
