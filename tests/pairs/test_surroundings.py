"""What the documents show around a chunk."""

from hybrid.pairs.surroundings import Surroundings, surroundings_of
from hybrid.types import Chunk

TEXT = "First it is opened. Then it is oiled. Then it is shut."


def _chunk(start: int, end: int, document: str = "d", title: str = "") -> Chunk:
    return Chunk(f"{document}#{start}-{end}", document, start, end, TEXT[start:end], title)


def test_neighbours_tell_how_the_document_goes_on_and_how_it_went() -> None:
    first, second, third = surroundings_of([_chunk(0, 19), _chunk(20, 37), _chunk(38, 54)])
    assert (first.following, first.preceding) == ("Then it is oiled.", "")
    assert (second.following, second.preceding) == ("Then it is shut.", "First it is opened.")
    assert (third.following, third.preceding) == ("", "Then it is oiled.")


def test_what_chunks_repeat_of_each_other_is_not_around_them() -> None:
    first, second = surroundings_of([_chunk(0, 30), _chunk(20, 54)])
    assert (first.following, second.preceding) == (TEXT[30:], TEXT[:20])


def test_nothing_is_known_across_a_gap_or_another_document() -> None:
    first, second = surroundings_of([_chunk(0, 19), _chunk(38, 54)])
    assert (first.following, second.preceding) == ("- ", "")
    assert surroundings_of([_chunk(0, 19), _chunk(20, 37, "e", "E")]) == [Surroundings("", "", own_title=True)] * 2


def test_a_title_is_its_own_if_no_other_document_has_it() -> None:
    chunks = [_chunk(0, 19, "a", "A"), _chunk(20, 37, "a", "A"), _chunk(0, 19, "b", "B"), _chunk(0, 19, "c", "B")]
    assert [shown.own_title for shown in surroundings_of(chunks)] == [True, True, False, False]
    assert surroundings_of([]) == []
