"""What a comparison asks of a model while it is loaded, beside its answers: gold answers, and general text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.arms import ARMS, Answerer, Arm, PromptChoice, Runner
from hybrid.artefacts import fingerprint
from hybrid.config import ArmConfig
from hybrid.eval.forgetting import forgetting, general_texts
from hybrid.forgetting import text_log_probs
from hybrid.journal import append_journal, read_journal
from hybrid.prompt import encode_answer
from hybrid.replies import reply_key
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
    load: Callable[[], Answerer],
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    choice: PromptChoice,
    file: Path | None,
) -> LogProbs:
    """Log-probability of each token of each question's first gold answer, after the very prompt of a local arm.

    The tokens are those of the plain answer, without the one that ends it.

    Args:
        load: Loads the model, if there is something to ask.
        questions: The questions.
        hits: What was retrieved for each.
        choice: How the arm prompts.
        file: Where the values are kept; None takes none over and keeps none.

    Returns:
        One list per question, empty for an unanswerable one.
    """

    def ask(places: Sequence[int]) -> LogProbs:
        answerer = load()
        assert isinstance(answerer, Runner)  # other arms have no likelihoods to ask for
        from hybrid.likelihood import Sample, token_log_probs

        samples = [
            Sample(
                answerer.encode(questions[place].question, hits[place], choice)[0],
                encode_answer(questions[place].answers[0], answerer.tokenizer)[:-1]
                if questions[place].answerable
                else [],
            )
            for place in places
        ]
        return token_log_probs(answerer.model, samples, batch_tokens=answerer.batch_tokens)

    keys = [
        fingerprint(reply=reply_key(question, found), gold=question.answers[:1] if question.answerable else None)
        for question, found in zip(questions, hits, strict=True)
    ]
    return _once(file, keys, ask)


def general_log_probs(load: Callable[[], Answerer], file: Path | None = None) -> LogProbs:
    """Log-probability of each token of general text, by the model of a local arm.

    Args:
        load: Loads the model, if there is something to ask.
        file: Where the values are kept; None takes none over and keeps none.
    """
    texts = general_texts()

    def ask(places: Sequence[int]) -> LogProbs:
        answerer = load()
        assert isinstance(answerer, Runner)  # other arms have no likelihoods to ask for
        asked = [texts[place] for place in places]
        return text_log_probs(answerer.model, answerer.tokenizer, asked, batch_tokens=answerer.batch_tokens)

    return _once(file, [fingerprint(text=text) for text in texts], ask)


def _once(file: Path | None, keys: Sequence[str], ask: Callable[[Sequence[int]], LogProbs]) -> LogProbs:
    """What a file keeps under these keys; for the places that it does not have, what `ask` says is kept, too."""
    known = dict(read_journal(file, lambda record: (str(record["key"]), list(record["log_probs"])))) if file else {}
    places = [place for place, key in enumerate(keys) if key not in known]
    if places:
        fresh = {keys[place]: values for place, values in zip(places, ask(places), strict=True)}
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            append_journal(file, ({"key": key, "log_probs": values} for key, values in fresh.items()))
        known |= fresh
    return [known[key] for key in keys]


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
            known[bare] = general_log_probs(partial(load_answerer, project, alone))
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
