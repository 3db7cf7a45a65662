"""Curves as SVG: well formed, inside the drawing, and told in words."""

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from hybrid.eval.plot import WIDTH, Axis
from hybrid.eval.plot_lines import Line, line_plot

X, Y = Axis("Share answered", "{:.0%}", 1.0), Axis("Token F1", "{:.2f}", 1.0)
POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20).map(lambda p: tuple(sorted(p)))


@given(st.lists(st.builds(Line, st.text("ab<&é ", min_size=1, max_size=30), POINTS), min_size=1, max_size=10))
def test_every_point_is_inside(lines: list[Line]) -> None:
    svg = line_plot(lines, key="k", title="Title <1>", x=X, y=Y)
    root = ElementTree.fromstring(svg)
    height = float(root.attrib["viewBox"].split()[3])
    paths = [path.attrib["d"] for path in root.iter() if path.attrib.get("class", "").startswith("line series-")]
    assert len(paths) == len(lines)
    for path, line in zip(paths, lines, strict=True):
        places = [tuple(map(float, place)) for place in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
        assert len(places) == len(line.points)
        assert all(0 <= x <= WIDTH and 0 <= y <= height for x, y in places)


def test_it_is_told() -> None:
    svg = line_plot([Line("rag", ((0.1, 0.5), (0.5, 0.25)))], key="k", title="T", x=X, y=Y)
    assert "rag: Token F1 0.50 at 10%, 0.25 at 50%" in svg
