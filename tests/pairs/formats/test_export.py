"""Pairs on disk: the round trip, and that the export formats load elsewhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hybrid.config import PromptConfig
from hybrid.errors import ArtefactError
from hybrid.pairs.formats.card import FIELDS
from hybrid.pairs.formats.export import (
    FORMATS,
    as_example,
    as_squad,
    export_all,
    export_pairs,
    pair_from_dict,
    pair_to_dict,
    read_pairs,
    write_jsonl,
)
from hybrid.prompt import render_messages
from hybrid.types import Chunk, Pair, Quote

if TYPE_CHECKING:
    from hybrid import Project

TEXT = "Line one\u2028line two\u0085 “three” 三"
CHUNK = Chunk(f"d#0-{len(TEXT)}", "d", 0, len(TEXT), TEXT, "Title")
OTHER = Chunk("e#0-5", "e", 0, 5, "Other")
PROMPT = PromptConfig()
PAIRS = [
    Pair("1", "Why\u2028so?", "三", (OTHER.id, CHUNK.id), (CHUNK.id,), (Quote("d", 0, 4, "Line"),), "grounded", "test"),
    Pair("2", "Who?", PROMPT.refusal, (OTHER.id,), (), (), "absent", "test"),
]
CHUNKS = {chunk.id: chunk for chunk in (CHUNK, OTHER)}


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
    assert names >= {
        "manifest.json",
        *(f"{part}{kind}.jsonl" for part in ("train", "dev") for kind in ("", ".messages", ".prompt_completion")),
    }
    pairs = read_pairs(folder / "train.jsonl")
    assert len(pairs) == len((folder / "train.messages.jsonl").read_text(encoding="utf-8").splitlines())


# --- formats of other tools -------------------------------------------------------------------------------------------

MADE = {"candidates": 7, "dropped: duplicate": 5, "seconds": 1.5, "versions": {"hybrid-rag": "9.9"}, "inputs": {}}


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    assert export_all(folder, FORMATS, {"train": PAIRS, "dev": PAIRS[:1]}, CHUNKS, PROMPT, MADE) == {
        "pubmedqa": 1,
        "hotpotqa": 1,
    }
    return folder


def test_all_formats_are_written(everything: Path) -> None:
    kinds = [".jsonl", *(f".{k}.jsonl" for k in ("messages", "prompt_completion", "sharegpt", "alpaca"))]
    kinds += [".squad.json", ".pubmedqa.json", ".hotpotqa.json", ".csv", ".beir"]
    files = {f"{part}{kind}" for part in ("train", "dev") for kind in kinds}
    assert {path.name for path in everything.iterdir()} == files | {"dataset", "dataset_info.json"}
    assert {path.name for path in (everything / "dataset").iterdir()} == {"README.md", "train.jsonl", "dev.jsonl"}


def test_one_format_alone(tmp_path: Path) -> None:
    export_all(tmp_path / "new", ["csv"], {"train": PAIRS}, CHUNKS, PROMPT, MADE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["train.csv"]


def test_sharegpt_and_alpaca_say_what_the_messages_say(everything: Path) -> None:
    def lines(kind: str) -> list[Any]:
        return list(map(json.loads, (everything / f"train.{kind}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]))

    for chat, shared, alpaca in zip(lines("messages"), lines("sharegpt"), lines("alpaca"), strict=True):
        system, user, assistant = (message["content"] for message in chat["messages"])
        assert shared["conversations"] == [
            {"from": "system", "value": system},
            {"from": "human", "value": user},
            {"from": "gpt", "value": assistant},
        ]
        assert [alpaca[name] for name in ("system", "instruction", "input", "output")] == [system, user, "", assistant]
    info = json.loads((everything / "dataset_info.json").read_text(encoding="utf-8"))
    assert all((everything / entry["file_name"]).is_file() for entry in info.values())
    assert info["dev_alpaca"]["columns"]["prompt"] == "instruction"


def test_squad_groups_questions_by_paragraph_and_document() -> None:
    pair = Pair("3", "Which line?", "two", (CHUNK.id,), (CHUNK.id,), (Quote("d", 9, 17, "line two"),))
    value, left_out = as_squad([*PAIRS, pair], CHUNKS, PROMPT)
    assert left_out == 0
    assert value["version"] == "v2.0"
    first, second = value["data"]
    assert (first["title"], second["title"]) == ("d", "e")
    (paragraph,) = first["paragraphs"]
    assert paragraph["context"] == TEXT
    assert [qa["answers"] for qa in paragraph["qas"]] == [
        [{"text": "三", "answer_start": TEXT.index("三")}],
        [{"text": "two", "answer_start": TEXT.index("two")}],
    ]
    (impossible,) = second["paragraphs"][0]["qas"]
    assert impossible == {"id": "2", "question": "Who?", "answers": [], "is_impossible": True}


@pytest.mark.parametrize("answer", ["yes", "No.", "four", "lin"])
def test_an_answer_that_is_no_span_cannot_be_squad(answer: str) -> None:
    chunk = Chunk("d#0-20", "d", 0, 20, "Lines: no one, 4444.")
    pair = Pair("1", "Q?", answer, (chunk.id,), (chunk.id,), (Quote("d", 0, 20, chunk.text),))
    assert as_squad([pair], {chunk.id: chunk}, PROMPT) == ({"version": "v2.0", "data": []}, 1)


def test_an_answer_from_memory_cannot_be_squad() -> None:
    remembered = Pair("1", "Why?", "三", (OTHER.id,), (CHUNK.id,), (), "absent")
    assert as_squad([remembered], CHUNKS, PROMPT) == ({"version": "v2.0", "data": []}, 1)


def test_the_data_set_loads_with_its_card(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from datasets import DatasetDict, load_dataset

    loaded = load_dataset(str(everything / "dataset"), cache_dir=str(tmp_path_factory.mktemp("datasets")))
    assert isinstance(loaded, DatasetDict)
    assert {name: len(part) for name, part in loaded.items()} == {"train": 2, "dev": 1}
    assert list(loaded["train"].features) == list(FIELDS)
    assert list(loaded["train"]) == [as_example(pair, CHUNKS, PROMPT) for pair in PAIRS]
    assert [passage["is_oracle"] for passage in loaded["train"][0]["context"]] == [False, True]


def test_the_card_says_how_the_data_set_was_made(everything: Path) -> None:
    _, header, body = (everything / "dataset" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["size_categories"] == ["n<1K"]
    assert "license" not in values
    assert "Add `license:`" in body
    assert "hybrid-rag 9.9" in body
    for row in ("| train | 2 |", "| dev | 1 |", "| candidates | 7 |", "| dropped: duplicate | 5 |", "| `quotes` | "):
        assert row in body
    assert "seconds" not in body


def test_an_empty_part_does_not_keep_the_data_set_from_loading(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from datasets import load_dataset

    export_all(tmp_path / "new", ["dataset"], {"train": PAIRS[1:], "dev": []}, CHUNKS, PROMPT, MADE)
    loaded = load_dataset(str(tmp_path / "new" / "dataset"), cache_dir=str(tmp_path_factory.mktemp("datasets")))
    assert list(loaded) == ["train"]
    assert loaded["train"][0]["quotes"] == []


def _alpaca_text(example: dict[str, str]) -> str:
    return f"{example['system']}\n{example['instruction']}\n{example['output']}"


@pytest.mark.parametrize(
    ("file", "render"),
    [
        ("train.messages.jsonl", None),
        ("train.sharegpt.jsonl", None),
        ("train.prompt_completion.jsonl", None),
        ("train.alpaca.jsonl", _alpaca_text),
        ("dataset/train.jsonl", None),
    ],
)
def test_trl_prepares_each_format(
    file: str,
    render: Callable[[dict[str, str]], str] | None,
    everything: Path,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    trl = pytest.importorskip("trl")
    from datasets import load_dataset
    from transformers import AutoTokenizer

    cache = tmp_path_factory.mktemp("datasets")
    data = load_dataset("json", data_files=str(everything / file), split="train", cache_dir=str(cache))
    config = trl.SFTConfig(output_dir=str(cache), report_to="none", use_cpu=True, bf16=False, max_length=None)
    trainer = trl.SFTTrainer(str(tiny_model), config, train_dataset=data, formatting_func=render)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for pair, row in zip(PAIRS, trainer.train_dataset, strict=True):
        text = str(tokenizer.decode(row["input_ids"]))
        assert f"Question: {pair.question}" in text
        assert all(CHUNKS[chunk].text in text for chunk in pair.context)
        assert pair.answer in text.partition(f"Question: {pair.question}")[2]
        if file.endswith("prompt_completion.jsonl"):
            learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
            assert tokenizer.decode(learnt) == f" {pair.answer}<|end|>"
