"""Whether a source entails a claim, by a model of natural language inference."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from hybrid.errors import EvaluationError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_POSITIVE = ("entailment", "entailed", "entails", "supported", "supports")
_SHOW_PROGRESS_FROM = 200


def entailment_label(labels: Mapping[int, str]) -> int:
    """The number of the class that says yes, by its name in the model's config.

    Raises:
        ModelError: No class, or more than one, has such a name.

    >>> entailment_label({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"})
    2
    """
    found = [number for number, name in sorted(labels.items()) if name.strip().lower() in _POSITIVE]
    if len(found) != 1:
        raise ModelError(
            f"the model's classes {', '.join(labels[number] for number in sorted(labels))} do not say which one is "
            f"entailment; name it so in id2label of its config.json, or take a model trained on inference"
        )
    return found[0]


class Entailment:
    """The probability that the source entails the claim, 0..1.

    A source that is too long for the model is cut at its end; `cut` counts these.

    Attributes:
        cut: Number of pairs so far whose source did not fit.
    """

    def __init__(self, folder: Path, *, batch_size: int = 16, device: str = "cpu") -> None:
        """Makes the method; the model is loaded at the first pair.

        Args:
            folder: Folder of a sequence classifier with its tokenizer.
            batch_size: Pairs computed together.
            device: torch device.
        """
        self._folder = folder
        self._batch_size = batch_size
        self._device = device
        self.cut = 0

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores pairs of source and claim.

        Raises:
            ModelError: The model cannot be loaded, or its config does not name the class of entailment.
            EvaluationError: A claim alone is too long for the model, or the model gives values that are no numbers.
        """
        positive = entailment_label({int(i): str(name) for i, name in (self._model.config.id2label or {}).items()})
        order = sorted(range(len(pairs)), key=lambda place: (len(pairs[place][0]) + len(pairs[place][1]), place))
        scores = [0.0] * len(pairs)
        starts = range(0, len(order), self._batch_size)
        for start in tqdm(starts, desc="entailment", unit="batch", disable=len(pairs) < _SHOW_PROGRESS_FROM):
            places = order[start : start + self._batch_size]
            for place, score in zip(places, self._batch([pairs[i] for i in places], positive), strict=True):
                scores[place] = score
        return scores

    def _batch(self, pairs: Sequence[tuple[str, str]], positive: int) -> list[float]:
        import torch

        limit = self._limit
        sources, claims = ([pair[side] for pair in pairs] for side in (0, 1))
        if limit is not None:
            self._count_cuts(sources, claims, limit)
        inputs = self._tokenizer(
            sources,
            claims,
            padding=True,
            truncation="only_first" if limit is not None else False,
            max_length=limit,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            scores = self._model(**inputs).logits.float().softmax(-1)[:, positive]
        if not torch.isfinite(scores).all():
            raise EvaluationError(f"the model in {self._folder} gave values that are no numbers")
        return [float(score) for score in scores]

    def _count_cuts(self, sources: list[str], claims: list[str], limit: int) -> None:
        whole = map(len, self._tokenizer(sources, claims, verbose=False)["input_ids"])
        self.cut += sum(length > limit for length in whole)
        for claim, length in zip(
            claims, map(len, self._tokenizer([""] * len(claims), claims)["input_ids"]), strict=True
        ):
            if length >= limit:
                raise EvaluationError(f"a claim of {length} tokens leaves no room for its source: {claim[:60]!r}")

    @cached_property
    def _limit(self) -> int | None:
        """Most tokens of a pair: the least of what tokenizer and model say."""
        positions = getattr(self._model.config, "max_position_embeddings", None)
        said = self._tokenizer.model_max_length
        known = [int(limit) for limit in (said, positions) if limit and 0 < limit < 10**6]
        return min(known, default=None)

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        from transformers import AutoTokenizer

        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # damaged files surface as errors of tokenizers, json and others
            raise ModelError(f"the tokenizer in {self._folder} cannot be loaded: {error}") from error
        return tokenizer

    @cached_property
    def _model(self) -> "PreTrainedModel":
        from transformers import AutoModelForSequenceClassification

        try:
            model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        except Exception as error:  # damaged files surface as errors of torch, safetensors, json and others
            raise ModelError(f"the classifier in {self._folder} cannot be loaded: {error}") from error
        return model.to(self._device).eval()  # type: ignore[arg-type, no-any-return]
