"""What several stages load of a project, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.answers import reply_tokens
from hybrid.artefacts import check_files, fingerprint, read_manifest
from hybrid.errors import ArtefactError, ConfigError
from hybrid.models import load_tokenizer, max_positions
from hybrid.pairs.formats.export import read_pairs
from hybrid.retrieval.embed import CachedEmbedder, SentenceEmbedder, fingerprint_folder
from hybrid.retrieval.index import Index
from hybrid.retrieval.rerank import CrossEncoderReranker
from hybrid.retrieval.retriever import Retriever

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hybrid.project import Project
    from hybrid.types import Pair


def require_adapter(project: Project, adapter: str) -> None:
    """Refuses an adapter that is missing or belongs to another model."""
    way_out = f"run: hybrid tune --project {project.folder}"
    manifest = read_manifest(project.path(f"tune/{adapter}"))
    if manifest is None:
        raise ArtefactError(f"the adapter {adapter!r} has not been trained; {way_out}")
    if manifest["inputs"].get("model") != fingerprint(value=fingerprint_folder(project.model)):
        raise ArtefactError(
            f"the adapter {adapter!r} was trained on another model than {project.config.model}; {way_out}"
        )
    check_files(project.path(f"tune/{adapter}"), manifest.get("files", {}), f"{way_out} --force")


def published_pairs(project: Project, part: str) -> list[Pair]:
    """The pairs of a part, `train` or `dev`, as they were published."""
    way_out = f"run: hybrid pairs --project {project.folder}"
    if read_manifest(project.path("pairs")) is None:
        raise ArtefactError(f"{project.folder} has no pairs; {way_out}")
    check_files(project.path("pairs"), [f"{part}.jsonl"], f"{way_out} --force")
    return read_pairs(project.path("pairs") / f"{part}.jsonl")


def project_tokenizer(project: Project) -> PreTrainedTokenizerBase:
    """The model's tokenizer, once it is known that the longest prompt and answer fit the model."""
    return checked_tokenizer(project, project.model, project.config.model)


def checked_tokenizer(project: Project, model: Path, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model in this folder, once it is known that the longest prompt and answer fit the model."""
    prompt = project.config.prompt.max_tokens
    answer = reply_tokens(project.config.compare.max_new_tokens, project.config.prompt)
    positions = max_positions(model)
    if positions and prompt + answer > positions:
        raise ConfigError(
            f"prompt.max_tokens = {prompt} and replies of {answer} tokens (compare.max_new_tokens and what "
            f"prompt.answers adds to it) are more than the {positions} tokens that {name} reads; "
            f"set prompt.max_tokens to {positions - answer} or less"
        )
    return load_tokenizer(model)


def project_embedder(project: Project) -> CachedEmbedder:
    """The project's embedding model, which embeds no text twice."""
    return CachedEmbedder(SentenceEmbedder(project.embedder), project.store / "cache")


def project_retriever(
    project: Project, index: Index | None = None, embedder: CachedEmbedder | None = None
) -> Retriever:
    """The project's index, searched as the project says; what the caller has loaded is not loaded again."""
    return Retriever(
        index or Index.load(project.path("index")),
        embedder or project_embedder(project),
        project.config.index.search,
        CrossEncoderReranker(project.reranker) if project.reranker else None,
        project.config.index.rerank,
    )
