"""What a language model is asked about a chunk, and how its reply is read: strictly, and against the chunk."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hybrid.pairs.align import Span, align
from hybrid.pairs.candidates import words
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.teacher import MAX_ANSWER_WORDS, MAX_DEFINITION_WORDS, MAX_STEPS_WORDS, Draft, DraftKind
from hybrid.types import Chunk

_MAX_QUESTION_WORDS = 40
_SHOWN_PROBLEMS, _SHOWN_CHARACTERS = 12, 400
_KINDS: dict[str, DraftKind] = {
    "fact": "fact",
    "number": "number",
    "procedure": "procedure",
    "definition": "definition",
}
_POLAR: dict[str, DraftKind] = {"yes": "affirmed", "no": "denied"}
_PROOF_WORDS, _SHORT_WORD = 4, 3  # "Is it made of gold?" is not proved by "12 000", nor by a passage about silver
_LONGEST = {"procedure": MAX_STEPS_WORDS, "definition": MAX_DEFINITION_WORDS}
_KEYS = ("kind", "question", "answer", "quote")
_NEEDED = _KEYS[1:]

_SYSTEM = f"""\
You write questions with answers about a passage, for an assistant that people will ask about it without seeing it.

Reply with JSON objects only, one a line:
{{"kind": "...", "question": "...", "answer": "...", "quote": "..."}}

kind: fact, number, yes_no, procedure (steps or a list) or definition (what something is).
question: what someone would ask who has never seen the passage. Name what it is about; never write "this passage", \
"the text", "the section" or "the table". It must not contain its answer.
answer: copied from the quote without a change, as short as it can be: at most {MAX_ANSWER_WORDS} words, for a \
procedure {MAX_STEPS_WORDS}, for a definition {MAX_DEFINITION_WORDS}. For yes_no: yes or no.
quote: the sentence or lines of the passage that prove the answer, copied without a change and without leaving out.

Ask about different facts, in different words. If the passage says nothing that anyone would ask about, reply NONE."""

_EXAMPLE_TEXT = (
    "Two pumps feed the boiler. Pump A moves 40 litres a minute and runs all day; pump B stands by.\n"
    "A change-over is an exchange of the running pump. To change over, open valve 3, close valve 1 and press START."
)
EXAMPLE = Chunk("boilers#0", "boilers", 0, len(_EXAMPLE_TEXT), _EXAMPLE_TEXT, "Boiler house")
_EXAMPLE_DRAFTS = (
    ("number", "How much does pump A of the boiler move?", "40 litres a minute", "Pump A moves 40 litres a minute"),
    ("yes_no", "Does boiler pump B run all day?", "no", "runs all day; pump B stands by"),
    (
        "procedure",
        "How are the boiler pumps changed over?",
        "open valve 3, close valve 1 and press START",
        "To change over, open valve 3, close valve 1 and press START.",
    ),
    (
        "definition",
        "What is a change-over in the boiler house?",
        "an exchange of the running pump",
        "A change-over is an exchange of the running pump.",
    ),
)
EXAMPLE_REPLY = "\n".join(
    json.dumps(dict(zip(_KEYS, draft, strict=True)), ensure_ascii=False) for draft in _EXAMPLE_DRAFTS
)

_NO_JSON = "no JSON object"
_NEXT = re.compile(r"\n[^\n{}]{0,8}(?={)")
_DECODER = json.JSONDecoder()


class Problem(NamedTuple):
    """A part of a reply that cannot be used.

    Attributes:
        reason: Why, in the words of the funnel.
        source: What the model wrote.
    """

    reason: str
    source: str


class Reading(NamedTuple):
    """What a reply holds: drafts that stand in the chunk, and what is wrong with the rest."""

    drafts: list[Draft]
    problems: list[Problem]


def ask(chunk: Chunk, questions: int) -> Messages:
    """The prompt for a chunk; half of the chunks are asked for a question to be answered by no.

    Args:
        chunk: What to ask about.
        questions: How many questions are wanted.
    """
    example = len(_EXAMPLE_DRAFTS)
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": _request(EXAMPLE, example, "no")},
        {"role": "assistant", "content": EXAMPLE_REPLY},
        {"role": "user", "content": _request(chunk, questions, ("yes", "no")[zlib.crc32(chunk.id.encode()) & 1])},
    ]


def _request(chunk: Chunk, questions: int, polar: str) -> str:
    title = f"Title: {chunk.title}\n" if chunk.title else ""
    return (
        f"{title}Passage:\n{chunk.text}\n\n"
        f"Write {questions} questions about this passage, of different kinds where it allows. "
        f"If one is a yes/no question, its answer shall be {polar}."
    )


def ask_again(prompt: Messages, reply: Reply, problems: Sequence[Problem]) -> Messages:
    """The prompt that shows the model its mistakes and asks for those lines once more."""
    shown = [f"{problem.source[:_SHOWN_CHARACTERS]}\n-> {problem.reason}" for problem in problems[:_SHOWN_PROBLEMS]]
    request = (
        "These lines cannot be used:\n"
        + "\n".join(shown)
        + "\n\nWrite only them again, without the mistakes and in the "
        "same form. Leave out what the passage does not say."
    )
    return [*prompt, {"role": "assistant", "content": reply.text}, {"role": "user", "content": request}]


def read(reply: Reply, chunk: Chunk) -> Reading:
    """Reads a reply about a chunk.

    Thinking aloud and text around the JSON objects are passed over; a list or a code block of them is as good as lines.
    Each object must hold the three strings question, answer and quote; its quote must stand in the chunk and its answer
    in the quote. Where it does not say its kind, the answer does.
    """
    if reply.ended == "refused":
        return Reading([], [Problem("refused by the model's server", "")])
    text = reply.text.rpartition("</think>")[2].strip()
    if text.strip(" .`'\"").upper() == "NONE":
        return Reading([], [])
    drafts: list[Draft] = []
    problems: list[Problem] = []
    for value, source in _objects(text):
        found = _draft(value, chunk) if value is not None else _NO_JSON
        if isinstance(found, Draft):
            drafts.append(found)
        else:
            problems.append(Problem(found, source))
    if not drafts and not problems:
        problems.append(Problem(_NO_JSON, text))
    if reply.ended == "length" and problems and problems[-1].reason == _NO_JSON:
        problems[-1] = problems[-1]._replace(reason="cut off by max_new_tokens")
    return Reading(list(dict.fromkeys(drafts)), problems)


def _objects(text: str) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Every JSON object with its source; None for what begins as one but is none."""
    at = text.find("{")
    while at >= 0:
        value = None
        following = _NEXT.search(text, at)
        end = following.end() if following else len(text)
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            pass  # it is passed over up to the next line that begins an object
        yield value, text[at:end].strip()
        at = text.find("{", end)


def _draft(value: dict[str, Any], chunk: Chunk) -> Draft | str:
    """The draft that an object stands for, or what is wrong with it."""
    if not all(isinstance(value.get(key), str) and value[key].strip() for key in _NEEDED):
        return "a key is missing, empty or no string"
    question = " ".join(value["question"].split())
    if len(question.split()) > _MAX_QUESTION_WORDS:
        return f"question longer than {_MAX_QUESTION_WORDS} words"
    quote = align(value["quote"], chunk.text)
    if quote is None:
        return "quote not in the passage"
    answer = value["answer"].strip(" ,;:\n\t").rstrip(" .,;:")  # a point in front may be that of ".5"
    kind = _kind(value.get("kind"), answer)
    if kind == "yes_no":
        return _decision(question, answer, chunk.text, quote)
    if kind not in _KINDS:
        return "unknown kind"
    within = align(answer, chunk.text[quote[0] : quote[1]])
    if within is None:
        return "answer not in its quote"
    span = quote[0] + within[0], quote[0] + within[1]
    return _fault(chunk.text, span, question, kind) or Draft(question, *span, *quote, _KINDS[kind])


def _decision(question: str, answer: str, text: str, quote: Span) -> Draft | str:
    """The draft of a yes/no question, whose quote must at least speak of what is asked."""
    polar = _POLAR.get(answer.lower())
    if not polar:
        return "answer of a yes/no question is neither"
    said = words(text[slice(*quote)])
    if len(said) < _PROOF_WORDS or not {word for word in words(question) if len(word) > _SHORT_WORD} & set(said):
        return "quote of a yes/no question proves nothing"
    return Draft(question, quote[0], quote[0], *quote, polar)


def _kind(said: object, answer: str) -> str:
    """The kind that a model gave its question or, where it gave none, that the answer shows."""
    if said is None or said == "":
        return "yes_no" if answer.lower() in _POLAR else "number" if re.match(r"\d", answer) else "fact"
    return re.sub(r"\W+", "_", said.strip().lower()) if isinstance(said, str) else ""


def _fault(text: str, span: Span, question: str, kind: str) -> str:
    """What is wrong with an answer that stands in its quote, if anything is."""
    answer = text[slice(*span)]
    longest = _LONGEST.get(kind, MAX_ANSWER_WORDS)
    if len(answer.split()) > longest:
        return f"answer longer than {longest} words"
    if align(answer, question):
        return "answer is in its question"
    if kind != "procedure" and re.search(r"[*`|]", answer):
        return "answer runs over markup"
    return ""
