"""Arms that answer: what is loaded for them, what they are shown, their replies and what these cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hybrid.arms import Answerer, Arm, PromptChoice
from hybrid.artefacts import read_manifest
from hybrid.controls import DEPTH, by_document, contexts
from hybrid.costs import ArmCost, arm_cost
from hybrid.eval.comparison import ArmRun
from hybrid.nearness import nearest_cosine, refusals
from hybrid.replies import Answers, answer_once
from hybrid.retrieval.index import Index
from hybrid.retrieval.retriever import Retriever
from hybrid.stages.probes import LogProbs, Weights, gold_log_probs, weights_of
from hybrid.stages.tune import training_seconds
from hybrid.types import Chunk, Hit, Question

if TYPE_CHECKING:
    from hybrid.project import Project


class Material(NamedTuple):
    """What all arms share.

    Attributes:
        questions: The questions.
        found: What was retrieved for each, best first, as deep as the control arms look.
        seconds: Time of the search, per question.
        chunks_of: The chunks of every document.
    """

    questions: Sequence[Question]
    found: Sequence[Sequence[Hit]]
    seconds: float
    chunks_of: Mapping[str, Sequence[Chunk]]


class Answered(NamedTuple):
    """The replies of an arm, what they cost, and how likely its model finds the gold answers, if it was asked."""

    run: ArmRun
    cost: ArmCost
    gold: LogProbs | None = None


def load_groups(arms: Sequence[Arm]) -> list[list[Arm]]:
    """The arms by what must be loaded for them, so that nothing is loaded twice.

    Arms that load nothing come first: a key that is missing shows before the machine has worked for hours.
    """
    groups: dict[tuple[str, Weights], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.name if arm.outside else "", weights_of(arm)), []).append(arm)
    return sorted(groups.values(), key=lambda group: 0 if group[0].outside else 2 if group[0].other else 1)


def search(questions: Sequence[Question], index: Index, retriever: Retriever, k: int) -> Material:
    """Searches for every question, for `k` chunks and as deep as the control arms look."""
    retriever.search([questions[0].question], 1)  # so that what is loaded by the first search is not timed
    started = time.perf_counter()
    found = retriever.search([question.question for question in questions], max(k, DEPTH))
    seconds = (time.perf_counter() - started) / len(questions)
    return Material(questions, found, seconds, by_document(index.chunks))


def answer(
    project: Project,
    arm: Arm,
    load: Callable[[], Answerer],
    choice: PromptChoice,
    material: Material,
    file: Path | None,
) -> Answered:
    """Answers with one arm; what a run before has answered without an error is taken over.

    Times and memory of what was taken over are those of the run that answered; the time of the search is of this run,
    and that of training stands with the adapter.

    Args:
        project: The project.
        arm: The arm.
        load: Loads what answers, if there is something to ask.
        choice: How to prompt.
        material: The questions and what was retrieved for them.
        file: Where the replies are kept; None for nowhere.
    """
    # All that is retrieved, though a prompt may show less: what retrieval finds does not depend on the prompt.
    k = max(choice.k, project.config.prompt.k) if arm.context == "retrieved" else choice.k
    shown = contexts(arm.context, k, material.questions, material.found, material.chunks_of)
    if arm.context == "oracle":  # a question may need the chunks of several documents
        choice = choice._replace(k=max(choice.k, *map(len, shown)))
    replies, memory = _ask(project, arm, load, choice, material.questions, shown, file)
    if arm.context != "none":
        replies = [replace(reply, seconds=reply.seconds + material.seconds) for reply in replies]
    if arm.context == "retrieved":
        replies = [replace(reply, cosine=nearest_cosine(found)) for reply, found in zip(replies, shown, strict=True)]
    trained = read_manifest(project.path(f"tune/{arm.adapter}")) if arm.adapter else None
    cost = arm_cost(
        arm.name,
        replies,
        memory_mb=memory,
        training_seconds=training_seconds(trained) if trained else None,
        price_hour=project.config.compare.price_hour,
        endpoint=arm.other if arm.other and arm.outside else None,
    )
    gold = None
    if project.config.compare.perplexity and not arm.outside:
        kept = file.parent / "gold" / file.name if file else None
        gold = gold_log_probs(load, material.questions, shown, choice, kept)
    return Answered(ArmRun(arm.name, arm.description, tuple(replies)), cost, gold)


def _ask(
    project: Project,
    arm: Arm,
    load: Callable[[], Answerer],
    choice: PromptChoice,
    questions: Sequence[Question],
    shown: Sequence[Sequence[Hit]],
    file: Path | None,
) -> Answers:
    """The replies to all questions, where the settings do not refuse them unasked; a function sees to that itself."""
    is_function = arm.outside and not arm.other
    floor = project.config.serve.min_cosine if arm.context == "retrieved" and not is_function else 0.0
    refused = refusals(questions, shown, floor, k=choice.k, refusal=project.config.prompt.refusal)
    places = [place for place, question in enumerate(questions) if question.id not in refused]
    asked, hits = [questions[place] for place in places], [shown[place] for place in places]
    replies, memory = answer_once(load, asked, hits, choice, label=f"arm {arm.name}", file=file)
    known = refused | {reply.question_id: reply for reply in replies}
    return Answers([known[question.id] for question in questions], memory)
