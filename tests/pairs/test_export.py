"""Pairs on disk: the round trip, and that the export formats load elsewhere."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid.config import PromptConfig
from hybrid.errors import ArtefactError
from hybrid.pairs.export import export_pairs, pair_from_dict, pair_to_dict, read_pairs, write_jsonl
from hybrid.prompt import render_messages
from hybrid.types import Chunk, Pair, Quote

if TYPE_CHECKING:
    from hybrid import Project

TEXT = "Line one\u2028line two\u0085 “three” 三"
CHUNK = Chunk(f"d#0-{len(TEXT)}", "d", 0, len(TEXT), TEXT, "Title")
OTHER = Chunk("e#0-5", "e", 0, 5, "Other")
PAIRS = [
    Pair("1", "Why\u2028so?", "三", (OTHER.id, CHUNK.id), (CHUNK.id,), (Quote("d", 0, 4, "Line"),), "grounded", "test"),
    Pair("2", "Who?", "No.", (OTHER.id,), (), (), "absent", "test"),
]
CHUNKS = {chunk.id: chunk for chunk in (CHUNK, OTHER)}
PROMPT = PromptConfig()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export_pairs(tmp_path, "train", PAIRS, CHUNKS, PROMPT)
    return tmp_path


def test_pairs_survive_the_disk(exported: Path) -> None:
    assert read_pairs(exported / "train.jsonl") == PAIRS
    assert [pair_from_dict(json.loads(json.dumps(pair_to_dict(pair)))) for pair in PAIRS] == PAIRS


def test_an_empty_part_is_an_empty_list(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "dev.jsonl", [])
    assert read_pairs(tmp_path / "dev.jsonl") == []


@pytest.mark.parametrize("text", ["{", '{"id": "1"}\n', '{"quotes": [], "context": [], "oracles": [], "wrong": 1}\n'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"train\.jsonl is missing or damaged .*hybrid pairs --force"):
        read_pairs(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"train\.jsonl is missing or damaged"):
        read_pairs(tmp_path / "train.jsonl")


def test_the_formats_load_as_data_sets(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from datasets import load_dataset

    cache = str(tmp_path_factory.mktemp("datasets"))
    messages = load_dataset("json", data_files=str(exported / "train.messages.jsonl"), split="train", cache_dir=cache)
    plain = load_dataset(
        "json", data_files=str(exported / "train.prompt_completion.jsonl"), split="train", cache_dir=cache
    )
    assert messages["id"][:] == plain["id"][:] == ["1", "2"]
    for pair, chat, text in zip(PAIRS, messages, plain, strict=True):
        rendered = render_messages(pair.question, [CHUNKS[c] for c in pair.context], PROMPT)
        assert chat["messages"] == [*rendered, {"role": "assistant", "content": pair.answer}]
        assert text["completion"] == f" {pair.answer}"
        assert text["prompt"].endswith(f"Question: {pair.question}\n\nAnswer:")
        assert all(CHUNKS[chunk].text in text["prompt"] for chunk in pair.context)


def test_a_project_exports_all_formats(finished_project: "Project") -> None:
    folder = finished_project.path("pairs")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "manifest.json",
        *(f"{part}{kind}.jsonl" for part in ("train", "dev") for kind in ("", ".messages", ".prompt_completion")),
    }
    pairs = read_pairs(folder / "train.jsonl")
    assert len(pairs) == len((folder / "train.messages.jsonl").read_text(encoding="utf-8").splitlines())
