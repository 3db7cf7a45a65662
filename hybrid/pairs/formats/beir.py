"""Retrieval sets in the layout of BEIR: queries, judgements by split, and answers where there are any."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybrid.errors import QuestionError
from hybrid.pairs.formats.records import Read
from hybrid.questions import load_questions
from hybrid.retrieval.formats import encodable
from hybrid.types import Question

FILES = ("queries.jsonl", "qa.jsonl")
UNJUDGED = "queries without a judgement"


def qrels_header(names: Sequence[str]) -> bool:
    """True for the first line of a file of judgements."""
    return list(names) == ["query-id", "corpus-id", "score"]


def read_beir(folder: Path, judgements: Sequence[Path], *, every_query: bool) -> Iterator[tuple[str, Read]]:
    """Reads `queries.jsonl` and the given judgements, and from `qa.jsonl`, if there is one, the answers.

    Args:
        folder: Holds the files.
        judgements: The qrels files of the splits that are wanted.
        every_query: Take unanswerable queries too, which no qrels file names.

    Raises:
        QuestionError: A file is missing or malformed.
    """
    if not judgements:
        raise QuestionError(f"{folder} is no BEIR folder: qrels/*.tsv is missing")
    gold: dict[str, list[str]] = {}
    for path in judgements:
        for query, document in _relevant(path):
            gold.setdefault(query, []).append(document)
    queries, answers = (folder / name for name in FILES)
    known = {question.id: question for question in load_questions(answers)} if answers.is_file() else {}
    for where, identity, text in _queries(queries):
        answer = known.get(identity, Question(identity, text))
        if identity in gold or (every_query and not answer.answerable):
            documents = tuple(dict.fromkeys(gold.get(identity, ())))
            yield where, Read(Question(identity, text, answer.answers, documents, answer.answerable, answer.kind))
        else:
            yield where, Read(None, (UNJUDGED,))


def _relevant(path: Path) -> Iterator[tuple[str, str]]:
    """Query and document of every judgement above 0."""
    for number, line in enumerate(_lines(path), 1):
        cells = line.rstrip("\r").split("\t")
        if not line.strip() or (number == 1 and qrels_header([cell.strip().lower() for cell in cells])):
            continue
        try:
            query, document, score = cells
            if float(score) > 0:
                yield query, document
        except ValueError as error:
            raise QuestionError(
                f"{path}:{number}: expected query, document and score, with tabs between, found {line!r}"
            ) from error


def _queries(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place, id and text of every query."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
            identity, text = record["_id"], encodable(record["text"]).strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise QuestionError(f"{where}: expected an object with '_id' and 'text' ({error!r})") from error
        if not text:
            raise QuestionError(f"{where}: the text is empty")
        yield where, encodable(str(identity)), text


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionError(f"{path} cannot be read: {error}") from error
