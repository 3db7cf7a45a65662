"""The settings of a judge: which language model grades the answers of a comparison, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """A language model that grades answers; a local one, or that of an OpenAI-compatible endpoint.

    Attributes:
        mode: `rubric` grades every answer from 1 to 5, `pairwise` sets every arm against the baseline, each pair of
            answers in both orders, `off` asks nobody.
        model: An embedded name, folder or hub id; by default the project's own model. With `base_url`, the name that
            the endpoint knows the model by.
        base_url: The endpoint, up to and with its `/v1`.
        key_env: Name of the environment variable that holds the endpoint's key; None sends no key.
        repeats: For `rubric`: how often every answer is graded; the spread shows how far the judge agrees with itself.
        sample: Answerable questions drawn at random to judge the answers of; 0 takes all.
        max_new_tokens: Longest reply.
        temperature: For an endpoint; None leaves it to the server. A local model is always greedy.
        batch_tokens: For a local model: tokens of prompts and replies in one batch.
        concurrency: For an endpoint: calls at a time.
        timeout: For an endpoint: seconds to wait for a reply.
        retries: For an endpoint: how often a call is made again after a busy or failing server or a timeout.
        price_in: Price of a million prompt tokens.
        price_out: Price of a million reply tokens.
    """

    mode: Literal["off", "rubric", "pairwise"] = "off"
    model: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    repeats: int = 1
    sample: int = 40
    max_new_tokens: int = 64
    temperature: float | None = 0.0
    batch_tokens: int = 8192
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 5
    price_in: float = 0.0
    price_out: float = 0.0
