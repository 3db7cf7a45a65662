"""Rerankers: a model reads question and passage together, and says how well the one answers the other."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid.errors import ModelError
from hybrid.retrieval.fuse import Nearest

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_SHOW_PROGRESS_FROM = 1000
# Of a logit: what padding to another batch changes lies behind these, so that equal passages score equal.
_DECIMALS = 4


class Read(NamedTuple):
    """A question and a passage, to be read together."""

    question: str
    passage: str


class Reranker(Protocol):
    """Reads questions and passages."""

    def score(self, pairs: Sequence[Read]) -> NDArray[np.float64]:
        """Return how well each passage answers its question, as logits `[len(pairs)]`."""


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers in a local folder, loaded by the first use.

    Pairs longer than the model reads are cut at the end of the passage with a warning that counts them.

    Args:
        path: Folder of the model.
        batch_size: Pairs computed together.
        device: torch device; the fastest present by default.
    """

    def __init__(self, path: str | Path, batch_size: int = 32, device: str | None = None) -> None:
        self.path = Path(path)
        self.batch_size = batch_size
        self.device = device

    def score(self, pairs: Sequence[Read]) -> NDArray[np.float64]:
        """Return how well each passage answers its question, as logits `[len(pairs)]`, to four decimals.

        Raises:
            ModelError: The model cannot be loaded, is no reranker, or returns values that are no numbers.
        """
        if not pairs:
            return np.empty(0)
        self._warn_of_cuts(pairs)
        inputs: list[Any] = list(pairs)  # sentence-transformers' own type spells out every kind of media
        logits = self._model.predict(
            inputs,
            batch_size=self.batch_size,
            activation_fn=_unchanged,
            show_progress_bar=len(pairs) >= _SHOW_PROGRESS_FROM,
        )
        scores = np.asarray(logits, dtype=np.float64).reshape(len(pairs))
        if not np.isfinite(scores).all():
            raise ModelError(f"the reranker in {self.path} returned values that are no numbers")
        return scores.round(_DECIMALS)

    @cached_property
    def _model(self) -> "CrossEncoder":
        from sentence_transformers import CrossEncoder

        try:
            model: CrossEncoder = CrossEncoder(
                str(self.path),
                device=self.device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # damaged files surface as errors of torch, safetensors, json and others
            raise ModelError(f"the reranker in {self.path} cannot be loaded: {error}") from error
        if model.num_labels != 1:
            raise ModelError(
                f"the model in {self.path} gives {model.num_labels} values for a passage; a reranker gives one"
            )
        return model

    def _warn_of_cuts(self, pairs: Sequence[Read]) -> None:
        limit = self._model.max_seq_length
        # A token has at least one character, nearly always, so short texts need no counting.
        long = [pair for pair in pairs if limit is not None and len(pair.question) + len(pair.passage) > limit - 3]
        if limit is None or not long:
            return
        questions, passages = zip(*long, strict=True)
        lengths = map(len, self._model.tokenizer(questions, passages, truncation=False, verbose=False)["input_ids"])
        if cut := sum(length > limit for length in lengths):
            warnings.warn(f"{cut} of {len(pairs)} passages are, with their question, longer than the {limit} tokens "
                          "that the reranker reads; it judges them by their beginning", stacklevel=4)  # fmt: skip


def _unchanged(logits: object) -> object:
    return logits


def reorder(nearest: Nearest, logits: Sequence[float]) -> Nearest:
    """Orders the first passages by what a reranker says of each; those that it has not read stay behind, at 0.

    >>> reorder(Nearest((7, 4, 9), (0.9, 0.8, 0.1)), [-1.0, 1.0])
    Nearest(positions=(4, 7, 9), scores=(0.7310585786300049, 0.2689414213699951, 0.0))
    """
    read = len(logits)
    order = sorted(range(read), key=lambda place: -logits[place])
    # Of 0 and 1, as scores of a fusion are; for very low logits exp(-x) would overflow.
    scores = (1 / (1 + np.exp(-np.clip(logits, -500, 500)))).tolist() if read else []
    return Nearest(
        (*(nearest.positions[place] for place in order), *nearest.positions[read:]),
        (*(scores[place] for place in order), *[0.0] * len(nearest.positions[read:])),
    )
