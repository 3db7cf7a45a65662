"""What the servers of this package share: one address, small JSON bodies, and no request from elsewhere.

A web page of another origin, or a name that was made to point here, is refused; no page may frame these.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from hybrid.errors import ConfigError
from hybrid.server.messages import LOOPBACK, error_body, is_own_host

MAX_BODY = 1 << 20
_CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class LocalServer(ThreadingHTTPServer):
    """A server with a thread per connection."""

    def __init__(self, host: str, port: int, handler: type[LocalHandler]) -> None:
        self.host = host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

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


S = TypeVar("S", bound=LocalServer)


def bound(make: Callable[[], S], host: str, port: int, *, options: str) -> S:
    """Makes a server that binds to an address; `options` are those of the command that set it.

    Raises:
        ConfigError: The address cannot be used.
    """
    try:
        return make()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; choose another {options}") from error


class LocalHandler(BaseHTTPRequestHandler):
    """Reads and writes what handlers of a `LocalServer` need; `paths` maps each path to its method."""

    server: LocalServer
    paths: ClassVar[Mapping[str, str]]
    server_version = "hybrid"
    timeout = 60  # a client that does not read must not keep a thread, or the model, for itself

    def read_body(self) -> bytes | None:
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

    def client_has_gone(self) -> bool:
        """True if the client has closed its connection: nobody reads what would be sent."""
        self.connection.settimeout(0)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False  # it says nothing, and waits
        except OSError:
            return True
        finally:
            self.connection.settimeout(self.timeout)

    def is_refused(self) -> bool:
        """Sends an error to a request that is not for this server, or not for a known path and method."""
        origin = self.headers.get("Origin")
        if not is_own_host(self.headers.get("Host"), self.server.host) or (
            origin is not None and _host_of(origin) != self.headers.get("Host")
        ):
            self.send_error(HTTPStatus.FORBIDDEN, f"this server answers to {self.server.url} only")
        elif self.path not in self.paths:
            self.send_error(HTTPStatus.NOT_FOUND, f"there is no {self.path}; known are {', '.join(self.paths)}")
        elif self.paths[self.path] != self.command:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.path} takes {self.paths[self.path]}")
        else:
            return False
        return True

    def parse_request(self) -> bool:
        """As the standard library does, but without what stands behind the path."""
        if not super().parse_request():
            return False
        self.path = self.path.partition("?")[0]
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Sends an error as JSON, also those that the standard library finds; an unknown method is 405 here."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.send_json(status, error_body(status, message or status.phrase))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Writes nothing: stderr is for what goes wrong."""

    def send_json(self, status: HTTPStatus, values: Mapping[str, Any]) -> None:
        """Sends a JSON object."""
        self.send(status, json.dumps(values, ensure_ascii=False).encode(errors="replace"), "application/json")

    def send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        """Sends a whole body."""
        self.start(status, kind, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def start(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        """Sends status and headers; without a length the connection's end ends the body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _CONTENT_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # no URL, such as "http://["
        return None
