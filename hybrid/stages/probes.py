"""What a comparison asks of a model while it is loaded, beside its answers: gold answers, and general text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.arms import ARMS, Answerer, Arm, PromptChoice, Runner
from hybrid.config import ArmConfig
from hybrid.eval.forgetting import forgetting, general_texts
from hybrid.forgetting import text_log_probs
from hybrid.prompt import encode_answer
from hybrid.stages.serve import load_answerer
from hybrid.types import Hit, Question

if TYPE_CHECKING:
    from hybrid.project import Project

LogProbs = list[list[float]]


class Weights(NamedTuple):
    """What is loaded for an arm that answers in this process; empty names stand for the project's model and for none.

    Attributes:
        model: Another model than the project's.
        own: An adapter of the project.
        folder: Folder of another adapter.
    """

    model: str
    own: str
    folder: str


def gold_log_probs(
    answerer: Answerer, questions: Sequence[Question], hits: Sequence[Sequence[Hit]], choice: PromptChoice
) -> LogProbs | None:
    """Log-probability of each token of each question's first gold answer, after the very prompt of the arm.

    The tokens are those of the plain answer, without the one that ends it.

    Returns:
        One list per question, empty for an unanswerable one; None where no model of this process answers.
    """
    if not isinstance(answerer, Runner):
        return None
    from hybrid.likelihood import Sample, token_log_probs

    samples = [
        Sample(
            answerer.encode(question.question, found, choice)[0],
            encode_answer(question.answers[0], answerer.tokenizer)[:-1] if question.answerable else [],
        )
        for question, found in zip(questions, hits, strict=True)
    ]
    return token_log_probs(answerer.model, samples, batch_tokens=answerer.batch_tokens)


def general_log_probs(answerer: Answerer) -> LogProbs | None:
    """Log-probability of each token of general text; None where no model of this process answers."""
    if not isinstance(answerer, Runner):
        return None
    return text_log_probs(answerer.model, answerer.tokenizer, general_texts(), batch_tokens=answerer.batch_tokens)


def weights_of(arm: Arm) -> Weights:
    """What is loaded for an arm that no endpoint or function answers."""
    other = arm.other or ArmConfig()
    return Weights(other.model or "", arm.adapter or "", other.adapter or "")


def forgotten(
    project: Project, arms: Sequence[Arm], general: Mapping[Weights, LogProbs], seed: int
) -> list[dict[str, Any]]:
    """How much worse every adapter reads general text than the model without it, as plain values for report.json.

    Args:
        project: The project, whose model is loaded if no arm did.
        arms: The arms.
        general: What `general_log_probs` found for the weights of every local arm.
        seed: Seed of the intervals.
    """
    known = dict(general)
    found = []
    for weights in general:
        bare = weights._replace(own="", folder="")
        if weights == bare:
            continue
        users = [arm for arm in arms if not arm.outside and weights_of(arm) == weights]
        if bare not in known:
            other = users[0].other
            alone = replace(users[0], other=replace(other, adapter=None)) if other and bare.model else ARMS["base"]
            known[bare] = general_log_probs(load_answerer(project, alone)) or []
        changed = forgetting(known[bare], known[weights], seed=seed)
        found.append(
            {
                "arms": [arm.name for arm in users],
                "before": changed.before,
                "after": changed.after,
                "change": changed.change,
                "low": changed.low,
                "high": changed.high,
            }
        )
    return found
