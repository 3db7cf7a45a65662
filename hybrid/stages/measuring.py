"""What is measured of the answers of all arms beside their scores: grounds, citations, likeness, and by a judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.arms import Arm, PromptChoice
from hybrid.artefacts import fingerprint
from hybrid.config import CompareConfig
from hybrid.eval.comparison import Comparison, Reply
from hybrid.eval.entailment import Entailment
from hybrid.eval.further import Values, further_measure
from hybrid.eval.grounding import Grounding
from hybrid.eval.judge import JudgedGrounding
from hybrid.eval.measures import Measure
from hybrid.eval.text_metrics import corpus_bleu, corpus_chrf, embedding_similarity
from hybrid.grounds import AUROC, citation_values, groundedness, make_method
from hybrid.judge import GeneratorJudge, check_judge, make_judge
from hybrid.judging import judge_arms
from hybrid.models import resolve_model
from hybrid.retrieval.embed import CachedEmbedder, fingerprint_folder
from hybrid.retrieval.index import Index
from hybrid.stages.probes import LogProbs, Weights, forgotten
from hybrid.types import Question

if TYPE_CHECKING:
    from hybrid.project import Project
    from hybrid.stages.answering import Answered

BASELINE = "rag"


class Outcome(NamedTuple):
    """What the arms did.

    Attributes:
        answered: What every arm answers, by name.
        choices: The rag prompts that were tried, best first.
        general: How likely the weights of every local arm find general text, if they were asked.
        embedder: The project's embedder, as it was loaded for the search.
    """

    answered: dict[str, Answered]
    choices: list[PromptChoice]
    general: dict[Weights, LogProbs]
    embedder: CachedEmbedder


class Findings(NamedTuple):
    """What was measured.

    Attributes:
        further: Measures with a value per reply, each of every arm.
        parts: Parts of report.json, as plain values.
        notes: What a reader must know.
    """

    further: list[Mapping[str, Measure]]
    parts: dict[str, Any]
    notes: list[str]


def measure(
    project: Project, folder: Path, arms: Sequence[Arm], questions: Sequence[Question], index: Index, outcome: Outcome
) -> Findings:
    """Measures what the settings ask for; the judge's replies are kept in `folder`."""
    settings = project.config.compare
    replies = {arm.name: outcome.answered[arm.name].run.replies for arm in arms}
    findings = Findings(
        [_similarity(questions, replies, outcome.embedder)], {"corpus": corpus_scores(questions, replies)}, []
    )
    passages = {chunk.id: chunk.text for chunk in index.chunks}
    for name, values in citation_values(questions, replies, index.documents, passages).items():
        findings.further.append(further_measure(name, values))
    judge = None
    if asks_judge(settings):
        judge = make_judge(settings.judge, project.config.model, project.folder, _judge_file(project, folder))
    if settings.grounding != "off":
        _ground(project, questions, replies, passages, outcome.embedder, judge, findings)
    if judge and settings.judge.mode != "off":
        _judge(project, questions, replies, judge, findings)
    findings.parts["judge_cost"] = _judge_cost(project, judge) if judge else None
    if settings.perplexity:
        findings.further.append(
            _gold_likelihood({arm.name: outcome.answered[arm.name].gold for arm in arms}, questions)
        )
    if settings.forgetting:
        findings.parts["forgetting"] = forgotten(project, arms, outcome.general, project.config.seed)
    return findings


def perplexities(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Perplexity of the gold answers of every arm that was asked, with its interval."""
    found = {}
    for summary in comparison.summaries:
        if estimate := summary.scores.get("gold_nll"):
            value, low, high, n = estimate
            found[summary.name] = {"value": math.exp(value), "low": math.exp(low), "high": math.exp(high), "n": n}
    return found


def asks_judge(settings: CompareConfig) -> bool:
    """Whether a judge is asked for anything."""
    return settings.judge.mode != "off" or settings.grounding == "judge"


def reading_models(project: Project) -> dict[str, str]:
    """The local models that judge or read for the comparison, as hashes by their setting.

    Raises:
        ConfigError: The judge is an endpoint whose settings are wrong.
        ModelError: One is not found.
    """
    settings = project.config.compare
    names = {}
    if asks_judge(settings):
        check_judge(settings.judge)
        if not settings.judge.base_url:
            names["judge"] = settings.judge.model or project.config.model
    if settings.grounding == "entailment" and settings.entailment_model:
        names["entailment_model"] = settings.entailment_model
    return {name: fingerprint_folder(resolve_model(model, project.folder)) for name, model in names.items()}


def _similarity(
    questions: Sequence[Question], replies: Mapping[str, Sequence[Reply]], embedder: CachedEmbedder
) -> dict[str, Measure]:
    """Cosine of answer and nearest gold answer, all arms in one batch; 0 for a refusal or a failure."""
    places = [place for place, question in enumerate(questions) if question.answerable]
    said = [_said(own[place]) for own in replies.values() for place in places]
    golds = [questions[place].answers for _ in replies for place in places]
    # Not by way of the cache, which keeps the passages of the index.
    scores = iter(embedding_similarity(said, golds, embedder.inner.embed_passages))
    asked = set(places)
    values = {arm: [next(scores) if place in asked else None for place in range(len(questions))] for arm in replies}
    return further_measure("similarity", values)


def corpus_scores(questions: Sequence[Question], replies: Mapping[str, Sequence[Reply]]) -> dict[str, dict[str, float]]:
    """BLEU and chrF of all answers of an arm together."""
    places = [place for place, question in enumerate(questions) if question.answerable]
    golds = [questions[place].answers for place in places]
    return {
        arm: {"bleu": corpus_bleu(said, golds), "chrf": corpus_chrf(said, golds)}
        for arm, own in replies.items()
        if (said := [_said(own[place]) for place in places])
    }


def _said(reply: Reply) -> str:
    return "" if reply.error or reply.abstained else reply.text


def _ground(
    project: Project,
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    passages: Mapping[str, str],
    embedder: CachedEmbedder,
    judge: GeneratorJudge | None,
    findings: Findings,
) -> None:
    """Adds the groundedness of every answer, and how much the method is worth."""
    settings = project.config.compare
    reader: Entailment | JudgedGrounding | None = JudgedGrounding(judge) if judge else None
    if settings.grounding == "entailment" and settings.entailment_model:
        from hybrid.tuning.model import default_device

        folder = resolve_model(settings.entailment_model, project.folder)
        reader = Entailment(folder, device=str(default_device()))
    method: Grounding = make_method(settings.grounding, passages, embedder.inner.embed_passages, reader)
    values = groundedness(settings.grounding, method, questions, replies, passages)
    findings.further.append(further_measure("grounded", values))
    known = dict(AUROC.get(settings.grounding, {}))
    cut = reader.cut if isinstance(reader, Entailment) else 0
    failures = reader.failures if isinstance(reader, JudgedGrounding) and settings.grounding == "judge" else 0
    findings.parts["grounding"] = {"method": settings.grounding, "auroc": known, "cut": cut, "failures": failures}
    findings.notes.append(_worth(settings.grounding, known))
    if cut:
        findings.notes.append(f"Groundedness: {cut} sources were too long for the model and were cut at their end.")
    if failures:
        findings.notes.append(f"Groundedness: {failures} judgements failed and count as not supported.")


def _worth(name: str, known: Mapping[str, float]) -> str:
    if not known:
        return (
            f"Groundedness is measured by {name}. How well that tells supported claims from others depends on the "
            "model and was not measured here: benchmarks/groundedness.py does."
        )
    told = ", ".join(f"{value:.2f} on {data}" for data, value in known.items())
    return (
        f"Groundedness is measured by {name}, which tells supported claims from others with an AUROC of {told} "
        "(0.5 is chance, 1 is perfect): trust differences between arms more than a single answer's value."
    )


def _judge(
    project: Project,
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    judge: GeneratorJudge,
    findings: Findings,
) -> None:
    """Adds what the judge says of a sample of the answers."""
    config = project.config
    settings = config.compare.judge
    found = judge_arms(
        judge, settings, questions, replies, baseline=BASELINE, metric=config.compare.metric, seed=config.seed
    )
    name = "judge_grade" if settings.mode == "rubric" else "judge_preference"
    findings.further.append(further_measure(name, found.values))
    figures = {"mode": settings.mode, "metric": config.compare.metric, **found.figures}
    findings.parts["judge"] = figures
    findings.notes.append(_seen(figures))


def _seen(figures: Mapping[str, Any]) -> str:
    """What the judge was asked, what needed no judge, and how far its word goes."""
    rubric, calibration = figures["mode"] == "rubric", figures["calibration"]
    what = "answers" if rubric else "pairs of answers"
    spearman = calibration["spearman"]
    agrees = "not known: too few, or all alike" if spearman is None else f"{spearman:.2f}"
    alike, broken = figures["identical"], figures["failed_replies"]
    unasked = (
        f"{alike} that equal one of these get its grade, {broken} failed replies the lowest"
        if rubric
        else f"{alike} of identical answers are ties, {broken} were decided by a failed reply"
    )
    return (
        f"The judge was asked about {figures['asked']} {what} to {figures['questions']} questions; {unasked}. "
        f"{figures['failures']} judgements failed and {'count as the lowest grade' if rubric else 'favour nobody'}. "
        f"On the {calibration['n']} {what} with a verdict that can be read, its rank correlation with "
        f"{figures['metric']} is {agrees}."
    )


def _judge_file(project: Project, folder: Path) -> Path:
    """The file of the judge's replies; another model or way of asking has another file."""
    settings = project.config.compare.judge
    model = reading_models(project).get("judge", settings.model)
    mark = fingerprint(model=model, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"judge-{mark}.jsonl"


def _judge_cost(project: Project, judge: GeneratorJudge) -> dict[str, Any]:
    settings = project.config.compare.judge
    price = (judge.tokens_in * settings.price_in + judge.tokens_out * settings.price_out) / 1e6
    model = settings.model or project.config.model
    return {
        "model": Path(model).name if settings.base_url is None else model,
        "calls": judge.calls,
        "tokens_in": judge.tokens_in,
        "tokens_out": judge.tokens_out,
        "unanswered": judge.unanswered,
        "price": price or None,
    }


def _gold_likelihood(gold: Mapping[str, LogProbs | None], questions: Sequence[Question]) -> dict[str, Measure]:
    """Nats per token of the gold answers, every token counted once; its exponential is their perplexity."""
    nobody: LogProbs = [[] for _ in questions]
    found = {arm: own or nobody for arm, own in gold.items()}
    values: dict[str, Values] = {
        arm: [-math.fsum(some) / len(some) if some else None for some in own] for arm, own in found.items()
    }
    return further_measure("gold_nll", values, {arm: [float(len(some)) for some in own] for arm, own in found.items()})
