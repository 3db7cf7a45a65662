"""Contexts chosen by the gold answers."""

import pytest

from hybrid.config import Context
from hybrid.controls import by_document, contexts, distractor_hits, oracle_hits
from hybrid.types import Chunk, Hit, Question

TEXTS = {
    "pump#0": "The pump stands in the shed.",
    "pump#1": "The impeller is replaced every 15 days.",
    "tank#0": "The tank holds 15 litres.",
    "mast#0": "The mast is made of ash.",
}
CHUNKS = {key: Chunk(key, key.partition("#")[0], 0, len(text), text) for key, text in TEXTS.items()}
CHUNKS_OF = by_document(list(CHUNKS.values()))


def _hits(*keys: str) -> list[Hit]:
    return [Hit(CHUNKS[key], 1 / rank, rank) for rank, key in enumerate(keys, 1)]


def _ids(hits: list[Hit]) -> list[str]:
    return [hit.chunk.id for hit in hits]


ASKED = Question("q", "How often is the impeller replaced?", ("every 15 days",), ("pump",))
FOUND = _hits("mast#0", "pump#0", "tank#0", "pump#1")


def test_the_oracle_is_the_chunk_of_the_gold_document_that_holds_the_answer() -> None:
    assert _ids(oracle_hits(ASKED, FOUND, CHUNKS_OF)) == ["pump#1"]
    assert _ids(oracle_hits(ASKED, [], CHUNKS_OF)) == ["pump#1"], "whether or not it was retrieved"


def test_every_gold_document_gives_one_oracle() -> None:
    both = Question("q", "Where is the pump and how much does the tank hold?", ("shed",), ("pump", "tank"))
    assert _ids(oracle_hits(both, FOUND, CHUNKS_OF)) == ["pump#0", "tank#0"]


def test_without_gold_the_oracle_is_found_among_the_retrieved() -> None:
    nameless = Question("q", "How often is the impeller replaced?", ("every 15 days",))
    assert _ids(oracle_hits(nameless, FOUND, CHUNKS_OF)) == ["pump#1"]
    assert oracle_hits(nameless, _hits("mast#0"), CHUNKS_OF) == []
    unknown = Question("q", "How often is the impeller replaced?", ("every 15 days",), ("not indexed",))
    assert _ids(oracle_hits(unknown, FOUND, CHUNKS_OF)) == ["pump#1"]


def test_distractors_lack_the_answer_and_come_from_other_documents() -> None:
    assert _ids(distractor_hits(ASKED, FOUND, oracle_hits(ASKED, FOUND, CHUNKS_OF))) == ["mast#0", "tank#0"]
    asked = Question("q", "How many?", ("15",))
    assert _ids(distractor_hits(asked, FOUND, [])) == ["mast#0", "pump#0"]


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        ("none", [[], []]),
        ("retrieved", [["mast#0", "pump#0"], ["tank#0"]]),
        ("oracle", [["pump#1"], ["tank#0"]]),
        ("distractors", [["mast#0", "tank#0"], ["tank#0"]]),
    ],
)
def test_a_context_shows_what_it_says(context: Context, shown: list[list[str]]) -> None:
    nothing = Question("u", "Who built it?", answerable=False)
    found = contexts(context, 2, [ASKED, nothing], [FOUND, _hits("tank#0")], CHUNKS_OF)
    assert [_ids(hits) for hits in found] == shown
