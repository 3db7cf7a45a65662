"""How arms stand up to disturbance: the suite of `hybrid.perturb` on a sample of the comparison's questions.

result = run_robustness(project)
print(markdown(result))
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hybrid import rag_prompt
from hybrid.arms import Answerer, Arm, PromptChoice, controls, count_tests, select_arms
from hybrid.artefacts import locked, write_whole
from hybrid.controls import DEPTH, by_document, distractor_hits, oracle_hits
from hybrid.dependence import passage_groups
from hybrid.errors import ConfigError, QuestionError
from hybrid.eval.answers import contains, score_answer
from hybrid.eval.clusters import clusters
from hybrid.eval.comparison import Reply
from hybrid.eval.measures import BINARY
from hybrid.eval.report import write_files
from hybrid.eval.shares import share_interval
from hybrid.eval.statistics import Interval, mean_interval
from hybrid.pairs.formats.load import load_examples
from hybrid.perturb import Case, Condition, Probe, conditions, other_answer
from hybrid.replies import answer_once, replies_file
from hybrid.retrieval.retriever import Retriever
from hybrid.stages.answering import load_groups
from hybrid.stages.parts import project_retriever
from hybrid.stages.serve import answerer_identity, load_answerer
from hybrid.types import Chunk, Hit, Question

if TYPE_CHECKING:
    from hybrid.project import Project


_ALL = 1000  # chunks, more than a probe has


@dataclass(frozen=True, slots=True)
class ConditionScore:
    """How an arm fared under a condition.

    Attributes:
        arm: The arm.
        condition: The condition.
        n: Questions that allowed it.
        wanted: `answer`: the score is the metric's mean; `refuse`: the share of refusals.
        score: The score.
        low: Lower end of its 95 % interval; questions about common documents are resampled together.
        high: Upper end.
        refused: Share of refusals.
        refused_interval: Its 95 % interval, Wilson's for as many questions as the clustered ones are worth.
        misled: Share of answers that contain what was planted, if anything was.
        misled_interval: Its interval, likewise.
        errors: Answers that failed; they count 0.
    """

    arm: str
    condition: str
    n: int
    wanted: str
    score: float
    low: float
    high: float
    refused: float
    refused_interval: Interval
    misled: float | None
    misled_interval: Interval | None
    errors: int


@dataclass(frozen=True, slots=True)
class Robustness:
    """The suite's result: one score for every arm and condition that a question allowed."""

    metric: str
    questions: int
    seed: int
    scores: tuple[ConditionScore, ...]


def run_robustness(project: Project, names: Sequence[str] = (), sample: int = 40, *, force: bool = False) -> Robustness:
    """Runs the suite and writes `runs/robustness/robustness.json` and `.md` into the project's store.

    The report of the last comparison, if there is one, then shows it, too. What earlier runs have answered is taken
    over. Rag prompts as the last comparison found best.

    Args:
        project: A project with an index, and the adapters of its arms.
        names: Arms to disturb, of those in `compare.arms`; by default all that show retrieved context.
        sample: Questions drawn from those with an answer that the index supports.
        force: Asks everything anew.

    Raises:
        ConfigError: An arm is none of `compare.arms`, or shows no retrieved context.
        QuestionError: The project has no questions, or the index supports no answer.
        ArtefactError: The index or an adapter is missing.
    """
    if sample < 1:
        raise ConfigError(f"--sample is {sample}; it must be 1 or more questions")
    config = project.config
    if project.questions is None:
        raise QuestionError(f"no questions to disturb: set `questions` in {project.folder / 'hybrid.yaml'}")
    compared = select_arms(config.compare.arms)
    arms = _arms(compared, names)
    questions = load_examples(project.questions, answered=True)
    metric = config.compare.metric
    kept = project.store / "cache" / "robustness"
    with locked(project.store):
        if force:
            shutil.rmtree(kept, ignore_errors=True)
        retriever = project_retriever(project)
        cases = sample_cases(questions, retriever, sample, config.seed)
        # As the comparison does, whatever the sample and the arms.
        tests = count_tests((arm.name for arm in compared), controls(compared))
        groups = passage_groups(questions, retriever.index.chunks, tests)
        scores = []
        for group in load_groups(arms):
            load = cache(partial(load_answerer, project, group[0]))
            asked = answerer_identity(project, group[0])
            for arm in group:
                file = partial(replies_file, kept, arm.name, asked)
                choice = _choice(project, arm)
                for condition in conditions(config.prompt.k):
                    probes = {case.question: probe for case in cases if (probe := condition.probe(case))}
                    if probes:
                        replies = ask(load, choice, probes, retriever, file, f"{arm.name}, {condition.name}")
                        scores.append(score(arm.name, condition, probes, replies, metric, config.seed, groups))
            del load
            gc.collect()
        result = Robustness(metric, len(cases), config.seed, tuple(scores))
        write(result, project.store / "runs" / "robustness")
        if (project.path("compare") / "report.json").is_file():
            report = project.report()
            passages = {chunk.id: chunk.text for chunk in retriever.index.chunks}
            write_files({**report.data, "robustness": asdict(result)}, report.folder, passages)
    return result


def _arms(known: Sequence[Arm], names: Sequence[str]) -> list[Arm]:
    able = [arm for arm in known if arm.context == "retrieved"]
    chosen = [arm for arm in able if not names or arm.name in names]
    missing = set(names) - {arm.name for arm in able}
    if missing or not chosen:
        raise ConfigError(
            f"robustness needs arms that show retrieved context, found {', '.join(sorted(missing)) or 'none'}; "
            f"of compare.arms these are {', '.join(arm.name for arm in able) or 'none'}"
        )
    return chosen


def _choice(project: Project, arm: Arm) -> PromptChoice:
    saved = rag_prompt.load(project.path("compare") / rag_prompt.FILE) if arm.searched else None
    return saved or PromptChoice("zero-shot", project.config.prompt.k, ())


def sample_cases(questions: Sequence[Question], retriever: Retriever, size: int, seed: int) -> list[Case]:
    """Draws questions whose answer the index supports, with what was retrieved for them.

    Raises:
        QuestionError: There is none.
    """
    answerable = [question for question in questions if question.answerable]
    found = retriever.search([question.question for question in answerable], DEPTH)
    chunks_of = by_document(retriever.index.chunks)
    pool = sorted({answer for question in answerable for answer in question.answers})
    cases = []
    for question, hits in zip(answerable, found, strict=True):
        oracles = oracle_hits(question, hits, chunks_of)
        if oracles:
            distractors = distractor_hits(question, hits, oracles)
            other = other_answer(question.answers, pool, seed)
            cases.append(Case(question, _chunks(oracles), _chunks(distractors), _chunks(hits), other))
    if not cases:
        raise QuestionError("no question has an answer that a chunk of the index supports")
    chosen = set(Random(seed).sample(range(len(cases)), min(size, len(cases))))
    return [case for number, case in enumerate(cases) if number in chosen]


def _chunks(hits: Sequence[Hit]) -> tuple[Chunk, ...]:
    return tuple(hit.chunk for hit in hits)


def ask(
    load: Callable[[], Answerer],
    choice: PromptChoice,
    probes: Mapping[Question, Probe],
    retriever: Retriever,
    file: Callable[[PromptChoice], Path | None],
    label: str,
) -> list[Reply]:
    """Puts the probes of a condition to an arm; what it finds itself it shows as it always does."""
    asked = [replace(question, question=probe.question) for question, probe in probes.items()]
    searched = iter(retriever.search([p.question for p in probes.values() if p.chunks is None], choice.k))
    hits = [
        next(searched)
        if probe.chunks is None
        else [Hit(chunk, 1.0, rank) for rank, chunk in enumerate(probe.chunks, 1)]
        for probe in probes.values()
    ]
    if any(probe.chunks is not None for probe in probes.values()):
        choice = choice._replace(k=_ALL, best_last=False)
    return answer_once(load, asked, hits, choice, label=label, file=file(choice)).replies


def score(
    arm: str,
    condition: Condition,
    probes: Mapping[Question, Probe],
    replies: Sequence[Reply],
    metric: str,
    seed: int,
    labels: Mapping[str, str] | None = None,
) -> ConditionScore:
    """Scores the replies of an arm under a condition; one that failed counts 0 and is no refusal.

    Questions are taken together by their label, or by their gold documents where there are no labels.
    """
    groups = clusters(list(probes), labels)
    refused = [float(reply.abstained and not reply.error) for reply in replies]
    values = refused
    if condition.wanted == "answer":
        scores = (score_answer(r.text, q, r.abstained or bool(r.error)) for q, r in zip(probes, replies, strict=True))
        values = [getattr(found, metric) or 0.0 for found in scores]
    planted = [
        (contains(reply.text, [probe.planted]), group)
        for probe, reply, group in zip(probes.values(), replies, groups, strict=True)
        if probe.planted
    ]
    misled, of_misled = zip(*planted, strict=True) if planted else ((), ())
    is_share = condition.wanted == "refuse" or metric in BINARY
    return ConditionScore(
        arm,
        condition.name,
        len(replies),
        condition.wanted,
        sum(values) / len(values),
        *(share_interval(values, groups) if is_share else mean_interval(values, groups=groups, seed=seed)),
        refused=sum(refused) / len(refused),
        refused_interval=share_interval(refused, groups),
        misled=sum(misled) / len(misled) if planted else None,
        misled_interval=share_interval(misled, of_misled) if planted else None,
        errors=sum(bool(reply.error) for reply in replies),
    )


def markdown(result: Robustness) -> str:
    """A table of the result."""
    lines = [
        f"Robustness on {result.questions} questions, {result.metric} and shares with 95% intervals; "
        "where the answer is missing, the share of refusals.",
        "",
        "| arm | condition | n | score | refused | misled |",
        "|---|---|---|---|---|---|",
    ]
    for row in result.scores:
        name = f"{row.condition} (refusals)" if row.wanted == "refuse" else row.condition
        interval = f"{row.score:.3f} ({row.low:.3f} to {row.high:.3f})"
        refused, misled = _share(row.refused, row.refused_interval), _share(row.misled, row.misled_interval)
        lines.append(f"| {row.arm} | {name} | {row.n} | {interval} | {refused} | {misled} |")
    return "\n".join(lines) + "\n"


def _share(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "–"
    return f"{value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def write(result: Robustness, folder: Path) -> None:
    """Writes the result as JSON and as a table."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "robustness.json", json.dumps(asdict(result), indent=2) + "\n")
    write_whole(folder / "robustness.md", markdown(result))
