"""Published artefacts to what answers questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid import rag_prompt
from hybrid.arms import Arm, PromptChoice, Runner
from hybrid.artefacts import read_manifest
from hybrid.assistant import Assistant
from hybrid.errors import ArtefactError
from hybrid.retrieval.index import Index
from hybrid.retrieval.retriever import Retriever
from hybrid.stages.parts import project_embedder, project_tokenizer, require_adapter

if TYPE_CHECKING:
    from hybrid.project import Project


def load_runner(project: Project, adapter: str | None) -> Runner:
    """Loads the project's model, with an adapter if one is named.

    Raises:
        ArtefactError: The adapter has not been trained.
    """
    from peft import PeftModel

    from hybrid.tuning.model import compute_dtype, default_device, load_base, load_tuned

    if adapter is None:
        device = default_device()
        model = load_base(project.model, method="lora", dtype=compute_dtype("auto", device), device=device)
        model.eval()  # type: ignore[no-untyped-call]
    else:
        folder = project.path(f"tune/{adapter}")
        require_adapter(project, adapter)
        tuned = load_tuned(project.model, folder)
        # Outside a GPU the base is not packed: added to the weights, the adapter costs nothing per token.
        model = tuned.merge_and_unload() if isinstance(tuned, PeftModel) and tuned.device.type == "cpu" else tuned
    tokenizer = project_tokenizer(project)
    compare_config = project.config.compare
    return Runner(model, tokenizer, project.config.prompt, compare_config.max_new_tokens, compare_config.batch_tokens)


def load_assistant(project: Project, arm: Arm) -> Assistant:
    """Loads model and index of an arm; rag prompts as the last comparison found best."""
    retriever = None
    if arm.retrieval:
        if read_manifest(project.path("index")) is None:
            raise ArtefactError(f"{project.folder} has no index; run: hybrid index --project {project.folder}")
        retriever = Retriever(Index.load(project.path("index")), project_embedder(project))
    choice = rag_prompt.load(project.path("compare") / rag_prompt.FILE) if arm.name == "rag" else None
    choice = choice or PromptChoice("zero-shot", project.config.prompt.k, ())
    return Assistant(load_runner(project, arm.adapter), retriever, choice, arm.name)
