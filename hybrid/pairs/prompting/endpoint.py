"""Any OpenAI-compatible server as a text generator: vLLM, Ollama, llama.cpp's server or a hosted service."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import queue
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from hybrid.config import TeacherConfig
from hybrid.errors import ConfigError, EndpointError
from hybrid.pairs.prompting.generator import Messages, Reply

_SECTION = "pairs.teacher_model"
_BUSY = {408, 409, 425, 429}  # worth another try, as are all of 5xx but these:
_NEVER = {501, 505}
_ABOUT_THE_PROMPT = {400, 413, 422}  # too long, or refused for what it says; the next prompt may be well
_LONGEST_PAUSE = 600.0
_LONGEST_BACKOFF = 60.0
_LONGEST_BODY = 32 << 20


class _AgainError(Exception):
    """A call that may succeed when it is made again, after `pause` seconds if the server said so."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class _RefusedError(Exception):
    """The server will not answer this prompt."""


class _StoppedError(Exception):
    """Another call failed for good, so this one is not made."""


class Endpoint:
    """Generates by `POST BASE_URL/chat/completions`, several calls at a time.

    The key is read from the environment, sent to the host of `base_url` alone and taken out of every message.
    """

    def __init__(self, settings: TeacherConfig, backoff: float = 1.0, section: str = _SECTION) -> None:
        """Makes the generator; nothing is sent before `generate`.

        Args:
            settings: Where the endpoint is and how it is asked.
            backoff: Seconds before a call is made again for the first time; they double each time.
            section: Where in hybrid.yaml the settings stand, for messages.

        Raises:
            ConfigError: `base_url`, `model` or `key_env` is missing or not of its form.
        """
        self._url = check_endpoint(settings, section)
        self._section = section
        self._settings = settings
        self._backoff = backoff
        self._pace = _Pace(settings.requests_per_minute)
        self._opener = _opener()
        self._limit = "max_tokens"  # newer hosted models know it by another name
        self._key = ""

    def generate(self, prompts: Sequence[Messages]) -> Iterator[Reply]:
        """Yields the replies as they arrive.

        The seconds of a reply are those of the call that succeeded, from sending it to its last byte: failed tries and
        the waits between them come of asking much at a time, which who asks one question does not.

        If a call fails for good, the calls under way are still awaited and yielded, no other is made, and the error
        is raised at the end.

        Raises:
            ConfigError: The environment variable with the key is not set.
            EndpointError: A call failed for good.
        """
        self._key = read_key(self._settings.key_env, self._section)
        self._pace.start()
        todo: queue.SimpleQueue[tuple[int, Messages]] = queue.SimpleQueue()
        done: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
        for item in enumerate(prompts):
            todo.put(item)
        for _ in range(min(self._settings.concurrency, len(prompts))):
            # Daemons, so that an interrupted program does not wait for replies that nobody will read.
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        failure: Exception | None = None
        try:
            for _ in prompts:
                result = done.get()
                if isinstance(result, Reply):
                    yield result
                elif not isinstance(result, _StoppedError):
                    failure = failure or result
        finally:
            self._pace.stop()
        if failure:
            raise failure

    def _work(self, todo: queue.SimpleQueue[tuple[int, Messages]], done: queue.SimpleQueue[Reply | Exception]) -> None:
        while True:
            try:
                place, prompt = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(self._ask(place, prompt))
            except Exception as error:  # every prompt has one result, else `generate` would wait for ever
                self._pace.stop()
                done.put(error)

    def _ask(self, place: int, prompt: Messages) -> Reply:
        """One reply, after as many tries as the settings allow."""
        for attempt in range(self._settings.retries + 1):
            self._pace.turn()
            started = time.perf_counter()
            try:
                body = self._post(prompt)
                return self._reply(place, body)._replace(seconds=time.perf_counter() - started)
            except _RefusedError as refused:
                return Reply(place, str(refused), None, None, "refused")
            except _AgainError as error:
                if attempt == self._settings.retries:
                    raise EndpointError(f"{error} (tried {attempt + 1} times)") from None
                self._wait(error, attempt)
        raise AssertionError  # the last attempt returns or raises

    def _wait(self, error: _AgainError, attempt: int) -> None:
        if error.pause is None:
            longest = min(_LONGEST_BACKOFF, self._backoff * 2**attempt)
            self._pace.sleep(longest * random.uniform(0.5, 1.0))
        elif error.pause > _LONGEST_PAUSE:
            raise EndpointError(f"{error}; it asks to wait {error.pause:.0f} seconds: run the command again then")
        else:
            self._pace.hold(error.pause)

    def _post(self, prompt: Messages) -> bytes:
        limit = self._limit
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": list(prompt),
            limit: self._settings.max_new_tokens,
            "stream": False,
        }
        if self._settings.temperature is not None:
            body["temperature"] = self._settings.temperature
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "hybrid-rag"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        call = request.Request(self._url, json.dumps(body).encode(), headers, method="POST")
        try:
            with self._opener.open(call, timeout=self._settings.timeout) as response:
                return bytes(response.read(_LONGEST_BODY))
        except HTTPError as error:
            with error:
                status, said = error.code, self._said(error)
            if status == 400 and limit == "max_tokens" and "max_completion_tokens" in said:
                self._limit = "max_completion_tokens"
                return self._post(prompt)
            raise self._refusal(error, said) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None

    def _said(self, error: HTTPError) -> str:
        """The server's own words, without the key."""
        try:
            text = error.read(1 << 16).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        try:
            values = json.loads(text)
            inner = values.get("error", values)
            text = str(inner.get("message") or inner.get("detail") or text) if isinstance(inner, dict) else str(inner)
        except (ValueError, AttributeError, RecursionError):
            pass
        return self._excerpt(text)

    def _excerpt(self, text: str) -> str:
        text = " ".join(text.split())
        return (text.replace(self._key, "***") if self._key else text)[:300]

    def _refusal(self, error: HTTPError, said: str) -> Exception:
        """The exception for an answer that is no success."""
        message = f"{self._url} answered {error.code}" + (f": {said}" if said else "")
        if error.code in _BUSY or (500 <= error.code < 600 and error.code not in _NEVER):
            return _AgainError(message, _pause(error.headers.get("Retry-After")))
        if error.code in _ABOUT_THE_PROMPT:
            return _RefusedError(message)
        ways_out = {
            401: self._about_the_key,
            403: self._about_the_key,
            404: f"the server does not know the model {self._settings.model!r} ({self._section}.model), "
            f"or {self._section}.base_url lacks its /v1",
        }
        way_out = ways_out.get(error.code, "")
        if 300 <= error.code < 400:
            location = self._excerpt(error.headers.get("Location") or "")
            host = re.search(r"//([^/?#]+)", location)
            way_out = (
                f"it redirects to {host[1] if host else 'another path'}, which is not followed; "
                f"set {self._section}.base_url to the final address"
            )
        return EndpointError(message + (f"; {way_out}" if way_out else ""))

    @property
    def _about_the_key(self) -> str:
        if self._key:
            return f"check the key in the environment variable {self._settings.key_env}"
        return f"set {self._section}.key_env to the name of the environment variable that holds the key"

    def _broken(self, error: Exception) -> Exception:
        """The exception for a call without an answer."""
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            return _AgainError(
                f"{self._url}: no reply within {self._settings.timeout:g} seconds ({self._section}.timeout)"
            )
        described = self._excerpt(str(reason) or type(reason).__name__)
        if isinstance(error, http.client.HTTPException | ConnectionError) or isinstance(
            reason, ConnectionResetError | BrokenPipeError
        ):
            return _AgainError(f"{self._url}: the connection broke ({described})")
        return EndpointError(
            f"{self._url} cannot be reached ({described}); start the server, or correct {self._section}.base_url"
        )

    def _reply(self, place: int, body: bytes) -> Reply:
        try:
            values = json.loads(body)
            choice = values["choices"][0]
            text = choice["message"]["content"] or ""  # null where a model only thought or a filter struck
            if not isinstance(text, str):
                raise TypeError
            usage = values.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            ended = choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            said = self._excerpt(body.decode("utf-8", "replace")) or "nothing"
            message = (
                f"{self._url} sent no chat completion but {said!r}; {self._section}.base_url ends in /v1 as a rule"
            )
            raise _AgainError(message) from None
        tokens_in, tokens_out = (count if isinstance(count, int) else None for count in counts)
        if ended == "content_filter":
            raise _RefusedError(f"{self._url} withheld its reply (content_filter)")
        return Reply(place, text, tokens_in, tokens_out, "length" if ended == "length" else "stop")


def check_endpoint(settings: TeacherConfig, section: str = _SECTION) -> str:
    """Returns the address that is asked.

    Raises:
        ConfigError: `base_url`, `model` or `key_env` is missing or not of its form. The message repeats neither the
            address nor the name, as users put keys there.
    """
    if not settings.model:
        raise ConfigError(f"pairs.teacher is endpoint: set {section}.model to the name that the endpoint knows it by")
    if not settings.base_url:
        raise ConfigError(
            f"pairs.teacher is endpoint: set {section}.base_url, such as http://localhost:11434/v1 for Ollama"
        )
    try:
        parts = urlsplit(settings.base_url)
        plain = not (parts.username or parts.password or parts.query or parts.fragment)
        good = parts.scheme in {"http", "https"} and parts.hostname and plain and (parts.port is None or parts.port)
    except ValueError:
        good = False
    if not good or re.search(r"[^!-~]", settings.base_url):
        raise ConfigError(
            f"{section}.base_url must be http://HOST/v1 or https://HOST/v1, without user, password and query"
        )
    if settings.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", settings.key_env):
        raise ConfigError(
            f"{section}.key_env must be the name of an environment variable in capitals, such as MY_KEY, not the key"
        )
    return settings.base_url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def read_key(name: str | None, section: str) -> str:
    """The key of an endpoint, from the environment variable that a section of the settings names; empty without one.

    Raises:
        ConfigError: The variable is not set, or holds what can be no key.
    """
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {name}, which {section}.key_env names, is not set")
    if re.search(r"[^!-~]", key):
        raise ConfigError(f"the environment variable {name} holds spaces or signs that no key has")
    return key


def _pause(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None if there is none to understand."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _opener() -> request.OpenerDirector:
    """HTTP and HTTPS alone, and no redirects: the key would go to a host that the user did not name."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Pace:
    """When the next call may begin, for all threads."""

    def __init__(self, per_minute: int) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Lets calls begin."""
        self._stopped.clear()

    def stop(self) -> None:
        """Lets no call begin any more, and ends the waiting."""
        self._stopped.set()

    def turn(self) -> None:
        """Waits until a call may begin."""
        with self._lock:
            begin = max(self._next, time.monotonic())
            self._next = begin + self._gap
        self.sleep(begin - time.monotonic())

    def hold(self, seconds: float) -> None:
        """Lets no call begin for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Waits.

        Raises:
            _StoppedError: No call may begin any more.
        """
        if self._stopped.wait(max(0.0, seconds)):
            raise _StoppedError
