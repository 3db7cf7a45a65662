"""Does sharing contexts cost accuracy? Three adapters from the same examples, asked the same questions.

    python benchmarks/sharing.py squad11_dev13 --data DATA --work /tmp/sharing/squad --json > squad.json
    python benchmarks/sharing.py emanual_tv --data DATA --work /tmp/sharing/emanual --seeds 0 1 2 --json > emanual.json

- `shared`: context trees, as `hybrid tune` trains them; the examples of a step are correlated, as they ask about few
  contexts.
- `separate`: every example on its own, in random order, so that a step mixes contexts.
- `multi-turn`: the questions of a context as one conversation, loss on all answers; another objective, since an answer
  sees the questions and answers before it.

All three start from the same weights and use the same seed, learning rate, schedule, epochs and, as nearly as rows
allow, the same number of optimiser steps and so of examples per step. Then each adapter answers the same questions on
retrieved contexts with the prompt it was trained on. The split is by article or by group of sections. Intervals and
p-values are over questions, grouped by the documents they share, and over seeds; one seed says nothing of others.

A run that was interrupted goes on: a mode whose adapter or replies are in WORK is not repeated. The table goes to
stderr; with `--json` one object goes to stdout.
"""

import argparse
import gc
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import report
from transformers import PreTrainedTokenizerBase

import hybrid
from hybrid.arms import PromptChoice, Runner
from hybrid.artefacts import fingerprint, installed_versions
from hybrid.benchmarks import BENCHMARKS, Item, split, write_questions
from hybrid.eval.answers import score_answer
from hybrid.eval.clusters import clusters
from hybrid.eval.comparison import Reply
from hybrid.eval.resampling import Array
from hybrid.eval.seeds import seed_effect
from hybrid.eval.statistics import mean_interval
from hybrid.models import load_tokenizer
from hybrid.pairs.formats.export import read_pairs
from hybrid.prompt import encode, render_turn, to_text
from hybrid.questions import load_questions, question_from_record
from hybrid.replies import answer_once
from hybrid.retrieval.index import Index
from hybrid.stages.parts import project_retriever
from hybrid.stages.tune import training_examples
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.tree import Branch, ContextTree, Example, Row, build_trees, pack_rows
from hybrid.types import Hit, Question

Figures = dict[str, Any]
MODES = ("shared", "separate", "multi-turn")
TOTAL = {"squad11_dev13": 400, "emanual_tv": 276}
GROUPS = {"squad11_dev13": "article", "emanual_tv": "group"}
_MANUAL = BENCHMARKS["emanual"].settings["prompt"]
SETTINGS: dict[str, Figures] = {
    "squad11_dev13": {},
    "emanual_tv": {
        "prompt": {key: _MANUAL[key] for key in ("instructions", "closed_book")},
        "compare": {"max_new_tokens": 96},
    },
}
METRICS = ("em", "f1", "rouge_l", "contains")


# --- data -------------------------------------------------------------------------------------------------------------


def open_project(options: argparse.Namespace) -> hybrid.Project:
    """Makes the project of a data set, if it is not there, with its index and pairs."""
    folder = options.work.resolve()
    if not (folder / "hybrid.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        lines = (options.data / options.name / "qa.jsonl").read_text(encoding="utf-8").split("\n")
        records = [json.loads(line) for line in lines if line]
        items = [
            Item(question_from_record(record, "qa.jsonl", ""), record[GROUPS[options.name]], frozenset())
            for record in records
        ]
        parts = split(items, options.test_share, seed=0)
        for name, part in (("train", parts.train), ("test", parts.test)):
            write_questions(folder / f"{name}.jsonl", [item.question for item in part])
        settings = SETTINGS[options.name]
        corpus = options.data / options.name / "corpus.jsonl"
        hybrid.Project.create(folder, corpus, folder / "test.jsonl", **settings, pairs={"file": "train.jsonl"})
    # One arm, so that no closed-book adapter and no rag prompt is among what the project depends on.
    overrides = [f"pairs.total={options.total}", f"compare.limit={options.limit}", "compare.arms=[hybrid]"]
    project = hybrid.Project.open(folder, overrides)
    project.pairs()
    return project


def comparison(project: hybrid.Project) -> tuple[list[Question], list[list[Hit]]]:
    """The questions to answer, and what is retrieved for each."""
    assert project.questions is not None
    questions = load_questions(project.questions)
    drawn = Random(0).sample(range(len(questions)), min(project.config.compare.limit, len(questions)))
    chosen = [questions[number] for number in sorted(drawn)]
    asked = [question.question for question in chosen]
    return chosen, project_retriever(project).search(asked, project.config.prompt.k)


def conversations(
    examples: Sequence[Example], asked: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int, seed: int
) -> list[ContextTree]:
    """Every context's questions, in random order, as the turns of one conversation, or of several if it is too long.

    The branches of such a tree follow one another: `collate_turns` lets each see all before it.
    """
    ask = dict(zip((example.id for example in examples), asked, strict=True))
    order = Random(seed).sample(list(examples), len(examples))
    talks: list[ContextTree] = []
    for group, members in groupby(sorted(order, key=lambda example: example.group), key=lambda e: e.group):
        turns: list[Branch] = []
        for example in members:
            branch = Branch(example.id, next_turn(ask[example.id], tokenizer), example.answer_ids)
            if turns and sum(turn.tokens for turn in turns) + branch.tokens > max_tokens:
                talks.append(ContextTree(group, (), tuple(turns)))
                turns = []
            turns.append(branch if turns else branch._replace(prompt_ids=example.prompt_ids))
        talks.append(ContextTree(group, (), tuple(turns)))
    return talks


def next_turn(question: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Token ids between the end of an answer and the start of the next one."""
    opening = [{"role": "system", "content": ""}, {"role": "user", "content": ""}]
    answered = [*opening, {"role": "assistant", "content": ""}, {"role": "user", "content": render_turn(question, [])}]
    before, text = to_text(opening, tokenizer), to_text(answered, tokenizer)
    if not text.startswith(before + tokenizer.eos_token):
        raise SystemExit(f"the chat template of this model does not end an answer with {tokenizer.eos_token!r} alone")
    return tuple(encode(text[len(before) + len(tokenizer.eos_token) :], tokenizer))


def collate_turns(rows: list[Row]) -> Figures:
    """The batch of a row of conversations: ordinary causal sequences that learn all of their answers."""
    from hybrid.tuning.batch import collate

    (row,) = rows
    turns = collate(row)
    joined = [sum((turn.prompt_ids + turn.answer_ids for turn in talk.branches), ()) for talk in row]
    causal = collate(tuple(ContextTree("", (), (Branch("", ids[:-1], ids[-1:]),)) for ids in joined))
    learned = {name: getattr(turns, name) for name in ("rows", "predict_index", "targets", "weights")}
    return causal._replace(**learned)._asdict()


# --- training ---------------------------------------------------------------------------------------------------------


def matching(settings: TuneSettings, trees: Sequence[ContextTree], steps: float, seed: int) -> TuneSettings:
    """The settings with the trees per step that come nearest to this many optimiser steps an epoch."""
    rows = len(pack_rows(trees, max_tokens=settings.max_tokens, seed=seed))
    per_step = min(range(1, rows + 1), key=lambda count: abs(math.ceil(rows / count) - steps))
    return replace(settings, trees_per_step=per_step * len(trees) // rows, min_steps=1)


def train_conversations(
    talks: Sequence[ContextTree], model_path: Path, folder: Path, settings: TuneSettings, seed: int
) -> Figures:
    """Trains an adapter on conversations as `tune` trains one on context trees."""
    from transformers import set_seed

    from hybrid.tuning.fast_paths import fast_paths
    from hybrid.tuning.model import TunedRecord, default_device, dtype_name, write_record
    from hybrid.tuning.trainer import TreeTrainer, prepare_model, training_arguments, training_dtype

    rows = pack_rows(talks, max_tokens=settings.max_tokens, seed=seed)
    device = default_device()
    dtype = training_dtype(settings, device)
    set_seed(seed)
    model = prepare_model(model_path, settings, dtype, device)
    arguments = training_arguments(settings, seed, folder / "checkpoints", len(rows), len(talks))
    trainer = TreeTrainer(model, arguments, rows)
    trainer.data_collator = collate_turns
    started = time.perf_counter()
    with fast_paths(model, settings):
        trainer.train()
    seconds = time.perf_counter() - started
    trainer.progress.close()
    model.save_pretrained(str(folder / "adapter"))
    write_record(folder / "adapter", TunedRecord(settings.method, "resident", dtype_name(dtype), {}))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "tokens": trainer.tokens,
        "answer_tokens": trainer.answer_tokens,
    }


def train(project: hybrid.Project, mode: str, seed: int, folder: Path, steps: float) -> Figures:
    """Trains the adapter of a mode; `steps` an epoch are aimed at, where sharing sets them itself."""
    from hybrid.tuning.trainer import tune

    settings = project.config.tune
    pairs = read_pairs(project.path("pairs") / "train.jsonl")
    chunks = {chunk.id: chunk for chunk in Index.load(project.path("index")).chunks}
    tokenizer = load_tokenizer(project.model)
    examples = training_examples(pairs, chunks, project, tokenizer, closed_book=False).examples
    started = time.process_time()
    if mode == "multi-turn":
        asked = [pair.question for pair in pairs]
        talks = conversations(examples, asked, tokenizer, max_tokens=settings.max_tokens, seed=seed)
        settings = matching(settings, talks, steps, seed)
        figures = train_conversations(talks, project.model, folder, settings, seed)
    else:
        if mode == "separate":
            alone = build_trees(examples, max_tokens=settings.max_tokens, share=False)
            settings = matching(replace(settings, share_contexts=False), alone, steps, seed)
        done = tune(
            examples,
            model_path=project.model,
            output=folder / "adapter",
            settings=settings,
            seed=seed,
            checkpoints=folder / "checkpoints",
        )
        figures = asdict(done)
    return {
        **figures,
        # Processor time leaves out what other processes took, and any time for which this one was stopped.
        "cpu_seconds": time.process_time() - started,
        "examples": len(examples),
        "contexts": len({example.group for example in examples}),
        "settings": asdict(settings),
    }


# --- one adapter ------------------------------------------------------------------------------------------------------


def run_mode(
    project: hybrid.Project,
    mode: str,
    seed: int,
    steps: float,
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
) -> tuple[Figures, list[Reply]]:
    """Trains an adapter and lets it answer, going on from what its folder holds."""
    folder = project.folder / f"{mode}-{seed}"
    _claim(folder, fingerprint(**project.stage_inputs("tune/hybrid"), compare=project.config.compare))
    record = folder / "training.json"
    if not record.exists():
        figures = train(project, mode, seed, folder, steps)
        record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    figures = json.loads(record.read_text(encoding="utf-8"))
    sys.stderr.write(f"{mode}, seed {seed}: {figures['steps']} steps, {figures['seconds']:.0f} s\n")
    answered = answer_once(
        lambda: load_runner(project, folder / "adapter"),
        questions,
        hits,
        PromptChoice("zero-shot", project.config.prompt.k, ()),
        label=f"{mode}, seed {seed}",
        file=folder / "replies.jsonl",
    )
    gc.collect()
    return figures, answered.replies


def _claim(folder: Path, mark: str) -> None:
    """Refuses a folder that holds the work of other settings."""
    folder.mkdir(exist_ok=True)
    owner = folder / "begun-for"
    if owner.exists() and owner.read_text(encoding="utf-8") != mark:
        raise SystemExit(f"{folder} was begun with other data or settings: choose another --work, or delete it")
    owner.write_text(mark, encoding="utf-8")


def load_runner(project: hybrid.Project, adapter: Path) -> Runner:
    """The model with an adapter added to its weights."""
    from hybrid.tuning.model import load_tuned

    model: Any = load_tuned(project.model, adapter, weights="resident")
    compare, tokenizer = project.config.compare, load_tokenizer(project.model)
    return Runner(
        model.merge_and_unload(), tokenizer, project.config.prompt, compare.max_new_tokens, compare.batch_tokens
    )


# --- the table --------------------------------------------------------------------------------------------------------


def score(questions: Sequence[Question], by_seed: Sequence[Sequence[Reply]]) -> dict[str, Array]:
    """By metric, scores [seeds, questions] of answerable questions."""
    scores = [
        [score_answer(r.text, q, r.abstained) for q, r in zip(questions, replies, strict=True)] for replies in by_seed
    ]
    return {name: np.array([[getattr(s, name) for s in own] for own in scores], dtype=np.float64) for name in METRICS}


def make_rows(questions: Sequence[Question], runs: dict[str, list[tuple[Figures, list[Reply]]]]) -> list[Figures]:
    """One row a mode; those that are not shared hold the paired differences shared - mode."""
    asked = [question for question in questions if question.answerable]
    ids, groups = {question.id for question in asked}, clusters(asked)
    replies = {mode: [[r for r in own if r.question_id in ids] for _, own in found] for mode, found in runs.items()}
    scores = {mode: score(asked, by_seed) for mode, by_seed in replies.items()}
    rows: list[Figures] = []
    for mode, found in runs.items():
        trained = [figures for figures, _ in found]
        row: Figures = {"mode": mode, "n": len(asked), "groups": len(set(groups)), "seeds": len(found)}
        row |= {name: round(float(values.mean()), 4) for name, values in scores[mode].items()}
        row["f1_by_seed"] = [round(float(value), 4) for value in scores[mode]["f1"].mean(axis=1)]
        row["f1_interval"] = [
            round(bound, 4) for bound in mean_interval(scores[mode]["f1"].mean(axis=0), groups=groups)
        ]
        row["abstained"] = round(float(np.mean([reply.abstained for own in replies[mode] for reply in own])), 4)
        for name in ("steps", "tokens", "answer_tokens", "seconds", "cpu_seconds", "loss_first", "loss_last"):
            row[name] = round(float(np.mean([figures[name] for figures in trained])), 3)
        row |= {name: trained[0][name] for name in ("examples", "contexts")}
        row["trees_per_step"] = trained[0]["settings"]["trees_per_step"]
        row["same_objective"] = mode != "multi-turn"
        if mode != "shared":
            differences = {name: scores["shared"][name] - values for name, values in scores[mode].items()}
            row["shared_minus_this"] = {
                name: seed_effect(values, groups=groups)._asdict() for name, values in differences.items()
            }
        rows.append(row)
    return rows


def table(rows: Sequence[Figures]) -> str:
    """The rows as text."""
    lines = ["mode           F1     EM  ROUGE-L  contains  abstained  steps   tokens  seconds  CPU s  last loss"]
    lines += [
        f"{row['mode']:11s} {row['f1']:.3f}  {row['em']:.3f}    {row['rouge_l']:.3f}     {row['contains']:.3f}"
        f"      {row['abstained']:5.1%} {row['steps']:6.0f} {row['tokens']:8.0f} {row['seconds']:8.0f}"
        f" {row['cpu_seconds']:6.0f} {row['loss_last']:10.3f}"
        for row in rows
    ]
    for row in rows:
        lines += [
            f"shared - {row['mode']}, {name}: {found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}],"
            f" p = {found['p']:.3f}"
            for name, found in row.get("shared_minus_this", {}).items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Trains, asks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(TOTAL))
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the project and the adapters of one set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the training")
    parser.add_argument("--total", type=int, help=f"most training pairs; by default {TOTAL}")
    parser.add_argument("--limit", type=int, default=150, help="most questions compared")
    parser.add_argument("--test-share", type=float, default=0.3, help="share of the questions kept for the comparison")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on stdout")
    options = parser.parse_args()
    options.total = options.total or TOTAL[options.name]
    project = open_project(options)
    questions, hits = comparison(project)
    runs: dict[str, list[tuple[Figures, list[Reply]]]] = {mode: [] for mode in MODES}
    for seed in options.seeds:
        steps = 0.0
        for mode in MODES:
            run = run_mode(project, mode, seed, steps, questions, hits)
            runs[mode].append(run)
            steps = steps or run[0]["steps"] / project.config.tune.epochs
    rows = make_rows(questions, runs)
    seeds = " ".join(map(str, options.seeds))
    command = (
        f"python benchmarks/sharing.py {options.name} --data DATA --work WORK --seeds {seeds} "
        f"--total {options.total} --limit {options.limit} --test-share {options.test_share} --json"
    )
    result = {
        "set": options.name,
        **report.header(command, installed_versions()),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "model": f"{project.config.model}, {project.config.tune.method} r={project.config.tune.rank}",
        "rows": rows,
    }
    report.show(table(rows), result, as_json=options.json)


if __name__ == "__main__":
    main()
