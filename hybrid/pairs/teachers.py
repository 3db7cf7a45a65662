"""From the settings to a teacher, and what of it the pairs depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hybrid.config import Config
from hybrid.models import resolve_model
from hybrid.pairs.endpoint import Endpoint, check_endpoint
from hybrid.pairs.generator import Generator
from hybrid.pairs.local_model import LocalModel
from hybrid.pairs.prompted import VERSION, PromptedTeacher
from hybrid.pairs.syntax import SyntaxTeacher
from hybrid.pairs.teacher import Figures, Teacher
from hybrid.retrieval.embed import fingerprint_folder


def make_teacher(config: Config, folder: Path, journal: Path) -> Teacher:
    """Makes the teacher that `pairs.teacher` names; nothing is loaded or sent yet.

    Args:
        config: The configuration.
        folder: The project folder, to which a model's folder is relative.
        journal: File of the replies that arrived, for teachers that ask a model.

    Raises:
        ConfigError: A setting of the teacher is missing or wrong.
        ModelError: The teacher's model is not found.
    """
    settings = config.pairs.teacher_model
    if config.pairs.teacher == "syntax":
        return SyntaxTeacher()
    generator: Generator
    if config.pairs.teacher == "endpoint":
        generator, window = Endpoint(settings), 8 * settings.concurrency
    else:
        path = resolve_model(settings.model or config.model, folder)
        generator = LocalModel(path, max_new_tokens=settings.max_new_tokens, batch_tokens=settings.batch_tokens)
        window = 32
    name = settings.model or config.model
    # The pairs go out into the world: they name a model's folder, not where it lies.
    return PromptedTeacher(generator, Path(name).name if Path(name).is_absolute() else name, settings, journal, window)


def teacher_identity(config: Config, folder: Path) -> str | Mapping[str, str | float | None]:
    """What the drafts depend on beside the chunks: the teacher, its model and how it is asked.

    Where an endpoint is, how fast it may be asked, what it costs and its key are no part of it: a run goes on with the
    same model at another address.

    Raises:
        ConfigError: A setting of the teacher is missing or wrong.
        ModelError: The teacher's model is not found.
    """
    settings = config.pairs.teacher_model
    if config.pairs.teacher == "syntax":
        return SyntaxTeacher.name
    asked: dict[str, str | float | None] = {
        "teacher": VERSION,
        "questions_per_chunk": settings.questions_per_chunk,
        "max_new_tokens": settings.max_new_tokens,
    }
    if config.pairs.teacher == "model":
        return {**asked, "model": fingerprint_folder(resolve_model(settings.model or config.model, folder))}
    check_endpoint(settings)
    return {**asked, "model": settings.model, "temperature": settings.temperature}


def describe_figures(figures: Figures) -> str:
    r"""One line about what a teacher took and lost; empty if it asked no model.

    >>> describe_figures(Figures({"teacher calls": 2, "teacher tokens in": 1400}, {"no JSON object": 1}))
    'teacher calls: 2, teacher tokens in: 1400; dropped: no JSON object: 1\n'
    """
    if not any(figures.usage.values()):
        return ""
    usage = ", ".join(f"{name}: {value:.6g}" for name, value in figures.usage.items())
    dropped = ", ".join(f"{name}: {count}" for name, count in figures.dropped.items()) or "nothing"
    return f"{usage}; dropped: {dropped}\n"
