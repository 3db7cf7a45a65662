"""The HTTP server: `POST /v1/chat/completions`, `GET /v1/models`, `GET /health` and the chat page at `GET /`.

Questions are answered one at a time and each on its own: the last user message is the question, messages before it and
sampling parameters are not used. Those of clients that have hung up by then are dropped, and beyond 64 that wait, more
are turned away. The server has no passwords, so it binds to this machine alone unless told otherwise; a web page of
another origin, or a name that was made to point here, is refused. Bound to all addresses of the machine it answers to
any name, as it cannot know its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from hybrid.errors import ConfigError, HybridError, QuestionError
from hybrid.server.local import LocalHandler, LocalServer, bound
from hybrid.server.messages import Answering, chunks, completion, error_body, parse_request

MAX_WAITING = 64


class Server(LocalServer):
    """Serves one assistant; made by `make_server`. A thread per connection, one generation at a time."""

    def __init__(self, assistant: Answering, host: str, port: int) -> None:
        self.assistant = assistant
        self.generating = threading.Lock()
        self.places = threading.BoundedSemaphore(1 + MAX_WAITING)
        self.page = files("hybrid.server").joinpath("page.html").read_bytes()
        super().__init__(host, port, _Handler)


def make_server(assistant: Answering, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """Binds a server; port 0 takes a free one. `serve_forever` starts it.

    Raises:
        ConfigError: The address cannot be used.
    """
    return bound(lambda: Server(assistant, host, port), host, port, options="--host or --port")


class _Handler(LocalHandler):
    server: Server
    paths = {"/": "GET", "/health": "GET", "/v1/models": "GET", "/v1/chat/completions": "POST"}  # noqa: RUF012

    def do_GET(self) -> None:
        if self.is_refused():
            return
        if self.path == "/":
            self.send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif self.path == "/health":
            self.send_json(HTTPStatus.OK, {"status": "ok", "model": self.server.assistant.arm})
        else:
            model = {"id": self.server.assistant.arm, "object": "model", "owned_by": "hybrid", "created": 0}
            self.send_json(HTTPStatus.OK, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = self.read_body()
        if body is None or self.is_refused():
            return
        try:
            request = parse_request(body)
        except ConfigError as error:
            return self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        served = self.server.assistant.arm
        if request.model not in (None, served):
            return self.send_error(HTTPStatus.NOT_FOUND, f"model {request.model!r} is not served here; {served!r} is")
        if not self.server.places.acquire(blocking=False):
            return self.send_error(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MAX_WAITING} questions wait already, and one is answered at a time; ask again later",
            )
        try:
            with self.server.generating:
                if not self.client_has_gone():
                    self._stream(request.question) if request.stream else self._answer(request.question)
        finally:
            self.server.places.release()

    def _answer(self, question: str) -> None:
        try:
            body = completion(self.server.assistant.ask(question), self.server.assistant.arm)
        except (ConfigError, QuestionError) as error:
            return self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:  # whatever the model raises, the client gets an answer and the server lives
            return self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, self._explain(error))
        self.send_json(HTTPStatus.OK, body)

    def _stream(self, question: str) -> None:
        self.start(HTTPStatus.OK, "text/event-stream; charset=utf-8")
        try:
            for chunk in chunks(self.server.assistant, question):
                self._event(chunk)
        except OSError:  # the client has gone
            return
        except Exception as error:  # as above; the status has been sent
            self._event(error_body(HTTPStatus.INTERNAL_SERVER_ERROR, self._explain(error)))
        else:
            self.wfile.write(b"data: [DONE]\n\n")

    def _explain(self, error: Exception) -> str:
        self.log_error("answering failed: %r", error)
        return str(error) if isinstance(error, HybridError) else "the answer could not be computed"

    def _event(self, values: Mapping[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(values, ensure_ascii=False).encode(errors="replace") + b"\n\n")
        self.wfile.flush()
