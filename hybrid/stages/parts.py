"""What several stages load of a project, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.artefacts import fingerprint, read_manifest
from hybrid.errors import ArtefactError, ConfigError
from hybrid.models import load_tokenizer, max_positions
from hybrid.retrieval.embed import CachedEmbedder, SentenceEmbedder, fingerprint_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hybrid.project import Project


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


def project_tokenizer(project: Project) -> PreTrainedTokenizerBase:
    """The model's tokenizer, once it is known that the longest prompt and answer fit the model."""
    prompt, answer = project.config.prompt.max_tokens, project.config.compare.max_new_tokens
    positions = max_positions(project.model)
    if positions and prompt + answer > positions:
        raise ConfigError(
            f"prompt.max_tokens = {prompt} and compare.max_new_tokens = {answer} are more than the {positions} tokens "
            f"that {project.config.model} reads; set prompt.max_tokens to {positions - answer} or less"
        )
    return load_tokenizer(project.model)


def project_embedder(project: Project) -> CachedEmbedder:
    """The project's embedding model, which embeds no text twice."""
    return CachedEmbedder(SentenceEmbedder(project.embedder), project.store / "cache")
