"""The whole configuration of a project: one frozen dataclass per stage, read from and written to `hybrid.yaml`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from hybrid.convert import build
from hybrid.errors import ConfigError
from hybrid.judge_settings import JudgeConfig
from hybrid.limits import check_limits
from hybrid.tuning.settings import TuneSettings
from hybrid.types import Search

SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"

Context = Literal["none", "retrieved", "oracle", "distractors"]
Metric = Literal["f1", "em", "accuracy", "contains", "rouge_1", "rouge_2", "rouge_l", "bleu", "chrf"]
Grounding = Literal["facts", "lexical", "embedding", "entailment", "judge", "off"]


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How documents become chunks and vectors, and how these are searched.

    Attributes:
        chunk_tokens: Largest chunk, in tokens of the embedding model.
        overlap_tokens: Tokens that neighbouring chunks share.
        search: What finds chunks: `dense` their vectors, `bm25` their words, `fused` both alike.
        rerank: How many of the chunks found `reranker` reads and orders anew, where one is set.
    """

    chunk_tokens: int = 128
    overlap_tokens: int = 0
    search: Search = "fused"
    rerank: int = 30


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """What the model is shown, in training, serving and evaluation alike.

    Attributes:
        k: Chunks in a context.
        max_tokens: Longest prompt; distractors leave the context first, the last of the prompt before others.
        instructions: System message of prompts with a context; `{refusal}` stands for the refusal.
        closed_book: System message of prompts without a context.
        refusal: What the assistant says when the passages do not answer.
        answers: How the model answers from passages: `short` the answer alone, `cited` with the numbers of the passages
            that support it (`Manhattan [2]`), `quoted` after verbatim quotes (`[2] "ABC is in Manhattan."`, and on the
            last line `Answer: Manhattan`). The user reads the plain answer in every style.
        quote_words: For `quoted`: most words quoted before an answer, all its quotes together.
    """

    k: int = 2
    max_tokens: int = 2048
    instructions: str = (
        "Answer the question from the passages in as few words as possible. If they do not answer it, reply: {refusal}"
    )
    closed_book: str = "Answer the question in as few words as possible."
    refusal: str = "The documents do not answer this question."
    answers: Literal["short", "cited", "quoted"] = "short"
    quote_words: int = 60


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
        max_cost: No call is made that could cost more than this, all calls of the run together, at these prices; the
            pairs are made from what is drafted by then, and answering again (`pairs.verify: teacher`) is refused if it
            could cost more. 0 sets no limit.
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
    max_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class PairsConfig:
    """How training pairs are made.

    Attributes:
        file: Questions to learn from instead of a teacher, in any format that `hybrid.pairs.formats.load` reads.
        teacher: `syntax` (offline, English) writes questions by grammar, `model` asks a local language model,
            `endpoint` an OpenAI-compatible server.
        teacher_model: The model that is asked.
        total: Most pairs kept; drawn in turns over clusters of chunks, documents and chunks.
        per_chunk: Most pairs about one chunk alone; 0 sets no limit. Those that need two chunks come on top.
        questions_per_context: Most answerable questions that share a context; a quarter more may join it as absent.
        context_chunks: Most chunks of a training context. With more than `prompt.k`, each question that shares it finds
            the `prompt.k` chunks of its own retrieval in it; otherwise (0) contexts have `prompt.k` chunks, and all
            questions whose oracles they show share them.
        distractors: Where the other chunks of a context come from: `retrieved`, from what the retriever returns for its
            questions, or `random`, from all chunks that do not hold the answer (then `context_chunks` is not used).
        p_absent: Share of the pairs whose context shows no oracle. The embedded model learns from them to refuse, but
            not when (docs/experiments.md); a larger one may.
        absent: Their answer: the refusal (`refuse`), the real one from memory (`memorise`), or half of each (`mixed`).
        p_yes_no: Share of the teacher's pairs that ask yes or no.
        p_multi: Share of a teacher's questions that need two chunks: comparisons and two questions in one. They are
            made from the others, so more of them teaches no more facts.
        dev_share: Share of the pairs kept from training, by whole documents, to choose the rag prompt on.
        oracle_in_top: A pair is kept if retrieval ranks an oracle this high for its question (0 keeps all).
        max_similarity: Pairs this close in words to a comparison question (Jaccard) are dropped.
        shared_run: So are pairs that share this many words in a row with one, or all of a shorter question (0: any).
        max_meaning: And pairs whose question's vector has this cosine with one; the same three hold for the pairs kept
            from training. Questions about different numbers or names are never alike.
        duplicate_words: Of two questions with the same answer and this share of neighbouring words in common (Jaccard),
            the first is kept.
        duplicate_meaning: Two questions with the same answer are wordings of one from this cosine on.
        paraphrases: Most wordings of one question that are kept.
        similar_documents: Documents that share this much of their runs of five words (Jaccard) are not split.
        verify: Who answers the questions again from their oracles, and from memory: `student`, the project's model,
            `teacher`, the teacher's model, or nobody (`off`): a model as small as the embedded one misses nearly all.
        min_agreement: A pair is kept if that answer agrees this far with its own (token F1).
    """

    file: str | None = None
    teacher: Literal["syntax", "model", "endpoint"] = "syntax"
    teacher_model: TeacherConfig = field(default_factory=TeacherConfig)
    total: int = 3000
    per_chunk: int = 0
    questions_per_context: int = 16
    context_chunks: int = 0
    distractors: Literal["retrieved", "random"] = "retrieved"
    p_absent: float = 0.0
    absent: Literal["refuse", "memorise", "mixed"] = "refuse"
    p_yes_no: float = 0.1
    p_multi: float = 0.05
    dev_share: float = 0.1
    oracle_in_top: int = 20
    max_similarity: float = 0.8
    shared_run: int = 6
    max_meaning: float = 0.8
    duplicate_words: float = 0.6
    duplicate_meaning: float = 0.8
    paraphrases: int = 3
    similar_documents: float = 0.5
    verify: Literal["off", "student", "teacher"] = "off"
    min_agreement: float = 0.5


@dataclass(frozen=True, slots=True)
class ArmConfig:
    """An arm beyond those of `hybrid.arms`: another adapter, another model, or a server.

    Attributes:
        name: Its name in tables, of letters, digits, `_`, `-` and `.`.
        context: The chunks that its prompt shows: `none` (closed book), `retrieved`, `oracle` (the chunks that hold the
            answer) or `distractors` (retrieved chunks that do not).
        model: Another model: an embedded name, folder or hub id. With `base_url`, the name the endpoint knows it by.
        adapter: Folder of a LoRA adapter for `model`, or for the project's own model.
        base_url: An OpenAI-compatible endpoint, up to and with its `/v1`.
        key_env: Name of the environment variable that holds the endpoint's key; None sends no key.
        concurrency: For an endpoint: calls at a time.
        timeout: For an endpoint: seconds to wait for a reply.
        retries: For an endpoint: how often a call is made again after a busy or failing server or a timeout.
        price_in: For an endpoint: price of a million prompt tokens.
        price_out: For an endpoint: price of a million reply tokens.
    """

    name: str = ""
    context: Context = "retrieved"
    model: str | None = None
    adapter: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 5
    price_in: float = 0.0
    price_out: float = 0.0


@dataclass(frozen=True, slots=True)
class WeightsConfig:
    """What counts in the verdict, in points: hundredths of `compare.metric`.

    Attributes:
        quality: Worth of a point of the metric.
        latency: Points that an answer loses per second it takes.
        cost: Points that an arm loses per unit of price of 1,000 answers (`compare.price_hour` or an endpoint's rates).
        changes: Points that an arm loses if its model knows the documents by heart, because it is trained on them and
            answers without retrieval: changes of the documents in a month, times the worth of training again after one.
    """

    quality: float = 1.0
    latency: float = 0.0
    cost: float = 0.0
    changes: float = 0.0


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """What is compared, and how answers are generated.

    Attributes:
        arms: Names of arms, see `hybrid.arms`; a section in place of a name describes another arm (`ArmConfig`).
        limit: Questions drawn at random from the file, the same ones with every seed; 0 takes all.
        max_new_tokens: Longest plain answer. With `prompt.answers: cited` a reply may have 4 tokens more for each of
            `prompt.k` passages, with `quoted` also 2 tokens for each of `prompt.quote_words`.
        batch_tokens: Prompt tokens of one batch.
        dev_questions: Questions of the training side on which the rag prompt is chosen.
        shots: Examples in the few-shot prompts tried for rag.
        price_hour: Price of an hour of this machine, for the costs of the arms that run on it.
        metric: The score that decides: the verdict, the choice of the rag prompt and the slices go by it.
        weights: What else counts in the verdict.
        grounding: How is measured whether the passages shown support an answer: `facts` and `lexical` by its words,
            `embedding` by the project's embedder, `entailment` by a model, `judge` by the model of `judge`, or `off`.
        entailment_model: For `entailment`: folder or hub id of a classifier that was trained on inference.
        perplexity: Whether every local model is asked how likely it finds the gold answers.
        forgetting: Whether every adapter is measured by the perplexity of general text, beside the model without it.
        judge: A language model that grades the answers.
    """

    arms: tuple[str | ArmConfig, ...] = ("base", "rag", "tuned", "hybrid")
    limit: int = 0
    max_new_tokens: int = 32
    batch_tokens: int = 8192
    dev_questions: int = 24
    shots: int = 3
    price_hour: float = 0.0
    metric: Metric = "f1"
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    grounding: Grounding = "facts"
    entailment_model: str | None = None
    perplexity: bool = False
    forgetting: bool = False
    judge: JudgeConfig = field(default_factory=JudgeConfig)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """When an assistant refuses without asking its model.

    Attributes:
        min_cosine: Least cosine of the question and the nearest passage retrieved; below it the documents are taken not
            to answer. 0 always asks. Reports of questions that are not answerable propose a value.
    """

    min_cosine: float = 0.0


@dataclass(frozen=True, slots=True)
class Config:
    """A project's configuration.

    Attributes:
        documents: Folder, file or BEIR corpus, relative to the project folder or absolute.
        questions: Questions with gold answers for the comparison, in the same formats as `pairs.file`, or None.
        model: Causal language model: an embedded model's name, a folder (as `documents`) or a hub id.
        embedder: Embedding model, named likewise.
        reranker: Cross-encoder that reads question and passage together, a folder or hub id; None leaves the order that
            search finds.
        seed: The one seed.
    """

    documents: str = "documents"
    questions: str | None = None
    model: str = SMOLLM2
    embedder: str = MINILM
    reranker: str | None = None
    seed: int = 0
    index: IndexConfig = field(default_factory=IndexConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    tune: TuneSettings = field(default_factory=TuneSettings)
    compare: CompareConfig = field(default_factory=CompareConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)


class _UniqueKeys(yaml.SafeLoader):
    """Reads YAML and refuses a key that stands twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise yaml.MarkedYAMLError("a key must be a word", node.start_mark, "such as documents", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError("the key stands twice", node.start_mark, repr(key.value), key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads `hybrid.yaml` and applies `key=value` overrides such as `tune.epochs=2`.

    Raises:
        ConfigError: The file is missing or no YAML mapping, a key is unknown (the nearest known key is named), or a
            value has the wrong type.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys) or {}  # a SafeLoader
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
    config: Config = build(Config, values, source)
    check_limits(config, source)
    return config


def config_to_yaml(config: Config) -> str:
    """Writes every key with its value, in the order of the dataclasses; a model that is asked only where it is set."""
    values: dict[str, Any] = dataclasses.asdict(
        config, dict_factory=lambda items: {k: list(v) if isinstance(v, tuple) else v for k, v in items}
    )
    if config.pairs.teacher_model == TeacherConfig():
        del values["pairs"]["teacher_model"]
    if config.compare.judge == JudgeConfig():
        del values["compare"]["judge"]
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
