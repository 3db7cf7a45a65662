"""The HTTP server: `POST /v1/chat/completions`, `GET /v1/models`, `GET /health` and the chat page at `GET /`.

Questions are answered one at a time and each on its own: the last user message is the question, messages before it and
sampling parameters are not used. The server has no passwords, so it binds to this machine alone unless told otherwise;
a web page of another origin, or a name that was made to point here, is refused.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from hybrid.errors import ConfigError, HybridError
from hybrid.server.messages import LOOPBACK, Answering, chunks, completion, error_body, is_own_host, parse_request

MAX_BODY = 1 << 20
_PATHS = {"/": "GET", "/health": "GET", "/v1/models": "GET", "/v1/chat/completions": "POST"}
_CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Server(ThreadingHTTPServer):
    """Serves one assistant; made by `make_server`. A thread per connection, one generation at a time."""

    def __init__(self, assistant: Answering, host: str, port: int) -> None:
        self.assistant = assistant
        self.host = host
        self.generating = threading.Lock()
        self.page = files("hybrid.server").joinpath("page.html").read_bytes()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Reports what went wrong with a connection in one line; a client that has gone is no error."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            sys.stderr.write(f"hybrid: a request failed: {error!r}\n")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.server_port}"

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach it."""
        return self.host in LOOPBACK


def make_server(assistant: Answering, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """Binds a server; port 0 takes a free one. `serve_forever` starts it.

    Raises:
        ConfigError: The address cannot be used.
    """
    try:
        return Server(assistant, host, port)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port") from error


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "hybrid"
    timeout = 60  # a client that does not read must not keep the model for itself

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif self.path == "/health":
            self._send_json(HTTPStatus.OK, {"status": "ok", "model": self.server.assistant.arm})
        else:
            model = {"id": self.server.assistant.arm, "object": "model", "owned_by": "hybrid", "created": 0}
            self._send_json(HTTPStatus.OK, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = self._body()
        if body is None or self._is_refused():
            return
        try:
            request = parse_request(body)
        except ConfigError as error:
            return self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        served = self.server.assistant.arm
        if request.model not in (None, served):
            return self.send_error(HTTPStatus.NOT_FOUND, f"model {request.model!r} is not served here; {served!r} is")
        with self.server.generating:
            self._stream(request.question) if request.stream else self._answer(request.question)

    def _answer(self, question: str) -> None:
        try:
            body = completion(self.server.assistant.ask(question), self.server.assistant.arm)
        except Exception as error:  # whatever the model raises, the client gets an answer and the server lives
            return self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, self._explain(error))
        self._send_json(HTTPStatus.OK, body)

    def _stream(self, question: str) -> None:
        self._start(HTTPStatus.OK, "text/event-stream; charset=utf-8")
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

    def _body(self) -> bytes | None:
        """The body of the request, or None after an error was sent."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 18:
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "the request needs a valid Content-Length")
            return None
        if int(length) > MAX_BODY:
            rest = min(int(length), 16 * MAX_BODY)  # read on, or the client would not come to read the error
            while part := self.rfile.read(min(1 << 16, rest)):
                rest -= len(part)
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {MAX_BODY} bytes")
            return None
        return self.rfile.read(int(length))

    def _is_refused(self) -> bool:
        """Sends an error to a request that is not for this server, or not for a known path and method."""
        origin = self.headers.get("Origin")
        if not is_own_host(self.headers.get("Host"), self.server.host) or (
            origin is not None and _host_of(origin) != self.headers.get("Host")
        ):
            self.send_error(HTTPStatus.FORBIDDEN, f"this server answers to {self.server.url} only")
        elif self.path not in _PATHS:
            self.send_error(HTTPStatus.NOT_FOUND, f"there is no {self.path}; known are {', '.join(_PATHS)}")
        elif _PATHS[self.path] != self.command:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.path} takes {_PATHS[self.path]}")
        else:
            return False
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Sends an error as JSON, also those that the standard library finds; an unknown method is 405 here."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._send_json(status, error_body(status, message or status.phrase))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Writes nothing: stderr is for what goes wrong."""

    def _send_json(self, status: HTTPStatus, values: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(values, ensure_ascii=False).encode(errors="replace"), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._start(status, kind, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _CONTENT_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def _event(self, values: Mapping[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(values, ensure_ascii=False).encode(errors="replace") + b"\n\n")
        self.wfile.flush()


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # no URL, such as "http://["
        return None
