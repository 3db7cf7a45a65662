"""From an HTTP body to a question, and from an answer to the bodies of the OpenAI API: functions without a server."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from hybrid.errors import ConfigError
from hybrid.types import Answer

if TYPE_CHECKING:
    from hybrid.assistant import AnswerStream

MAX_QUESTION = 16_000  # characters: a longer prompt would occupy the model for everyone
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_WILDCARD = frozenset({"", "0.0.0.0", "::"})


class Answering(Protocol):
    """What the server needs of an assistant."""

    @property
    def arm(self) -> str:
        """Name of the arm it serves; the `model` of the API."""
        ...

    def ask(self, question: str) -> Answer:
        """Answers one question."""
        ...

    def stream(self, question: str) -> AnswerStream:
        """Answers one question piece by piece."""
        ...


class ChatRequest(NamedTuple):
    """What is used of a request; `model` is None if it names none."""

    question: str
    model: str | None
    stream: bool


def parse_request(body: bytes) -> ChatRequest:
    """Reads the body of a chat completion request.

    Raises:
        ConfigError: It is no such request, or holds no question.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ConfigError("the body is not valid JSON") from error
    if not isinstance(values, dict):
        raise ConfigError("the body must be a JSON object")
    model, stream = values.get("model"), values.get("stream") or False
    if not isinstance(model, str | None):
        raise ConfigError("model must be a string")
    if not isinstance(stream, bool):
        raise ConfigError("stream must be true or false")
    return ChatRequest(_question(values.get("messages")), model, stream)


def _question(messages: object) -> str:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ConfigError("messages must be a list of objects with role and content")
    asked = [message.get("content") for message in messages if message.get("role") == "user"]
    if not asked:
        raise ConfigError("messages holds no user message")
    question = _text(asked[-1]).strip()
    if not question:
        raise ConfigError("the question is empty")
    if len(question) > MAX_QUESTION:
        raise ConfigError(f"the question has {len(question)} characters, more than {MAX_QUESTION}")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigError("the question holds half of a surrogate pair, which is no character") from error
    return question


def _text(content: object) -> str:
    """The text of a message: a string, or a list of text parts."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise ConfigError("content must be a string or a list of text parts")
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ConfigError("content may hold text parts only")
    return "\n".join(part["text"] for part in parts)


def completion(answer: Answer, model: str) -> dict[str, Any]:
    """An answer as a chat completion, with `citations`, `invalid_citations` and `abstained` added."""
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(answer)}
    return {**_head("chat.completion", model), "choices": [choice], **_evidence(answer)}


def chunks(assistant: Answering, question: str) -> Iterator[dict[str, Any]]:
    """A streamed answer as chat completion chunks.

    The last one carries `citations`, `invalid_citations`, `abstained`, and the plain `answer`: what is streamed may
    hold quotes and numbers of passages too.
    """
    head = _head("chat.completion.chunk", assistant.arm)
    yield _chunk(head, {"role": "assistant", "content": ""})
    stream = assistant.stream(question)
    for piece in stream:
        yield _chunk(head, {"content": piece})
    answer = stream.answer
    yield {**_chunk(head, {}, _finish_reason(answer)), **_evidence(answer), "answer": answer.text}


def _finish_reason(answer: Answer) -> str:
    return "length" if answer.cut_off else "stop"


def _chunk(head: Mapping[str, Any], delta: Mapping[str, str], finish: str | None = None) -> dict[str, Any]:
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _evidence(answer: Answer) -> dict[str, Any]:
    return {
        "citations": [asdict(citation) for citation in answer.citations],
        "invalid_citations": answer.invalid_citations,
        "abstained": answer.abstained,
    }


def error_body(status: int, message: str) -> dict[str, Any]:
    """An error in the form of the OpenAI API."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": status}}


def is_own_host(header: str | None, bound: str) -> bool:
    """True if the Host of a request, or the netloc of its Origin, is the address that the server is bound to.

    >>> is_own_host("localhost:8000", "127.0.0.1"), is_own_host("evil.example", "127.0.0.1"), is_own_host(None, "::1")
    (True, False, False)
    """
    if bound in _WILDCARD:
        return True
    try:
        name = urlsplit(f"//{header or ''}").hostname or ""
    except ValueError:
        return False
    return name == bound.lower() or {name, bound} <= LOOPBACK
