"""Plans pairs and fine-tuning: reads a project's model, pairs and documents, measures the machine, and estimates."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hybrid.models import load_tokenizer
from hybrid.pairs.formats.export import read_pairs
from hybrid.pairs.formats.load import load_examples
from hybrid.pairs.prompting.estimate import DraftPlan
from hybrid.pairs.teachers import drafts_file, measure_speed, plan_drafts
from hybrid.plan import Machine, Plan, Workload, count_rows, make_plan
from hybrid.retrieval.chunk import Chunker
from hybrid.retrieval.index import Index
from hybrid.retrieval.load import load_documents
from hybrid.stages.tune import training_examples
from hybrid.tuning.memory import RowSize, free_memory_mb, peak_memory_mb
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.shape import Shape, load_shape
from hybrid.tuning.tree import Example, build_trees, pack_rows

if TYPE_CHECKING:
    from hybrid.project import Project

# Rough figures of a first run on examples/handbook; they serve only until the pairs exist.
_CHARACTERS_PER_TOKEN = 4.0
_PAIRS_PER_CHUNK = 5.0
_CONTEXT_FILL = 0.63  # of questions_per_context
_FILL_PER_CHUNK = 0.2  # of questions_per_context, for each chunk that pairs.context_chunks has more than prompt.k
_INSTRUCTION_TOKENS = 40
_QUESTION_TOKENS, _ANSWER_TOKENS = 16, 6


def plan_project(project: Project) -> Plan:
    """Plans the teacher's work, and the training of every adapter that the compared arms use; of `hybrid` if none.

    Raises:
        HybridError: The project's model, documents or pairs cannot be read.
    """
    tune = project.config.tune
    shape = load_shape(project.model)
    stages_to_train = [name for name in project.stage_names if name.startswith("tune/")] or ["tune/hybrid"]
    adapters = [name.removeprefix("tune/") for name in stages_to_train]
    workloads = (count_workloads if _is_fresh(project, "pairs") else guess_workloads)(project, adapters)
    plan = make_plan(
        project.config.model,
        shape,
        tuple(workloads),
        tune,
        measure_machine(tune, shape),
        is_instruct=load_tokenizer(project.model).chat_template is not None,
    )
    return replace(plan, drafts=plan_teacher(project))


def plan_teacher(project: Project) -> DraftPlan | None:
    """Plans what the teacher will be asked about the documents as they are now; None where `pairs.file` replaces it."""
    if project.own_pairs:
        return None
    config = project.config
    if _is_fresh(project, "index"):
        chunks = list(Index.load(project.path("index")).chunks)
    else:
        chunker = Chunker(project.embedder, config.index.chunk_tokens, config.index.overlap_tokens)
        documents = sorted(load_documents(project.documents).documents, key=lambda document: document.id)
        chunks = [chunk for document in documents for chunk in chunker.chunk(document)]
    drafts = drafts_file(config, project.folder, project.store)
    missing = plan_drafts(config, project.folder, drafts, chunks)
    if not missing.missing:
        return missing
    return plan_drafts(config, project.folder, drafts, chunks, measure_speed(config, project.folder, chunks))


def _is_fresh(project: Project, stage: str) -> bool:
    return any(status.stage == stage and status.state == "fresh" for status in project.status())


def count_workloads(project: Project, adapters: Sequence[str]) -> list[Workload]:
    """Builds the rows of the published pairs, as training would."""
    index = Index.load(project.path("index"))
    pairs = read_pairs(project.path("pairs") / "train.jsonl")
    tokenizer = load_tokenizer(project.model)
    chunks = {chunk.id: chunk for chunk in index.chunks}
    return [
        count_workload(
            adapter,
            training_examples(pairs, chunks, project, tokenizer, closed_book=adapter == "tuned").examples,
            project.config.tune,
            project.config.seed,
        )
        for adapter in adapters
    ]


def count_workload(adapter: str, examples: Sequence[Example], tune: TuneSettings, seed: int) -> Workload:
    """Counts rows and tokens exactly."""
    trees = build_trees(
        examples, max_tokens=tune.max_tokens, share=tune.share_contexts, min_shared_tokens=tune.min_shared_tokens
    )
    return count_rows(adapter, pack_rows(trees, max_tokens=tune.max_tokens, seed=seed))


def guess_workloads(project: Project, adapters: Sequence[str]) -> list[Workload]:
    """Estimates pairs from the size of the documents, or the question file to learn from, and tokens from settings."""
    config = project.config
    if project.own_pairs:
        pairs = len(load_examples(project.own_pairs))
    else:
        characters = sum(len(document.text) for document in load_documents(project.documents).documents)
        chunks = math.ceil(characters / _CHARACTERS_PER_TOKEN / config.index.chunk_tokens)
        pairs = round(min(config.pairs.total, chunks * _PAIRS_PER_CHUNK))
    return [guess_workload(project, adapter, pairs) for adapter in adapters]


def guess_workload(project: Project, adapter: str, pairs: int) -> Workload:
    """Estimates rows and tokens for so many pairs."""
    config, tune = project.config, project.config.tune
    more = max(0, config.pairs.context_chunks - config.prompt.k)
    chunk_tokens = (config.prompt.k + more) * config.index.chunk_tokens
    branch = _QUESTION_TOKENS + _ANSWER_TOKENS
    limit = max(0, min(config.prompt.max_tokens, tune.max_tokens) - _INSTRUCTION_TOKENS - branch)
    context = 0 if adapter == "tuned" else min(chunk_tokens, limit)
    prefix = context + _INSTRUCTION_TOKENS
    room = max(1, (tune.max_tokens - prefix) // branch)
    shares = adapter != "tuned" and tune.share_contexts
    fill = min(1.0, _FILL_PER_CHUNK * more) if more else _CONTEXT_FILL
    branches = max(1, min(room, round(fill * config.pairs.questions_per_context))) if shares else 1
    trees = math.ceil(pairs / branches)
    tree_tokens = prefix + branches * branch
    per_row = max(1, tune.max_tokens // tree_tokens)
    return Workload(
        adapter,
        pairs,
        math.ceil(trees / per_row),
        trees * prefix + pairs * branch,
        pairs * (prefix + branch),
        pairs * _ANSWER_TOKENS,
        RowSize(
            per_row * tree_tokens,
            per_row * branches * (prefix + branch) if branches > 1 else 0,
            per_row * tree_tokens**2,
        ),
        exact=False,
    )


def measure_machine(tune: TuneSettings, shape: Shape) -> Machine:
    """Looks at the device, its free memory and what the libraries take, and times a matrix product for a second."""
    import torch

    from hybrid.tuning import trainer
    from hybrid.tuning.model import default_device, dtype_name

    device = default_device()
    dtype = trainer.training_dtype(tune, device)
    x = torch.ones(min(tune.max_tokens, 1024), shape.hidden, dtype=dtype, device=device)
    weight = torch.ones(shape.intermediate, shape.hidden, dtype=dtype, device=device)
    fastest, end = math.inf, time.perf_counter() + 1.0
    while (started := time.perf_counter()) < end or fastest == math.inf:
        (x @ weight.T)[0, 0].item()  # waits for the device
        fastest = min(fastest, time.perf_counter() - started)
    on_gpu = device.type == "cuda"
    return Machine(
        device="cuda" if on_gpu else "cpu",
        dtype=dtype_name(dtype),
        free_mb=torch.cuda.mem_get_info(device)[0] / 2**20 if on_gpu else free_memory_mb(),
        runtime_mb=0.0 if on_gpu else peak_memory_mb(),
        flops=2 * x.numel() * shape.intermediate / fastest,
    )
