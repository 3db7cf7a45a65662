"""The server of `hybrid pairs review`: the page of all pairs at `GET /`, and `POST /marks` for each mark made on it.

It binds to this machine alone. A mark is taken only with the token that the page was served with, which no page of
another origin can read.
"""

from __future__ import annotations

import hmac
import json
import secrets
from http import HTTPStatus
from typing import Any, Protocol

from hybrid.errors import ConfigError, HybridError
from hybrid.pairs.review.marks import Verdict
from hybrid.server.local import LocalHandler, LocalServer, bound

_HOST = "127.0.0.1"
_MAX_REASON = 2000  # characters


class Reviewed(Protocol):
    """What is reviewed."""

    def page(self, token: str) -> str:
        """The page as it is now."""
        ...

    def mark(self, key: str, verdict: Verdict | None, reason: str) -> None:
        """Saves a mark, or takes it away."""
        ...


class ReviewServer(LocalServer):
    """Serves one review; made by `make_review_server`."""

    def __init__(self, reviewed: Reviewed, port: int) -> None:
        self.reviewed = reviewed
        self.token = secrets.token_urlsafe(24)
        super().__init__(_HOST, port, _Handler)


def make_review_server(reviewed: Reviewed, port: int = 8001) -> ReviewServer:
    """Binds a server; port 0 takes a free one. `serve_forever` starts it.

    Raises:
        ConfigError: The port cannot be used.
    """
    return bound(lambda: ReviewServer(reviewed, port), _HOST, port, options="--port")


class _Handler(LocalHandler):
    server: ReviewServer
    paths = {"/": "GET", "/marks": "POST"}  # noqa: RUF012

    def do_GET(self) -> None:
        if self.is_refused():
            return
        try:
            page = self.server.reviewed.page(self.server.token)
        except HybridError as error:
            return self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        self.send(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        body = self.read_body()
        if body is None or self.is_refused():
            return
        if not hmac.compare_digest(self.headers.get("X-Hybrid-Token", "").encode(), self.server.token.encode()):
            return self.send_error(HTTPStatus.FORBIDDEN, "this page is of an earlier review; load it again")
        try:
            self.server.reviewed.mark(*_parse(body))
        except HybridError as error:
            return self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        self.send_json(HTTPStatus.OK, {"saved": True})


def _parse(body: bytes) -> tuple[str, Any, str]:
    """Id, verdict and reason of a request; the verdict is checked where marks are made.

    Raises:
        ConfigError: The body is no such request.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ConfigError("the body is not valid JSON") from error
    if not isinstance(values, dict) or values.keys() != {"id", "mark", "reason"}:
        raise ConfigError("the body must be a JSON object with id, mark and reason")
    key, verdict, reason = values["id"], values["mark"], values["reason"]
    if not isinstance(key, str) or not isinstance(verdict, str | None) or not isinstance(reason, str):
        raise ConfigError("id and reason must be strings, and mark a string or null")
    if len(reason) > _MAX_REASON:
        raise ConfigError(f"the reason has {len(reason)} characters, more than {_MAX_REASON}")
    return key, verdict, reason
