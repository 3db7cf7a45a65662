"""What readers think of pairs: `marks.jsonl` in the project folder, and the gate that drops what was marked bad.

The file is the reader's work, so it stands beside hybrid.yaml, can be versioned and merged, and outlives the pairs. One
JSON object a line, `{"id", "question", "answer", "mark": "bad" | "good", "reason"}`; of two lines with one id the later
holds. The answer is empty for a pair whose context shows no oracle: what it teaches is the refusal, not an answer.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from hybrid.errors import ConfigError
from hybrid.pairs.candidates import Candidate, words
from hybrid.types import Pair

Verdict = Literal["bad", "good"]
FILE = "marks.jsonl"
_VERDICTS = get_args(Verdict)
_REQUIRED = ("id", "question", "answer", "mark")


@dataclass(frozen=True, slots=True)
class Mark:
    """A reader's verdict on a pair.

    Attributes:
        id: Id of the pair when it was marked.
        question: Its question.
        answer: Its answer; empty stands for any answer.
        mark: `bad` drops it from the next run on; `good` only says that somebody has looked.
        reason: Why, in the reader's words.
    """

    id: str
    question: str
    answer: str
    mark: Verdict
    reason: str = ""


class Marks:
    """The marks of a project, in the order of the file.

    A mark is about a pair or candidate with the same question and answer in words, because an id changes with every
    edit before its place in the document. It is also about the one with its id, as long as question or answer is still
    the same: an id such as `q1` may come back in another question file.

    >>> marks = Marks([Mark("q1", "How heavy is it?", "5 kg", "bad")])
    >>> marks.about("q9", "how heavy is it", "5 kg.")[0].id, marks.about("q1", "Who bakes?", "Ann")
    ('q1', [])
    """

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self.by_id = {mark.id: mark for mark in marks}
        self.met: set[str] = set()  # ids of the marks that `unmarked` found a candidate for
        self._by_question: dict[tuple[str, ...], list[Mark]] = {}
        for mark in self.by_id.values():
            self._by_question.setdefault(tuple(words(mark.question)), []).append(mark)

    def about(self, key: str, question: str, answer: str) -> list[Mark]:
        """The marks about a pair or candidate, bad ones first."""
        asked = self._by_question.get(tuple(words(question)), [])
        found = [mark for mark in asked if mark.id == key or not mark.answer or words(mark.answer) == words(answer)]
        same = self.by_id.get(key)
        if same and same not in found and words(same.answer) == words(answer):
            found.append(same)
        return sorted(found, key=lambda mark: mark.mark)

    def on(self, pair: Pair) -> list[Mark]:
        """The marks that a reader sees on a pair, bad ones first."""
        return self.about(pair.id, pair.question, _answer(pair))

    def unmarked(self, candidate: Candidate) -> bool:
        """The gate `marked bad`: false for a candidate that was; `met` remembers which marks are about one."""
        found = self.about(candidate.id, candidate.question, candidate.answer)
        self.met.update(mark.id for mark in found)
        return not any(mark.mark == "bad" for mark in found)

    def figures(self) -> dict[str, list[str]]:
        """Ids of the marks that candidates were found for, and of those that are about none any more."""
        return {
            "applied": [key for key in self.by_id if key in self.met],
            "unmatched": [key for key in self.by_id if key not in self.met],
        }

    def identity(self) -> list[list[str]] | None:
        """What the pairs depend on: neither good marks nor reasons nor order change them."""
        bad = (mark for mark in self.by_id.values() if mark.mark == "bad")
        return sorted([m.id, " ".join(words(m.question)), " ".join(words(m.answer))] for m in bad) or None


def _answer(pair: Pair) -> str:
    return "" if pair.kind == "absent" else pair.answer


def short_id(key: str) -> str:
    """Eight characters that stand for an id on the command line.

    >>> short_id("pumps.md#120-140/fact/How often is the impeller replaced?")
    '926ccd0b'
    """
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]


def read_marks(path: Path) -> Marks:
    """Reads a file of marks; a missing or empty one holds none.

    Raises:
        ConfigError: A line is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Marks()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 ({error}); correct or delete it") from error
    # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
    lines = enumerate(text.split("\n"), start=1)
    return Marks(_mark(f"{path}:{number}", line) for number, line in lines if line.strip())


def _mark(where: str, line: str) -> Mark:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid JSON ({error}); correct or delete the line") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: {line[:40]!r} is no JSON object; a mark has {', '.join(_REQUIRED)} and reason")
    if unknown := values.keys() - {*_REQUIRED, "reason"}:
        raise ConfigError(f"{where}: unknown key {min(unknown)!r}; a mark has {', '.join(_REQUIRED)} and reason")
    for key in _REQUIRED:
        if key not in values:
            raise ConfigError(f"{where}: {key!r} is missing; a mark has {', '.join(_REQUIRED)} and reason")
    for key, value in values.items():
        if not isinstance(value, str):
            raise ConfigError(f"{where}: {key} is {value!r}; it must be a string")
    if not values["id"] or values["mark"] not in _VERDICTS:
        raise ConfigError(f"{where}: id is {values['id']!r} and mark {values['mark']!r}; a mark is bad or good")
    return Mark(**values)


def write_marks(path: Path, marks: Marks) -> None:
    """Writes the marks; a reader sees the old file or the new one.

    Raises:
        ConfigError: A text is no Unicode.
    """
    lines = [json.dumps(asdict(mark), ensure_ascii=False) + "\n" for mark in marks.by_id.values()]
    try:
        content = "".join(lines).encode()
    except UnicodeEncodeError as error:
        raise ConfigError("a mark holds half of a surrogate pair, which is no character") from error
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)


def change_marks(
    marks: Marks, pairs: Iterable[Pair], ids: Iterable[str], verdict: Verdict | None, reason: str = ""
) -> Marks:
    """The marks after a reader has judged some pairs.

    Args:
        marks: The marks before.
        pairs: The pairs of the project.
        ids: Ids or short ids of pairs, or of marks whose pair is gone.
        verdict: What the reader says; None takes the mark away.
        reason: Why; empty keeps the reason of a mark that stays the same.

    Raises:
        ConfigError: There is no such pair or mark, or a verdict or short id is not clear.
    """
    if verdict not in (None, *_VERDICTS):
        raise ConfigError(f"unknown mark {verdict!r}; a pair is marked bad or good, or its mark is cleared")
    shown = {pair.id: pair for pair in pairs}
    changed = dict(marks.by_id)
    for given in ids:
        key = _resolve(given, {**marks.by_id, **shown})
        pair = shown.get(key)
        old = marks.on(pair) if pair else [marks.by_id[key]]
        if verdict is None:
            for mark in old:
                changed.pop(mark.id, None)
        else:
            mark = _judged(pair, old, verdict, reason)
            changed[mark.id] = mark
    return Marks(changed.values())


def _judged(pair: Pair | None, old: Sequence[Mark], verdict: Verdict, reason: str) -> Mark:
    """A verdict on a pair, or on what an old mark is about; an old mark is renewed, not joined by a second one."""
    reason = reason or (old[0].reason if old and old[0].mark == verdict else "")
    if pair is None:
        return replace(old[0], mark=verdict, reason=reason)
    return Mark(old[0].id if old else pair.id, pair.question, _answer(pair), verdict, reason)


def _resolve(given: str, known: Mapping[str, Any]) -> str:
    if given in known:
        return given
    found = [key for key in known if short_id(key) == given]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{given!r} stands for {len(found)} pairs; give the whole id: {found[0]!r} or {found[1]!r}")
    near = difflib.get_close_matches(given, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"there is no pair {given!r}{meant}; hybrid pairs show lists them with their ids")
