"""What all plots share, and the bar plot: strings of SVG without a library or a script, coloured by the page's styles.

A drawing is 460 units wide: two stand side by side on a desk, and one is still legible on a telephone.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 460
FONT = 13  # as in the style sheet, in which ticks are 1 smaller
_LABELS = 136  # most width for labels at the left
_VALUES = 104
_TOP, _ROW, _BAR, _FOOT = 8, 34, 16, 44


class Bar(NamedTuple):
    """One bar: a value with its interval."""

    label: str
    value: float
    low: float
    high: float


class Axis(NamedTuple):
    """What an axis measures, with its unit, and how its numbers are written.

    Attributes:
        label: Text at the axis.
        form: Format of one number.
        most: The measure cannot exceed it.
    """

    label: str
    form: str = "{:.2f}"
    most: float = math.inf


class Scale(NamedTuple):
    """Maps values from `low` to `high` to places from `start` to `end`; outside it, to the nearer end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value."""
        inside = min(self.high, max(self.low, value))
        return round(self.start + (self.end - self.start) * (inside - self.low) / (self.high - self.low), 1)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers at equal steps of 1, 2 or 5, from the last one not above `low` to the first not below `high`.

    >>> ticks(0, 0.43), ticks(-0.1, 0.02)
    ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [-0.1, -0.05, 0.0, 0.05])
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def text_width(text: str, size: float = FONT) -> float:
    """About how wide a text is in a sans-serif font, on the safe side.

    >>> text_width("rag", 10), text_width("水泵", 10)
    (18.6, 20.0)
    """
    return round(size * sum(map(_character_width, text)), 1)


def _character_width(character: str) -> float:
    wide = character in "%…@mMW" or unicodedata.east_asian_width(character) in "WF"
    return 1.0 if wide else 0.62


def shortened(text: str, width: float, size: float = FONT) -> str:
    """The text, or as much of its start as fits with an ellipsis.

    >>> shortened("hybrid_without_retrieval", 100)
    'hybrid_wit…'
    """
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def drawing(key: str, title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """One `<svg>` element that a screen reader announces by its title and description.

    Args:
        key: Unique on the page.
        title: Plain text, likewise the description.
        description: What the plot shows, in words and numbers.
        height: In the units of `WIDTH`.
        parts: Its elements.
    """
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{key}-title {key}-desc">',
            f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>',
            *parts,
            "</svg>",
        ]
    )


def text(x: float, y: float, words: str, kind: str, anchor: str = "start", extra: str = "") -> str:
    """A text element; the words are escaped."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def grid(scale: Scale, marks: Sequence[float], axis: Axis, top: float, bottom: float) -> list[str]:
    """Vertical lines with numbers under them, and the name of the axis."""
    parts = []
    for mark, words in zip(marks, tick_texts(marks, axis), strict=True):
        x = scale.at(mark)
        kind = "zero" if mark == 0 > scale.low else "grid"
        parts.append(f'<line class="{kind}" x1="{x:g}" x2="{x:g}" y1="{top:g}" y2="{bottom:g}"/>')
        parts.append(text(x, bottom + 17, words, "tick", "middle"))
    words = shortened(axis.label, WIDTH - 8, FONT - 1)
    middle = min(max((scale.start + scale.end) / 2, text_width(words, FONT - 1) / 2 + 4), WIDTH / 2 + 60)
    middle = min(middle, WIDTH - text_width(words, FONT - 1) / 2 - 4)
    return [*parts, text(round(middle, 1), bottom + 36, words, "axis", "middle")]


def grid_upward(scale: Scale, marks: Sequence[float], axis: Axis, across: Scale) -> list[str]:
    """Horizontal lines as long as the other axis, with numbers before them, and the name of the axis turned."""
    parts = []
    for mark, words in zip(marks, tick_texts(marks, axis), strict=True):
        y = scale.at(mark)
        parts.append(f'<path class="grid" d="M{across.start:g} {y:g}H{across.end:g}"/>')
        parts.append(text(across.start - 7, y + 4, words, "tick", "end"))
    middle = (scale.start + scale.end) / 2
    words = shortened(axis.label, abs(scale.start - scale.end), FONT - 1)
    return [*parts, text(13, middle, words, "axis", "middle", f' transform="rotate(-90 13 {middle:g})"')]


def tick_texts(marks: Sequence[float], axis: Axis) -> list[str]:
    """The numbers at an axis, with as many more digits as it takes to tell them apart.

    >>> tick_texts([0.0, 0.005, 0.01], Axis("F1", "{:.2f}"))
    ['0.000', '0.005', '0.010']
    """
    form = axis.form
    while len({form.format(mark) for mark in marks}) < len(marks):
        form = re.sub(r"\.(\d+)", lambda digits: f".{int(digits[1]) + 1}", form)
    return [signless(form.format(mark)) for mark in marks]


def whisker(low: float, high: float, y: float) -> str:
    """A horizontal interval with ends, between two places."""
    return f'<path class="whisker" d="M{low:g} {y - 4:g}v8M{low:g} {y:g}H{high:g}M{high:g} {y - 4:g}v8"/>'


def signless(number: str) -> str:
    """Minus signs as typeset; a zero has none.

    >>> signless("-0.10"), signless("-0.00")
    ('−0.10', '0.00')
    """
    return number.lstrip("+-") if not number.strip("-+0.% ") else number.replace("-", "−")


def row_label(x: float, middle: float, words: str, width: float) -> str:
    """A label to the left of a row, on two lines where it is too long for one."""
    words = " ".join(words.split())
    breaks = [
        place + 1
        for place, character in enumerate(words)
        if character in " _-/" and text_width(words[: place + 1]) <= width
    ]
    if text_width(words) <= width or not breaks:
        return text(x, middle + 4.5, shortened(words, width), "label", "end")
    second = shortened(words[breaks[-1] :], width)
    return text(x, middle - 2.5, words[: breaks[-1]], "label", "end") + text(x, middle + 11.5, second, "label", "end")


def label_column(labels: Iterable[str]) -> float:
    """Width of the column that holds the labels, which may have to be broken or shortened to it."""
    return min(_LABELS, max([20.0, *(text_width(label) for label in labels)])) + 14


def bar_plot(
    bars: Sequence[Bar], *, key: str = "bars", title: str, description: str = "", axis: Axis, reference: str = ""
) -> str:
    """Draws horizontal bars from 0 with whiskers; values must not be negative.

    Args:
        bars: From top to bottom.
        key: Unique on the page.
        title: Name of the plot, for a screen reader.
        description: For a screen reader; by default the values.
        axis: What the bars measure.
        reference: Label of the bar that a dashed line runs from; none if empty.
    """
    left, bottom = label_column(bar.label for bar in bars), _TOP + _ROW * len(bars)
    marks = [mark for mark in ticks(0.0, min(axis.most, _furthest(bars))) if mark <= axis.most + 1e-9]
    scale = Scale(0.0, marks[-1], left, WIDTH - _VALUES)
    guides = [
        f'<path class="guide" d="M{scale.at(bar.value):g} {_TOP}V{bottom}"/>' for bar in bars if bar.label == reference
    ]
    rows = [
        _row(bar, _TOP + _ROW * row + _ROW / 2, scale, axis, bar.label == reference) for row, bar in enumerate(bars)
    ]
    described = description or "; ".join(in_words(bar, axis) for bar in bars)
    parts = [*grid(scale, marks, axis, _TOP, bottom), *guides, *rows]
    return drawing(key, title, described, bottom + _FOOT, parts)


def in_words(bar: Bar, axis: Axis) -> str:
    """A value with its interval, for a screen reader and a tooltip.

    >>> in_words(Bar("rag", 0.4, 0.31, 0.52), Axis("F1"))
    'rag 0.40 (0.31 to 0.52)'
    """
    value, low, high = (signless(axis.form.format(number)) for number in bar[1:])
    return f"{bar.label} {value} ({low} to {high})"


def _furthest(bars: Sequence[Bar]) -> float:
    return max((max(bar.value, bar.high) for bar in bars), default=0.0) or 1e-2


def _row(bar: Bar, middle: float, scale: Scale, axis: Axis, is_reference: bool) -> str:
    low, high = axis.form.format(bar.low), axis.form.format(bar.high)
    return "".join(
        [
            f"<g><title>{escape(in_words(bar, axis))}</title>",
            row_label(scale.start - 8, middle, bar.label, scale.start - 10),
            f'<rect class="{"bar reference" if is_reference else "bar"}" x="{scale.start:g}" y="{middle - _BAR / 2:g}"',
            f' width="{scale.at(bar.value) - scale.start:.1f}" height="{_BAR}" rx="2"/>',
            whisker(scale.at(bar.low), scale.at(bar.high), middle),
            text(WIDTH - _VALUES + 12, middle - 1, axis.form.format(bar.value), "value"),
            text(WIDTH - _VALUES + 12, middle + 12, f"{low} to {high}", "tick"),
            "</g>",
        ]
    )
