"""The readable pages of a report: templates filled with a comparison, without touching the disk."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Literal, NamedTuple

from hybrid.eval.answers import AnswerScore
from hybrid.eval.comparison import Comparison, Reply
from hybrid.eval.outcomes import FAILURES, Outcome, by_kind, outcome
from hybrid.eval.plot import Bar, bar_plot
from hybrid.eval.statistics import Difference
from hybrid.types import Question

_ALPHA = 0.05


class JudgedReply(NamedTuple):
    """A reply as a card shows it."""

    arm: str
    reply: Reply
    score: AnswerScore
    outcome: Outcome


class Card(NamedTuple):
    """A question with the replies of all arms."""

    question: Question
    replies: tuple[JudgedReply, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the arms that got it wrong."""
        return tuple(judged.arm for judged in self.replies if judged.outcome in FAILURES)

    @property
    def differs(self) -> bool:
        """True if the arms do not all fare the same."""
        return len({judged.outcome for judged in self.replies}) > 1


def html_page(
    comparison: Comparison, *, title: str, facts: Mapping[str, str], verdict: str, notes: Sequence[str]
) -> str:
    """Renders the self-contained page; every text is escaped."""
    return _render(
        "report.html.jinja",
        comparison,
        title=title,
        facts=facts,
        verdict=verdict,
        notes=notes,
        plot=_plot(comparison),
        cards=cards(comparison),
    )


def markdown_page(
    comparison: Comparison, *, title: str, facts: Mapping[str, str], verdict: str, notes: Sequence[str]
) -> str:
    """Renders the Markdown summary: verdict, main table, slices by kind and notes."""
    return _render("report.md.jinja", comparison, title=title, facts=facts, verdict=verdict, notes=notes)


def cards(comparison: Comparison) -> tuple[Card, ...]:
    """One card per question, the arms in the order of the comparison."""
    return tuple(
        Card(
            question,
            tuple(
                JudgedReply(run.name, reply, score, outcome(question, reply, score))
                for run in comparison.runs
                for reply, score in [(run.replies[row], comparison.scores[run.name][row])]
            ),
        )
        for row, question in enumerate(comparison.questions)
    )


def standing(difference: Difference) -> Literal["better", "worse", "no clear difference"]:
    """Names a difference by its sign, if p is below 0.05.

    The p-value decides, not the interval: with a handful of questions a bootstrap interval is too narrow.

    >>> standing(Difference(0.1, 0.01, 0.22, 0.09))
    'no clear difference'
    """
    if difference.p >= _ALPHA:
        return "no clear difference"
    return "better" if difference.difference > 0 else "worse"


def _plot(comparison: Comparison) -> str:
    bars = [Bar(arm.name, arm.f1, *arm.f1_interval) for arm in comparison.summaries]
    described = "; ".join(f"{bar.label} {bar.value:.3f} ({bar.low:.3f} to {bar.high:.3f})" for bar in bars)
    return bar_plot(
        bars,
        title="Mean token F1 of each arm",
        description=f"Mean token F1 with 95 % bootstrap interval: {described}.",
        axis="Mean token F1 over answerable questions, 95 % bootstrap interval",
        reference=comparison.baseline,
    )


def _render(template: str, comparison: Comparison, **values: object) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=template.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=_score, share=_share, signed=_signed, p=_p, cell=_cell)
    environment.tests["failure"] = FAILURES.__contains__
    return environment.get_template(template).render(
        comparison=comparison,
        arms=comparison.summaries,
        slices=by_kind(comparison),
        answerable=sum(question.answerable for question in comparison.questions),
        standing=standing,
        **values,
    )


def _template(name: str) -> str:
    return resources.files("hybrid.eval").joinpath(name).read_text(encoding="utf-8")


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(character, entity)
    return text
