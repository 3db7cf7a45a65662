"""An index of many small documents, and a teacher that asks for every fact in them."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybrid.config import PairsConfig, PromptConfig
from hybrid.pairs.build import PairSet, build_pairs
from hybrid.pairs.history import Last
from hybrid.pairs.surroundings import Surroundings
from hybrid.pairs.teacher import Draft, Figures
from hybrid.retrieval import Chunker, Index, Retriever
from hybrid.retrieval.embed import CachedEmbedder, SentenceEmbedder
from hybrid.types import Chunk, Document

COLOURS = ("red", "blue", "green", "white", "black", "grey", "brown", "pink")
PLACES = ("shed", "cellar", "tower", "garden", "harbour", "kitchen", "attic", "office", "stable", "chapel")


class FactTeacher:
    """Asks "What colour is machine 12?" of every "Machine 12 is blue and stands in the shed."."""

    name = "facts"
    alone = True

    def __init__(self) -> None:
        self.drafted: list[str] = []

    def draft(self, chunks: Sequence[Chunk], around: Sequence[Surroundings] = ()) -> Iterator[list[Draft]]:
        for chunk in chunks:
            self.drafted.append(chunk.id)
            drafts = []
            for match in re.finditer(r"Machine (\d+) is (\w+) and stands in the (\w+)\.", chunk.text):
                for group, question in ((2, "What colour is machine {}?"), (3, "Where does machine {} stand?")):
                    drafts.append(Draft(question.format(match[1]), *match.span(group), *match.span(), "fact"))
                drafts.append(
                    Draft(f"Is machine {match[1]} {match[2]}?", match.start(), match.start(), *match.span(), "yes")
                )
            yield drafts

    def figures(self) -> Figures:
        return Figures({}, {})


@dataclass(frozen=True)
class World:
    """An indexed corpus."""

    index: Index
    retriever: Retriever

    @property
    def documents(self) -> list[Document]:
        return list(self.index.documents.values())


def _world(documents: Sequence[Document], embedder: Path, size: int, cache: Path) -> World:
    sentence = CachedEmbedder(SentenceEmbedder(embedder), cache)
    index = Index.build(documents, Chunker(embedder, size, 0), sentence)
    return World(index, Retriever(index, sentence))


@pytest.fixture(scope="session")
def make_world(tiny_embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    def make(documents: Sequence[Document], size: int = 32) -> World:
        return _world(documents, tiny_embedder, size, tmp_path_factory.mktemp("cache"))

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[..., World]) -> World:
    """40 documents of 6 machines each."""
    documents = []
    for page in range(40):
        facts = [
            f"Machine {n} is {COLOURS[n * 3 % 8]} and stands in the {PLACES[n * 7 % 10]}."
            for n in range(page * 6, page * 6 + 6)
        ]
        documents.append(Document(f"page{page}.md", "\n\n".join(facts), f"Page {page}"))
    return make_world(documents)


@pytest.fixture
def make_teacher() -> Callable[[], FactTeacher]:
    return FactTeacher


@pytest.fixture
def build(world: World, tmp_path: Path) -> Callable[..., PairSet]:
    """Runs `build_pairs` on the world with the given settings."""
    runs = iter(range(1000))

    def run(
        *,
        world: World = world,
        seed: int = 0,
        drafts: Path | None = None,
        k: int = 4,
        last: Last | None = None,
        **settings: Any,
    ) -> PairSet:
        arguments = {name: settings.pop(name) for name in ("evaluation", "own", "teacher") if name in settings}
        return build_pairs(
            index=world.index,
            searcher=world.retriever,
            embedder=world.retriever.embedder,
            evaluation=arguments.get("evaluation", ()),
            teacher=arguments.get("teacher") or FactTeacher(),
            own=arguments.get("own", ()),
            drafts=drafts or tmp_path / f"drafts{next(runs)}.jsonl",
            config=PairsConfig(
                **{
                    "total": 200,
                    "questions_per_context": 6,
                    "p_absent": 0.2,
                    "oracle_in_top": 0,
                    # An embedder with random weights takes all questions for the same.
                    "max_meaning": 2.0,
                    "duplicate_meaning": 2.0,
                    "p_multi": 0.0,
                    **settings,
                }
            ),
            prompt=PromptConfig(k=k, refusal="Not answered."),
            seed=seed,
            last=last,
        )

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a value as JSON, a list of values as JSON lines, or a text, to a file whose name says nothing."""

    def to_file(value: Any, *, lines: bool = False, name: str = "data") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(json.dumps, value)) + "\n" if lines else value
        path.write_text(text if isinstance(text, str) else json.dumps(text, indent=1), encoding="utf-8")
        return path

    return to_file
