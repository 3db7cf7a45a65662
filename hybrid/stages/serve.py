"""Published artefacts to what answers questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid import rag_prompt
from hybrid.arms import Answerer, Arm, PromptChoice, Runner
from hybrid.artefacts import MANIFEST, fingerprint_files, read_manifest
from hybrid.assistant import Assistant
from hybrid.config import ArmConfig
from hybrid.errors import ArtefactError, ConfigError
from hybrid.external import endpoint_answerer
from hybrid.models import resolve_model
from hybrid.retrieval.embed import fingerprint_folder
from hybrid.stages.parts import checked_tokenizer, project_retriever, require_adapter

if TYPE_CHECKING:
    from hybrid.project import Project


def load_runner(project: Project, adapter: str | None) -> Runner:
    """Loads the project's model, with an adapter if one is named.

    Raises:
        ArtefactError: The adapter has not been trained.
    """
    if adapter is not None:
        require_adapter(project, adapter)
    return _load(project, project.model, project.config.model, project.path(f"tune/{adapter}") if adapter else None)


def load_answerer(project: Project, arm: Arm) -> Answerer:
    """Loads what answers for an arm; of an endpoint nothing is asked yet.

    Raises:
        ArtefactError: The arm's adapter has not been trained.
        ConfigError: The endpoint's settings or the adapter's folder are wrong.
        ModelError: The model cannot be found or loaded.
    """
    other = arm.other
    if other is None:
        return load_runner(project, arm.adapter)
    if other.base_url is not None:
        return endpoint_answerer(other, project.config.prompt, project.config.compare.max_new_tokens)
    model = resolve_model(other.model, project.folder) if other.model else project.model
    return _load(project, model, other.model or project.config.model, _adapter_folder(project, other))


def answerer_identity(project: Project, arm: Arm) -> dict[str, Any] | None:
    """What the replies of an arm depend on beside questions, passages and prompt; None for a function, which has none.

    The key of an endpoint, its pace and its prices are no part of it.

    Raises:
        ArtefactError: The arm's adapter has not been trained.
        ConfigError: The adapter's folder is wrong.
        ModelError: The model cannot be found.
    """
    config, other = project.config, arm.other
    asked = {"prompt settings": config.prompt, "max_new_tokens": config.compare.max_new_tokens}
    if arm.outside:
        return {**asked, "model": other.model, "base_url": other.base_url} if other else None
    from hybrid.tuning.model import compute_dtype, default_device

    if arm.adapter:
        require_adapter(project, arm.adapter)
    device = default_device()
    own = project.path(f"tune/{arm.adapter}") if arm.adapter else None
    adapter = _adapter_folder(project, other) if other else own
    model = resolve_model(other.model, project.folder) if other and other.model else project.model
    return {
        **asked,
        "model": fingerprint_folder(model),
        "adapter": fingerprint_folder(adapter, without=MANIFEST) if adapter else None,
        # Other sums are rounded in another way.
        "batch_tokens": config.compare.batch_tokens,
        "device": [device.type, str(compute_dtype("auto", device))],
    }


def other_arms(project: Project) -> dict[str, str]:
    """What the arms that are none of the project's own depend on beside their settings, as hashes by name."""
    sources = {}
    for arm in project.config.compare.arms:
        if isinstance(arm, ArmConfig) and arm.base_url is None:
            folder = _adapter_folder(project, arm)
            model = fingerprint_folder(resolve_model(arm.model, project.folder)) if arm.model else ""
            sources[arm.name] = f"{model} {fingerprint_files(folder) if folder else ''}"
    return sources


def _adapter_folder(project: Project, arm: ArmConfig) -> Path | None:
    if arm.adapter is None:
        return None
    folder = project.folder / Path(arm.adapter).expanduser()
    if not any((folder / name).is_file() for name in ("adapter_config.json", "hybrid.json")):
        raise ConfigError(
            f"compare.arms: {arm.name}.adapter is {arm.adapter!r}, but {folder} holds no adapter_config.json"
        )
    return folder


def _load(project: Project, path: Path, name: str, adapter: Path | None) -> Runner:
    from peft import PeftModel

    from hybrid.tuning.model import compute_dtype, default_device, load_base, load_tuned

    tokenizer = checked_tokenizer(project, path, name)
    if adapter is None:
        device = default_device()
        model = load_base(path, method="lora", dtype=compute_dtype("auto", device), device=device)
        model.eval()  # type: ignore[no-untyped-call]
    else:
        tuned = load_tuned(path, adapter)
        # Outside a GPU the base is not packed: added to the weights, the adapter costs nothing per token.
        model = tuned.merge_and_unload() if isinstance(tuned, PeftModel) and tuned.device.type == "cpu" else tuned
    settings = project.config.compare
    return Runner(model, tokenizer, project.config.prompt, settings.max_new_tokens, settings.batch_tokens)


def load_assistant(project: Project, arm: Arm) -> Assistant:
    """Loads model and index of an arm; rag prompts as the last comparison found best.

    Raises:
        ConfigError: The arm's context needs gold answers, which no user's question has.
        ArtefactError: The project has no index, or the arm's adapter has not been trained.
    """
    if arm.context in {"oracle", "distractors"}:
        raise ConfigError(f"the arm {arm.name!r} is for comparisons alone: its context is chosen by the gold answers")
    retriever, pages = None, dict[str, list[int]]()
    if arm.context == "retrieved":
        if read_manifest(project.path("index")) is None:
            raise ArtefactError(f"{project.folder} has no index; run: hybrid index --project {project.folder}")
        retriever = project_retriever(project)
        documents = retriever.index.documents.items()
        known = {key: starts for key, document in documents if (starts := document.metadata.get("page_starts"))}
        pages = {key: [int(start) for start in starts.split(",")] for key, starts in known.items()}
    choice = rag_prompt.load(project.path("compare") / rag_prompt.FILE) if arm.searched else None
    choice = choice or PromptChoice("zero-shot", project.config.prompt.k, ())
    runner = load_runner(project, arm.adapter)
    return Assistant(runner, retriever, choice, arm.name, project.config.serve.min_cosine, pages)
