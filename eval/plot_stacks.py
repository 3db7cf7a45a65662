"""Stacked bars: of what a whole is made up, arm by arm."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from hybrid.eval.plot import FONT, WIDTH, Axis, Scale, drawing, grid, label_column, row_label, text, text_width, ticks
from hybrid.eval.plot_dots import legend_places

_TOP, _ROW, _BAR, _FOOT, _LEGEND, _RIGHT = 8, 30, 20, 44, 20, 14


class Layer(NamedTuple):
    """One part of every bar; `key` names its style class."""

    key: str
    label: str


class Stack(NamedTuple):
    """One bar: a count per layer."""

    label: str
    counts: tuple[int, ...]


def stack_plot(stacks: Sequence[Stack], layers: Sequence[Layer], *, key: str, title: str, axis: Axis) -> str:
    """Draws horizontal stacked bars with a legend and the counts inside; layers that are 0 everywhere are left out.

    Args:
        stacks: From top to bottom, with one count per layer.
        layers: From left to right.
        key: Unique on the page.
        title: Name of the plot, for a screen reader.
        axis: What is counted.
    """
    used = [number for number in range(len(layers)) if any(stack.counts[number] for stack in stacks)]
    shown = [layers[number] for number in used]
    places = legend_places([layer.label for layer in shown])
    head = _TOP + _LEGEND * (places[-1][1] + 1 if places else 0) + 6
    bottom = head + _ROW * len(stacks)
    whole = max([1, *(sum(stack.counts) for stack in stacks)])
    scale = Scale(0, whole, label_column(stack.label for stack in stacks), WIDTH - _RIGHT)
    parts = grid(scale, [mark for mark in ticks(0, whole) if mark <= whole and mark == int(mark)], axis, head, bottom)
    for layer, (x, line) in zip(shown, places, strict=True):
        y = _TOP + _LEGEND * line
        parts.append(f'<rect class="part {layer.key}" x="{x + 1:g}" y="{y}" width="13" height="13" rx="2"/>')
        parts.append(text(x + 19, y + 11, layer.label, "label"))
    for row, stack in enumerate(stacks):
        parts += _row(stack, used, layers, scale, head + _ROW * row + _ROW / 2)
    described = "; ".join(
        f"{stack.label}: " + ", ".join(f"{stack.counts[n]} {layers[n].label}" for n in used if stack.counts[n])
        for stack in stacks
    )
    return drawing(key, title, described, bottom + _FOOT, parts)


def _row(stack: Stack, used: Sequence[int], layers: Sequence[Layer], scale: Scale, middle: float) -> list[str]:
    parts = [row_label(scale.start - 8, middle, stack.label, scale.start - 10)]
    start = 0
    for number in used:
        count = stack.counts[number]
        if count:
            x, end = scale.at(start), scale.at(start + count)
            layer = layers[number]
            told = escape(f"{stack.label}: {count} of {sum(stack.counts)} {layer.label}")
            box = f'x="{x:g}" y="{middle - _BAR / 2:g}" width="{end - x:.1f}" height="{_BAR}"'
            parts.append(f'<g><title>{told}</title><rect class="part {layer.key}" {box}/>')
            if end - x > text_width(str(count), FONT - 1) + 4:
                parts.append(text((x + end) / 2, middle + 4.5, str(count), f"inside {layer.key}", "middle"))
            parts.append("</g>")
        start += count
    return parts
