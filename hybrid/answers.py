"""How a model words its answers: what it is trained to write, and what is read from what it writes.

`prompt.answers` chooses the style. The numbers are those of the passages as a prompt shows them, so a target is
rendered for one pair and the context it got, and a reply is read together with the passages that were shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hybrid.citations import citation_at, cite, cite_passage, sentence_around
from hybrid.config import PromptConfig
from hybrid.pairs.align import Span, align
from hybrid.pairs.oracles import answer_span
from hybrid.types import Chunk, Citation, Hit, Pair, Quote

_FINAL = "Answer:"
_NUMBERS = r"\[[0-9]{1,4}(?:\s*,\s*[0-9]{1,4})*\]"
# Marks after another mark take what separates them along: "A [1], [2]; B" is "A; B".
_MARK = re.compile(rf"((?<=\])[\s,;]*|[ \t]*)({_NUMBERS})")
_TAIL = re.compile(rf"(?:{_NUMBERS})+[.!?]?\Z")
_QUOTED = re.compile(r'\[([0-9]{1,4})\][:.]?[ \t]*(["\u201c].*)')
_NUMBERED = re.compile(r"\[([0-9]{1,4})\][:.]?[ \t]*(.*)")
_OPENING, _CLOSING = '"\u201c', '"\u201d'
# A word; in scripts that put no space between words, from Thai to Khmer, kana and ideographs, a character.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
# In the tokens of SmolLM2, runs of 60 words of five English corpora have 1.3 to 1.6 a word, 19 of 20 less than 2.2.
_TOKENS_PER_WORD = 2
_TOKENS_PER_PASSAGE = 4


class Target(NamedTuple):
    """What a model is trained to write.

    Attributes:
        text: The text.
        supported: False if it lacks the quotes or numbers that the style asks for, because the context shows none.
    """

    text: str
    supported: bool


class Parsed(NamedTuple):
    """What a reply says.

    Attributes:
        text: The plain answer.
        citations: Where the reply says it comes from, checked: quotes at their spans first, then numbers alone.
        invalid: Numbers of passages that were not shown, and quotes that no passage holds.
        malformed: The reply cites but holds no answer; `text` is then the whole reply.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    invalid: int = 0
    malformed: bool = False


def reply_tokens(answer_tokens: int, prompt: PromptConfig) -> int:
    """The longest reply, in tokens, whose plain answer may have `answer_tokens`.

    >>> [reply_tokens(32, PromptConfig(k=2, quote_words=60, answers=style)) for style in ("short", "cited", "quoted")]
    [32, 40, 160]
    """
    if prompt.answers == "short":
        return answer_tokens
    quoted = _TOKENS_PER_WORD * prompt.quote_words if prompt.answers == "quoted" else 0
    return answer_tokens + _TOKENS_PER_PASSAGE * prompt.k + quoted


def target_text(pair: Pair, shown: Sequence[Chunk], prompt: PromptConfig) -> str:
    r"""The text that a model is trained to answer with; see `render_target`.

    >>> chunk = Chunk("d#0-19", "d", 0, 19, "ABC is in Manhattan")
    >>> pair = Pair("1", "Where?", "Manhattan", (), ("d#0-19",), (Quote("d", 0, 19, chunk.text),))
    >>> target_text(pair, [chunk], PromptConfig(answers="cited"))
    'Manhattan [1]'
    >>> target_text(pair, [chunk], PromptConfig(answers="quoted"))
    '[1] "ABC is in Manhattan"\nAnswer: Manhattan'
    """
    return render_target(pair, shown, prompt).text


def render_target(pair: Pair, shown: Sequence[Chunk], prompt: PromptConfig) -> Target:
    """Renders a pair's answer in the style of the prompt, for the passages as they are shown.

    All oracles shown are cited. A quote that no passage shown holds as a whole, or that is too long and cannot be cut
    to the place of the answer, is left out; without any quote the answer is cited, without any oracle it is short. A
    pair of kind `absent` has nothing to cite.
    """
    if prompt.answers == "short" or pair.kind == "absent":
        return Target(pair.answer, supported=True)
    numbers = [number for number, chunk in enumerate(shown, 1) if chunk.id in pair.oracles]
    quotes = _quotes(pair, shown, prompt.quote_words) if prompt.answers == "quoted" else []
    rest = "".join(f"[{number}]" for number in numbers if number not in {quote[0] for quote in quotes})
    answer = f"{pair.answer} {rest}" if rest else pair.answer
    if quotes:
        lines = [f'[{number}] "{text}"' for number, text in quotes]
        return Target("\n".join([*lines, f"{_FINAL} {answer}"]), supported=True)
    return Target(answer, supported=bool(rest) and prompt.answers == "cited")


def _quotes(pair: Pair, shown: Sequence[Chunk], words: int) -> list[tuple[int, str]]:
    """The quotes that the passages hold, each with its passage's number and on one line."""
    order = sorted(enumerate(shown, 1), key=lambda place: place[1].id not in pair.oracles)
    holders = [next((place for place in order if _holds(place[1], quote)), None) for quote in pair.quotes]
    placed = [(quote, *holder) for quote, holder in zip(pair.quotes, holders, strict=True) if holder]
    found: dict[tuple[int, str], None] = {}
    for quote, number, chunk in placed:
        span = _cut((quote.start - chunk.start, quote.end - chunk.start), chunk.text, pair.answer, words // len(placed))
        line = " ".join(chunk.text[slice(*span)].split()) if span else ""
        if align(line, chunk.text):  # what is trained must pass the check of replies
            found[number, line] = None
    return list(found)


def _holds(chunk: Chunk, quote: Quote) -> bool:
    return chunk.document == quote.document and chunk.start <= quote.start and quote.end <= chunk.end


def _cut(quote: Span, text: str, answer: str, words: int) -> Span | None:
    """The span to show of a quote: widened to the sentence if it is no more than the answer, cut if it is too long."""
    if _count(text[slice(*quote)]) <= _count(answer):
        quote = sentence_around(text, *quote)
    if _count(text[slice(*quote)]) <= words:
        return quote
    place = _place(answer, text[slice(*quote)])
    if place is None:
        return None
    start, end = quote[0] + place[0], quote[0] + place[1]
    first, last = sentence_around(text, start, end)
    sentence = max(first, quote[0]), min(last, quote[1])
    return sentence if _count(text[slice(*sentence)]) <= words else _window(text, sentence, (start, end), words)


def _place(answer: str, text: str) -> Span | None:
    """Where a text says the answer, or the sentence that says most of it by the rule of `cite`."""
    found = cite(answer, [Hit(Chunk("", "", 0, len(text), text), 0.0, 1)], limit=1)
    return answer_span(text, answer) or next(((citation.start, citation.end) for citation in found), None)


def _window(text: str, within: Span, place: Span, words: int) -> Span | None:
    """The words around a place, up to so many; None if the place itself has more."""
    spans = [match.span() for match in _WORD.finditer(text, *within)]
    inside = [n for n, (start, end) in enumerate(spans) if end > place[0] and start < place[1]]
    spare = words - len(inside)
    if spare < 0:
        return None
    after = min(len(spans) - 1 - inside[-1], spare - min(inside[0], spare // 2))
    before = min(inside[0], spare - after)
    return spans[inside[0] - before][0], spans[inside[-1] + after][1]


def _count(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def parse_reply(reply: str, shown: Sequence[Chunk], prompt: PromptConfig) -> Parsed:
    r"""Reads a reply: the plain answer, and the citations that hold.

    A quote is looked for in the passage it names, then in the others, whose number it then gets. Whether the style is
    `cited` or `quoted`, numbers in square brackets are taken out of the answer, unless a passage has the same word with
    the same number behind it and more follows.

    Args:
        reply: What the model wrote.
        shown: The passages of the prompt; without any, the reply is a plain answer.
        prompt: Says the style.

    >>> chunk = Chunk("d#7-26", "d", 7, 26, "ABC is in Manhattan")
    >>> reply = '[1] "abc is in\u00a0Manhattan"\n[1] "ABC is in Ohio"\nAnswer: Manhattan [3]'
    >>> parsed = parse_reply(reply, [chunk], PromptConfig(answers="quoted"))
    >>> parsed.text, parsed.invalid
    ('Manhattan', 2)
    >>> parsed.citations
    (Citation(number=1, document='d', start=7, end=26, quote='ABC is in Manhattan'),)
    """
    if prompt.answers == "short" or not shown:
        return Parsed(reply)
    quotes, body = _split(reply) if prompt.answers == "quoted" else ([], reply)
    text, numbers = _without_marks(body.strip(), shown)
    verified = [_verify(number, quote, shown) for number, quote in quotes]
    quoted = {citation.number for citation in verified if citation}
    named = [
        cite_passage(text, number, shown[number - 1]) if 0 < number <= len(shown) else None
        for number in dict.fromkeys(numbers)
        if number not in quoted
    ]
    citations = dict.fromkeys(citation for citation in (*verified, *named) if citation)
    malformed = bool(reply) and not text
    return Parsed(
        reply if malformed else text, tuple(citations), sum(c is None for c in (*verified, *named)), malformed
    )


def _split(reply: str) -> tuple[list[tuple[int, str]], str]:
    """The quotes with the numbers they name, and the answer that follows them."""
    lines = reply.split("\n")
    final = next((at for at, line in enumerate(lines) if line.startswith(_FINAL)), None)
    if final is None:
        head = next((at for at, line in enumerate(lines) if line.strip() and not _QUOTED.match(line)), len(lines))
        pattern, body = _QUOTED, "\n".join(lines[head:])
    else:
        head, pattern, body = final, _NUMBERED, "\n".join(lines[final:]).removeprefix(_FINAL)
    matches = [match for line in lines[:head] if (match := pattern.match(line.strip()))]
    return [(int(match[1]), _unquoted(match[2].rstrip())) for match in matches], body


def _unquoted(text: str) -> str:
    text = text[1:] if text[:1] in _OPENING else text
    return text[:-1] if text[-1:] in _CLOSING else text


def _verify(number: int, quote: str, shown: Sequence[Chunk]) -> Citation | None:
    """The place of a quote, in the passage it names if that holds it."""
    for place in sorted(range(1, len(shown) + 1), key=lambda place: place != number):
        chunk = shown[place - 1]
        if span := align(quote, chunk.text):
            return citation_at(place, chunk, *span)
    return None


def _without_marks(text: str, shown: Sequence[Chunk]) -> tuple[str, list[int]]:
    """The answer without the numbers of passages, and these numbers."""
    tail = match.start() if (match := _TAIL.search(text)) else len(text)
    numbers: list[int] = []

    def remove(mark: re.Match[str]) -> str:
        word = text[: mark.start()].split()[-1:]
        printed = f"{''.join(word)}{mark.group()}"
        if word and mark.start(2) < tail and any(printed in chunk.text for chunk in shown):
            return mark.group()  # the passage's own, such as a reference or an index
        numbers.extend(map(int, re.findall("[0-9]+", mark[2])))
        return ""

    return _MARK.sub(remove, text).strip(), numbers
