"""What a report says beside its tables: what was compared, and what its reader must know."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.arms import PromptChoice
from hybrid.artefacts import read_manifest
from hybrid.cautions import power_note
from hybrid.config import Config
from hybrid.eval.comparison import ArmRun, Comparison
from hybrid.eval.nearness import nearness
from hybrid.retrieval.index import Index
from hybrid.stages.tune import training_seconds
from hybrid.types import Question

if TYPE_CHECKING:
    from hybrid.project import Project

_CHANCE = 0.5
_MANY_CUT_OFF = 0.1  # of the answers of an arm


def report_facts(project: Project, index: Index, questions: Sequence[Question]) -> dict[str, str]:
    """What was compared, in the order to show."""
    config = project.config
    pairs = read_manifest(project.path("pairs")) or {}
    facts = {
        "Model": _public(config.model),
        "Embedding model": _public(config.embedder),
        "Documents": f"{len(index.documents)} documents, {len(index.chunks)} chunks "
        f"of at most {config.index.chunk_tokens} tokens",
        "Questions": questions_fact(questions),
        "Search": _search(config),
        "Context": f"{config.prompt.k} chunks",
        "Training pairs": f"{pairs.get('train')} on {pairs.get('contexts')} contexts",
        "Seed": str(config.seed),
    }
    if config.serve.min_cosine:
        facts["Refused unasked"] = f"below a cosine of {config.serve.min_cosine:g}"
    for adapter in ("tuned", "hybrid"):
        manifest = read_manifest(project.path(f"tune/{adapter}"))
        if manifest and f"tune/{adapter}" in project.stage_names:
            facts[f"Training, {adapter}"] = (
                f"{training_seconds(manifest):.0f} s, {manifest['steps']} steps, method {config.tune.method}"
            )
    return facts


def questions_fact(questions: Sequence[Question]) -> str:
    """How many questions there are, of which sort."""
    return f"{len(questions)}, of which {sum(not q.answerable for q in questions)} are not answered by the documents"


def report_parts(project: Project, choices: Sequence[PromptChoice]) -> dict[str, Any]:
    """The rag prompts that were tried, and how arms stood up to disturbance when that was last measured."""
    return {
        "prompts": [{"name": choice.name, "score": choice.score} for choice in choices if choice.score is not None],
        "robustness": _robustness(project.store / "runs" / "robustness" / "robustness.json"),
    }


def _robustness(file: Path) -> dict[str, Any] | None:
    """What was measured last; a comparison that has taken hours does not fail on it."""
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.keys() >= {"metric", "questions", "seed", "scores"}:
            return dict(found)
    except (OSError, ValueError, AttributeError):
        pass
    sys.stderr.write(f"{file} is damaged and left out of the report; to renew it, run: hybrid compare --robustness\n")
    return None


def report_notes(
    choices: Sequence[PromptChoice],
    comparison: Comparison,
    index: Index,
    min_cosine: float = 0.0,
    functions: Collection[str] = (),
) -> list[str]:
    """The rag prompts tried, failed answers, what the questions cannot show, and what to hold refusals against."""
    failures = (_failures(run, run.name in functions) for run in comparison.runs)
    prompts = _prompts(choices, comparison.metric)
    notes = [
        prompts,
        *failures,
        _cut_off(comparison),
        power_note(comparison),
        _refusing(comparison),
        nearness_note(comparison),
        _missing_gold(comparison, index),
        _unasked(comparison, min_cosine),
    ]
    return [note for note in notes if note]


def _cut_off(comparison: Comparison) -> str:
    """Which arms would have said more."""
    shares = {run.name: sum(reply.cut_off for reply in run.replies) / len(run.replies) for run in comparison.runs}
    many = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= _MANY_CUT_OFF)
    if not many:
        return ""
    return (
        f"Answers that were cut off by compare.max_new_tokens: {many}. Where the gold answers are longer, raise it; "
        "otherwise these arms go on after their answer."
    )


def _refusing(comparison: Comparison) -> str:
    """What an arm that refuses everything would score as a detector of unanswerable questions."""
    unanswerable = sum(not question.answerable for question in comparison.questions)
    if not 0 < unanswerable < len(comparison.questions):
        return ""
    return f"To refuse every question would score a refusal F1 of {_refusing_all(comparison):.3f}."


def _refusing_all(comparison: Comparison) -> float:
    unanswerable = sum(not question.answerable for question in comparison.questions)
    return 2 * unanswerable / (len(comparison.questions) + unanswerable)


def nearness_note(comparison: Comparison) -> str:
    """How well search tells what is not answered, and what to set; empty where too few questions show it."""
    found = nearness(comparison)
    if found is None:
        return ""
    told = (
        "The cosine of a question and its nearest passage tells unanswerable questions from others with an AUROC of "
        f"{found.auroc:.2f} ({found.auroc_low:.2f} to {found.auroc_high:.2f})"
    )
    if found.auroc_low <= _CHANCE:
        return f"{told}, which may be chance: do not set serve.min_cosine by it."
    if found.f1 <= _refusing_all(comparison):
        return f"{told}; no serve.min_cosine does better than refusing every question."
    return (
        f"{told}. serve.min_cosine={found.best:.4g} would refuse what lies below it without asking a model; a value "
        f"that is chosen so on other questions refuses {found.refused:.0%} of the unanswerable and "
        f"{found.over_refused:.0%} of the answerable ones (refusal F1 {found.f1:.3f}). On these questions themselves "
        "it would look better than it is."
    )


def _unasked(comparison: Comparison, min_cosine: float) -> str:
    """How many questions a least cosine refused without asking; empty where there is none."""
    if not min_cosine:
        return ""
    runs = ([reply.cosine for reply in run.replies] for run in comparison.runs)
    nearest = next((cosines for cosines in runs if set(cosines) != {None}), [])
    count = sum(cosine is not None and cosine < min_cosine for cosine in nearest)
    return (
        f"serve.min_cosine={min_cosine:g} refused {count} of {len(nearest)} questions in the name of the arms with "
        "retrieval, without asking them. If that value was chosen on these very questions, these arms look better than "
        "they are."
    )


def _prompts(choices: Sequence[PromptChoice], metric: str) -> str:
    tried = "; ".join(f"{choice.name}: {choice.score:.3f}" for choice in choices if choice.score is not None)
    if not tried:
        return ""
    return f"The rag arm uses the best prompt of the training side ({choices[0].name}). Tried, by {metric}: {tried}."


def _failures(run: ArmRun, is_function: bool) -> str:
    failed = [reply for reply in run.replies if reply.error]
    if not failed:
        return ""
    again = (
        "To ask it again, compare with the function again: everything is asked anew"
        if is_function
        else "To ask these again, and no others, run: hybrid compare"
    )
    note = (
        f"{run.name}: {len(failed)} of {len(run.replies)} answers failed and count as wrong, "
        f"such as {failed[0].question_id!r}: {failed[0].error}. {again}"
    )
    sys.stderr.write(f"{note}\n")
    return note


def _missing_gold(comparison: Comparison, index: Index) -> str:
    named = {document for question in comparison.questions for document in question.gold}
    unknown = sorted(named - index.documents.keys())
    if not unknown:
        return ""
    note = (
        f"{len(unknown)} of {len(named)} gold documents are not in the index and count as not retrieved, "
        f"such as {unknown[0]!r}; ids look like {next(iter(index.documents))!r}."
    )
    sys.stderr.write(f"{note}\n")
    return note


def _search(config: Config) -> str:
    if config.reranker is None:
        return config.index.search
    return f"{config.index.search}, the best {config.index.rerank} reordered by {_public(config.reranker)}"


def _public(model: str) -> str:
    """A model's name; of a folder without its place, as reports are sent around."""
    return Path(model).name if Path(model).is_absolute() else model
