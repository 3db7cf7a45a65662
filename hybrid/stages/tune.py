"""Pairs to adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.answers import Target, render_target
from hybrid.artefacts import fingerprint
from hybrid.config import PromptConfig
from hybrid.prompt import Fitted, encode, encode_answer, fit_context, render_messages, to_text
from hybrid.retrieval.index import Index
from hybrid.stages import Counts
from hybrid.stages.parts import project_tokenizer, published_pairs
from hybrid.tuning.tree import Example
from hybrid.types import Chunk, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hybrid.project import Project


class Rendered(NamedTuple):
    """Pairs as token ids.

    Attributes:
        examples: The examples, grouped by context.
        shortened: Pairs that lost distractors to fit the longest prompt.
        unsupported: Answers without the quotes or numbers that `prompt.answers` asks for (`hybrid.answers.Target`).
    """

    examples: list[Example]
    shortened: int
    unsupported: int


def tune_adapter(project: Project, work: Path, arm: str) -> Counts:
    """Trains the adapter of an arm: `hybrid` on contexts, `tuned` closed book on the same questions and answers."""
    from hybrid.tuning.trainer import tune

    index = Index.load(project.path("index"))
    pairs = published_pairs(project, "train")
    tokenizer = project_tokenizer(project)
    chunks = {chunk.id: chunk for chunk in index.chunks}
    rendered = training_examples(pairs, chunks, project, tokenizer, closed_book=arm == "tuned")
    result = tune(
        rendered.examples,
        later=lambda epoch: (
            training_examples(pairs, chunks, project, tokenizer, closed_book=arm == "tuned", epoch=epoch).examples
        ),
        model_path=project.model,
        output=work / "result",
        settings=project.config.tune,
        seed=project.config.seed,
        checkpoints=work / "checkpoints",
        notes={"arm": arm, "model": project.config.model},
    )
    without = {} if project.config.prompt.answers == "short" else {"answers without support": rendered.unsupported}
    counts = asdict(result)
    counts["training_seconds"] = counts.pop("seconds")  # those of a stage are the time of its last run alone
    return {
        "pairs": len(rendered.examples),
        "contexts shortened": rendered.shortened,
        **without,
        **counts,
        "material": training_material(pairs, index.chunks, project.config.prompt),
    }


def training_seconds(manifest: Mapping[str, Any]) -> float:
    """Time that the training of an adapter has taken, over all its runs; manifests of before know the last alone."""
    return float(manifest.get("training_seconds", manifest["seconds"]))


def training_material(pairs: Sequence[Pair], chunks: Sequence[Chunk], prompt: PromptConfig) -> str:
    """A hash of what adapters are trained on beside model and settings: pairs, the texts of their chunks, prompt."""
    used = {chunk for pair in pairs for chunk in pair.context}
    shown = [(chunk.id, chunk.title, chunk.text) for chunk in chunks if chunk.id in used]
    return fingerprint(pairs=[asdict(pair) for pair in pairs], chunks=shown, prompt=prompt)


def training_examples(
    pairs: Sequence[Pair],
    chunks: dict[str, Chunk],
    project: Project,
    tokenizer: PreTrainedTokenizerBase,
    *,
    closed_book: bool,
    epoch: int = 0,
) -> Rendered:
    """Renders pairs to token ids.

    The first epoch shows contexts in the order of the pairs, each later one in an order of its own, so that a model
    that sees a pair again does not learn the place of its oracle. All pairs of a context have the same order.

    Closed-book examples leave out pairs whose answer is the refusal: without a context there is nothing to refuse for.
    Their answers are short, whatever the style.
    """
    prompt = project.config.prompt
    limit = replace(prompt, max_tokens=min(prompt.max_tokens, project.config.tune.max_tokens))
    examples: list[Example] = []
    shortened = unsupported = 0
    for pair in pairs:
        if closed_book and pair.answer == prompt.refusal:
            continue
        context = [] if closed_book else [chunks[chunk] for chunk in pair.context]
        fitted, target = _fitted(pair, context, limit, tokenizer)
        shortened += fitted.dropped > 0
        unsupported += not closed_book and not target.supported
        # Closed-book examples stay apart: they share the system message alone, and sharing it puts more of them into a
        # step of the optimiser, which leaves too few steps (docs/experiments.md).
        group = pair.id if closed_book else "|".join(chunk.id for chunk in fitted.chunks)
        orders: list[Sequence[Chunk]] = [fitted.chunks]
        if epoch:
            order = Random(f"{project.config.seed} {epoch} {group}")
            orders.insert(0, order.sample(fitted.chunks, len(fitted.chunks)))
        for shown in orders:
            shown_target = target if shown is fitted.chunks else render_target(pair, shown, limit)
            example = _example(pair, group, shown, shown_target, prompt, tokenizer)
            # Another order may split a text into a token more than there is room for.
            if len(example.prompt_ids) + len(example.answer_ids) <= limit.max_tokens:
                break
        examples.append(example)
    return Rendered(examples, shortened, unsupported)


def _example(
    pair: Pair,
    group: str,
    shown: Sequence[Chunk],
    target: Target,
    prompt: PromptConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> Example:
    text = to_text(render_messages(pair.question, shown, prompt), tokenizer)
    answer = encode_answer(target.text, tokenizer)
    return Example(pair.id, group, tuple(encode(text, tokenizer)), tuple(answer))


def _fitted(
    pair: Pair, context: Sequence[Chunk], limit: PromptConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[Fitted, Target]:
    """The context that fits together with its answer, which names the places of passages in that very context."""
    reserve, fitted = 0, Fitted(tuple(context), 0)
    while True:
        target = render_target(pair, fitted.chunks, limit)
        needed = len(encode_answer(target.text, tokenizer))
        if needed <= reserve:
            return fitted, target
        reserve = needed
        fitted = fit_context(pair.question, context, pair.oracles, limit, tokenizer, reserve=reserve)
