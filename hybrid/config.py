"""The whole configuration of a project: one frozen dataclass per stage, read from and written to `hybrid.yaml`."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from hybrid.errors import ConfigError
from hybrid.tuning.settings import TuneSettings

SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How documents become chunks and vectors.

    Attributes:
        chunk_tokens: Largest chunk, in tokens of the embedding model.
        overlap_tokens: Tokens that neighbouring chunks share.
    """

    chunk_tokens: int = 128
    overlap_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """What the model is shown, in training, serving and evaluation alike.

    Attributes:
        k: Chunks in a context.
        max_tokens: Longest prompt; distractors leave the context first, the last of the prompt before others.
        instructions: System message of prompts with a context; `{refusal}` stands for the refusal.
        closed_book: System message of prompts without a context.
        refusal: What the assistant says when the passages do not answer.
    """

    k: int = 2
    max_tokens: int = 2048
    instructions: str = (
        "Answer the question from the passages in as few words as possible. If they do not answer it, reply: {refusal}"
    )
    closed_book: str = "Answer the question in as few words as possible."
    refusal: str = "The documents do not answer this question."


@dataclass(frozen=True, slots=True)
class TeacherConfig:
    """Which model writes questions, and how it is asked; for `pairs.teacher: model` and `endpoint` (docs/teachers.md).

    Attributes:
        model: For `model`: an embedded name, folder or hub id; by default the project's own model. For `endpoint`: the
            name that the endpoint knows the model by.
        base_url: The endpoint, up to and with its `/v1`.
        key_env: Name of the environment variable that holds the endpoint's key; None sends no key.
        questions_per_chunk: Questions asked for, chunk by chunk.
        max_new_tokens: Longest reply.
        temperature: For `endpoint`; None leaves it to the server. A local model is always greedy.
        batch_tokens: For `model`: tokens of prompts and replies in one batch.
        concurrency: For `endpoint`: calls at a time.
        timeout: For `endpoint`: seconds to wait for a reply.
        retries: For `endpoint`: how often a call is made again after a busy or failing server or a timeout.
        requests_per_minute: For `endpoint`: most calls begun in a minute; 0 sets no limit.
        price_in: Price of a million prompt tokens, for the cost in the manifest.
        price_out: Price of a million reply tokens.
    """

    model: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    questions_per_chunk: int = 6
    max_new_tokens: int = 1024
    temperature: float | None = 0.0
    batch_tokens: int = 8192
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 5
    requests_per_minute: int = 0
    price_in: float = 0.0
    price_out: float = 0.0


@dataclass(frozen=True, slots=True)
class PairsConfig:
    """How training pairs are made.

    Attributes:
        file: Questions to learn from instead of a teacher, in any format that `hybrid.pairs.formats` reads.
        teacher: `syntax` (offline, English) writes questions by grammar, `model` asks a local language model,
            `endpoint` an OpenAI-compatible server.
        teacher_model: The model that is asked.
        total: Most pairs kept; drawn evenly over the documents.
        questions_per_context: Most answerable questions that share a context; a quarter more may join it as absent.
        context_chunks: Most chunks of a training context. With more than `prompt.k`, each question that shares it finds
            the `prompt.k` chunks of its own retrieval in it; otherwise (0) contexts have `prompt.k` chunks, and all
            questions whose oracles they show share them.
        p_absent: Share of the pairs whose context shows no oracle; their answer is the refusal.
        p_yes_no: Share of the teacher's pairs that ask yes or no.
        dev_share: Share of the pairs kept from training, by whole documents, to choose the rag prompt on.
        oracle_in_top: A pair is kept if retrieval ranks an oracle this high for its question (0 keeps all).
        max_similarity: Pairs this close in words to a comparison question (Jaccard) are dropped.
    """

    file: str | None = None
    teacher: Literal["syntax", "model", "endpoint"] = "syntax"
    teacher_model: TeacherConfig = field(default_factory=TeacherConfig)
    total: int = 800
    questions_per_context: int = 16
    context_chunks: int = 0
    p_absent: float = 0.08
    p_yes_no: float = 0.1
    dev_share: float = 0.1
    oracle_in_top: int = 20
    max_similarity: float = 0.8


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """What is compared, and how answers are generated.

    Attributes:
        arms: Names of arms, see `hybrid.arms`.
        limit: Questions drawn at random from the file; 0 takes all.
        max_new_tokens: Longest answer.
        batch_tokens: Prompt tokens of one batch.
        dev_questions: Questions of the training side on which the rag prompt is chosen.
        shots: Examples in the few-shot prompts tried for rag.
    """

    arms: tuple[str, ...] = ("base", "rag", "tuned", "hybrid")
    limit: int = 0
    max_new_tokens: int = 32
    batch_tokens: int = 8192
    dev_questions: int = 24
    shots: int = 3


@dataclass(frozen=True, slots=True)
class Config:
    """A project's configuration.

    Attributes:
        documents: Folder, file or BEIR corpus, relative to the project folder or absolute.
        questions: Questions with gold answers for the comparison, in the same formats as `pairs.file`, or None.
        model: Causal language model: an embedded model's name, a folder (as `documents`) or a hub id.
        embedder: Embedding model, named likewise.
        seed: The one seed.
    """

    documents: str = "documents"
    questions: str | None = None
    model: str = SMOLLM2
    embedder: str = MINILM
    seed: int = 0
    index: IndexConfig = field(default_factory=IndexConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    tune: TuneSettings = field(default_factory=TuneSettings)
    compare: CompareConfig = field(default_factory=CompareConfig)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads `hybrid.yaml` and applies `key=value` overrides such as `tune.epochs=2`.

    Raises:
        ConfigError: The file is missing or no YAML mapping, a key is unknown (the nearest known key is named), or a
            value has the wrong type.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path.parent} is no project: {path.name} is missing; run: hybrid init {path.parent}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys and values, found {type(values).__name__}")
    for override in overrides:
        apply_override(values, override)
    return config_from_dict(values, str(path))


def config_from_dict(values: Mapping[str, Any], source: str = "configuration") -> Config:
    """Builds a configuration from nested mappings; see `load_config` for the errors."""
    config: Config = _build(Config, values, source, "")
    _check(config, source)
    return config


def config_to_yaml(config: Config) -> str:
    """Writes every key with its value, in the order of the dataclasses; `pairs.teacher_model` only where it is set."""
    values: dict[str, Any] = dataclasses.asdict(
        config, dict_factory=lambda items: {k: list(v) if isinstance(v, tuple) else v for k, v in items}
    )
    if config.pairs.teacher_model == TeacherConfig():
        del values["pairs"]["teacher_model"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Sets one `key=value`, such as `tune.epochs=2`, in nested mappings.

    Raises:
        ConfigError: It has no `=`, its value is no YAML, or its key runs through a value.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override!r} is not key=value")
    *sections, name = key.strip().split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is no section")
    try:
        values[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from error


def _build(kind: type[Any], values: Mapping[str, Any], source: str, prefix: str) -> Any:  # noqa: ANN401
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    arguments = {}
    for key, value in values.items():
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{source}: unknown key {prefix}{key}; did you mean {prefix}{nearest}?")
        arguments[key] = _convert(hints[key], value, source, prefix + key)
    return kind(**arguments)


def _convert(hint: Any, value: Any, source: str, key: str) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(hint):
        value = {} if value is None else value  # a section whose keys are all commented out
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {key} must be a section with keys, found {value!r}")
        return _build(typing.cast("type[Any]", hint), value, source, key + ".")
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in choices:
            raise ConfigError(f"{source}: {key} is {value!r}; it can be {', '.join(map(str, choices))}")
        return value
    if origin in {types.UnionType, typing.Union}:
        return _convert_union(choices, value, source, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{source}: {key} must be a list, found {value!r}")
        return tuple(_convert(choices[0], item, source, key) for item in value)
    return _scalar(hint, value, source, key)


def _convert_union(choices: Sequence[Any], value: Any, source: str, key: str) -> Any:  # noqa: ANN401
    if value is None and types.NoneType in choices:
        return None
    problem = ConfigError(f"{source}: {key} is {value!r}")
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _convert(choice, value, source, key)
            except ConfigError as error:
                problem = error
    raise problem


def _scalar(hint: Any, value: Any, source: str, key: str) -> Any:  # noqa: ANN401
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # falls through to the message below
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{source}: {key} must be {hint.__name__}, found {value!r}")


def _check(config: Config, source: str) -> None:
    limits = (
        ("index.chunk_tokens", config.index.chunk_tokens, 16, 100_000),
        ("index.overlap_tokens", config.index.overlap_tokens, 0, config.index.chunk_tokens // 2),
        ("prompt.k", config.prompt.k, 1, 1000),
        ("prompt.max_tokens", config.prompt.max_tokens, 64, 10_000_000),
        ("pairs.total", config.pairs.total, 1, 100_000_000),
        ("pairs.questions_per_context", config.pairs.questions_per_context, 1, 100_000),
        ("pairs.context_chunks", config.pairs.context_chunks, 0, 1000),
        ("pairs.p_absent", config.pairs.p_absent, 0, 1),
        ("pairs.p_yes_no", config.pairs.p_yes_no, 0, 1),
        ("pairs.dev_share", config.pairs.dev_share, 0, 0.9),
        ("pairs.oracle_in_top", config.pairs.oracle_in_top, 0, 100_000),
        ("pairs.max_similarity", config.pairs.max_similarity, 0, 1),
        *_teacher_limits(config.pairs.teacher_model),
        ("compare.limit", config.compare.limit, 0, 100_000_000),
        ("compare.max_new_tokens", config.compare.max_new_tokens, 1, 100_000),
        ("compare.batch_tokens", config.compare.batch_tokens, 1, 100_000_000),
        ("compare.dev_questions", config.compare.dev_questions, 1, 1_000_000),
        ("compare.shots", config.compare.shots, 0, 64),
        ("seed", config.seed, 0, 2**32 - 1),
    )
    for key, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(f"{source}: {key} is {value}; it must lie between {low} and {high}")


def _teacher_limits(teacher: TeacherConfig) -> Sequence[tuple[str, float, float, float]]:
    prefix = "pairs.teacher_model"
    return (
        (f"{prefix}.questions_per_chunk", teacher.questions_per_chunk, 1, 100),
        (f"{prefix}.max_new_tokens", teacher.max_new_tokens, 16, 1_000_000),
        (f"{prefix}.temperature", teacher.temperature or 0.0, 0, 2),
        (f"{prefix}.batch_tokens", teacher.batch_tokens, 1, 100_000_000),
        (f"{prefix}.concurrency", teacher.concurrency, 1, 1024),
        (f"{prefix}.timeout", teacher.timeout, 0.1, 86_400),
        (f"{prefix}.retries", teacher.retries, 0, 100),
        (f"{prefix}.requests_per_minute", teacher.requests_per_minute, 0, 1_000_000),
        (f"{prefix}.price_in", teacher.price_in, 0, 1_000_000),
        (f"{prefix}.price_out", teacher.price_out, 0, 1_000_000),
    )
