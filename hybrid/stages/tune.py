"""Pairs to adapter, and the adapter merged into its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.pairs.export import read_pairs
from hybrid.prompt import encode, encode_answer, fit_context, render_messages, to_text
from hybrid.retrieval.index import Index
from hybrid.stages import Counts
from hybrid.stages.parts import project_tokenizer, require_adapter
from hybrid.tuning.tree import Example
from hybrid.types import Chunk, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hybrid.project import Project


def tune_adapter(project: Project, work: Path, arm: str) -> Counts:
    """Trains the adapter of an arm: `hybrid` on contexts, `tuned` closed book on the same questions and answers."""
    from hybrid.tuning.trainer import tune

    index = Index.load(project.path("index"))
    pairs = read_pairs(project.path("pairs") / "train.jsonl")
    tokenizer = project_tokenizer(project)
    chunks = {chunk.id: chunk for chunk in index.chunks}
    examples, shortened = training_examples(pairs, chunks, project, tokenizer, closed_book=arm == "tuned")
    result = tune(
        examples,
        model_path=project.model,
        output=work / "result",
        settings=project.config.tune,
        seed=project.config.seed,
        checkpoints=work / "checkpoints",
        notes={"arm": arm, "model": project.config.model},
    )
    return {"pairs": len(examples), "contexts shortened": shortened, **asdict(result)}


def training_examples(
    pairs: Sequence[Pair],
    chunks: dict[str, Chunk],
    project: Project,
    tokenizer: PreTrainedTokenizerBase,
    *,
    closed_book: bool,
) -> tuple[list[Example], int]:
    """Renders pairs to token ids.

    Returns:
        The examples, grouped by context, and how many pairs lost distractors to fit the longest prompt. Closed-book
        examples leave out pairs whose answer is the refusal: without a context there is nothing to refuse for.
    """
    prompt = project.config.prompt
    limit = replace(prompt, max_tokens=min(prompt.max_tokens, project.config.tune.max_tokens))
    examples: list[Example] = []
    shortened = 0
    for pair in pairs:
        if closed_book and pair.kind == "absent":
            continue
        answer = encode_answer(pair.answer, tokenizer)
        context = [] if closed_book else [chunks[chunk] for chunk in pair.context]
        fitted = fit_context(pair.question, context, pair.oracles, limit, tokenizer, reserve=len(answer))
        shortened += fitted.dropped > 0
        text = to_text(render_messages(pair.question, fitted.chunks, prompt), tokenizer)
        # Closed-book examples stay apart: they share the system message alone, and sharing it puts more of them into a
        # step of the optimiser, which leaves too few steps (docs/experiments.md).
        group = pair.id if closed_book else "|".join(chunk.id for chunk in fitted.chunks)
        examples.append(Example(pair.id, group, tuple(encode(text, tokenizer)), tuple(answer)))
    return examples, shortened


def export_model(project: Project, output: Path, arm: str) -> Path:
    """Merges an arm's adapter into its base and writes the model."""
    from hybrid.tuning.export import merge

    require_adapter(project, arm)
    merge(project.model, project.path(f"tune/{arm}"), output)
    return output
