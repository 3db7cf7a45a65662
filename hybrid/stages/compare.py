"""Every arm on the same questions, to the report."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hybrid import advice, rag_prompt
from hybrid.arms import Answerer, Arm, PromptChoice, controls, count_tests, select_arms
from hybrid.artefacts import fingerprint
from hybrid.config import CompareConfig
from hybrid.dependence import dependence_notes, grouped_by, passage_groups
from hybrid.eval.answers import score_answer
from hybrid.eval.comparison import Reply, compare
from hybrid.eval.report import write_report
from hybrid.external import Ask, FunctionAnswerer
from hybrid.judge import check_key
from hybrid.pairs.formats.load import load_examples
from hybrid.pairs.prompting.endpoint import read_key
from hybrid.replies import answer_once, keep_forced, kept_replies, replies_file, replies_folder
from hybrid.retrieval.index import Index
from hybrid.retrieval.retriever import Retriever
from hybrid.stages import Counts
from hybrid.stages.answering import answer, load_groups, search
from hybrid.stages.findings import report_facts, report_notes, report_parts
from hybrid.stages.measuring import Outcome, asks_judge, measure, perplexities
from hybrid.stages.parts import project_embedder, project_retriever, published_pairs
from hybrid.stages.probes import general_log_probs, weights_of
from hybrid.stages.serve import answerer_identity, load_answerer
from hybrid.tuning.memory import peak_memory_mb
from hybrid.types import Hit, Pair, Question

if TYPE_CHECKING:
    from hybrid.project import Project

# Runs with other seeds are compared on the same questions.
_SAMPLE_SEED = 0


def check_keys(config: CompareConfig, store: Path) -> None:
    """Refuses to begin the long work before a comparison at whose end an endpoint would get no key.

    An arm that has answered before may have nothing left to ask, so its key is not asked for.

    Raises:
        ConfigError: The environment variable with the key of the judge or of an arm is not set.
    """
    if asks_judge(config):
        check_key(config.judge)
    for arm in config.arms:
        if not isinstance(arm, str) and arm.base_url and not kept_replies(store, arm.name):
            read_key(arm.key_env, f"compare.arms: {arm.name}")


def compare_arms(project: Project, work: Path, functions: Mapping[str, Ask] | None = None) -> Counts:
    """Answers the questions with every arm and writes the report.

    Args:
        project: The project.
        work: The stage's work folder.
        functions: Python functions to compare as further arms, by name; they get what was retrieved.
    """
    config = project.config
    assert project.questions is not None  # Project.compare refuses without one
    if asks_judge(config.compare):
        check_key(config.compare.judge)
    questions = _sample(load_examples(project.questions, answered=True), config.compare.limit)
    index = Index.load(project.path("index"))
    arms = select_arms(config.compare.arms, functions or {})
    unbuildable = controls(arms)
    groups = passage_groups(questions, index.chunks, count_tests((arm.name for arm in arms), unbuildable))
    outcome = _answer_all(project, work, arms, functions or {}, questions, index)
    answered = outcome.answered
    order = [arm.name for arm in arms]
    findings = measure(project, replies_folder(project.store, work), arms, questions, index, outcome)
    comparison = compare(
        questions,
        [answered[name].run for name in order],
        metric=config.compare.metric,
        k=config.prompt.k,
        seed=config.seed,
        groups=groups,
        grouped_by=grouped_by(groups),
        further=findings.further,
        controls=unbuildable,
    )
    costs, named = {name: answered[name].cost for name in order}, {arm.name: arm for arm in arms}
    decision = advice.decide(comparison, config.compare.weights, costs, named, index.documents.keys())
    notes = report_notes(outcome.choices, comparison, index, config.serve.min_cosine, (functions or {}).keys())
    notes += [*dependence_notes(questions, groups), *findings.notes]
    write_report(
        comparison,
        work / "result",
        title=f"{project.folder.name}: which way answers best?",
        facts=report_facts(project, index, questions),
        verdict=decision.text,
        notes=notes,
        costs=[asdict(cost) for cost in costs.values()],
        decision=asdict(decision),
        passages={chunk.id: chunk.text for chunk in index.chunks},
        parts={**findings.parts, "perplexity": perplexities(comparison), **report_parts(project, outcome.choices)},
    )
    keep_forced(project.store, work)
    peaks = [answered[name].cost.peak_memory_mb or 0 for name in order]
    return {
        "questions": len(questions),
        "arms": order,
        "rag prompt": outcome.choices[0].name if outcome.choices else None,
        "failed answers": sum(bool(reply.error) for run in comparison.runs for reply in run.replies),
        "peak_memory_mb": round(max(peak_memory_mb(), *peaks)),
    }


def _answer_all(
    project: Project,
    work: Path,
    arms: Sequence[Arm],
    functions: Mapping[str, Ask],
    questions: Sequence[Question],
    index: Index,
) -> Outcome:
    """What every arm answers, and what else its model is asked while it is loaded."""
    prompt = project.config.prompt
    embedder = project_embedder(project)
    retriever = project_retriever(project, index, embedder)
    material = search(questions, index, retriever, prompt.k)
    outcome = Outcome({}, [], {}, embedder)
    folder = replies_folder(project.store, work)
    for group in load_groups(arms):
        # Loaded when the first question has to be asked.
        load = cache(partial(_load, project, group[0], functions.get(group[0].name)))
        asked = answerer_identity(project, group[0])
        for arm in group:
            file = partial(replies_file, folder, arm.name, asked)
            choice = PromptChoice("zero-shot", prompt.k, ())
            if arm.searched:
                if not outcome.choices:
                    outcome.choices.extend(_rag_prompts(project, file, load, retriever, index))
                choice = outcome.choices[0]
                rag_prompt.save(choice, work / "result" / rag_prompt.FILE)
            outcome.answered[arm.name] = answer(project, arm, load, choice, material, file(choice))
        if project.config.compare.forgetting and not group[0].outside:
            kept = folder / "general" / f"{fingerprint(answerer=asked)}.jsonl"
            outcome.general[weights_of(group[0])] = general_log_probs(load, kept)
        del load
        gc.collect()
    return outcome


def _load(project: Project, arm: Arm, function: Ask | None) -> Answerer:
    return FunctionAnswerer(function, project.config.prompt.refusal) if function else load_answerer(project, arm)


def _sample(questions: list[Question], limit: int) -> list[Question]:
    """At most `limit` of the questions in their order, or all if it is 0; the same whatever the project's seed."""
    if not 0 < limit < len(questions):
        return questions
    chosen = set(Random(_SAMPLE_SEED).sample(range(len(questions)), limit))
    return [question for number, question in enumerate(questions) if number in chosen]


def _rag_prompts(
    project: Project,
    file: Callable[[PromptChoice], Path | None],
    load: Callable[[], Answerer],
    retriever: Retriever,
    index: Index,
) -> list[PromptChoice]:
    """The rag prompts tried on the training side, best first; `file` keeps the replies to each."""
    config = project.config
    train, dev = (published_pairs(project, part) for part in ("train", "dev"))
    rng = Random(config.seed)
    shot_pairs = _example_pairs(train, config.compare.shots, rng)
    choices = rag_prompt.candidates(
        {
            k: [
                rag_prompt.worked_example(pair, list(map(index.chunk, _shown(pair, k))), config.prompt)
                for pair in shot_pairs
            ]
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
    questions = [
        Question(pair.id, pair.question, (pair.answer,), answerable=pair.answer != config.prompt.refusal)
        for pair in chosen
    ]

    def ask(questions: Sequence[Question], hits: Sequence[Sequence[Hit]], choice: PromptChoice) -> list[Reply]:
        label = f"rag prompt: {choice.name}"
        return answer_once(load, questions, hits, choice, label=label, file=file(choice)).replies

    return rag_prompt.choose(ask, questions, retriever, choices, partial(_scored, config.compare.metric))


def _scored(metric: str, reply: Reply, question: Question) -> float:
    """The score of a reply; a question that the metric does not fit, such as one without a label, counts 0.

    Where the passages do not answer, a refusal is right, as it is for the arms that learn it.
    """
    if not question.answerable:
        return float(reply.abstained)
    return getattr(score_answer(reply.text, question, reply.abstained or bool(reply.error)), metric) or 0.0


def _example_pairs(train: Sequence[Pair], shots: int, rng: Random) -> list[Pair]:
    """Pairs for worked examples, as many of them without an answer as there are among all, rounded."""
    answered, absent = ([pair for pair in train if (pair.kind == "absent") is is_absent] for is_absent in (False, True))
    refusals = min(len(absent), round(shots * len(absent) / len(train))) if train else 0
    examples = rng.sample(answered, min(shots - refusals, len(answered)))
    return [*examples, *rng.sample(absent, refusals)] if refusals else examples


def _shown(pair: Pair, k: int) -> list[str]:
    """The chunks of a worked example: its first oracle, and distractors in the order of its context up to `k`."""
    if pair.kind == "absent":
        return list(pair.context[:k])
    oracle = pair.oracles[0]
    others = [chunk for chunk in pair.context if chunk not in pair.oracles][: k - 1]
    return [chunk for chunk in dict.fromkeys([*pair.context, oracle]) if chunk == oracle or chunk in others]
