"""Records of published question and chat formats, one pure function each, from the fields to a question.

A missing field or a wrong type is an error. A text that is empty, which published sets have, is left out and counted.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from typing import Any, NamedTuple

from hybrid.errors import QuestionError
from hybrid.prompt import question_of
from hybrid.questions import question_from_record
from hybrid.retrieval.formats import encodable
from hybrid.types import Question, document_of

Record = Mapping[str, Any]

CUT = "prompts cut to what follows `Question:`"
SYSTEM = "system messages"
LATER = "later turns, which may depend on the first"
NO_TURN = "conversations that do not begin with a question and its answer"
EMPTY = "records with an empty question or answer"
HIDDEN = "pairs whose passage was hidden from the model"
CONFLICT = "pairs about contradictions"

_SYSTEM_ROLES = {"system", "developer"}
_USER_ROLES = {"user", "human"}
_ASSISTANT_ROLES = {"assistant", "gpt", "chatgpt", "model", "bot"}


class Read(NamedTuple):
    """The question of a record, if it holds one, and a name for each thing that was left out."""

    question: Question | None
    left_out: tuple[str, ...] = ()


class Format(NamedTuple):
    """A format of single records.

    Attributes:
        name: What people call it.
        fields: Fields that tell it from others, with the types they have.
        read: From the fields, the place for messages, and the id of a record that has none.
    """

    name: str
    fields: Mapping[str, type | tuple[type, ...]]
    read: Callable[[Record, str, str], Read]


def format_of(record: Record) -> Format | None:
    """The first format whose fields a record has."""
    for known in FORMATS:
        if all(name in record and isinstance(record[name], kind) for name, kind in known.fields.items()):
            return known
    return None


def read_own(record: Record, where: str, default_id: str) -> Read:
    """A line of a question file."""
    return Read(question_from_record(record, where, default_id))


def read_pair(record: Record, where: str, default_id: str) -> Read:
    """An exported training pair; one that no document answers is unanswerable."""
    oracles = record["oracles"]
    if not all(isinstance(oracle, str) for oracle in oracles):
        raise QuestionError(f"{where}: 'oracles' must be a list of chunk ids, found {oracles!r}")
    gold = tuple(dict.fromkeys(document_of(oracle) for oracle in oracles))
    return _pair(record, where, _id(record, default_id), gold)


def read_row(record: Record, where: str, default_id: str) -> Read:
    """A row of an exported data set, which has quotes of its oracles, shown or not, and marks those it shows."""
    quotes = [_object(quote, f"{where}: quotes[{n}]") for n, quote in enumerate(record["quotes"])]
    shown = [_object(passage, f"{where}: context[{n}]") for n, passage in enumerate(record["context"])]
    proving = [*quotes, *(passage for passage in shown if passage.get("is_oracle"))]
    gold = dict.fromkeys(_text(span, "document", where) for span in proving)
    return _pair(record, where, _id(record, default_id), tuple(gold))


def _pair(record: Record, where: str, identity: str, gold: tuple[str, ...]) -> Read:
    """The question of a pair, if a question file can express it: it knows no passages that are hidden or disagree."""
    kind = record["kind"]
    if kind == "conflict":
        return Read(None, (CONFLICT,))
    if kind == "absent" and gold:
        return Read(None, (HIDDEN,))
    answers = () if kind == "absent" else (_text(record, "answer", where),)
    return _question(_text(record, "question", where), answers, identity, gold, bool(answers))


def read_squad(record: Record, where: str, default_id: str) -> Read:
    """A question of SQuAD 1.1 or 2.0, in its file or as a row of the Hugging Face hub.

    The paragraph is no document of the index, so no gold is taken over.
    """
    row = isinstance(record.get("answers"), Mapping)
    given = _list(record["answers"], "text", f"{where}: answers") if row else _list(record, "answers", where)
    places = [f"{where}: answers[{number}]" for number in range(len(given))]
    objects = [{"text": value} if row else _object(value, at) for value, at in zip(given, places, strict=True)]
    answers = [_text(answer, "text", at) for answer, at in zip(objects, places, strict=True)]
    impossible = record.get("is_impossible", row and not answers)
    if not isinstance(impossible, bool):
        raise QuestionError(f"{where}: 'is_impossible' must be true or false, found {impossible!r}")
    answers = [] if impossible else answers
    return _question(_text(record, "question", where), answers, _id(record, default_id), (), not impossible)


def read_pubmedqa(record: Record, where: str, default_id: str) -> Read:
    """A PubMedQA question: answered by the decision or, without one, the conclusion; its abstract is its document.

    Rows of the Hugging Face hub have lower-case names and the abstract's id in `pubid`.
    """
    fields = {name.lower(): value for name, value in record.items()}
    pmid = str(fields.get("pubid", default_id))
    answers = [_text(fields, name, where) for name in ("final_decision", "long_answer") if name in fields]
    return _question(_text(fields, "question", where), answers[:1], pmid, (pmid,))


def read_hotpotqa(record: Record, where: str, default_id: str) -> Read:
    """A HotpotQA question, in its file or as a row of the hub; the titles of its supporting facts are the gold."""
    facts = record["supporting_facts"]
    titles = _list(facts, "title", f"{where}: supporting_facts") if isinstance(facts, Mapping) else []
    for number, fact in enumerate(facts if isinstance(facts, list) else []):
        if not isinstance(fact, list) or len(fact) != 2:
            raise QuestionError(f"{where}: supporting_facts[{number}] must be a title and a number, found {fact!r}")
        titles.append(fact[0])
    if not all(isinstance(title, str) for title in titles):
        raise QuestionError(f"{where}: the titles in 'supporting_facts' must be texts, found {titles!r}")
    kind = str(record.get("type", ""))
    return _question(
        _text(record, "question", where),
        [_text(record, "answer", where)],
        _id(record, default_id),
        tuple(dict.fromkeys(titles)),
        kind=kind,
    )


def read_alpaca(record: Record, where: str, default_id: str) -> Read:
    """An Alpaca record: the question is the instruction and, on the next line, its input.

    Of a record with a `history`, as LLaMA-Factory has it, the first turn is taken.
    """
    given = "" if record.get("input") is None else _text(record, "input", where)
    asked = [_text(record, "instruction", where), given]
    turns = [["\n".join(filter(None, asked)), _text(record, "output", where)]]
    for number, turn in enumerate(record.get("history") or []):
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise QuestionError(f"{where}: history[{number}] must be a question and an answer, found {turn!r}")
        turns.insert(number, turn)
    left_out = (SYSTEM,) * bool(record.get("system")) + (LATER,) * (len(turns) - 1)
    return _asked(turns[0][0], turns[0][1], _id(record, default_id), left_out)


def read_prompt_completion(record: Record, where: str, default_id: str) -> Read:
    """A prompt and its completion, as texts or, as TRL has it, as lists of chat messages."""
    if isinstance(record["prompt"], list) and isinstance(record["completion"], list):
        return _conversation([*record["prompt"], *record["completion"]], where, _id(record, default_id))
    return _asked(_text(record, "prompt", where), _text(record, "completion", where), _id(record, default_id))


def read_messages(record: Record, where: str, default_id: str) -> Read:
    """A conversation of OpenAI's chat `messages`."""
    return _conversation(record["messages"], f"{where}: messages", _id(record, default_id))


def read_sharegpt(record: Record, where: str, default_id: str) -> Read:
    """A ShareGPT conversation."""
    return _conversation(record["conversations"], f"{where}: conversations", _id(record, default_id))


def _conversation(turns: Sequence[Any], where: str, identity: str) -> Read:
    """The first question with its answer: whether later questions can be understood without it, nobody knows."""
    said = [_turn(turn, f"{where}[{number}]") for number, turn in enumerate(turns)]
    spoken = [(role, text) for role, text in said if role not in _SYSTEM_ROLES]
    system = (SYSTEM,) * (len(said) - len(spoken))
    roles = [role for role, _ in spoken]
    if len(spoken) < 2 or roles[0] not in _USER_ROLES or roles[1] not in _ASSISTANT_ROLES:
        return Read(None, (*system, NO_TURN))
    later = sum(role in _USER_ROLES for role in roles[2:])
    return _asked(spoken[0][1], spoken[1][1], identity, (*system, *(LATER,) * later))


def _turn(turn: Any, where: str) -> tuple[str, str]:  # noqa: ANN401
    """Role and text of a turn; empty where the content is not all text, such as an image or the call of a tool."""
    turn = _object(turn, where)
    role, content = ("from", "value") if "from" in turn else ("role", "content")
    who = _text(turn, role, where).lower()
    if isinstance(turn.get(content), list):
        parts = turn[content]
        is_text = all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts)
        return who, "\n".join(_text(part, "text", where) for part in parts) if is_text else ""
    return who, "" if content in turn and turn[content] is None else _text(turn, content, where)


def _asked(prompt: str, answer: str, identity: str, left_out: tuple[str, ...] = ()) -> Read:
    """A question that may stand in a prompt with a context, as in our own exports."""
    text = question_of(prompt)
    read = _question(text, [answer], identity)
    return Read(read.question, (*left_out, *read.left_out, *((CUT,) if text != prompt and read.question else ())))


def _question(
    text: str,
    answers: Sequence[str],
    identity: str,
    gold: tuple[str, ...] = (),
    answerable: bool = True,
    kind: str = "",
) -> Read:
    kept = tuple(dict.fromkeys(answer for answer in answers if answer))
    if not text or (answerable and not kept):
        return Read(None, (EMPTY,))
    documents = tuple(map(encodable, gold))
    return Read(Question(encodable(identity), text, kept, documents, answerable, encodable(kind)))


def _text(record: Record, name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise _wrong(record, name, "text", where)
    return encodable(value).strip()


def _list(record: Record, name: str, where: str) -> list[Any]:
    value = record.get(name)
    if not isinstance(value, list):
        raise _wrong(record, name, "list", where)
    return list(value)


def _wrong(record: Record, name: str, wanted: str, where: str) -> QuestionError:
    found = f"must be a {wanted}, found {type(record[name]).__name__}" if name in record else "is missing"
    return QuestionError(f"{where}: the field '{name}' {found}")


def _object(value: Any, where: str) -> Record:  # noqa: ANN401
    if not isinstance(value, Mapping):
        raise QuestionError(f"{where}: expected an object, found {type(value).__name__}")
    return value


def _id(record: Record, default_id: str) -> str:
    value = record.get("id", record.get("_id"))
    return default_id if value is None else encodable(str(value))


_ROW: Record = {"question": str, "answer": str, "kind": str, "context": list, "quotes": list, "messages": list}

# In order: what tells a format apart comes before formats that share its other fields.
FORMATS = (
    Format("ShareGPT", {"conversations": list}, read_sharegpt),
    Format("rows of training pairs", _ROW, read_row),
    Format("chat messages", {"messages": list}, read_messages),
    Format("prompt and completion", {"prompt": (str, list), "completion": (str, list)}, read_prompt_completion),
    Format("Alpaca", {"instruction": str, "output": str}, read_alpaca),
    Format("training pairs", {"question": str, "oracles": list, "context": list, "kind": str}, read_pair),
    Format("HotpotQA", {"question": str, "supporting_facts": (list, dict)}, read_hotpotqa),
    Format("SQuAD", {"question": str, "context": str, "answers": dict}, read_squad),
    Format("PubMedQA", {"question": str, "final_decision": str, "long_answer": str}, read_pubmedqa),
    Format("PubMedQA", {"QUESTION": str, "CONTEXTS": list}, read_pubmedqa),
    Format("questions", {"question": object}, read_own),
)


def join_names(names: Iterable[str]) -> str:
    """Names of documents in one cell of a table, apart by `;`; one that holds such is quoted.

    >>> join_names(["a.md", "b; c.md"])
    'a.md;"b; c.md"'
    """
    line = StringIO()
    csv.writer(line, delimiter=";", lineterminator="").writerow(names)
    return line.getvalue()


def split_names(cell: str) -> list[str]:
    """The inverse of `join_names`; a cell that it cannot have written is split at each `;`.

    >>> split_names('a.md;"b; c.md"'), split_names('"Old" manual.md; b.md')
    (['a.md', 'b; c.md'], ['"Old" manual.md', 'b.md'])
    """
    names = cell.split(";")
    if '"' in cell:
        try:
            quoted = next(csv.reader([cell], delimiter=";", strict=True), [])
        except csv.Error:
            quoted = []
        names = quoted if join_names(quoted) == cell else names
    return [name.strip() for name in names if name.strip()]
