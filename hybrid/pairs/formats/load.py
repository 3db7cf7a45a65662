"""Existing data sets as questions: the format of a file or folder is found by its structure, not by its name.

Understood are our own question files and pairs, SQuAD, BEIR folders, PubMedQA, HotpotQA, prompt and completion, chat
messages, ShareGPT, Alpaca, and tables with a question and an answer column.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from hybrid.artefacts import fingerprint_files
from hybrid.errors import QuestionError
from hybrid.pairs.formats.beir import FILES, qrels_header, read_beir
from hybrid.pairs.formats.records import Format, Read, format_of, read_own, read_pubmedqa, read_squad, split_names
from hybrid.questions import why_not_json
from hybrid.retrieval.formats import Unreadable, decode
from hybrid.types import Question

_UNDERSTOOD = (
    "a question file (question, answer or answers), SQuAD (data, paragraphs, qas), a BEIR folder (queries.jsonl, "
    "qrels/*.tsv, and qa.jsonl for the answers), PubMedQA (QUESTION, CONTEXTS), HotpotQA (question, supporting_facts), "
    "prompt and completion, chat messages, ShareGPT (conversations), Alpaca (instruction, output), and CSV or TSV with "
    "the columns question and answer"
)


class Examples(NamedTuple):
    """What a file holds.

    Attributes:
        questions: At least one, with unique ids.
        format: What the file was taken for.
        left_out: What was left out, by name, with its count.
    """

    questions: list[Question]
    format: str
    left_out: Counter[str]


class _Item(NamedTuple):
    where: str
    default_id: str
    value: Any


def load_examples(path: Path, *, answered: bool = False) -> list[Question]:
    """Reads questions from a file or folder in any format understood; tells on stderr what was left out.

    Args:
        path: A file, or a BEIR folder. Of a BEIR folder with several splits, `qrels/SPLIT.tsv` names one.
        answered: Refuse answerable questions without an answer, which only a BEIR folder can hold.

    Raises:
        QuestionError: The file is missing, empty, malformed (the message names the place) or in no format understood.
    """
    examples = read_examples(path)
    if examples.format != "questions" or examples.left_out:
        left_out = ", ".join(f"{count} {name}" for name, count in examples.left_out.items())
        sys.stderr.write(
            f"{path}: {len(examples.questions)} questions, read as {examples.format}"
            f"{f'; left out: {left_out}' if left_out else ''}\n"
        )
    without = [question.id for question in examples.questions if question.answerable and not question.answers]
    if answered and without:
        raise QuestionError(f"{path}: {len(without)} questions have no answer, such as {without[0]!r}; add a qa.jsonl")
    return examples.questions


def fingerprint_examples(path: Path) -> str:
    """A hash of what `load_examples` reads: of `qrels/SPLIT.tsv` the queries and answers beside it are a part."""
    beside = [path.parent.parent / name for name in FILES] if path.parent.name == "qrels" else []
    return "-".join(fingerprint_files(file) for file in [path, *beside] if file.exists())


def read_examples(path: Path) -> Examples:
    """Reads questions from a file or folder; see `load_examples`."""
    if path.is_dir():
        splits = sorted((path / "qrels").glob("*.tsv"))
        reads = list(read_beir(path, splits, every_query=True))
        return _examples(path, f"BEIR ({', '.join(split.stem for split in splits)})", reads)
    text = _text(path)
    if not text.strip():
        raise QuestionError(f"question file {path} holds no questions")
    if text.lstrip()[0] in "[{":
        return _from_json(path, text)
    return _from_table(path, text)


def _text(path: Path) -> str:
    try:
        return decode(path.read_bytes())
    except FileNotFoundError as error:
        raise QuestionError(f"question file {path} does not exist") from error
    except (OSError, Unreadable) as error:
        raise QuestionError(f"question file {path} cannot be read: {error}") from error


def _examples(path: Path, name: str, reads: Sequence[tuple[str, Read]]) -> Examples:
    """Collects what was read, with the place of each; ids must be unique."""
    left_out = Counter(reason for _, read in reads for reason in read.left_out)
    places: dict[str, str] = {}
    questions = []
    for where, read in reads:
        if read.question is None:
            continue
        first = places.setdefault(read.question.id, where)
        if first != where:
            raise QuestionError(f"{where}: the id {read.question.id!r} is taken by {first}")
        questions.append(read.question)
    if not questions:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise QuestionError(f"question file {path} holds no questions{f'; left out: {reasons}' if reasons else ''}")
    return Examples(questions, name, left_out)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _from_json(path: Path, text: str) -> Examples:
    document = _document(path, text)
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return _examples(path, "SQuAD", [(i.where, read_squad(*_checked(i))) for i in _squad_items(document, path)])
    if isinstance(document, list):
        items = [_Item(f"{path}[{number}]", str(number), value) for number, value in enumerate(document)]
    elif document is None:
        items = list(_lines(path, text))
    elif _is_pubmedqa(document):
        items = [_Item(f"{path}: {pmid!r}", pmid, value) for pmid, value in document.items()]
    else:
        items = [_Item(f"{path}:1", "1", document)]
    known = _known(path, items[:1])
    return _examples(path, known.name, [(item.where, _read(known, item)) for item in items])


def _is_pubmedqa(document: Mapping[str, Any]) -> bool:
    """True for a file of records by their PubMed id."""
    first = next(iter(document.values()), None)
    known = format_of(first) if isinstance(first, dict) else None
    return known is not None and known.read is read_pubmedqa


def _document(path: Path, text: str) -> Any:  # noqa: ANN401
    """The value of a JSON file; None if it holds one value a line."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise QuestionError(f"{path} is nested too deeply") from error
    except ValueError as error:
        try:
            json.loads(text.strip().split("\n", 1)[0])
        except ValueError:
            place = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else path
            raise QuestionError(f"{place}: not valid JSON ({why_not_json(error)})") from error
        return None


def _lines(path: Path, text: str) -> Iterator[_Item]:
    # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield _Item(f"{path}:{number}", str(number), json.loads(line))
        except ValueError as error:
            raise QuestionError(f"{path}:{number}: not valid JSON ({why_not_json(error)})") from error
        except RecursionError as error:
            raise QuestionError(f"{path}:{number}: nested too deeply") from error


def _squad_items(document: Mapping[str, Any], path: Path) -> Iterator[_Item]:
    for a, article in enumerate(document["data"]):
        for p, paragraph in enumerate(_member(article, "paragraphs", f"{path}: data[{a}]")):
            where = f"{path}: data[{a}].paragraphs[{p}]"
            for q, asked in enumerate(_member(paragraph, "qas", where)):
                yield _Item(f"{where}.qas[{q}]", f"{a}-{p}-{q}", asked)


def _member(value: Any, name: str, where: str) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, dict) or not isinstance(value.get(name), list):
        raise QuestionError(f"{where}: expected an object with the list '{name}'")
    return list(value[name])


def _known(path: Path, items: Sequence[_Item]) -> Format:
    """The format of a file, by its first record."""
    if not items:
        raise QuestionError(f"question file {path} holds no questions")
    record, where, _ = _checked(items[0])
    known = format_of(record)
    if known is None:
        found = ", ".join(map(repr, list(record)[:12])) or "no field"
        raise QuestionError(f"{path} is in no format that is understood: {where} has {found}; {_way_out()}")
    return known


def _way_out() -> str:
    return f"understood are {_UNDERSTOOD}"


def _checked(item: _Item) -> tuple[Mapping[str, Any], str, str]:
    if not isinstance(item.value, dict):
        raise QuestionError(f"{item.where}: expected an object, found {type(item.value).__name__}")
    return item.value, item.where, item.default_id


def _read(known: Format, item: _Item) -> Read:
    record, where, default_id = _checked(item)
    for name, kind in known.fields.items():
        if name not in record:
            raise QuestionError(f"{where}: the field '{name}' is missing, which the records before have")
        if not isinstance(record[name], kind):
            raise QuestionError(f"{where}: the field '{name}' must not be of type {type(record[name]).__name__}")
    return known.read(record, where, default_id)


# --- tables -----------------------------------------------------------------------------------------------------------


def _from_table(path: Path, text: str) -> Examples:
    headers = {delimiter: _header(text, delimiter) for delimiter in "\t,;"}
    if qrels_header(headers["\t"]):
        reads = list(read_beir(path.parent.parent, [path], every_query=False))
        return _examples(path, f"BEIR ({path.stem})", reads)
    for delimiter, header in headers.items():
        if "question" in header and ("answer" in header or "answers" in header):
            if twice := [name for name in header if name and header.count(name) > 1]:
                raise QuestionError(f"{path}: two columns are called {twice[0]!r}")
            return _examples(path, "table", list(_rows(path, text, delimiter, header)))
    columns = ", ".join(map(repr, max(headers.values(), key=len)[:12]))
    raise QuestionError(f"{path} is in no format that is understood: its first line has {columns}; {_way_out()}")


def _header(text: str, delimiter: str) -> list[str]:
    try:
        first = next(csv.reader(StringIO(text.lstrip("\r\n"), newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []
    return [name.strip().lower() for name in first]


def _rows(path: Path, text: str, delimiter: str, header: Sequence[str]) -> Iterator[tuple[str, Read]]:
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    seen_header, begin = False, 1
    try:
        for row in reader:
            where, begin = f"{path}:{begin}", reader.line_num + 1
            if any(cell.strip() for cell in row):
                if seen_header:
                    yield where, _row(row, header, where)
                seen_header = True
    except csv.Error as error:
        raise QuestionError(f"{path}:{begin}: not a valid row ({error})") from error


def _row(cells: Sequence[str], header: Sequence[str], where: str) -> Read:
    """A row of a table; beside question and answer, the columns id, gold (joined by `;`), answerable, kind count."""
    if len(cells) != len(header):
        raise QuestionError(f"{where}: {len(cells)} cells under {len(header)} columns")
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    answerable = row.get("answerable", "").lower() or "true"
    if answerable not in {"true", "false"}:
        raise QuestionError(f"{where}: 'answerable' must be true or false, found {row['answerable']!r}")
    answers = [text for text in (row.get("answer", ""), row.get("answers", "")) if text]
    record = {
        "question": row["question"],
        "answers": answers if answerable == "true" else [],
        "gold": split_names(row.get("gold", "")),
        "answerable": answerable == "true",
        "kind": row.get("kind", ""),
    }
    return read_own(record, where, row.get("id") or where.rpartition(":")[2])
