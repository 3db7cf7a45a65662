"""A comparison as files: report.json for machines, report.md for a pull request, report.csv for a spreadsheet, and
report.html to read.

The page is one self-contained file: no network, no fonts to load, every text escaped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid.eval.answers import AnswerScore
from hybrid.eval.clusters import count_clusters
from hybrid.eval.comparison import Comparison, Reply
from hybrid.eval.failures import ArmFailures, Cause, Split, analyse
from hybrid.eval.further import reply_values
from hybrid.eval.nearness import Nearness, nearness
from hybrid.eval.outcomes import outcome
from hybrid.eval.pages import csv_sheet, html_page, markdown_page
from hybrid.eval.selective import Selective, selective
from hybrid.eval.slices import Slice, slices
from hybrid.eval.summary import ArmSummary, Versus
from hybrid.types import Question


def write_report(
    comparison: Comparison,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    verdict: str,
    notes: Sequence[str] = (),
    costs: Sequence[Mapping[str, Any]] = (),
    decision: Mapping[str, Any] | None = None,
    passages: Mapping[str, str] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> None:
    """Writes report.json, report.md, report.csv and report.html into the folder, which is made if it is missing.

    Args:
        comparison: What to report.
        folder: Where to write.
        title: Heading of the report.
        facts: What was compared, such as the model and the number of chunks, in the order to show.
        verdict: The conclusion; an empty line starts a new paragraph.
        notes: Warnings and counts that a reader must know.
        costs: What each arm cost, as plain values.
        decision: The numbers behind the verdict, as plain values.
        passages: Texts of chunks by id, at least of those shown; they tell why answers are wrong, and the page shows
            them.
        parts: Further parts of report.json by their keys, as plain values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = report_data(
        comparison,
        title=title,
        facts=facts,
        verdict=verdict,
        notes=notes,
        costs=costs,
        decision=decision,
        passages=passages,
        parts=parts,
    )
    write_files(data, folder, passages or {})


def write_files(data: Mapping[str, Any], folder: Path, passages: Mapping[str, str]) -> None:
    """Writes the files of a report from the content of report.json, in place of those that are there.

    Args:
        data: The content of report.json, which may have got further parts since.
        folder: Where the files are.
        passages: Texts of chunks by id, at least of those shown.
    """
    pages = {
        "report.json": json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2) + "\n",
        "report.md": markdown_page(data),
        "report.csv": csv_sheet(data),
        "report.html": html_page(data, passages),
    }
    write_pages(pages, folder)


def write_pages(pages: Mapping[str, str], folder: Path) -> None:
    """Writes texts by their file names, each in place of what is there once it is whole."""
    for name, text in pages.items():
        part = folder / f"{name}.part"
        # A model may emit half of a surrogate pair, which UTF-8 cannot hold.
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        part.replace(folder / name)


def report_data(
    comparison: Comparison,
    *,
    title: str = "",
    facts: Mapping[str, str],
    verdict: str,
    notes: Sequence[str],
    costs: Sequence[Mapping[str, Any]] = (),
    decision: Mapping[str, Any] | None = None,
    passages: Mapping[str, str] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the content of report.json: plain dicts, lists, strings and finite numbers; see `write_report`."""
    texts = passages or {}
    failures = analyse(comparison, texts)
    replies = {
        run.name: zip(run.replies, comparison.scores[run.name], own.causes, _further(comparison, run.name), strict=True)
        for run, own in zip(comparison.runs, failures, strict=True)
    }
    return {
        "arms": [_arm(summary) for summary in comparison.summaries],
        "title": title,
        "baseline": comparison.baseline,
        "verdict": verdict,
        "facts": dict(facts),
        "notes": list(notes),
        "costs": [dict(cost) for cost in costs],
        "decision": dict(decision) if decision else None,
        "metric": comparison.metric,
        "clusters": {**count_clusters(comparison.groups)._asdict(), "by": comparison.grouped_by},
        "failures": [_failures(own) for own in failures],
        "slices": [_slice(part) for part in slices(comparison, texts)],
        "confidence": [_with_curve(own) for own in selective(comparison)],
        "nearness": _with_curve(near) if (near := nearness(comparison)) else None,
        **(parts or {}),
        "k": comparison.k,
        "seed": comparison.seed,
        "questions": [
            {
                **asdict(question),
                "replies": {name: _reply(question, *next(pairs)) for name, pairs in replies.items()},
            }
            for question in comparison.questions
        ],
    }


def _arm(summary: ArmSummary) -> dict[str, Any]:
    means = ("em", "f1", "rouge_l", "contains", "abstained", "over_refused", "seconds")
    return {
        "name": summary.name,
        "description": summary.description,
        "n": summary.n,
        **{name: summary.value(name) or 0.0 for name in means},
        "recall_at_k": summary.value("recall_at_k"),
        "refused_unanswerable": summary.value("refused_unanswerable"),
        "errors": summary.errors,
        "failed": list(summary.failed),
        "seconds_p50": summary.seconds_p50,
        "seconds_p95": summary.seconds_p95,
        "vs_rag": _vs_rag(summary.vs_rag) if summary.vs_rag else None,
        "scores": {name: estimate._asdict() for name, estimate in summary.scores.items()},
        "versus": {
            name: {**versus._asdict(), "mcnemar": versus.mcnemar._asdict() if versus.mcnemar else None}
            for name, versus in summary.versus.items()
        },
    }


def _vs_rag(versus: Versus) -> dict[str, float]:
    return {
        "f1_difference": versus.difference,
        "low": versus.low,
        "high": versus.high,
        "p": versus.p,
        "p_holm": versus.p_holm,
    }


def _failures(failures: ArmFailures) -> dict[str, Any]:
    return {
        "arm": failures.arm,
        "counts": dict(failures.counts),
        "shares": {cause: estimate._asdict() for cause, estimate in failures.shares.items()},
        "found": _split(failures.found),
        "missed": _split(failures.missed),
    }


def _split(split: Split) -> dict[str, Any]:
    return {
        "mean": split.mean._asdict() if split.mean else None,
        "versus": split.versus._asdict() if split.versus else None,
    }


def _with_curve(own: Selective | Nearness) -> dict[str, Any]:
    return {**own._asdict(), "curve": [point._asdict() for point in own.curve]}


def _slice(part: Slice) -> dict[str, Any]:
    return {**asdict(part), "arms": {name: estimate._asdict() for name, estimate in part.arms.items()}}


def _further(comparison: Comparison, arm: str) -> list[dict[str, float]]:
    """What was measured of each reply beside its scores, as far as it has it."""
    columns = {measure.name: reply_values(measure) for measure in comparison.further.get(arm, ())}
    return [
        {name: value for name, values in columns.items() if (value := values[place]) is not None}
        for place in range(len(comparison.questions))
    ]


def _reply(
    question: Question, reply: Reply, score: AnswerScore, cause: Cause, further: Mapping[str, float]
) -> dict[str, Any]:
    said = asdict(reply)
    del said["question_id"]
    named = {"outcome": outcome(question, reply, score), "cause": cause}
    return {"text": said.pop("text"), **score._asdict(), "further": dict(further), **named, **said}
