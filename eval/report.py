"""A comparison as three files: report.json for machines, report.md for a pull request, report.html to read.

The page is one self-contained file: no network, no fonts to load, every text escaped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid.eval.answers import AnswerScore
from hybrid.eval.comparison import ArmSummary, Comparison, Reply
from hybrid.eval.pages import html_page, markdown_page
from hybrid.eval.statistics import Difference


def write_report(
    comparison: Comparison,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    verdict: str,
    notes: Sequence[str] = (),
) -> None:
    """Writes report.json, report.md and report.html into the folder, which is made if it is missing.

    Args:
        comparison: What to report.
        folder: Where to write.
        title: Heading of the report.
        facts: What was compared, such as the model and the number of chunks, in the order to show.
        verdict: The conclusion; an empty line starts a new paragraph.
        notes: Warnings and counts that a reader must know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = report_data(comparison, facts=facts, verdict=verdict, notes=notes)
    pages = {
        "report.json": json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2) + "\n",
        "report.md": markdown_page(comparison, title=title, facts=facts, verdict=verdict, notes=notes),
        "report.html": html_page(comparison, title=title, facts=facts, verdict=verdict, notes=notes),
    }
    for name, text in pages.items():
        # A model may emit half of a surrogate pair, which UTF-8 cannot hold.
        (folder / name).write_text(text, encoding="utf-8", errors="replace")


def report_data(
    comparison: Comparison, *, facts: Mapping[str, str], verdict: str, notes: Sequence[str]
) -> dict[str, Any]:
    """Returns the content of report.json: plain dicts, lists, strings and finite numbers."""
    replies = {run.name: zip(run.replies, comparison.scores[run.name], strict=True) for run in comparison.runs}
    return {
        "arms": [_arm(summary) for summary in comparison.summaries],
        "baseline": comparison.baseline,
        "verdict": verdict,
        "facts": dict(facts),
        "notes": list(notes),
        "k": comparison.k,
        "seed": comparison.seed,
        "questions": [
            {
                **asdict(question),
                "replies": {name: _reply(*next(pairs)) for name, pairs in replies.items()},
            }
            for question in comparison.questions
        ],
    }


def _arm(summary: ArmSummary) -> dict[str, Any]:
    return {
        "name": summary.name,
        "description": summary.description,
        "n": summary.n,
        "em": summary.em,
        "f1": summary.f1,
        "rouge_l": summary.rouge_l,
        "contains": summary.contains,
        "recall_at_k": summary.recall_at_k,
        "abstained": summary.abstained,
        "refused_unanswerable": summary.refused_unanswerable,
        "over_refused": summary.over_refused,
        "errors": summary.errors,
        "seconds": summary.seconds,
        "vs_rag": {**_difference(summary.vs_rag), "p_holm": summary.p_holm} if summary.vs_rag else None,
    }


def _difference(difference: Difference) -> dict[str, float]:
    return {
        "f1_difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
    }


def _reply(reply: Reply, score: AnswerScore) -> dict[str, Any]:
    return {
        "text": reply.text,
        **score._asdict(),
        "abstained": reply.abstained,
        "documents": list(reply.documents),
        "contexts": list(reply.contexts),
        "seconds": reply.seconds,
        "error": reply.error,
        "citations": [asdict(citation) for citation in reply.citations],
    }
