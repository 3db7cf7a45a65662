"""The readable pages of a report, each rendered from the content of report.json, without touching the disk."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hybrid.eval.answers import AnswerScore
from hybrid.eval.figures import Data, figures, quality
from hybrid.eval.labels import CAUSES, OUTCOMES, label, standing
from hybrid.eval.plot import signless

if TYPE_CHECKING:
    import jinja2

# Beside the deciding metric, in the order of the main table; those that no arm has are left out.
_MAIN = ("f1", "em", "contains", "accuracy", "recall_at_k", "refused_unanswerable", "over_refused")
_SCORES = AnswerScore._fields
_ASKED = ("id", "question", "kind", "answerable", "answers", "gold", "quotes")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def html_page(data: Data, passages: Mapping[str, str]) -> str:
    """Renders the self-contained page; every text is escaped.

    Args:
        data: The content of report.json.
        passages: Texts of chunks by id, at least of those shown.
    """
    own = [name for name in _measures(data) if name != data["metric"]]
    return _render(
        "report.html.jinja",
        data,
        figures=figures(data),
        others=[(name, quality(data, name)) for name in own],
        questions=json.dumps(questions_data(data, passages), separators=(",", ":")),
        outcomes=OUTCOMES,
        causes=CAUSES,
    )


def markdown_page(data: Data) -> str:
    """Renders the Markdown summary: verdict, main table, slices, costs and notes."""
    return _render("report.md.jinja", data)


def csv_sheet(data: Data) -> str:
    """One row per question and arm, for a spreadsheet: no cell can be taken for a formula."""
    said = ("text", "outcome", "cause", "abstained", "error", *_SCORES, "seconds", "tokens_in", "tokens_out")
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*_ASKED, "arm", *said, "documents", "citations"])
    for question in data["questions"]:
        asked = [question[name] for name in _ASKED]
        for arm, reply in question["replies"].items():
            quotes = [citation["quote"] for citation in reply["citations"]]
            cells = [*asked, arm, *(reply[name] for name in said), reply["documents"], quotes]
            writer.writerow([_plain(cell) for cell in cells])
    return target.getvalue()


def questions_data(data: Data, passages: Mapping[str, str]) -> dict[str, Any]:
    """What the page's script reads: questions with their replies, and each passage once.

    Citations give places in the passage's document in characters (code points), as do the passages' starts.
    """
    replies = [reply for question in data["questions"] for reply in question["replies"].values()]
    numbers = {id_: n for n, id_ in enumerate(dict.fromkeys(chunk for reply in replies for chunk in reply["contexts"]))}
    used = [name for name in _SCORES if any(reply[name] is not None for reply in replies)]
    return {
        "arms": [arm["name"] for arm in data["arms"]],
        "scores": [[label(name).name, "share" if "%" in label(name).form else name] for name in used],
        "passages": [[*_place(id_), passages.get(id_)] for id_ in numbers],
        "questions": [
            {
                **{name: question[name] for name in _ASKED},
                "replies": [_reply(question["replies"][arm["name"]], used, numbers) for arm in data["arms"]],
            }
            for question in data["questions"]
        ],
    }


def _reply(reply: Data, scores: Sequence[str], numbers: Mapping[str, int]) -> dict[str, Any]:
    kept = ("text", "outcome", "cause", "error", "documents", "tokens_in", "tokens_out", "invalid_citations", "raw")
    return {
        **{name: reply[name] for name in kept if reply[name]},
        "seconds": round(reply["seconds"], 3),
        "scores": [None if reply[name] is None else round(reply[name], 3) for name in scores],
        "further": {label(name).name: round(value, 3) for name, value in reply["further"].items()},
        "contexts": [numbers[chunk] for chunk in reply["contexts"]],
        "citations": [[c["number"], c["document"], c["start"], c["end"], c["quote"]] for c in reply["citations"]],
    }


def _place(chunk: str) -> tuple[str, int | None]:
    """Document and start of a chunk by its id, `document#start-end`.

    >>> _place("a#b.md#120-300"), _place("own id")
    (('a#b.md', 120), ('own id', None))
    """
    document, _, span = chunk.rpartition("#")
    start, _, end = span.partition("-")
    return (document, int(start)) if document and start.isdecimal() and end.isdecimal() else (chunk, None)


def _measures(data: Data) -> list[str]:
    """Names of all measures that an arm has, in their order."""
    return list(dict.fromkeys(name for arm in data["arms"] for name in arm["scores"]))


def _main(data: Data) -> list[str]:
    """Measures of the main table: the deciding one, then the best known."""
    return [name for name in dict.fromkeys((data["metric"], *_MAIN)) if name in _measures(data)]


def _render(template: str, data: Data, **values: object) -> str:
    questions, decision = data["questions"], data["decision"] or {}
    return render(
        template,
        data=data,
        arms=data["arms"],
        metric=label(data["metric"]),
        main=_main(data),
        measures=_measures(data),
        grouped_by=data["clusters"].get("by", "document"),  # older reports do not say
        answerable=sum(question["answerable"] for question in questions),
        reasons=list(decision.get("reasons") or paragraphs(data["verdict"])),
        warnings=list(decision.get("warnings") or ()),
        dimensions=[(name, list(parts)) for name, parts in groupby(data["slices"], lambda part: part["dimension"])],
        **values,
    )


def render(template: str, **values: object) -> str:
    """Renders a template of this package; in HTML every text is escaped."""
    return _environment(template.endswith(".html.jinja")).get_template(template).render(**values)


def paragraphs(verdict: str) -> Iterator[str]:
    """The paragraphs of a verdict."""
    return (paragraph for paragraph in verdict.strip().split("\n\n") if paragraph)


@cache
def _environment(is_html: bool) -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=is_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, percent=_percent, p=_p, cell=_cell, embedded=_embedded, versus=_versus)
    environment.globals.update(label=label, standing=standing)
    return environment


def _template(name: str) -> str:
    return resources.files("hybrid.eval").joinpath(name).read_text(encoding="utf-8")


def _embedded(text: str) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    import markupsafe

    escapes = {ord(character): f"\\u{ord(character):04x}" for character in "<>&'"}
    return markupsafe.Markup(text.translate(escapes))


def _number(value: float | None, measure: str) -> str:
    return "–" if value is None else signless(label(measure).form.format(value))


def _versus(value: float, measure: str) -> str:
    """A difference of a measure with its sign; of shares, in points.

    >>> _versus(-0.05, "em"), _versus(0.123, "f1")
    ('−5.0 pt', '+0.123')
    """
    form = label(measure).form
    text = f"{100 * value:+.1f} pt" if "%" in form else form.replace("{:", "{:+").format(value)
    return text.replace("-", "−")


def _percent(change: float) -> str:
    return f"{100 * change:+.1f} %".replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("[", "\\["), ("]", "\\]"), ("`", "\\`")):
        text = text.replace(character, entity)
    return text


def _plain(cell: object) -> object:
    """A cell that a spreadsheet takes for a value; several texts as one."""
    if cell is None:
        return ""
    text = " | ".join(cell) if isinstance(cell, list | tuple) else cell
    # A quote in front is how spreadsheets mark text.
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
