"""What each stage does: it reads the artefacts before it and fills the folder `result` in its work folder.

Everything else in the work folder is the stage's own record of how far it came, from which an interrupted run goes on.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from hybrid import advice, rag_prompt
from hybrid.arms import Arm, PromptChoice, Runner, append_replies, read_replies, select_arms
from hybrid.artefacts import fingerprint, read_manifest
from hybrid.assistant import Assistant
from hybrid.errors import ArtefactError, ConfigError
from hybrid.eval.comparison import ArmRun, Comparison, compare
from hybrid.eval.report import write_report
from hybrid.models import load_tokenizer, max_positions
from hybrid.pairs.build import build_pairs
from hybrid.pairs.export import export_all, export_pairs, read_pairs
from hybrid.pairs.formats import load_examples
from hybrid.pairs.teachers import describe_figures, make_teacher
from hybrid.prompt import Shot, encode, encode_answer, fit_context, render_messages, to_text
from hybrid.retrieval.chunk import Chunker
from hybrid.retrieval.embed import CachedEmbedder, SentenceEmbedder, fingerprint_folder
from hybrid.retrieval.index import Index
from hybrid.retrieval.load import load_documents
from hybrid.retrieval.retriever import Retriever
from hybrid.tuning.memory import peak_memory_mb
from hybrid.tuning.tree import Example
from hybrid.types import Chunk, Hit, Pair, Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hybrid.project import Project

Counts = dict[str, Any]


def build_index(project: Project, work: Path) -> Counts:
    """Builds the index, taking over from the published one what did not change."""
    loaded = load_documents(project.documents)
    config = project.config.index
    chunker = Chunker(project.embedder, config.chunk_tokens, config.overlap_tokens)
    embedder = _embedder(project)
    try:
        old = Index.load(project.path("index")) if read_manifest(project.path("index")) else None
    except ArtefactError as error:
        sys.stderr.write(f"the old index is not used: {error}\n")
        old = None
    counts: Counts = {}
    if old is None:
        index = Index.build(loaded.documents, chunker, embedder)
    else:
        update = old.update(loaded.documents, chunker, embedder)
        index = update.index
        counts = {name: len(getattr(update, name)) for name in ("added", "changed", "deleted", "unchanged")}
    index.save(work / "result")
    for skipped in loaded.skipped:
        sys.stderr.write(f"skipped {skipped.path}: {skipped.reason}\n")
    return {
        "documents": len(index.documents),
        "chunks": len(index.chunks),
        **counts,
        "embedded": embedder.computed,
        "files skipped": [f"{skipped.path}: {skipped.reason}" for skipped in loaded.skipped],
    }


def make_pairs(project: Project, work: Path) -> Counts:
    """Builds the pairs and exports them."""
    config = project.config
    index = Index.load(project.path("index"))
    teacher = make_teacher(config, project.folder, work / "replies.jsonl")
    try:
        pairs = build_pairs(
            documents=list(index.documents.values()),
            chunks=index.chunks,
            searcher=Retriever(index, _embedder(project)),
            evaluation=load_examples(project.questions) if project.questions else [],
            teacher=teacher,
            own=load_examples(project.own_pairs) if project.own_pairs else [],
            journal=work / "drafts.jsonl",
            config=config.pairs,
            prompt=config.prompt,
            seed=config.seed,
        )
    finally:  # a run that fails or is interrupted has cost something too
        sys.stderr.write(describe_figures(teacher.figures()))
    chunks = {chunk.id: chunk for chunk in index.chunks}
    for name, part in (("train", pairs.train), ("dev", pairs.dev)):
        export_pairs(work / "result", name, part, chunks, config.prompt)
    return pairs.counts


def tune_adapter(project: Project, work: Path, arm: str) -> Counts:
    """Trains the adapter of an arm: `hybrid` on contexts, `tuned` closed book on the same questions and answers."""
    from hybrid.tuning.trainer import tune

    index = Index.load(project.path("index"))
    pairs = read_pairs(project.path("pairs") / "train.jsonl")
    tokenizer = _tokenizer(project)
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


def compare_arms(project: Project, work: Path) -> Counts:
    """Answers the questions with every arm and writes the report."""
    config = project.config
    assert project.questions is not None  # Project.compare refuses without one
    questions = _sample(load_examples(project.questions, answered=True), config.compare.limit, config.seed)
    index = Index.load(project.path("index"))
    retriever = Retriever(index, _embedder(project))
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


def load_runner(project: Project, adapter: str | None) -> Runner:
    """Loads the project's model, with an adapter if one is named.

    Raises:
        ArtefactError: The adapter has not been trained.
    """
    from peft import PeftModel

    from hybrid.tuning.model import compute_dtype, default_device, load_base, load_tuned

    if adapter is None:
        device = default_device()
        model = load_base(project.model, method="lora", dtype=compute_dtype("auto", device), device=device)
        model.eval()  # type: ignore[no-untyped-call]
    else:
        folder = project.path(f"tune/{adapter}")
        _require_adapter(project, adapter)
        tuned = load_tuned(project.model, folder)
        # Outside a GPU the base is not packed: added to the weights, the adapter costs nothing per token.
        model = tuned.merge_and_unload() if isinstance(tuned, PeftModel) and tuned.device.type == "cpu" else tuned
    tokenizer = _tokenizer(project)
    compare_config = project.config.compare
    return Runner(model, tokenizer, project.config.prompt, compare_config.max_new_tokens, compare_config.batch_tokens)


def _require_adapter(project: Project, adapter: str) -> None:
    """Refuses an adapter that is missing or belongs to another model."""
    way_out = f"run: hybrid tune --project {project.folder}"
    manifest = read_manifest(project.path(f"tune/{adapter}"))
    if manifest is None:
        raise ArtefactError(f"the adapter {adapter!r} has not been trained; {way_out}")
    if manifest["inputs"].get("model") != fingerprint(value=fingerprint_folder(project.model)):
        raise ArtefactError(
            f"the adapter {adapter!r} was trained on another model than {project.config.model}; {way_out}"
        )


def load_assistant(project: Project, arm: Arm) -> Assistant:
    """Loads model and index of an arm; rag prompts as the last comparison found best."""
    retriever = None
    if arm.retrieval:
        if read_manifest(project.path("index")) is None:
            raise ArtefactError(f"{project.folder} has no index; run: hybrid index --project {project.folder}")
        retriever = Retriever(Index.load(project.path("index")), _embedder(project))
    choice = rag_prompt.load(project.path("compare") / rag_prompt.FILE) if arm.name == "rag" else None
    choice = choice or PromptChoice("zero-shot", project.config.prompt.k, ())
    return Assistant(load_runner(project, arm.adapter), retriever, choice, arm.name)


def _tokenizer(project: Project) -> PreTrainedTokenizerBase:
    """The model's tokenizer, once it is known that the longest prompt and answer fit the model."""
    prompt, answer = project.config.prompt.max_tokens, project.config.compare.max_new_tokens
    positions = max_positions(project.model)
    if positions and prompt + answer > positions:
        raise ConfigError(
            f"prompt.max_tokens = {prompt} and compare.max_new_tokens = {answer} are more than the {positions} tokens "
            f"that {project.config.model} reads; set prompt.max_tokens to {positions - answer} or less"
        )
    return load_tokenizer(project.model)


def _embedder(project: Project) -> CachedEmbedder:
    return CachedEmbedder(SentenceEmbedder(project.embedder), project.store / "cache")


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


def export_model(project: Project, output: Path, arm: str) -> Path:
    """Merges an arm's adapter into its base and writes the model."""
    from hybrid.tuning.export import merge

    _require_adapter(project, arm)
    merge(project.model, project.path(f"tune/{arm}"), output)
    return output


def export_examples(project: Project, output: Path, kinds: Sequence[str]) -> dict[str, int]:
    """Writes the published pairs in formats of other tools."""
    way_out = f"run: hybrid pairs --project {project.folder}"
    made = read_manifest(project.path("pairs"))
    if made is None:
        raise ArtefactError(f"{project.folder} has no pairs; {way_out}")
    index = Index.load(project.path("index"))
    chunks = {chunk.id: chunk for chunk in index.chunks}
    parts = {name: read_pairs(project.path("pairs") / f"{name}.jsonl") for name in ("train", "dev")}
    used = {chunk for part in parts.values() for pair in part for chunk in (*pair.context, *pair.oracles)}
    if not used <= chunks.keys():
        raise ArtefactError(f"the pairs are older than the index; {way_out}")
    return export_all(output, kinds, parts, chunks, project.config.prompt, made)
