"""Every arm on the same questions, to the report."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hybrid import advice, rag_prompt
from hybrid.arms import Arm, PromptChoice, Runner, append_replies, read_replies, select_arms
from hybrid.artefacts import read_manifest
from hybrid.eval.comparison import ArmRun, Comparison, compare
from hybrid.eval.report import write_report
from hybrid.pairs.export import read_pairs
from hybrid.pairs.formats import load_examples
from hybrid.prompt import Shot
from hybrid.retrieval.index import Index
from hybrid.retrieval.retriever import Retriever
from hybrid.stages import Counts
from hybrid.stages.parts import project_embedder
from hybrid.stages.serve import load_runner
from hybrid.tuning.memory import peak_memory_mb
from hybrid.types import Hit, Pair, Question

if TYPE_CHECKING:
    from hybrid.project import Project


def compare_arms(project: Project, work: Path) -> Counts:
    """Answers the questions with every arm and writes the report."""
    config = project.config
    assert project.questions is not None  # Project.compare refuses without one
    questions = _sample(load_examples(project.questions, answered=True), config.compare.limit, config.seed)
    index = Index.load(project.path("index"))
    retriever = Retriever(index, project_embedder(project))
    started = time.perf_counter()
    hits = retriever.search([question.question for question in questions], config.prompt.k)
    searching = (time.perf_counter() - started) / len(questions)
    runs, choices = [], []
    for adapter in (None, "tuned", "hybrid"):
        arms = [arm for arm in select_arms(config.compare.arms) if arm.adapter == adapter]
        if not arms:
            continue
        runner = load_runner(project, adapter)
        for arm in arms:
            choice = PromptChoice("zero-shot", config.prompt.k, ())
            if arm.name == "rag":
                choices = _rag_prompts(project, work, runner, retriever, index)
                choice = choices[0]
                rag_prompt.save(choice, work / "result" / rag_prompt.FILE)
            shown = [found[: choice.k] if arm.retrieval else [] for found in hits]
            run = _answer(arm, runner, choice, questions, shown, work / f"{arm.name}.jsonl")
            runs.append(_slower(run, searching) if arm.retrieval else run)
        del runner
        gc.collect()
    order = list(config.compare.arms)
    runs.sort(key=lambda run: order.index(run.name))
    comparison = compare(questions, runs, k=config.prompt.k, seed=config.seed)
    write_report(
        comparison,
        work / "result",
        title=f"{project.folder.name}: which way answers best?",
        facts=_facts(project, index, questions),
        verdict=advice.verdict(comparison),
        notes=_notes(choices, comparison, index),
    )
    return {
        "questions": len(questions),
        "arms": order,
        "rag prompt": choices[0].name if choices else None,
        "peak_memory_mb": round(peak_memory_mb()),
    }


def _answer(
    arm: Arm,
    runner: Runner,
    choice: PromptChoice,
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    journal: Path,
) -> ArmRun:
    replies = runner.answer(
        questions,
        hits,
        choice,
        label=f"arm {arm.name}",
        done=read_replies(journal),
        record=partial(append_replies, journal),
    )
    return ArmRun(arm.name, arm.description, tuple(replies))


def _slower(run: ArmRun, seconds: float) -> ArmRun:
    """Adds the time of the search, which all questions shared, to every reply."""
    return replace(run, replies=tuple(replace(reply, seconds=reply.seconds + seconds) for reply in run.replies))


def _sample(questions: list[Question], limit: int, seed: int) -> list[Question]:
    """At most `limit` of the questions in their order, or all if it is 0."""
    if not 0 < limit < len(questions):
        return questions
    chosen = set(Random(seed).sample(range(len(questions)), limit))
    return [question for number, question in enumerate(questions) if number in chosen]


def _rag_prompts(
    project: Project, work: Path, runner: Runner, retriever: Retriever, index: Index
) -> list[PromptChoice]:
    """The rag prompts tried on the training side, best first; the scores are kept for a run that goes on."""
    config = project.config
    train, dev = (
        [pair for pair in read_pairs(project.path("pairs") / f"{part}.jsonl") if pair.kind != "absent"]
        for part in ("train", "dev")
    )
    rng = Random(config.seed)
    shot_pairs = rng.sample(train, min(config.compare.shots, len(train)))
    choices = rag_prompt.candidates(
        {
            k: [Shot(pair.question, pair.answer, tuple(map(index.chunk, _shown(pair, k)))) for pair in shot_pairs]
            for k in sorted({1, config.prompt.k})
        }
    )
    if not dev:
        sys.stderr.write(
            "no training-side questions to choose the rag prompt on; "
            "the zero-shot prompt with all chunks is the baseline\n"
        )
        return rag_prompt.candidates({config.prompt.k: []})
    chosen = rng.sample(dev, min(config.compare.dev_questions, len(dev)))
    questions = [Question(pair.id, pair.question, (pair.answer,)) for pair in chosen]
    return rag_prompt.choose(runner, questions, retriever, choices, work / "rag_prompts.json")


def _shown(pair: Pair, k: int) -> list[str]:
    """The chunks of a worked example: its first oracle, and distractors in the order of its context up to `k`."""
    oracle = pair.oracles[0]
    others = [chunk for chunk in pair.context if chunk not in pair.oracles][: k - 1]
    return [chunk for chunk in dict.fromkeys([*pair.context, oracle]) if chunk == oracle or chunk in others]


def _facts(project: Project, index: Index, questions: Sequence[Question]) -> dict[str, str]:
    config = project.config
    pairs = read_manifest(project.path("pairs")) or {}
    facts = {
        "Model": config.model,
        "Embedding model": config.embedder,
        "Documents": f"{len(index.documents)} documents, {len(index.chunks)} chunks "
        f"of at most {config.index.chunk_tokens} tokens",
        "Questions": f"{len(questions)}, "
        f"of which {sum(not q.answerable for q in questions)} are not answered by the documents",
        "Context": f"{config.prompt.k} chunks",
        "Training pairs": f"{pairs.get('train')} on {pairs.get('contexts')} contexts",
        "Seed": str(config.seed),
    }
    for adapter in ("tuned", "hybrid"):
        manifest = read_manifest(project.path(f"tune/{adapter}"))
        if manifest and f"tune/{adapter}" in project.stage_names:
            facts[f"Training, {adapter}"] = (
                f"{manifest['seconds']:.0f} s, {manifest['steps']} steps, method {config.tune.method}"
            )
    return facts


def _notes(choices: Sequence[PromptChoice], comparison: Comparison, index: Index) -> list[str]:
    tried = "; ".join(f"{choice.name}: F1 {choice.f1:.3f}" for choice in choices if choice.f1 is not None)
    prompts = (
        f"The rag arm uses the best prompt of the training side ({choices[0].name}). Tried: {tried}." if tried else None
    )
    named = {document for question in comparison.questions for document in question.gold}
    unknown = sorted(named - index.documents.keys())
    missing = (
        f"{len(unknown)} of {len(named)} gold documents are not in the index and count as not retrieved, "
        f"such as {unknown[0]!r}; ids look like {next(iter(index.documents))!r}."
        if unknown
        else None
    )
    if missing:
        sys.stderr.write(f"{missing}\n")
    return [note for note in (prompts, advice.power_note(comparison), missing) if note]
