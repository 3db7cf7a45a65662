"""Any text generator as a judge of answers: a local model or an OpenAI-compatible endpoint.

judge = make_judge(JudgeConfig(mode="rubric"), config.model, folder, journal)
grades = grade(judge, [Case("When?", ("every 200 hours",), "Every 200 hours.")])
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hybrid.config import TeacherConfig
from hybrid.errors import ConfigError
from hybrid.journal import append_journal, read_journal
from hybrid.judge_settings import JudgeConfig
from hybrid.models import resolve_model
from hybrid.pairs.prompting.endpoint import Endpoint, check_endpoint, read_key
from hybrid.pairs.prompting.generator import Generator, Reply
from hybrid.pairs.prompting.local_model import LocalModel
from hybrid.prompt import Message

_SECTION = "compare.judge"


class GeneratorJudge:
    """Brings the replies of a generator, which come as they are done, into the order of the prompts.

    With a journal no prompt is sent again that an earlier run had answered; one that was refused is. A prompt that is
    asked repeatedly, to see how far the judge agrees with itself, is sent as often.

    Attributes:
        unanswered: Number of prompts so far that the generator refused, cut off or left out. Their judgements fail.
        calls: Number of prompts so far, those of earlier runs included.
        tokens_in: Tokens of these prompts, as far as the generator tells.
        tokens_out: Tokens of the replies, likewise.
    """

    def __init__(self, generator: Generator, journal: Path | None = None) -> None:
        """Makes the judge; nothing is sent yet.

        Args:
            generator: What is asked.
            journal: File of the replies that arrived, which is made if it is missing.
        """
        self._generator = generator
        self._journal = journal
        self._asked: Counter[str] = Counter()
        self.unanswered = self.calls = self.tokens_in = self.tokens_out = 0

    def generate(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
        """One reply per prompt; an empty one where there is none to trust.

        Raises:
            HybridError: The generator failed for good; see `LocalModel` and `Endpoint`. What it had answered by then
                is in the journal.
        """
        keys = [self._key(prompt) for prompt in prompts]
        known = dict(read_journal(self._journal, _restored)) if self._journal else {}
        todo = [place for place, key in enumerate(keys) if key not in known]
        replies = {place: known[key] for place, key in enumerate(keys) if key in known}
        if todo:
            with tqdm(total=len(todo), desc="judge", unit="call", leave=False) as bar:
                for reply in self._generator.generate([prompts[place] for place in todo]):
                    place = todo[reply.place]
                    replies[place] = reply
                    self._record(keys[place], reply)
                    bar.update()
        self._count(list(replies.values()))
        trusted = {place: reply.text for place, reply in replies.items() if reply.ended == "stop"}
        self.unanswered += len(prompts) - len(trusted)
        return [trusted.get(place, "") for place in range(len(prompts))]

    def _key(self, prompt: Sequence[Message]) -> str:
        mark = hashlib.sha256(json.dumps(list(prompt)).encode()).hexdigest()[:24]
        self._asked[mark] += 1
        return f"{mark}-{self._asked[mark]}"

    def _count(self, replies: Sequence[Reply]) -> None:
        self.calls += len(replies)
        self.tokens_in += sum(reply.tokens_in or 0 for reply in replies)
        self.tokens_out += sum(reply.tokens_out or 0 for reply in replies)

    def _record(self, key: str, reply: Reply) -> None:
        if self._journal and reply.ended != "refused":
            append_journal(self._journal, [{"key": key, **reply._asdict(), "place": 0}])


def _restored(values: dict[str, Any]) -> tuple[str, Reply]:
    return str(values.pop("key")), Reply(**values)


def make_judge(settings: JudgeConfig, own_model: str, folder: Path, journal: Path | None = None) -> GeneratorJudge:
    """Makes the judge that the settings name; nothing is loaded or sent yet.

    Args:
        settings: Which model, and how it is asked.
        own_model: The project's own model, which judges where no other is named.
        folder: The project folder, to which a model's folder is relative.
        journal: File of the replies that arrived.

    Raises:
        ConfigError: See `check_judge`.
        ModelError: The model is not found.
    """
    check_judge(settings)
    if settings.base_url is None:
        path = resolve_model(settings.model or own_model, folder)
        local = LocalModel(path, max_new_tokens=settings.max_new_tokens, batch_tokens=settings.batch_tokens)
        return GeneratorJudge(local, journal)
    return GeneratorJudge(Endpoint(_asked(settings), section=_SECTION), journal)


def check_judge(settings: JudgeConfig) -> None:
    """Checks the settings of an endpoint; a local model has none to check.

    Raises:
        ConfigError: The endpoint's model is missing, or the address or the name of the key's variable is not of its
            form.
    """
    if settings.base_url is None:
        return
    if not settings.model:
        raise ConfigError(
            f"{_SECTION}.base_url names an endpoint: set {_SECTION}.model to the name that it knows the model by"
        )
    check_endpoint(_asked(settings), _SECTION)


def check_key(settings: JudgeConfig) -> None:
    """Refuses to begin a long work at whose end the endpoint would get no key.

    Raises:
        ConfigError: The environment variable with the key is not set.
    """
    if settings.base_url:
        read_key(settings.key_env, _SECTION)


def _asked(settings: JudgeConfig) -> TeacherConfig:
    return TeacherConfig(
        model=settings.model,
        base_url=settings.base_url,
        key_env=settings.key_env,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        retries=settings.retries,
    )


def identity(settings: JudgeConfig) -> JudgeConfig:
    """The settings that judgements depend on: where an endpoint is, its key and its pace are no part of them.

    >>> identity(JudgeConfig(base_url="http://here/v1", model="m")) == identity(JudgeConfig(model="m"))
    True
    """
    neutral = JudgeConfig()
    return replace(
        settings,
        base_url=None,
        key_env=None,
        batch_tokens=neutral.batch_tokens,
        concurrency=neutral.concurrency,
        timeout=neutral.timeout,
        retries=neutral.retries,
    )
