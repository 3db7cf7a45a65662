"""Any local causal language model as a text generator: its chat template, batches, greedy decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.errors import ConfigError
from hybrid.models import load_tokenizer, max_positions
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.prompt import encode, to_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalModel:
    """Generates with a model folder; the model is loaded at the first prompt."""

    def __init__(self, folder: Path, *, max_new_tokens: int, batch_tokens: int) -> None:
        """Makes the generator.

        Args:
            folder: Folder of the model.
            max_new_tokens: Longest reply.
            batch_tokens: Tokens of prompts and longest replies in one batch; a single prompt may exceed it.
        """
        self._folder = folder
        self._max_new_tokens = max_new_tokens
        self._batch_tokens = batch_tokens

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        """Yields the replies batch by batch, the short prompts first.

        Raises:
            ModelError: The model cannot be loaded.
            ConfigError: A prompt and the longest reply are more than the model reads.
        """
        # Imported here so that the teacher can be named without loading torch.
        from hybrid.generate import encode_prefix, generate_batch, plan_batches, stop_ids

        tokenizer, model = self._tokenizer, self._model
        encoded = [encode(to_text(prompt, tokenizer), tokenizer) for prompt in prompts]
        lengths = [len(ids) + self._max_new_tokens for ids in encoded]
        self._check(max(lengths, default=0))
        prefix, stops = encode_prefix(model, encoded), stop_ids(model, tokenizer)
        for batch in plan_batches(lengths, self._batch_tokens):
            outputs = generate_batch(
                model,
                [encoded[place] for place in batch.indices],
                prefix,
                max_new_tokens=self._max_new_tokens,
                stops=stops,
                pad=int(tokenizer.pad_token_id or 0),
            )
            for place, output in zip(batch.indices, outputs, strict=True):
                text = str(tokenizer.decode(output, skip_special_tokens=True))
                is_cut = len(output) == self._max_new_tokens
                yield Reply(place, text, len(encoded[place]), len(output), "length" if is_cut else "stop")

    def _check(self, longest: int) -> None:
        positions = max_positions(self._folder)
        if positions and longest > positions:
            raise ConfigError(
                f"a prompt of the teacher and its reply take up to {longest} tokens, but {self._folder} reads "
                f"{positions}; lower pairs.teacher_model.max_new_tokens = {self._max_new_tokens} or index.chunk_tokens"
            )

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._folder)

    @cached_property
    def _model(self) -> PreTrainedModel:
        from hybrid.tuning.model import compute_dtype, default_device, load_base

        device = default_device()
        model = load_base(self._folder, method="lora", dtype=compute_dtype("auto", device), device=device)
        model.eval()  # type: ignore[no-untyped-call]
        return model
