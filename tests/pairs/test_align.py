"""Quotes are found where they stand, however they were typed, and nothing is found that is not there."""

import unicodedata
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.pairs.align import align

WORDS = ("naïve", "Öl", "pump", "12", "3.5", "bar", "The", "résumé", "water", "valve", "coöperate", "x²", "½", "ﬁne")
WORD = st.sampled_from(WORDS)
LETTERS = "abc é\u0301ß fi²½ﬁ-–\u00ad*`'’“. 1,5\n\u00a0\u200b가한\u1100\u1161中ガ"


def _bare(text: str) -> str:
    """Letters and digits alone, an independent measure of what a text says."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


@pytest.mark.parametrize(
    ("quote", "text", "found"),
    [
        ("six tanks", "in six tanks.", "six tanks"),
        ("-18 °C", "cooled to \u221218 °C", "\u221218 °C"),
        ("18 °C", "between -20 and 18 °C", "18 °C"),
        ("six tanks", "in six\n   tanks.", "six\n   tanks"),
        (" six tanks ", "in six\u00a0tanks.", "six\u00a0tanks"),
        ("waterproof", "a water-\nproof coat", "water-\nproof"),
        ("water-proof", "a water-\nproof coat", "water-\nproof"),
        ("water-proof", "a waterproof coat", "waterproof"),
        ("waterproof", "a water\u00adproof coat", "water\u00adproof"),
        ("waterproof", "a water\u00ad\nproof coat", "water\u00ad\nproof"),
        ("short- and long-term", "their short-\nand long-term plans", "short-\nand long-term"),
        ("caf\u00e9", "the cafe\u0301s' cafe\u0301.", "cafe\u0301"),
        ("cafe\u0301", "the caf\u00e9.", "caf\u00e9"),
        ("fine", "a \ufb01ne day", "\ufb01ne"),
        ("10 m2", "10\u00a0m² wide", "10\u00a0m²"),
        ('say "yes"', "to say “yes” now", "say “yes”"),
        ("10-20 bar", "of 10–20 bar", "10–20 bar"),
        ("six tanks hold", "the **six** tanks `hold` it", "six** tanks `hold"),
        ("**six** tanks", "the six tanks", "six tanks"),
        ("2*3", "2*3 is 6", "2*3"),
        ("Six Tanks", "in six tanks.", "six tanks"),
        ("IT", "it is run by IT", "IT"),
        ("一台", "有一台水泵", "一台"),
        ("Smith", "by Smith-Jones", "Smith"),
        ("가나", unicodedata.normalize("NFD", "가나 다"), unicodedata.normalize("NFD", "가나")),
        ("rung", "wrung, then rung", "rung"),
        ("q\u0307\u0323", "a q\u0323\u0307 z", "q\u0323\u0307"),
        ("waterproof", "a water-\nproof, waterproof coat", "waterproof"),
        ("water-", "the water- and windproof", "water-"),
    ],
)
def test_what_differs_in_form_is_found(quote: str, text: str, found: str) -> None:
    span = align(quote, text)
    assert span is not None
    assert text[slice(*span)] == found


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("seven tanks", "in six tanks"),
        ("tanks six", "in six tanks"),
        ("six ... tanks", "six large tanks"),
        ("5", "holds 15 litres"),
        ("5", "holds 5.5 litres"),
        ("500", "holds 1,500 litres"),
        ("1", "holds 1,500 litres"),
        ("12", "at 12:30"),
        ("18 °C", "cooled to -18 °C"),
        ("18 °C", "\u221218 °C at night"),
        ("2 cups", "take 1/2 cups"),
        ("000 litres", "holds 12\u202f000 litres"),
        ("3 mm", "a gap of 0\u00b73 mm"),
        ("5 mg", "take .5 mg daily"),
        ("5 mg", ".5 mg daily"),
        ("5 °C", "store at \u20135 °C"),
        ("tank", "in tanks"),
        ("an", "the plan"),
        ("cafe", "the cafe\u0301"),
        ("i", "a \ufb01"),
        ("1020", "of 10–20 bar"),
        ("23", "2*3 is 6"),
        ("2 3", "2 * 3 is 6"),
        ("né", "année"),
        ("", "text"),
        (" \n", "a text"),
        ("...", "so ... on"),
        ("text", ""),
    ],
)
def test_what_is_not_there_is_not_found(quote: str, text: str) -> None:
    assert align(quote, text) is None


def _retyped(words: list[str], rng: Random) -> str:
    """The words as another program might write them."""
    typed = []
    for word in words:
        if word.isalpha() and len(word) > 3 and rng.random() < 0.3:
            word = word[:2] + rng.choice(["-\n", "\u00ad", "-\n  "]) + word[2:]
        if rng.random() < 0.2:
            word = rng.choice(["**{}**", "`{}`"]).format(word)
        typed.append(unicodedata.normalize(rng.choice(["NFC", "NFD"]), word))
    return "".join(word + rng.choice([" ", "\n", "\u00a0", " \n ", "  "]) for word in typed).strip()


@given(st.lists(WORD, min_size=1, max_size=8), st.lists(WORD, max_size=6), st.lists(WORD, max_size=6), st.integers())
def test_retyped_words_are_found_at_their_place(
    wanted: list[str], before: list[str], after: list[str], seed: int
) -> None:
    rng = Random(seed)
    # Words that occur nowhere else stand around the wanted ones, so that there is one right place.
    head = _retyped([*before, "anfang"], rng) + " "
    middle, tail = _retyped(wanted, rng), " " + _retyped(["ende", *after], rng)
    span = align("Anfang " + _retyped(wanted, rng) + " Ende", f"{head}{middle}{tail}")
    assert span is not None
    start, end = span
    assert start < len(head) and end > len(head) + len(middle)
    assert _bare(f"{head}{middle}{tail}"[start:end]) == _bare("anfang" + "".join(wanted) + "ende")


@given(st.lists(WORD, min_size=1, max_size=12), st.data())
def test_a_verbatim_part_is_found_at_its_first_place(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first + 1, len(words)))
    quote = " ".join(words[first:last])
    starts = [n for n in range(len(words)) if words[n : n + last - first] == words[first:last]]
    start = len(" ".join([*words[: starts[0]], ""]))
    assert align(quote, text) == (start, start + len(quote))


@given(st.text(LETTERS, max_size=12), st.text(LETTERS, max_size=40))
def test_a_span_says_what_the_quote_says(quote: str, text: str) -> None:
    span = align(quote, text)
    if span is not None:
        start, end = span
        assert 0 <= start < end <= len(text)
        assert _bare(text[start:end]) == _bare(quote)
        assert align(text[start:end], text) is not None


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_survived(quote: str, text: str) -> None:
    span = align(quote, text)
    assert span is None or 0 <= span[0] < span[1] <= len(text)
    assert any(map(str.isalnum, quote)) or span is None


def test_a_long_text_takes_little_time() -> None:
    text = "The valve is öpen. " * 2000
    assert align("the välve is shut", text) is None
    assert align("valve is o\u0308pen. the valve", text) == (4, 28)
