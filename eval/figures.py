"""The figures of a report, drawn from the content of report.json."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hybrid.eval.labels import CAUSES, Label, label
from hybrid.eval.plot import Axis, Bar, bar_plot
from hybrid.eval.plot_dots import Group, dot_plot
from hybrid.eval.plot_lines import Line, line_plot
from hybrid.eval.plot_points import Point, point_plot
from hybrid.eval.plot_stacks import Layer, Stack, stack_plot

Data = Mapping[str, Any]


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
        title: What is seen.
        caption: How to read it.
        svg: The drawing; empty where there is nothing to draw.
        instead: Why not.
    """

    title: str
    caption: str
    svg: str = ""
    instead: str = ""


def figures(data: Data) -> list[Figure]:
    """All figures, those that decide first.

    Args:
        data: The content of report.json.
    """
    return [
        quality(data, data["metric"]),
        differences(data),
        against_seconds(data),
        against_price(data),
        causes(data),
        retrieval(data),
        coverage(data),
        confidence(data),
        refusals(data),
        *nearness(data),
        *comparisons(data),
        *robustness(data),
    ]


def quality(data: Data, measure: str) -> Figure:
    """Bars of one measure, arm by arm; dots where it can be negative."""
    told = label(measure)
    title, caption = f"{told.name} of each arm", f"{told.explained} Whiskers: 95 % intervals."
    if measure == data["metric"]:
        caption += " Arms answer the same questions, so judge by the paired differences, not by overlap of whiskers."
    axis = _axis(told)
    bars = [_bar(arm["name"], arm["scores"][measure]) for arm in data["arms"] if measure in arm["scores"]]
    if not bars:
        return Figure(title, caption, instead=f"No question has the measure {told.name}.")
    key = f"bars-{measure}"
    if any(bar.low < 0 for bar in bars):
        return Figure(
            title, caption, dot_plot([Group(bar.label, (bar,)) for bar in bars], [""], key=key, title=title, axis=axis)
        )
    return Figure(title, caption, bar_plot(bars, key=key, title=title, axis=axis, reference=data["baseline"]))


def differences(data: Data) -> Figure:
    """The paired differences of the deciding metric to the baseline."""
    told = label(data["metric"])
    title = f"Difference to {data['baseline']} in {told.name}"
    caption = (
        "Right of zero: more than the baseline. Paired by question; an interval that reaches across zero is no clear "
        "difference."
    )
    groups = [
        Group(arm["name"], (dot,))
        for arm in data["arms"]
        if (dot := _versus(arm["name"], arm["versus"].get(data["metric"])))
    ]
    if not groups:
        return Figure(title, caption, instead="No arm is compared with the baseline.")
    return Figure(title, caption, dot_plot(groups, [""], key="differences", title=title, axis=_above(data)))


def over_seeds(data: Data) -> Figure:
    """Differences of the deciding metric over seeds, by the content of seeds.json."""
    title = f"Difference to {data['baseline']} over seeds"
    caption = "Right of zero: more than the baseline. Whiskers: 95 % intervals for other seeds and other questions."
    effects = {arm: own[data["metric"]] for arm, own in data["effects"].items()}
    groups = [Group(arm, (Bar(arm, own["mean"], own["low"], own["high"]),)) for arm, own in effects.items()]
    return Figure(title, caption, dot_plot(groups, [""], key="over-seeds", title=title, axis=_above(data)))


def comparisons(data: Data) -> Iterator[Figure]:
    """The same differences in each of the comparisons that were put together."""
    parts = data.get("comparisons")
    if not parts:
        return
    title = f"Difference to {data['baseline']} in each comparison"
    caption = "One dot for each comparison that was put together, by other questions or with another seed."
    names = [part["name"] for part in parts]
    groups = [
        Group(arm["name"], tuple(_versus(part["name"], part["versus"].get(arm["name"])) for part in parts))
        for arm in data["arms"]
        if arm["name"] != data["baseline"]
    ]
    yield Figure(title, caption, dot_plot(groups, names, key="comparisons", title=title, axis=_above(data)))


def against_seconds(data: Data) -> Figure:
    """Quality against the median time of an answer."""
    title = "Quality against latency"
    seconds = {arm["name"]: arm["seconds_p50"] for arm in data["arms"] if len(arm["failed"]) < arm["n"]}
    return _against(data, "latency", title, seconds, Axis("Seconds per answer, median"))


def against_price(data: Data) -> Figure:
    """Quality against the price of 1,000 answers."""
    prices = {cost["arm"]: cost["price"] for cost in data["costs"] if cost.get("price") is not None}
    return _against(data, "price", "Quality against cost", prices, Axis("Price of 1,000 answers, at your rates"))


def causes(data: Data) -> Figure:
    """What became of the questions, arm by arm."""
    title = "Why answers are wrong"
    caption = "Every question by what became of it. Retrieval missed it: no passage with the answer was shown."
    layers = [Layer(f"cause-{key}", told) for key, told in CAUSES.items()]
    stacks = [Stack(own["arm"], tuple(own["counts"].get(key, 0) for key in CAUSES)) for own in data["failures"]]
    svg = stack_plot(stacks, layers, key="causes", title=title, axis=Axis("Questions", "{:.0f}"))
    return Figure(title, caption, svg)


def retrieval(data: Data) -> Figure:
    """The metric where an oracle was shown and where it was not."""
    told = label(data["metric"])
    title = "Errors of retrieval apart from those of the model"
    caption = (
        f"{told.name} on the questions for which the right passage was retrieved, and on those for which it was "
        "missed. Low where found: the model is at fault. For arms without retrieval, the split is the baseline's."
    )
    groups = [
        Group(own["arm"], (_split("found", own["found"]["mean"]), _split("missed", own["missed"]["mean"])))
        for own in data["failures"]
    ]
    groups = [group for group in groups if any(group.dots)]
    if not groups:
        return Figure(title, caption, instead="It is not known for which questions the right passage was retrieved.")
    names = ("right passage found", "right passage missed")
    return Figure(title, caption, dot_plot(groups, names, key="retrieval", title=title, axis=_axis(told)))


def coverage(data: Data) -> Figure:
    """How much an arm answers, and how good that is."""
    title = "Answering less, and better?"
    caption = (
        "To the right: answers more of all questions. Up: what it answers is better; "
        "answering an unanswerable question counts 0."
    )
    points = _points(data, "coverage", "answered_precision")
    if not points:
        return Figure(title, caption, instead="No arm answered any question.")
    axes = (
        Axis("Share of questions answered", "{:.0%}", 1.0),
        Axis(f"{label(data['metric']).name} where it answers", most=1.0),
    )
    return Figure(title, caption, point_plot(points, key="coverage", title=title, x=axes[0], y=axes[1]))


def confidence(data: Data) -> Figure:
    """The quality of the answers that a model is surest of."""
    title = "Answering only when sure"
    told = label(data["metric"])
    known = data.get("confidence") or []
    missing = sorted({arm["name"] for arm in data["arms"]} - {own["arm"] for own in known})
    worth = ", ".join(f"{own['arm']} {own['auroc']:.2f}" for own in known if own["auroc"] is not None)
    caption = (
        "To the left: only the answers with the highest probability of their words. A line that falls to the right: "
        "confidence tells good answers from bad ones. "
        + (f"Chance that a right answer has more of it than a wrong one: {worth}." if worth else "")
        + (f" Not known for every answer of {', '.join(missing)}." if known and missing else "")
    )
    lines = [Line(own["arm"], tuple((p["coverage"], p["precision"]) for p in own["curve"])) for own in known]
    if not lines:
        return Figure(title, caption, instead="No arm says how sure it is of its answers.")
    axes = (Axis("Share of questions answered", "{:.0%}", 1.0), Axis(f"{told.name} of these answers", most=told.most))
    return Figure(title, caption, line_plot(lines, key="confidence", title=title, x=axes[0], y=axes[1]))


def refusals(data: Data) -> Figure:
    """Refusals as the detection of unanswerable questions."""
    title = "Refusing what the documents do not answer"
    caption = "To the right: refuses more of the unanswerable questions. Up: more of its refusals are right."
    if all(question["answerable"] for question in data["questions"]):
        return Figure(title, caption, instead="Every question is answerable, so no refusal would be right.")
    points = _points(data, "refused_unanswerable", "refusal_precision")
    if not points:
        return Figure(title, caption, instead="No arm refused any question.")
    axes = Axis("Unanswerable questions refused", "{:.0%}", 1.0), Axis("Refusals that are right", "{:.0%}", 1.0)
    return Figure(title, caption, point_plot(points, key="refusals", title=title, x=axes[0], y=axes[1]))


def nearness(data: Data) -> Iterator[Figure]:
    """What refusing by the distance of the nearest passage would do, where that was measured."""
    found = data.get("nearness")
    if not found:
        return
    title = "Refusing what search finds nothing near to"
    caption = (
        "Along the line, the nearest passage has to be nearer and nearer. Up: more of the unanswerable questions are "
        f"refused. To the right: more of the answerable ones, too. Area below: {found['auroc']:.2f}; 0.5 is chance."
    )
    line = Line("nearest passage", tuple((point["over_refused"], point["refused"]) for point in found["curve"]))
    axes = Axis("Answerable questions refused", "{:.0%}", 1.0), Axis("Unanswerable questions refused", "{:.0%}", 1.0)
    yield Figure(title, caption, line_plot([line], key="nearness", title=title, x=axes[0], y=axes[1]))


def robustness(data: Data) -> Iterator[Figure]:
    """How arms stand up to disturbance, where that was measured: what is to be answered, then what is to be refused."""
    found = data.get("robustness")
    if not found:
        return
    for wanted, what, title in (
        ("answer", label(found["metric"]), "How arms stand up to disturbance"),
        ("refuse", Label("Share of refusals", "{:.0%}"), "Refusing when the right passage is missing"),
    ):
        scores = [score for score in found["scores"] if score["wanted"] == wanted]
        if scores:
            arms = list(dict.fromkeys(score["arm"] for score in scores))
            names = dict.fromkeys(score["condition"] for score in scores)
            rows = {(score["arm"], score["condition"]): _score(score) for score in scores}
            groups = [Group(name, tuple(rows.get((arm, name)) for arm in arms)) for name in names]
            svg = dot_plot(groups, arms, key=f"robustness-{wanted}", title=title, axis=_axis(what))
            caption = (
                f"On {found['questions']} sampled questions with an answer, asked under every condition that fits. "
                "Whiskers: 95 % intervals."
            )
            yield Figure(title, caption, svg)


def _against(data: Data, key: str, title: str, along: Mapping[str, float], x: Axis) -> Figure:
    told = label(data["metric"])
    caption = "Up and left is better. Whiskers: 95 % intervals of quality."
    points = [
        Point(arm["name"], along[arm["name"]], *_ends(arm["scores"][data["metric"]]), arm["name"] == data["baseline"])
        for arm in data["arms"]
        if arm["name"] in along and data["metric"] in arm["scores"]
    ]
    if not points:
        instead = (
            "No price is known; set compare.price_hour, or the prices of an endpoint."
            if key == "price"
            else "No answer was timed."
        )
        return Figure(title, caption, instead=instead)
    return Figure(title, caption, point_plot(points, key=key, title=title, x=x, y=_axis(told)))


def _points(data: Data, x: str, y: str) -> list[Point]:
    return [
        Point(arm["name"], scores[x]["value"], *_ends(scores[y]), arm["name"] == data["baseline"])
        for arm in data["arms"]
        if x in (scores := arm["scores"]) and y in scores
    ]


def _axis(told: Label) -> Axis:
    return Axis(told.name, "{:.0%}" if "%" in told.form else "{:.2f}", told.most)


def _above(data: Data) -> Axis:
    told = label(data["metric"])
    return Axis(f"{told.name} above {data['baseline']}", told.form if "%" in told.form else "{:+.2f}")


def _ends(estimate: Data) -> tuple[float, float, float]:
    return estimate["value"], estimate["low"], estimate["high"]


def _bar(name: str, estimate: Data) -> Bar:
    return Bar(name, estimate["value"], estimate["low"], estimate["high"])


def _split(name: str, mean: Data | None) -> Bar | None:
    return Bar(f"{name}, {mean['n']} questions", mean["value"], mean["low"], mean["high"]) if mean else None


def _versus(name: str, versus: Data | None) -> Bar | None:
    return Bar(name, versus["difference"], versus["low"], versus["high"]) if versus else None


def _score(score: Data) -> Bar:
    return Bar(score["arm"], score["score"], score["low"], score["high"])
