"""Whether a GGUF file answers like the model it was written from: the same texts to both, by two engines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hybrid.errors import DependencyError, ModelError
from hybrid.tuning.gguf_file import WAY_OUT


class Parity(NamedTuple):
    """How alike a GGUF file and the folder it was written from answer.

    Attributes:
        texts: How many texts both continued.
        difference: Largest difference of a log-probability among the five likeliest next tokens of a text.
    """

    texts: int
    difference: float


def compare_gguf(folder: Path, file: Path, texts: Sequence[str], limit: float) -> Parity:
    """Continue texts by transformers and by llama.cpp, which must read as many tokens and expect the same next.

    Args:
        folder: The model folder.
        file: What `write_gguf` made of it.
        texts: Texts to continue, best whole prompts.
        limit: Largest difference of log-probabilities that is let through.

    Raises:
        ModelError: llama.cpp cannot load the file, splits a text into another number of tokens, or differs by more.
        DependencyError: The package xllamacpp is missing.
    """
    try:
        from xllamacpp import Server
    except ImportError:
        raise DependencyError("xllamacpp", "gguf") from None
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    ids = [tokenizer(text).input_ids for text in texts]
    try:
        server = Server(_engine_settings(file, max(map(len, ids)) + 8))
    except RuntimeError as error:
        raise ModelError(f"llama.cpp cannot load {file}: {error}") from error
    # The server leaves out the probabilities of a token that is half a character, so it is made to say a whole one; it
    # still tells the probabilities from before that.
    options = {"n_predict": 1, "n_probs": 5, "logit_bias": [[tokenizer.convert_tokens_to_ids("A"), 100.0]]}
    differences = []
    for text, own in zip(texts, ids, strict=True):
        reply = server.handle_completions({"prompt": text, "temperature": 0, **options})
        if reply["usage"]["prompt_tokens"] != len(own):
            raise ModelError(
                f"llama.cpp reads {reply['usage']['prompt_tokens']} tokens where transformers reads {len(own)}, in "
                f"{text[:60]!r}; {WAY_OUT}"
            )
        likeliest = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        with torch.inference_mode():
            logits = model(torch.tensor([own])).logits[0, -1].float()
        expected = logits.log_softmax(-1)[[token["id"] for token in likeliest]].tolist()
        differences += [abs(token["logprob"] - own) for token, own in zip(likeliest, expected, strict=True)]
    if not max(differences) <= limit:
        raise ModelError(
            f"by llama.cpp {file.name} answers otherwise than the model does: a log-probability differs by "
            f"{max(differences):.2g}, more than {limit:g}; {WAY_OUT}"
        )
    return Parity(len(texts), max(differences))


def _engine_settings(file: Path, tokens: int) -> Any:  # noqa: ANN401 - xllamacpp is not typed
    from xllamacpp import CommonParams

    settings = CommonParams()
    settings.model.path = str(file)
    settings.n_ctx = tokens
    settings.n_parallel = 1
    settings.n_gpu_layers = 0
    settings.warmup = False
    settings.verbosity = 0
    settings.cpuparams.n_threads = torch.get_num_threads()
    return settings
