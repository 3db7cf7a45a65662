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

    def __init__(self, folder: Path, *, max_new_tokens: int, batch_tokens: int, proven: bool = False) -> None:
        """Makes the generator.

        Args:
            folder: Folder of the model.
            max_new_tokens: Longest reply.
            batch_tokens: Tokens of prompts and longest replies in one batch; a single prompt may exceed it.
            proven: It has read such prompts before, so that nothing but prompts too long for it is no reason to stop.
        """
        self._folder = folder
        self._max_new_tokens = max_new_tokens
        self._batch_tokens = batch_tokens
        self._proven = proven

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        """Yields the replies batch by batch, the short prompts first.

        A prompt that with the longest reply is more than the model reads is refused.

        Raises:
            ModelError: The model cannot be loaded.
            ConfigError: The model can read none of the prompts, and has read none before.
        """
        # Imported here so that the teacher can be named without loading torch.
        from hybrid.generate import encode_prefix, generate_batch, plan_batches, stop_ids

        tokenizer = self._tokenizer
        encoded = [encode(to_text(prompt, tokenizer), tokenizer) for prompt in prompts]
        lengths = [len(ids) + self._max_new_tokens for ids in encoded]
        readable = self._readable(lengths)
        for place in sorted({*range(len(prompts))} - {*readable}):
            yield Reply(place, self._too_long(lengths[place]), None, None, "refused")
        if not readable:
            return
        model = self._model
        prefix, stops = encode_prefix(model, [encoded[place] for place in readable]), stop_ids(model, tokenizer)
        for batch in plan_batches([lengths[place] for place in readable], self._batch_tokens):
            places = [readable[index] for index in batch.indices]
            outputs = generate_batch(
                model,
                [encoded[place] for place in places],
                prefix,
                max_new_tokens=self._max_new_tokens,
                stops=stops,
                pad=int(tokenizer.pad_token_id or 0),
            )
            for place, (output, _) in zip(places, outputs, strict=True):
                text = str(tokenizer.decode(output, skip_special_tokens=True))
                is_cut = len(output) == self._max_new_tokens
                yield Reply(place, text, len(encoded[place]), len(output), "length" if is_cut else "stop")

    def _readable(self, lengths: Sequence[int]) -> list[int]:
        """Places of the prompts that the model can read."""
        positions = max_positions(self._folder)
        readable = [place for place, length in enumerate(lengths) if not positions or length <= positions]
        if lengths and not readable and not self._proven:
            raise ConfigError(self._too_long(max(lengths)))  # not this or that prompt is wrong, but the settings
        self._proven = self._proven or bool(readable)
        return readable

    def _too_long(self, length: int) -> str:
        return (
            f"a prompt of the teacher and its reply take up to {length} tokens, but {self._folder} reads "
            f"{max_positions(self._folder)}; lower pairs.teacher_model.max_new_tokens = {self._max_new_tokens} or "
            "index.chunk_tokens"
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
