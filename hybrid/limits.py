"""The ranges of the numbers in a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from hybrid.errors import ConfigError

if TYPE_CHECKING:
    from hybrid.config import ArmConfig, Config, PairsConfig, TeacherConfig
    from hybrid.judge_settings import JudgeConfig

Limit: TypeAlias = tuple[str, float, float, float]  # setting, value, lowest, highest


def check_limits(config: Config, source: str) -> None:
    """Checks every number of a configuration.

    Raises:
        ConfigError: One lies outside its range; the message names the setting, its value and the range.
    """
    limits = (
        ("index.chunk_tokens", config.index.chunk_tokens, 16, 100_000),
        ("index.overlap_tokens", config.index.overlap_tokens, 0, config.index.chunk_tokens // 2),
        ("index.rerank", config.index.rerank, 1, 10_000),
        ("prompt.k", config.prompt.k, 1, 1000),
        ("prompt.max_tokens", config.prompt.max_tokens, 64, 10_000_000),
        ("prompt.quote_words", config.prompt.quote_words, 8, 10_000),
        ("pairs.total", config.pairs.total, 1, 100_000_000),
        ("pairs.per_chunk", config.pairs.per_chunk, 0, 100_000),
        ("pairs.questions_per_context", config.pairs.questions_per_context, 1, 100_000),
        ("pairs.context_chunks", config.pairs.context_chunks, 0, 1000),
        ("pairs.p_absent", config.pairs.p_absent, 0, 1),
        ("pairs.p_yes_no", config.pairs.p_yes_no, 0, 1),
        ("pairs.p_multi", config.pairs.p_multi, 0, 0.5),
        ("pairs.dev_share", config.pairs.dev_share, 0, 0.9),
        ("pairs.oracle_in_top", config.pairs.oracle_in_top, 0, 100_000),
        ("pairs.max_similarity", config.pairs.max_similarity, 0, 1),
        *_likeness_limits(config.pairs),
        *_teacher_limits(config.pairs.teacher_model),
        ("compare.limit", config.compare.limit, 0, 100_000_000),
        ("compare.max_new_tokens", config.compare.max_new_tokens, 1, 100_000),
        ("compare.batch_tokens", config.compare.batch_tokens, 1, 100_000_000),
        ("compare.dev_questions", config.compare.dev_questions, 1, 1_000_000),
        ("compare.shots", config.compare.shots, 0, 64),
        ("compare.price_hour", config.compare.price_hour, 0, 1_000_000),
        *(
            (f"compare.weights.{name}", value, 0, 1_000_000)
            for name, value in dataclasses.asdict(config.compare.weights).items()
        ),
        *_judge_limits(config.compare.judge),
        *_arm_limits(config),
        ("serve.min_cosine", config.serve.min_cosine, 0, 1),
        ("seed", config.seed, 0, 2**32 - 1),
    )
    for key, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(f"{source}: {key} is {value}; it must lie between {low} and {high}")
    teacher = config.pairs.teacher_model
    if teacher.max_cost and not (teacher.price_in or teacher.price_out):
        raise ConfigError(
            f"{source}: pairs.teacher_model.max_cost is {teacher.max_cost:g}, but nothing has a price; set price_in "
            "and price_out beside it, the prices of a million tokens"
        )
    if config.compare.grounding == "entailment" and not config.compare.entailment_model:
        raise ConfigError(
            f"{source}: compare.grounding is entailment: set compare.entailment_model to the folder or hub id of a "
            "classifier that was trained on inference"
        )


def _endpoint_limits(prefix: str, settings: ArmConfig | TeacherConfig | JudgeConfig) -> Sequence[Limit]:
    """The numbers of every section that may name an endpoint."""
    return (
        (f"{prefix}.concurrency", settings.concurrency, 1, 1024),
        (f"{prefix}.timeout", settings.timeout, 0.1, 86_400),
        (f"{prefix}.retries", settings.retries, 0, 100),
        (f"{prefix}.price_in", settings.price_in, 0, 1_000_000),
        (f"{prefix}.price_out", settings.price_out, 0, 1_000_000),
    )


def _generator_limits(prefix: str, settings: TeacherConfig | JudgeConfig) -> Sequence[Limit]:
    """The numbers of every section that may also name a local model to be prompted."""
    return (
        (f"{prefix}.temperature", settings.temperature or 0.0, 0, 2),
        (f"{prefix}.batch_tokens", settings.batch_tokens, 1, 100_000_000),
        *_endpoint_limits(prefix, settings),
    )


def _arm_limits(config: Config) -> Sequence[Limit]:
    described = [arm for arm in config.compare.arms if not isinstance(arm, str)]
    return [limit for arm in described for limit in _endpoint_limits(f"compare.arms: {arm.name}", arm)]


def _likeness_limits(pairs: PairsConfig) -> Sequence[Limit]:
    return (
        ("pairs.shared_run", pairs.shared_run, 0, 1000),
        ("pairs.max_meaning", pairs.max_meaning, 0.01, 2),
        ("pairs.duplicate_words", pairs.duplicate_words, 0.01, 1),
        ("pairs.duplicate_meaning", pairs.duplicate_meaning, 0.01, 2),
        ("pairs.paraphrases", pairs.paraphrases, 1, 100_000),
        ("pairs.similar_documents", pairs.similar_documents, 0.01, 1),
        ("pairs.min_agreement", pairs.min_agreement, 0, 1),
    )


def _teacher_limits(teacher: TeacherConfig) -> Sequence[Limit]:
    prefix = "pairs.teacher_model"
    return (
        (f"{prefix}.questions_per_chunk", teacher.questions_per_chunk, 1, 100),
        (f"{prefix}.max_new_tokens", teacher.max_new_tokens, 16, 1_000_000),
        *_generator_limits(prefix, teacher),
        (f"{prefix}.requests_per_minute", teacher.requests_per_minute, 0, 1_000_000),
        (f"{prefix}.max_cost", teacher.max_cost, 0, 1_000_000_000),
    )


def _judge_limits(judge: JudgeConfig) -> Sequence[Limit]:
    prefix = "compare.judge"
    return (
        (f"{prefix}.repeats", judge.repeats, 1, 100),
        (f"{prefix}.sample", judge.sample, 0, 100_000_000),
        (f"{prefix}.max_new_tokens", judge.max_new_tokens, 8, 1_000_000),
        *_generator_limits(prefix, judge),
    )
