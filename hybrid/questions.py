"""Question files: JSONL with `question`, `answer` or `answers`; the other fields of `Question` may be left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid.errors import QuestionError
from hybrid.retrieval.formats import encodable
from hybrid.types import Question


def load_questions(path: Path) -> list[Question]:
    """Reads a question file.

    Raises:
        QuestionError: The file is missing, empty or malformed; the message names file and line.
    """
    try:
        # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise QuestionError(f"question file {path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionError(f"question file {path} cannot be read: {error}") from error
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        question = _question(line, f"{path}:{number}", number)
        if question.id in seen:
            raise QuestionError(f"{path}:{number}: id {question.id!r} was used on line {seen[question.id]}")
        seen[question.id] = number
        questions.append(question)
    if not questions:
        raise QuestionError(f"question file {path} holds no questions")
    return questions


def _question(line: str, where: str, number: int) -> Question:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"{where}: not valid JSON ({why_not_json(error)})") from error
    if not isinstance(record, dict):
        raise QuestionError(f"{where}: expected an object, found {type(record).__name__}")
    return question_from_record(record, where, str(number))


def why_not_json(error: Exception) -> str:
    """What `json.loads` stumbled over: no JSON, or a number too long or a nesting too deep for it."""
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def question_from_record(record: Mapping[str, Any], where: str, default_id: str) -> Question:
    """Reads one record of a question file.

    Args:
        record: The fields; those not known are ignored.
        where: File and place of the record, for messages.
        default_id: Id of a record without `id` or `_id`.

    Raises:
        QuestionError: A field is missing or has the wrong type.
    """
    text = record.get("question")
    if not isinstance(text, str) or not text.strip():
        raise QuestionError(f"{where}: the field 'question' is missing or empty")
    answers = record.get("answer") if record.get("answers") is None else record["answers"]
    answers = [answers] if isinstance(answers, str) else answers
    answerable = record.get("answerable", answers != [])
    if not isinstance(answerable, bool):
        raise QuestionError(f"{where}: 'answerable' must be true or false, found {answerable!r}")
    way_out = 'for a question without answer set "answerable": false'
    if answers is None and answerable:
        raise QuestionError(f"{where}: the field 'answer' or 'answers' is missing; {way_out}")
    answers = _strings([] if answers is None else answers, "answers", where)
    if answerable and not answers:
        raise QuestionError(f"{where}: 'answers' is empty; {way_out}")
    return Question(
        id=encodable(
            str(next(value for value in (record.get("id"), record.get("_id"), default_id) if value is not None))
        ),
        question=encodable(text).strip(),
        answers=answers,
        gold=_strings(record.get("gold") or [], "gold", where),
        answerable=answerable,
        kind=encodable(str("" if record.get("kind") is None else record["kind"])),
        quotes=_quotes(record.get("quotes") or [], where),
    )


def _quotes(values: Any, where: str) -> tuple[str, ...]:  # noqa: ANN401
    """The words of every quote, which may be an object such as `{"document": …, "quote": …}`."""
    objects = values if isinstance(values, list) else [values]
    texts = [value.get("quote", value.get("text")) if isinstance(value, dict) else value for value in objects]
    if texts != [text for text in texts if isinstance(text, str)]:
        raise QuestionError(f"{where}: 'quotes' must be a list of strings or of objects with 'quote', found {values!r}")
    return _strings(texts, "quotes", where)


def _strings(values: Any, name: str, where: str) -> tuple[str, ...]:  # noqa: ANN401
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise QuestionError(f"{where}: '{name}' must be a list of strings, found {values!r}")
    return tuple(encodable(value) for value in values if value.strip())
