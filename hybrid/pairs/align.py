"""Finds where a text holds what a model quotes from it.

Models do not copy character for character: they join lines, undo hyphenation, straighten quotation marks, compose
accents and drop the asterisks of Markdown. All of this is forgiven, a changed word is not. The result is a span of the
text as it is, so that nothing a model wrote has to be trusted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

Span = tuple[int, int]

# What is left after NFKC of the signs that typesetters and models exchange: quotation marks, dashes, invisible signs.
# A soft hyphen becomes a hyphen, which is dropped within words; a fraction slash comes from signs such as ½.
_SIGNS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | {"\u2044": "/"}
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", "")
)
_LETTER = r"[^\W\d_]"
# Asterisks and backticks around a word or phrase; not those between words (2*3) or spaces (2 * 3, a list).
_MARKUP = re.compile(r"(?<=\S)[*`]+(?![\w*`])|(?<![\w*`])[*`]+(?=\S)")
_HYPHEN = re.compile(rf"(?<={_LETTER})-\s*(?={_LETTER})")
_SPACE = re.compile(r"\s+")
_INVISIBLE = {"Mn", "Me", "Cf"}
# A sign and the two sides of a fraction belong to a number, and so does a space that only typesetters put into one.
_MARKS = ".,:/\u00b7\u2044\u00a0\u2009\u202f"
_NUMBER = re.compile(rf"\d[{_MARKS}]?\|\d|\d\|[{_MARKS}]\d|(?:\A|[\s(])[-\u2013\u2212.\u00b7]\|\d")


class _Key(NamedTuple):
    """A text as it is compared, and for each of its characters the span of the original that it stands for."""

    text: str
    spans: list[Span]


def align(quote: str, text: str) -> Span | None:
    r"""Finds the first place in `text` that says `quote`, as whole words and whole numbers.

    A verbatim place is preferred to one that differs in Unicode form, white space, hyphenation or Markdown emphasis,
    and this to one that also differs in case.

    Args:
        quote: What a model says to have copied.
        text: What it was shown.

    Returns:
        The span `[start, end)` of `text`, or None if there is no such place.

    >>> align("a waterproof 'coat'", "Take a water-\nproof \u2018coat\u2019.")
    (5, 26)
    >>> align("5 litres", "It holds 15 litres.")
    """
    if not any(map(str.isalnum, quote)):
        return None
    verbatim = _Key(text, [(place, place + 1) for place in range(len(text))])
    found = _find(quote.strip(), verbatim, text)
    if found:
        return found
    wanted, shown = _key(quote).text.strip(), _key(text)
    return _find(wanted, shown, text) or _find(_lower(wanted), shown._replace(text=_lower(shown.text)), text)


def whole_match(pattern: re.Pattern[str], text: str) -> Span | None:
    """The first match of a pattern that cuts no character, word or number of the text.

    >>> whole_match(re.compile("5"), "15 litres, 2.5 bar and 5 legs")
    (23, 24)
    """
    spans = (match.span() for match in pattern.finditer(text))
    return next((span for span in spans if not any(_cuts(text, at) for at in span)), None)


def _find(wanted: str, shown: _Key, text: str) -> Span | None:
    """The first span of `text` whose key is `wanted` and that cuts no character, word or number of it."""
    place = shown.text.find(wanted) if wanted else -1
    while place >= 0:
        end = place + len(wanted)
        halves = any(0 < at < len(shown.spans) and shown.spans[at - 1] == shown.spans[at] for at in (place, end))
        span = shown.spans[place][0], shown.spans[end - 1][1]
        if not halves and not any(_cuts(text, at) for at in span):
            return span
        place = shown.text.find(wanted, place + 1)
    return None


def _cuts(text: str, at: int) -> bool:
    """True if a span that begins or ends at `at` would cut a character with its accents, a word or a number."""
    if not 0 < at < len(text):
        return False
    left, right = at - 1, at
    if unicodedata.category(text[right]) in {"Mn", "Me"}:
        return True
    while left > 0 and unicodedata.category(text[left]) in _INVISIBLE:
        left -= 1
    while right < len(text) - 1 and unicodedata.category(text[right]) in _INVISIBLE:
        right += 1
    if _is_of_word(text[left]) and _is_of_word(text[right]):
        return True
    return bool(_NUMBER.search(f"{text[max(0, at - 2) : at]}|{text[at : at + 2]}"))


def _is_of_word(character: str) -> bool:
    """True for digits and for letters of scripts with cases: others, such as Chinese, put no space between words."""
    category = unicodedata.category(character)
    return category[0] in "LN" and category != "Lo"


def _key(text: str) -> _Key:
    """The text without what may differ."""
    characters: list[str] = []
    spans: list[Span] = []
    for start, end in _clusters(text):
        normal = unicodedata.normalize("NFKC", text[start:end]).translate(_SIGNS)
        characters.append(normal)
        spans += [(start, end)] * len(normal)
    key = _Key("".join(characters), spans)
    for pattern, by in ((_MARKUP, ""), (_HYPHEN, ""), (_SPACE, " ")):
        key = _replaced(key, pattern, by)
    return key


def _clusters(text: str) -> Iterator[Span]:
    """Spans that are normalised independently of each other: a character with all that composes with it."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _composes(text[start:end], text[end]):
            yield start, end
            start = end


def _composes(cluster: str, character: str) -> bool:
    if character.isascii():
        return False
    joined = unicodedata.normalize("NFKC", cluster + character)
    return joined != unicodedata.normalize("NFKC", cluster) + unicodedata.normalize("NFKC", character)


def _replaced(key: _Key, pattern: re.Pattern[str], by: str) -> _Key:
    parts: list[str] = []
    spans: list[Span] = []
    at = 0
    for match in pattern.finditer(key.text):
        start, end = match.span()
        parts += [key.text[at:start], by]
        spans += [*key.spans[at:start], *[(key.spans[start][0], key.spans[end - 1][1])] * len(by)]
        at = end
    return _Key("".join([*parts, key.text[at:]]), spans + key.spans[at:])


def _lower(text: str) -> str:
    """Lower case, character for character: where that would need two, the character stays."""
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)
