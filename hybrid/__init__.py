"""Hybrid: from a folder of documents to a domain assistant, and the evidence for how to build it.

::

    import hybrid

    project = hybrid.Project.create("handbook", documents="docs/", questions="questions.jsonl")
    project.run()
    print(project.report().verdict)
    print(project.assistant().ask("How often must the impeller be replaced?").text)

Importing this package loads no torch, triton or transformers and does no network access; the names below load on
first use.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.assistant import Assistant
    from hybrid.config import Config
    from hybrid.errors import HybridError
    from hybrid.project import Project, Report
    from hybrid.types import Answer, Chunk, Citation, Document, Hit, Pair, Question, Quote

__all__ = [
    "Answer",
    "Assistant",
    "Chunk",
    "Citation",
    "Config",
    "Document",
    "Hit",
    "HybridError",
    "Pair",
    "Project",
    "Question",
    "Quote",
    "Report",
    "__version__",
]

_HOMES = {
    "Assistant": "hybrid.assistant",
    "Config": "hybrid.config",
    "HybridError": "hybrid.errors",
    "Project": "hybrid.project",
    "Report": "hybrid.project",
    **dict.fromkeys(("Answer", "Chunk", "Citation", "Document", "Hit", "Pair", "Question", "Quote"), "hybrid.types"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name == "__version__":
        return metadata.version("hybrid-rag")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
