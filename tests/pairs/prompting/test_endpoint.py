"""Calls to an OpenAI-compatible server, against a real one: retries, waits, bounds, errors, and the key kept secret."""

import email.utils
import json
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hybrid.config import TeacherConfig
from hybrid.errors import ConfigError, EndpointError, HybridError
from hybrid.pairs.prompting.endpoint import Endpoint
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.prompting.prompted import PromptedTeacher
from hybrid.types import Chunk

KEY = "sk-very-secret-0123456789"


class Server:
    """An endpoint whose `answer` gives status, headers and body for a request and its number."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any], int], tuple[int, dict[str, str], Any]] = lambda body, _: ok(body)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.running = self.most = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    outer.times.append(time.monotonic())
                    outer.running += 1
                    outer.most = max(outer.most, outer.running)
                status, headers, content = outer.answer(body, number)
                with outer.lock:
                    outer.running -= 1
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client went away

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def ok(body: dict[str, Any], text: str | None = None, **choice: Any) -> tuple[int, dict[str, str], Any]:
    said = body["messages"][-1]["content"] if text is None else text
    return (
        200,
        {},
        {
            "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop", **choice}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        },
    )


def _slowly(seconds: float, body: dict[str, Any]) -> Any:
    time.sleep(seconds)
    return ok(body)


def failing(status: int, message: str = "no", **headers: str) -> tuple[int, dict[str, str], Any]:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, {"error": {"message": message}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("THE_KEY", KEY)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def settings(server: Server) -> Callable[..., TeacherConfig]:
    def make(**changes: Any) -> TeacherConfig:
        return TeacherConfig(**{"model": "m", "base_url": server.url, "timeout": 5.0, "retries": 3, **changes})

    return make


def _prompts(count: int) -> list[Messages]:
    return [[{"role": "user", "content": f"prompt {n}"}] for n in range(count)]


def _generate(settings: TeacherConfig, count: int = 1, backoff: float = 0.01) -> list[Reply]:
    return list(Endpoint(settings, backoff).generate(_prompts(count)))


Settings = Callable[..., TeacherConfig]


# --- what is sent and what comes back ---------------------------------------------------------------------------------


def test_a_call_sends_the_messages_and_reads_text_and_tokens(server: Server, settings: Settings) -> None:
    replies = _generate(settings(max_new_tokens=77, key_env="THE_KEY"), 3)
    assert [reply[:5] for reply in sorted(replies)] == [(n, f"prompt {n}", 7, 3, "stop") for n in range(3)]
    assert server.paths == ["/v1/chat/completions"] * 3
    body = min(server.bodies, key=str)
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "prompt 0"}],
        "max_tokens": 77,
        "temperature": 0.0,
        "stream": False,
    }
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
def test_the_address_may_be_written_in_several_ways(tail: str, server: Server, settings: Settings) -> None:
    assert len(_generate(settings(base_url=server.url + tail))) == 1
    assert server.paths == ["/v1/chat/completions"]


def test_without_a_key_none_is_sent_and_a_temperature_may_be_left_out(server: Server, settings: Settings) -> None:
    _generate(settings(temperature=None))
    assert "Authorization" not in server.headers[0]
    assert "temperature" not in server.bodies[0]


def test_lengths_and_missing_counts_are_told(server: Server, settings: Settings) -> None:
    server.answer = lambda body, _: ok(body, "cut", finish_reason="length")
    assert _generate(settings())[0].ended == "length"
    server.answer = lambda _, __: (200, {}, {"choices": [{"message": {"content": None}}]})
    assert [reply[:5] for reply in _generate(settings())] == [(0, "", None, None, "stop")]


def test_seconds_are_those_of_the_call_that_succeeded(server: Server, settings: Settings) -> None:
    server.answer = lambda body, n: failing(429, Retry_After="1") if n == 0 else _slowly(0.2, body)
    replies = _generate(settings(concurrency=4), 4)
    assert len(server.bodies) == 5
    # The calls run side by side, so that some replies arrive together; the second before the new try is not counted.
    assert all(0.2 <= (reply.seconds or 0.0) < 1.0 for reply in replies)
    server.answer = lambda _, __: failing(400, "too long")
    assert [(reply.ended, reply.seconds) for reply in _generate(settings())] == [("refused", None)]


def test_models_that_call_the_limit_otherwise_are_served(server: Server, settings: Settings) -> None:
    def answer(body: dict[str, Any], _: int) -> Any:
        if "max_tokens" in body:
            return failing(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return ok(body)

    server.answer = answer
    assert len(_generate(settings(max_new_tokens=55, concurrency=1), 3)) == 3
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 55, 55, 55]


# --- trying again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 507, 524])
def test_a_failing_server_is_asked_again(status: int, server: Server, settings: Settings) -> None:
    server.answer = lambda body, n: ok(body) if n == 2 else failing(status)
    assert _generate(settings())[0].text == "prompt 0"
    assert len(server.bodies) == 3


def test_waits_grow_and_are_drawn_at_random(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return 2.0

    monkeypatch.setattr("hybrid.pairs.prompting.endpoint.random.uniform", draw)
    server.answer = lambda body, n: ok(body) if n == 3 else failing(500)
    _generate(settings(), backoff=0.05)
    waits = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    for wait, shortest in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert shortest <= wait < shortest + 0.5
    assert drawn == [(0.5, 1.0)] * 3


def test_retry_after_is_honoured_by_all_calls(server: Server, settings: Settings) -> None:
    server.answer = lambda body, n: failing(429, Retry_After="1") if n == 0 else ok(body)
    assert len(_generate(settings(concurrency=1), 3)) == 3
    waits = [later - server.times[0] for later in server.times[1:]]
    assert len(waits) == 3
    assert all(0.95 <= wait < 3 for wait in waits)


def test_retry_after_may_be_a_date(server: Server, settings: Settings) -> None:
    when = email.utils.formatdate(time.time() + 2, usegmt=True)
    server.answer = lambda body, n: failing(503, Retry_After=when) if n == 0 else ok(body)
    _generate(settings())
    assert 0.9 < server.times[1] - server.times[0] < 4


def test_a_wait_of_hours_is_an_error(server: Server, settings: Settings) -> None:
    server.answer = lambda _, __: failing(429, "daily quota", Retry_After="7200")
    with pytest.raises(EndpointError, match=r"answered 429: daily quota; it asks to wait 7200 seconds"):
        _generate(settings())


def test_retries_end(server: Server, settings: Settings) -> None:
    server.answer = lambda _, __: failing(500, "out of memory")
    with pytest.raises(EndpointError, match=r"answered 500: out of memory \(tried 3 times\)"):
        _generate(settings(retries=2))
    assert len(server.bodies) == 3


def test_a_late_reply_is_asked_for_again(server: Server, settings: Settings) -> None:
    def answer(body: dict[str, Any], number: int) -> Any:
        if number == 0:
            time.sleep(0.6)
        return ok(body, str(number))

    server.answer = answer
    assert _generate(settings(timeout=0.2))[0].text == "1"
    server.answer = lambda body, _: _slowly(0.6, body)
    with pytest.raises(EndpointError, match=r"no reply within 0\.2 seconds \(pairs\.teacher_model\.timeout\)"):
        _generate(settings(timeout=0.2, retries=0))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>oops</html>",
        b'{"choices": [',
        b"",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": "x"}]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_malformed_reply_is_asked_for_again_and_then_named(body: bytes, server: Server, settings: Settings) -> None:
    server.answer = lambda request, n: (200, {}, body) if n == 0 else ok(request)
    assert _generate(settings())[0].text == "prompt 0"
    server.answer = lambda _, __: (200, {}, body)
    with pytest.raises(EndpointError, match=r"sent no chat completion but .*base_url ends in /v1 as a rule \(tried 2"):
        _generate(settings(retries=1))


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_no_more_calls_run_at_a_time_than_allowed(server: Server, settings: Settings) -> None:
    server.answer = lambda body, _: _slowly(0.05, body)
    assert len(_generate(settings(concurrency=3), 12)) == 12
    assert server.most == 3


def test_no_more_calls_begin_in_a_minute_than_allowed(server: Server, settings: Settings) -> None:
    started = time.monotonic()
    _generate(settings(requests_per_minute=600, concurrency=8), 6)
    assert time.monotonic() - started >= 0.5
    assert all(b - a > 0.05 for a, b in zip(server.times, server.times[1:], strict=False))


def test_replies_come_as_they_arrive(server: Server, settings: Settings) -> None:
    server.answer = lambda body, _: _slowly(0.4 if "prompt 0" in str(body) else 0, body)
    assert [reply.place for reply in _generate(settings(concurrency=2), 4)][-1] == 0


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_named_at_once(settings: Settings) -> None:
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9/v1/chat/completions cannot be reached .*start the server"):
        _generate(settings(base_url="http://127.0.0.1:9/v1"), backoff=10)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("status", "key_env", "message"),
    [
        (401, "THE_KEY", "answered 401: .*check the key in the environment variable THE_KEY"),
        (403, "THE_KEY", "answered 403: .*check the key in the environment variable THE_KEY"),
        (401, None, "answered 401: .*set pairs.teacher_model.key_env to the name of the environment variable"),
        (404, None, r"answered 404: .*does not know the model 'm' \(pairs.teacher_model.model\)"),
        (402, "THE_KEY", "answered 402"),
    ],
)
def test_errors_name_the_way_out(
    status: int, key_env: str | None, message: str, server: Server, settings: Settings
) -> None:
    server.answer = lambda _, __: failing(status, f"Incorrect API key provided: {KEY}.")
    with pytest.raises(EndpointError, match=message) as caught:
        _generate(settings(key_env=key_env))
    assert len(server.bodies) == 1
    if key_env:
        assert "Incorrect API key provided: ***." in str(caught.value)
        assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "content",
    [b"plain", {"message": "plain"}, {"detail": "plain"}, {"error": "plain"}, {"error": {"message": "plain"}}],
)
def test_all_forms_of_error_are_read(content: Any, server: Server, settings: Settings) -> None:
    server.answer = lambda _, __: (404, {}, content)
    with pytest.raises(EndpointError, match="answered 404: plain; "):
        _generate(settings())


def test_the_calls_under_way_are_not_lost_when_one_fails(server: Server, settings: Settings) -> None:
    def answer(body: dict[str, Any], _: int) -> Any:
        while server.most < 3:  # all three are under way
            time.sleep(0.01)
        if "prompt 1" in str(body):
            return failing(401)
        time.sleep(0.3)
        return ok(body)

    server.answer = answer
    replies = []
    with pytest.raises(EndpointError, match="401"):
        for reply in Endpoint(settings(concurrency=3), 0.01).generate(_prompts(30)):
            replies.append(reply.place)
    assert sorted(replies) == [0, 2]
    assert len(server.bodies) == 3


def test_a_failure_ends_the_waits_of_others(server: Server, settings: Settings) -> None:
    def answer(body: dict[str, Any], _: int) -> Any:
        if "prompt 0" in str(body):
            return failing(500)
        time.sleep(0.3)
        return failing(401)

    server.answer = answer
    started = time.monotonic()
    with pytest.raises(EndpointError, match="401"):
        _generate(settings(concurrency=2), 2, backoff=30)
    assert time.monotonic() - started < 5


def test_a_prompt_that_is_refused_stops_no_others(server: Server, settings: Settings) -> None:
    def answer(body: dict[str, Any], _: int) -> Any:
        if "prompt 1" in str(body):
            return failing(400, "this prompt is too long")
        return ok(body, finish_reason="content_filter" if "prompt 2" in str(body) else "stop")

    server.answer = answer
    replies = sorted(_generate(settings(), 4))
    assert [reply.ended for reply in replies] == ["stop", "refused", "refused", "stop"]
    assert replies[1].text.endswith("answered 400: this prompt is too long")


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "set pairs.teacher_model.model"),
        ({"base_url": None}, "set pairs.teacher_model.base_url, such as http://localhost:11434/v1"),
        ({"base_url": "localhost:8000/v1"}, "must be http://HOST/v1"),
        ({"base_url": "file:/etc/passwd"}, "must be http://HOST/v1"),
        ({"base_url": "ftp://host/v1"}, "must be http://HOST/v1"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "without user"),
        ({"base_url": f"https://host/v1?key={KEY}"}, "without user"),
        ({"base_url": "http://host:port/v1"}, "must be http://HOST/v1"),
        ({"base_url": "http://ho st/v1"}, "must be http://HOST/v1"),
        ({"base_url": "http://[::1/v1"}, "must be http://HOST/v1"),
        ({"key_env": KEY}, "must be the name of an environment variable"),
        (
            {"key_env": "UNSET_KEY"},
            "environment variable UNSET_KEY, which pairs.teacher_model.key_env names, is not set",
        ),
        ({"key_env": "ODD_KEY"}, "ODD_KEY holds spaces or signs"),
    ],
)
def test_wrong_settings_are_named_without_secrets(
    changes: dict[str, Any], message: str, server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(ConfigError, match=message) as caught:
        _generate(settings(**changes))
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert not server.bodies


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int, server: Server, settings: Settings) -> None:
    other = Server()
    server.answer = lambda _, __: (status, {"Location": f"http://localhost:{other.http.server_port}/v1/x"}, b"")
    with pytest.raises(
        EndpointError, match=f"answered {status}; it redirects to localhost:\\d+, which is not followed"
    ):
        _generate(settings(key_env="THE_KEY"))
    other.http.shutdown()
    other.http.server_close()
    assert not other.bodies


def test_the_key_is_in_no_message_of_any_failure(
    server: Server, settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    echo = f"you sent {KEY}"
    answers: list[tuple[int, dict[str, str], Any]] = [
        *(failing(status, echo) for status in (400, 401, 403, 404, 418, 429, 500)),
        (200, {}, echo.encode()),
        (302, {"Location": f"http://{KEY}.example/v1"}, b""),
        (302, {"Location": f"http://[{KEY}"}, b""),
    ]
    for answer in answers:
        server.answer = lambda _, __, answer=answer: answer  # type: ignore[misc]
        config = settings(key_env="THE_KEY", retries=1)
        endpoint = Endpoint(config, 0.01)
        teacher = PromptedTeacher(endpoint, "m", config, tmp_path / "replies.jsonl")
        with pytest.raises(HybridError) as caught:
            list(teacher.draft([Chunk("a#0", "a", 0, 9, "Passage 1.")]))
        assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(endpoint)
    assert KEY not in "".join(capfd.readouterr())


# --- a killed run -----------------------------------------------------------------------------------------------------

_PROGRAM = """
import json, sys
from pathlib import Path
from hybrid.config import TeacherConfig
from hybrid.pairs.prompting.endpoint import Endpoint
from hybrid.pairs.prompting.prompted import PromptedTeacher
from hybrid.types import Chunk
url, journal, count = sys.argv[1:]
settings = TeacherConfig(model="m", base_url=url, concurrency=4)
chunks = [Chunk(f"{n}#0", str(n), 0, 9, f"Passage {n}.") for n in range(int(count))]
list(PromptedTeacher(Endpoint(settings), "m", settings, Path(journal), 16).draft(chunks))
"""


def _passage(body: dict[str, Any]) -> int:
    return int(body["messages"][3]["content"].split("Passage ")[1].split(".")[0])


def test_a_killed_run_repeats_no_finished_call(server: Server, settings: Settings, tmp_path: Path) -> None:
    count, journal, held = 24, tmp_path / "replies.jsonl", threading.Event()

    def answer(body: dict[str, Any], number: int) -> Any:
        if number >= 9 or _passage(body) == 0:  # the first chunk stays open, so that the others finish before it
            held.wait(30)
        return ok(body, "NONE")

    server.answer = answer
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, server.url, str(journal), str(count)]) as process:
        deadline = time.monotonic() + 60
        while not (journal.is_file() and journal.read_text(encoding="utf-8").count("\n") >= 8):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    held.set()
    finished = {_passage(body) for body in server.bodies[:9]} - {0}
    assert len(finished) == journal.read_text(encoding="utf-8").count("\n") == 8

    chunks = [Chunk(f"{n}#0", str(n), 0, 9, f"Passage {n}.") for n in range(count)]
    config = settings(concurrency=4)
    teacher = PromptedTeacher(Endpoint(config), "m", config, journal, 16)
    assert list(teacher.draft(chunks)) == [[]] * count
    calls = Counter(_passage(body) for body in server.bodies)
    assert set(calls) == set(range(count))
    assert {calls[passage] for passage in finished} == {1}
    assert sum(calls.values()) <= count + 4  # what was under way when the run was killed is asked for again
    assert teacher.figures().usage["teacher calls"] == count
