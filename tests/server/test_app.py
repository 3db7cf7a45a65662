"""The HTTP server by real requests on a free loopback port, with an assistant that needs no model."""

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, NamedTuple

import pytest

from hybrid.assistant import AnswerStream
from hybrid.errors import ArtefactError, ConfigError
from hybrid.server import Server, make_server
from hybrid.server.app import MAX_WAITING
from hybrid.server.messages import MAX_QUESTION, ChatRequest, is_own_host, parse_request
from hybrid.types import Answer, Citation

CITATION = Citation(1, "docs/<b>pump</b>.md", 3, 14, "every 4 years")
CHAT = "/v1/chat/completions"


class EchoAssistant:
    """Answers with the question, and notices if two generations overlap."""

    arm = "hybrid"

    def __init__(self) -> None:
        self.active = self.most_active = 0

    def ask(self, question: str) -> Answer:
        stream = self.stream(question)
        assert "".join(stream)
        return stream.answer

    def stream(self, question: str) -> AnswerStream:
        return AnswerStream(self._write(question))

    def _write(self, question: str) -> Generator[str, None, Answer]:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            time.sleep(0.01)
            if question == "crash":
                raise RuntimeError("secret internals")
            if question == "stale":
                raise ArtefactError("the index is damaged")
            text = f"You asked: {question}"
            yield from re.findall(r"\S+\s*", text)
        finally:
            self.active -= 1
        return Answer(
            text.removesuffix(" [9]"),
            (CITATION,),
            abstained=question == "unknown",
            invalid_citations=2,
            cut_off=question == "long",
        )


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with make_server(EchoAssistant(), port=0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _send(
    server: Server, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return Response(reply.status, reply.headers, reply.read().decode())
    finally:
        connection.close()


def _chat(server: Server, question: object, **values: Any) -> Response:
    messages = [{"role": "system", "content": "ignored"}, {"role": "user", "content": question}]
    return _send(server, "POST", CHAT, json.dumps({"messages": messages, **values}).encode())


def _events(response: Response) -> list[str]:
    return [event.removeprefix("data: ") for event in response.text.split("\n\n") if event]


def test_health_and_models(server: Server) -> None:
    assert _send(server, "GET", "/health").json() == {"status": "ok", "model": "hybrid"}
    assert [model["id"] for model in _send(server, "GET", "/v1/models").json()["data"]] == ["hybrid"]


def test_a_completion_carries_citations(server: Server) -> None:
    response = _chat(server, "Wie groß?", model="hybrid", temperature=0.3)
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "hybrid"
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "You asked: Wie groß?"}, "finish_reason": "stop"}
    ]
    assert body["citations"] == [asdict(CITATION)]
    assert body["invalid_citations"] == 2
    assert body["abstained"] is False
    assert _chat(server, "unknown").json()["abstained"] is True


def test_a_stream_gives_the_same_text_in_pieces(server: Server) -> None:
    response = _chat(server, "one\n\ntwo é", stream=True)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *events, done = _events(response)
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {(chunk["object"], chunk["id"]) for chunk in chunks} == {("chat.completion.chunk", chunks[0]["id"])}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == "You asked: one\n\ntwo é"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["citations"][0]["quote"] == "every 4 years"


def test_a_stream_ends_with_the_plain_answer(server: Server) -> None:
    *events, last, _ = _events(_chat(server, "where [9]", stream=True))
    streamed = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(streamed) == "You asked: where [9]"
    assert json.loads(last)["answer"] == "You asked: where"
    assert json.loads(last)["invalid_citations"] == 2
    assert _chat(server, "where [9]").json()["choices"][0]["message"]["content"] == "You asked: where"


@pytest.mark.parametrize(("question", "reason"), [("long", "length"), ("short", "stop")])
def test_an_answer_that_was_cut_off_says_so_streamed_or_not(server: Server, question: str, reason: str) -> None:
    *_, last, _ = _events(_chat(server, question, stream=True))
    assert json.loads(last)["choices"][0]["finish_reason"] == reason
    assert _chat(server, question).json()["choices"][0]["finish_reason"] == reason


def test_the_page_is_self_contained_and_escapes(server: Server) -> None:
    response = _send(server, "GET", "/")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write", response.text)
    assert "textContent" in response.text
    assert "light-dark(" in response.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "JSON object"),
        (b"{}", "messages must be"),
        (b'{"messages": ["hi"]}', "messages must be"),
        (b'{"messages": [{"role": "system", "content": "x"}]}', "no user message"),
        (b'{"messages": [{"role": "user", "content": "  "}]}', "question is empty"),
        (b'{"messages": [{"role": "user"}]}', "content must be"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "text parts only"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream must be"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": 3}', "model must be"),
    ],
)
def test_a_malformed_request_is_explained(server: Server, body: bytes, message: str) -> None:
    response = _send(server, "POST", CHAT, body)
    assert response.status == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", CHAT, 405),
        ("PUT", "/health", 405),
        ("BREW", "/", 405),
    ],
)
def test_unknown_paths_and_methods(server: Server, method: str, path: str, status: int) -> None:
    response = _send(server, method, path)
    assert response.status == status
    assert response.json()["error"]["code"] == status


def test_posting_elsewhere_is_refused(server: Server) -> None:
    assert _send(server, "POST", "/health", b"{}").status == 405
    assert _send(server, "POST", "/nothing", b"{}").status == 404


def test_an_unknown_model_is_refused(server: Server) -> None:
    response = _chat(server, "x", model="gpt-4")
    assert response.status == 404
    assert "'hybrid'" in response.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    response = _send(server, "POST", CHAT, b" " * (3 << 20))
    assert response.status == 413
    assert "1048576" in response.json()["error"]["message"]


@pytest.mark.parametrize("length", ["-1", "ten", "9" * 5000])
def test_a_length_that_is_none_is_refused(server: Server, length: str) -> None:
    assert _send(server, "POST", CHAT, b"{}", {"Content-Length": length}).status == 411


def test_a_question_over_the_limit_is_refused(server: Server) -> None:
    assert "characters" in _chat(server, "x" * (MAX_QUESTION + 1)).json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Host": "["},
    ],
)
def test_other_hosts_and_origins_are_refused(server: Server, headers: dict[str, str]) -> None:
    assert _send(server, "GET", "/health", headers=headers).status == 403
    assert _send(server, "POST", CHAT, b"{}", headers).status == 403


def test_the_own_origin_is_served(server: Server) -> None:
    assert _send(server, "GET", "/health", headers={"Origin": server.url}).status == 200
    assert _send(server, "GET", "/health", headers={"Host": f"localhost:{server.server_port}"}).status == 200


def test_a_failing_model_shows_no_internals(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    response = _chat(server, "crash")
    assert response.status == 500
    assert "secret" not in response.text
    assert _chat(server, "stale").json()["error"]["message"] == "the index is damaged"
    events = _events(_chat(server, "crash", stream=True))
    assert "[DONE]" not in events
    assert "secret" not in events[-1]
    assert json.loads(events[-1])["error"]["type"] == "server_error"
    assert "Traceback" not in capsys.readouterr().err


def test_concurrent_requests_get_their_own_answers_one_at_a_time(server: Server) -> None:
    questions = [f"question {number}" for number in range(24)]

    def ask(question: str) -> str:
        return str(_chat(server, question).json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, questions)) == [f"You asked: {question}" for question in questions]
    assert isinstance(server.assistant, EchoAssistant)
    assert server.assistant.most_active == 1


def test_a_client_that_leaves_does_not_block_the_next(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "w " * 7000}], "stream": True})
    with socket.create_connection(("127.0.0.1", server.server_port)) as raw:
        raw.sendall(f"POST {CHAT} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        raw.recv(10)
    assert _chat(server, "next").status == 200
    assert "Traceback" not in capsys.readouterr().err


class HeldAssistant(EchoAssistant):
    """Answers no question before it is let go, and notes which ones it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.asked: list[str] = []

    def ask(self, question: str) -> Answer:
        self.asked.append(question)
        assert self.go.wait(30)
        return super().ask(question)


@pytest.fixture
def held() -> Iterator[Server]:
    with make_server(HeldAssistant(), port=0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.assistant.go.set()  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


def _post(server: Server, question: str) -> socket.socket:
    """A client that has asked, and has not read the answer."""
    body = json.dumps({"messages": [{"role": "user", "content": question}]})
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
    client.sendall(f"POST {CHAT} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return client


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_no_answer_is_computed_for_a_client_that_has_gone(held: Server) -> None:
    assistant = held.assistant
    assert isinstance(assistant, HeldAssistant)
    with _post(held, "first") as first:
        _wait_until(lambda: assistant.asked == ["first"])
        for number in range(5):
            _post(held, f"gone {number}").close()
        with _post(held, "last") as last:
            _wait_until(lambda: held.places._value == MAX_WAITING - 6)
            assistant.go.set()
            assert b"You asked: first" in first.makefile("rb").read()
            assert b"You asked: last" in last.makefile("rb").read()
    _wait_until(lambda: held.places._value == MAX_WAITING + 1)
    assert sorted(assistant.asked) == ["first", "last"]


def test_a_full_queue_turns_questions_away_and_takes_more_once_it_is_empty(held: Server) -> None:
    assistant = held.assistant
    assert isinstance(assistant, HeldAssistant)
    clients = [_post(held, str(number)) for number in range(MAX_WAITING + 1)]
    _wait_until(lambda: held.places._value == 0)
    refused = _chat(held, "one too many")
    assert refused.status == 503
    assert "64 questions wait already" in refused.json()["error"]["message"]
    assert _send(held, "GET", "/health").status == 200
    assistant.go.set()
    for client in clients:
        assert b"You asked: " in client.makefile("rb").read()
        client.close()
    assert _chat(held, "again").status == 200


def test_binding_to_a_port_in_use_is_a_mistake_in_words(server: Server) -> None:
    with pytest.raises(ConfigError, match="--port"):
        make_server(EchoAssistant(), port=server.server_port)
    with pytest.raises(ConfigError, match="--port"):
        make_server(EchoAssistant(), port=70_000)


def test_the_server_binds_to_loopback_by_default(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.is_local


def test_the_last_user_message_is_the_question() -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "so"},
        {"role": "user", "content": [{"type": "text", "text": "last"}]},
    ]
    assert parse_request(json.dumps({"messages": messages}).encode()) == ChatRequest("last", None, False)


@pytest.mark.parametrize(
    ("header", "bound", "own"),
    [
        ("127.0.0.1:80", "127.0.0.1", True),
        ("[::1]:80", "127.0.0.1", True),
        ("LOCALHOST", "::1", True),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("192.168.0.5:80", "192.168.0.5", True),
        ("localhost", "192.168.0.5", False),
        ("anything", "0.0.0.0", True),
    ],
)
def test_hosts(header: str, bound: str, own: bool) -> None:
    assert is_own_host(header, bound) is own
