"""The review server by real requests on a free loopback port."""

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hybrid.errors import ConfigError
from hybrid.pairs.review.marks import Verdict
from hybrid.server.local import MAX_BODY
from hybrid.server.review import ReviewServer, make_review_server

MARK = {"id": "p1", "mark": "bad", "reason": "nonsense"}


class Notes:
    """Remembers what it is told, and knows no pair but p1."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Verdict | None, str]] = []

    def page(self, token: str) -> str:
        return f"<p>{token}</p>"

    def mark(self, key: str, verdict: Verdict | None, reason: str) -> None:
        if key != "p1":
            raise ConfigError(f"there is no pair {key!r}")
        self.made.append((key, verdict, reason))


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def server(notes: Notes) -> Iterator[ReviewServer]:
    with make_review_server(notes, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ReviewServer, method: str = "POST", path: str = "/marks", body: Any = MARK, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        sent = {"X-Hybrid-Token": server.token, **{name.replace("_", "-"): value for name, value in headers.items()}}
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, text if method == "POST" else None, sent)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def test_the_page_carries_the_token_and_may_not_be_framed_or_kept(server: ReviewServer) -> None:
    status, text, headers = ask(server, "GET", "/")
    assert (status, text) == (200, f"<p>{server.token}</p>")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert len(server.token) >= 32
    assert server.is_local


def test_marks_are_saved_at_once(server: ReviewServer, notes: Notes) -> None:
    assert ask(server)[0] == 200
    assert ask(server, body={"id": "p1", "mark": None, "reason": ""})[0] == 200
    assert notes.made == [("p1", "bad", "nonsense"), ("p1", None, "")]


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Hybrid_Token": ""},
        {"X_Hybrid_Token": "guessed"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
    ],
)
def test_a_mark_from_elsewhere_is_refused(server: ReviewServer, notes: Notes, headers: dict[str, str]) -> None:
    assert ask(server, **headers)[0] == 403
    assert notes.made == []


def test_the_page_is_not_given_to_another_name(server: ReviewServer) -> None:
    status, text, _ = ask(server, "GET", "/", Host="evil.example")
    assert status == 403
    assert server.token not in text


def test_a_page_of_its_own_origin_may_mark(server: ReviewServer, notes: Notes) -> None:
    assert ask(server, Origin=server.url)[0] == 200
    assert len(notes.made) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ([], "a JSON object with id, mark and reason"),
        ({**MARK, "more": 1}, "a JSON object with id, mark and reason"),
        ({**MARK, "id": 1}, "id and reason must be strings"),
        ({**MARK, "mark": True}, "mark a string or null"),
        ({**MARK, "reason": "x" * 2001}, "more than 2000"),
        ({**MARK, "id": "p2"}, "there is no pair 'p2'"),
    ],
)
def test_a_malformed_mark_is_named(server: ReviewServer, notes: Notes, body: Any, message: str) -> None:
    status, text, _ = ask(server, body=body)
    assert status == 400
    assert message in json.loads(text)["error"]["message"]
    assert notes.made == []


def test_a_large_body_is_refused(server: ReviewServer, notes: Notes) -> None:
    assert ask(server, body=b" " * (MAX_BODY + 1))[0] == 413
    assert notes.made == []


def test_other_paths_and_methods_are_refused(server: ReviewServer) -> None:
    assert ask(server, "GET", "/marks")[0] == 405
    assert ask(server, "GET", "/../hybrid.yaml")[0] == 404
    assert ask(server, "POST", "/")[0] == 405
    assert ask(server, "DELETE", "/marks")[0] == 405


def test_a_taken_port_is_named(server: ReviewServer, notes: Notes) -> None:
    with pytest.raises(ConfigError, match=rf"port {server.server_port}: .*; choose another --port$"):
        make_review_server(notes, server.server_port)
