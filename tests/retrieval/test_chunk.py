"""Chunks: exact spans, nothing lost, never too long."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.errors import ModelError
from hybrid.retrieval import Chunker
from hybrid.retrieval.chunk import load_tokenizer
from hybrid.types import Chunk, Document

PIECES = [
    "oil",
    " ",
    "\n",
    "\n\n",
    "\r\n",
    "\n# ",
    "\n## Head\n",
    "\n### ",
    "| a | b |\n",
    ". ",
    "。",
    "日本語",
    "αντλία",
]
ODD = ["😀", "\u2028", "\u3000", "\u200b", "\x00", "é", "e\u0301", "ﷺ", "x" * 300, "```\n", "---\n", "the same words. "]
pieces = st.sampled_from([*PIECES, *ODD])
texts = st.lists(pieces | st.text(max_size=6), max_size=60).map("".join)
property_test = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(document: Document, chunks: list[Chunk], size: int, count: Callable[[str], int]) -> None:
    covered = bytearray(len(document.text))
    for chunk in chunks:
        assert chunk.text == document.text[chunk.start : chunk.end] == chunk.text.strip() != ""
        assert chunk.id == f"{document.id}#{chunk.start}-{chunk.end}"
        assert (chunk.document, chunk.title) == (document.id, document.title)
        assert count(chunk.text) <= size
        covered[chunk.start : chunk.end] = b"\x01" * (chunk.end - chunk.start)
    assert all(seen or letter.isspace() for seen, letter in zip(covered, document.text, strict=True))
    assert all(a.start < b.start and a.end < b.end for a, b in pairwise(chunks))
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@pytest.mark.parametrize("tokenizer", ["words", "utf8", "minilm"])
@pytest.mark.parametrize("name", ["a.md", "a.txt"])
@given(data=st.data())
@property_test
def test_spans(tokenizer: str, name: str, data: st.DataObject, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(tokenizer)
    size = data.draw(st.integers(24, 60))
    chunker = Chunker(path, size, data.draw(st.integers(0, size // 2)))
    document = Document(name, data.draw(texts), "Title")
    encode = load_tokenizer(path).encode
    check(document, chunker.chunk(document), size, lambda text: len(encode(text, add_special_tokens=False).ids))


def test_repeated_text_keeps_its_places(chunker: Chunker) -> None:
    text = "Oil the pump every single day of the week now.\n\n" * 6
    chunks = chunker.chunk(Document("a.txt", text))
    assert [chunk.start for chunk in chunks] == list(range(0, len(text), len(text) // 6))


def test_no_overlap_repeats_nothing(chunker: Chunker) -> None:
    chunks = chunker.chunk(Document("a.txt", "one two three four five. " * 40))
    assert all(before.end <= after.start for before, after in pairwise(chunks))


def test_overlap_repeats_sentences(words: Path) -> None:
    sentences = [f"Sentence {number} is here." for number in range(40)]
    chunks = Chunker(words, 32, 8).chunk(Document("a.txt", " ".join(sentences)))
    for before, after in pairwise(chunks):
        shared = before.text[after.start - before.start :]
        assert shared in sentences


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\u3000\r\n"])
def test_nothing_to_chunk(chunker: Chunker, text: str) -> None:
    assert chunker.chunk(Document("a.md", text)) == []


@pytest.mark.parametrize("text", ["x" * 50_000, "漢" * 20_000, "\u200b" * 20_000, "-" * 20_000, "αβγ. " * 5_000])
@pytest.mark.parametrize("tokenizer", ["utf8", "minilm"])
def test_long_without_breaks(text: str, tokenizer: str, request: pytest.FixtureRequest) -> None:
    chunker = Chunker(request.getfixturevalue(tokenizer), 64)
    document = Document("a.txt", text)
    chunks = chunker.chunk(document)
    check(document, chunks, 64, chunker.count)
    assert max(len(chunk.text) for chunk in chunks) <= 64 * 16


def test_time_is_linear(words: Path) -> None:
    chunker = Chunker(words, 64)
    start = time.perf_counter()
    chunker.chunk(Document("a.md", "x" * 1_000_000))
    chunker.chunk(Document("a.md", "\n" * 300_000 + "-" * 300_000))
    assert time.perf_counter() - start < 60


def test_truncation_of_the_tokenizer_is_off(words: Path) -> None:
    assert Chunker(words).count("oil " * 100) == 100
    assert Chunker(words).count("oil") == 1


class Tokenising(Chunker):
    """Counts every text by its tokens, however long it is."""

    def count(self, text: str) -> int:
        tokens = load_tokenizer(self.tokenizer_path).encode(text, add_special_tokens=False)
        return max(len(tokens.ids), -(-len(text) // 16))


@given(
    text=st.lists(pieces | st.sampled_from(["word " * 90, "x" * 900, "## Head\n\n", "A b. " * 99]), max_size=20).map(
        "".join
    ),
    name=st.sampled_from(["a.md", "a.txt"]),
    overlap=st.integers(0, 8),
)
@property_test
def test_chunks_do_not_depend_on_how_long_texts_are_counted(words: Path, text: str, name: str, overlap: int) -> None:
    document = Document(name, text)
    assert Chunker(words, 16, overlap).chunk(document) == Tokenising(words, 16, overlap).chunk(document)


def test_no_text_is_tokenised_that_is_certainly_too_long(words: Path) -> None:
    chunker = Chunker(words, 32)
    longest = 0
    encode = load_tokenizer(words).encode

    class Watched:
        def encode(self, text: str, add_special_tokens: bool) -> object:
            nonlocal longest
            longest = max(longest, len(text))
            return encode(text, add_special_tokens=add_special_tokens)

    chunker.__dict__["_tokenizer"] = Watched()
    document = Document("a.txt", "one two three " * 5_000)
    check(document, chunker.chunk(document), 32, lambda text: len(encode(text, add_special_tokens=False).ids))
    assert 0 < longest <= 32 * 16


def test_headings_stand_with_their_text(chunker: Chunker) -> None:
    body = " ".join(["Replace the worn seal."] * 6)
    text = f"# Pump\n\n{body}\n\n## Seals\n\n### Outer\n\n{body}\n\n## Motor\n\nOil it."
    chunks = chunker.chunk(Document("a.md", text))
    for heading in ("# Pump", "## Seals", "### Outer", "## Motor"):
        (chunk,) = [chunk for chunk in chunks if f"{heading}\n" in chunk.text + "\n" and chunk.text.count(heading)]
        assert not chunk.text.rstrip().endswith(heading)
    assert [chunk.text for chunk in chunks][-1] == "## Motor\n\nOil it."


def test_a_heading_too_long_for_its_text_stands_alone(chunker: Chunker) -> None:
    document = Document("a.md", "# " + "long " * 13 + "\n\n" + "word " * 16)
    chunks = chunker.chunk(document)
    check(document, chunks, 16, chunker.count)


def test_hash_signs_are_no_headings_in_plain_text(chunker: Chunker) -> None:
    text = "# a comment\n\n" + "word " * 15
    assert chunker.chunk(Document("a.txt", text))[0].text == "# a comment"
    assert chunker.chunk(Document("a.md", text))[0].text != "# a comment"


def test_table_rows_stay_whole(chunker: Chunker) -> None:
    rows = [f"| part {number} | every {number} weeks |" for number in range(30)]
    for chunk in chunker.chunk(Document("a.md", "\n".join(rows))):
        assert set(chunk.text.split("\n")) <= set(rows)


def test_windows_line_ends(chunker: Chunker) -> None:
    paragraph = "Oil the pump every single day of the week."
    chunks = chunker.chunk(Document("a.txt", f"{paragraph}\r\n\r\n{paragraph}"))
    assert [chunk.text for chunk in chunks] == [paragraph, paragraph]


@pytest.mark.parametrize(("size", "overlap"), [(15, 0), (0, 0), (32, -1), (32, 17)])
def test_settings_out_of_range(words: Path, size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        Chunker(words, size, overlap)


def test_settings_change_the_chunks(words: Path, utf8: Path) -> None:
    document = Document("a.txt", "Oil the pump every day. " * 50)
    variants = [Chunker(words, 16), Chunker(words, 32), Chunker(words, 32, 8), Chunker(utf8, 32)]
    assert len({tuple(variant.chunk(document)) for variant in variants}) == 4
    assert len({variant.settings for variant in variants}) == 4


def test_tokenizer_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Chunker(tmp_path).chunk(Document("a", "text"))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        Chunker(tmp_path).chunk(Document("a", "text"))
