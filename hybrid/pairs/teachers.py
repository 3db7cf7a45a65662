"""From the settings to a teacher, and what of it the pairs depend on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.artefacts import fingerprint
from hybrid.config import Config
from hybrid.models import load_tokenizer, resolve_model
from hybrid.pairs.drafts import draft_keys, read_drafts
from hybrid.pairs.offline.syntax import SyntaxTeacher
from hybrid.pairs.prompting.budget import FrugalTeacher
from hybrid.pairs.prompting.dialogue import ask
from hybrid.pairs.prompting.endpoint import Endpoint, check_endpoint
from hybrid.pairs.prompting.estimate import DraftPlan, count_characters, plan_prompts, plan_syntax
from hybrid.pairs.prompting.generator import Generator, Messages
from hybrid.pairs.prompting.local_model import LocalModel
from hybrid.pairs.prompting.prompted import VERSION, PromptedTeacher
from hybrid.pairs.teacher import Figures, Teacher
from hybrid.prompt import encode, to_text
from hybrid.retrieval.embed import fingerprint_folder
from hybrid.types import Chunk

_PROBE_CHUNKS, _PROBE_TOKENS = 4, 24


def make_teacher(config: Config, folder: Path, journal: Path, drafts: Path) -> Teacher:
    """Makes the teacher that `pairs.teacher` names; nothing is loaded or sent yet.

    Args:
        config: The configuration.
        folder: The project folder, to which a model's folder is relative.
        journal: File of the replies that arrived, for teachers that ask a model.
        drafts: File of what was drafted before.

    Raises:
        ConfigError: A setting of the teacher is missing or wrong.
        ModelError: The teacher's model is not found.
    """
    settings = config.pairs.teacher_model
    if config.pairs.teacher == "syntax":
        return SyntaxTeacher()
    generator: Generator
    proven = bool(read_drafts(drafts))
    if config.pairs.teacher == "endpoint":
        generator, window = Endpoint(settings), 8 * settings.concurrency
    else:
        path = resolve_model(settings.model or config.model, folder)
        generator = LocalModel(
            path, max_new_tokens=settings.max_new_tokens, batch_tokens=settings.batch_tokens, proven=proven
        )
        window = 32
    name = settings.model or config.model
    # The pairs go out into the world: they name a model's folder, not where it lies.
    name = Path(name).name if Path(name).is_absolute() else name
    teacher = PromptedTeacher(generator, name, settings, journal, window, proven=proven)
    return FrugalTeacher(teacher, settings) if settings.max_cost else teacher


def teacher_identity(config: Config, folder: Path) -> str | Mapping[str, str | float | None]:
    """What the drafts depend on beside the chunks: the teacher, its model and how it is asked.

    Where an endpoint is, how fast it may be asked, what it costs or may cost and its key are no part of it: a run goes
    on with the same model at another address.

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


def drafts_file(config: Config, folder: Path, store: Path) -> Path:
    """The file of what the teacher has drafted; another teacher, model or way of asking has another file.

    Args:
        config: The configuration.
        folder: The project folder.
        store: Folder of all artefacts.
    """
    return store / "cache" / "drafts" / f"{fingerprint(teacher=teacher_identity(config, folder))}.jsonl"


def plan_drafts(
    config: Config, folder: Path, drafts: Path, chunks: Sequence[Chunk], speed: float | None = None
) -> DraftPlan:
    """Estimates what drafting will take, without asking or loading the teacher.

    Args:
        config: The configuration.
        folder: The project folder.
        drafts: File of what was drafted before.
        chunks: All chunks.
        speed: Reply tokens a second of a local model, if it was measured.
    """
    settings, kind = config.pairs.teacher_model, config.pairs.teacher
    known = read_drafts(drafts).keys()
    keys = draft_keys(chunks, alone=kind != "syntax")
    missing = [chunk for key, chunk in zip(keys, chunks, strict=True) if key not in known]
    if kind == "syntax":
        return plan_syntax(len(chunks), chunks if missing else [])
    count = count_characters
    if kind == "model":
        tokenizer = load_tokenizer(resolve_model(settings.model or config.model, folder))

        def count(prompt: Messages) -> int:
            return len(encode(to_text(prompt, tokenizer), tokenizer))

    return plan_prompts(kind, len(chunks), missing, settings, count, speed)


def measure_speed(config: Config, folder: Path, chunks: Sequence[Chunk]) -> float | None:
    """Loads the local teacher and measures it on a batch of short replies: reply tokens a second; None if it is none.

    It reads the prompts for few tokens, so a run with longer replies is somewhat faster.
    """
    settings = config.pairs.teacher_model
    if config.pairs.teacher != "model" or not chunks:
        return None
    path = resolve_model(settings.model or config.model, folder)
    model = LocalModel(path, max_new_tokens=_PROBE_TOKENS, batch_tokens=settings.batch_tokens)
    prompts = [ask(chunk, settings.questions_per_chunk) for chunk in chunks[:_PROBE_CHUNKS]]
    list(model.generate(prompts[:1]))  # loads it
    started = time.perf_counter()
    tokens = sum(reply.tokens_out or 0 for reply in model.generate(prompts))
    return tokens / (time.perf_counter() - started)


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
