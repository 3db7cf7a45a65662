"""Pairs as files: our own JSON lines, and the formats that other trainers and tools read."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid.answers import target_text
from hybrid.config import PromptConfig
from hybrid.errors import ArtefactError
from hybrid.pairs.formats.card import write_card
from hybrid.pairs.formats.records import join_names
from hybrid.pairs.formats.retrieval_sets import as_beir, as_hotpotqa, as_pubmedqa, stands_alone
from hybrid.pairs.oracles import verbatim_span
from hybrid.prompt import render_messages
from hybrid.types import Chunk, Pair, Quote, document_of


def pair_to_dict(pair: Pair) -> dict[str, Any]:
    """A pair as JSON values."""
    return dataclasses.asdict(pair)


def pair_from_dict(values: Mapping[str, Any]) -> Pair:
    """The inverse of `pair_to_dict`."""
    quotes = tuple(Quote(**quote) for quote in values["quotes"])
    return Pair(
        **{**values, "context": tuple(values["context"]), "oracles": tuple(values["oracles"]), "quotes": quotes}
    )


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line in UTF-8."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_pairs(path: Path) -> list[Pair]:
    """Reads pairs that `write_jsonl` wrote.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    try:
        # Not splitlines: a line separator such as U+2028 is allowed inside a JSON string.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [pair_from_dict(json.loads(line)) for line in lines if line]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is missing or damaged ({error}); run: hybrid pairs --force") from error


def as_messages(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """The chat format that most trainers read: `messages` with system, user and assistant."""
    shown = [chunks[c] for c in pair.context]
    answer = {"role": "assistant", "content": target_text(pair, shown, config)}
    return {"id": pair.id, "messages": [*render_messages(pair.question, shown, config), answer]}


def as_prompt_completion(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """Plain text prompt and completion, without a chat template."""
    system, turn, answer = (message["content"] for message in as_messages(pair, chunks, config)["messages"])
    return {"id": pair.id, "prompt": f"{system}\n\n{turn}\n\nAnswer:", "completion": f" {answer}"}


def as_sharegpt(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """The chat format of ShareGPT: the same `conversations`, with `from` and `value`."""
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    messages = as_messages(pair, chunks, config)["messages"]
    return {"id": pair.id, "conversations": [{"from": names[m["role"]], "value": m["content"]} for m in messages]}


def as_alpaca(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """The format of Alpaca, with the `system` of LLaMA-Factory; context and question are the instruction."""
    system, turn, answer = (message["content"] for message in as_messages(pair, chunks, config)["messages"])
    return {"id": pair.id, "instruction": turn, "input": "", "output": answer, "system": system}


def as_squad(pairs: Sequence[Pair], chunks: Mapping[str, Chunk], config: PromptConfig) -> tuple[dict[str, Any], int]:
    """The format of SQuAD 2.0: documents are the articles, chunks the paragraphs.

    Returns:
        The contents of the file, and how many pairs it cannot hold because their answer is no span of an oracle, such
        as a yes, or is from memory. Pairs that refuse are impossible questions about the first chunk they show.
    """
    articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
    left_out = 0
    for pair in pairs:
        place = _place(pair, chunks, config.refusal)
        if place is None:
            left_out += 1
            continue
        chunk, answers = place
        asked = {"id": pair.id, "question": pair.question, "answers": answers, "is_impossible": not answers}
        articles.setdefault(chunk.document, {}).setdefault(chunk.id, []).append(asked)
    data = []
    for document, asked_of in articles.items():
        paragraphs = [{"context": chunks[key].text, "qas": qas} for key, qas in asked_of.items()]
        data.append({"title": document, "paragraphs": paragraphs})
    return {"version": "v2.0", "data": data}, left_out


def _place(pair: Pair, chunks: Mapping[str, Chunk], refusal: str) -> tuple[Chunk, list[dict[str, Any]]] | None:
    """The paragraph of a SQuAD question and its answers, which stand in the proving quote if there is one."""
    if pair.kind == "absent":
        return (chunks[pair.context[0]], []) if pair.context and pair.answer == refusal else None
    for chunk in map(chunks.__getitem__, pair.oracles):
        quoted = [(q.start - chunk.start, q.end - chunk.start) for q in pair.quotes if q.document == chunk.document]
        for start, end in [*(span for span in quoted if span[0] >= 0), (0, len(chunk.text))]:
            if span := verbatim_span(chunk.text[start:end], pair.answer):
                at = start + span[0]
                return chunk, [{"text": chunk.text[at : start + span[1]], "answer_start": at}]
    return None


def as_example(pair: Pair, chunks: Mapping[str, Chunk], config: PromptConfig) -> dict[str, Any]:
    """A row of a data set, with the fields of `hybrid.pairs.formats.card.FIELDS`."""
    shown = [chunks[chunk] for chunk in pair.context]
    return {
        **{name: getattr(pair, name) for name in ("id", "question", "answer", "kind", "source")},
        "context": [
            {"document": c.document, "title": c.title, "text": c.text, "is_oracle": c.id in pair.oracles} for c in shown
        ],
        "quotes": [dataclasses.asdict(quote) for quote in pair.quotes],
        "messages": as_messages(pair, chunks, config)["messages"],
    }


def as_row(pair: Pair) -> dict[str, str]:
    """Question and answer for a table; several gold documents are joined by `;`, one that holds such is quoted."""
    absent = pair.kind == "absent"
    return {
        "id": pair.id,
        "question": pair.question,
        "answer": pair.answer,
        "gold": join_names(dict.fromkeys(document_of(oracle) for oracle in pair.oracles)),
        "answerable": "false" if absent else "true",
        "kind": pair.kind,
    }


_RENDERED: dict[str, Callable[[Pair, Mapping[str, Chunk], PromptConfig], dict[str, Any]]] = {
    "messages": as_messages,
    "prompt_completion": as_prompt_completion,
    "sharegpt": as_sharegpt,
    "alpaca": as_alpaca,
}
_DOCUMENTS: dict[str, Callable[[Sequence[Pair], Mapping[str, Chunk], PromptConfig], tuple[Any, int]]] = {
    "squad": as_squad,
    "pubmedqa": lambda pairs, chunks, _: as_pubmedqa(pairs, chunks),
    "hotpotqa": lambda pairs, chunks, _: as_hotpotqa(pairs, chunks),
}
FORMATS = ("pairs", *_RENDERED, *_DOCUMENTS, "csv", "beir", "dataset")

# How LLaMA-Factory, which does not look at the fields, is told what a file holds.
_LLAMA_FACTORY: dict[str, dict[str, Any]] = {
    "alpaca": {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}},
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations"}},
    "messages": {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    },
}


def export_pairs(
    folder: Path, name: str, pairs: Sequence[Pair], chunks: Mapping[str, Chunk], config: PromptConfig
) -> None:
    """Writes `NAME.jsonl`, `NAME.messages.jsonl` and `NAME.prompt_completion.jsonl` into the folder."""
    for kind in ("pairs", "messages", "prompt_completion"):
        export_format(folder, name, kind, pairs, chunks, config)


def export_format(
    folder: Path, name: str, kind: str, pairs: Sequence[Pair], chunks: Mapping[str, Chunk], config: PromptConfig
) -> int:
    """Writes the pairs in one of `FORMATS` but `dataset`.

    The file is `NAME.jsonl`, `NAME.KIND.jsonl`, of SQuAD, PubMedQA and HotpotQA `NAME.KIND.json`, or `NAME.csv`; BEIR
    is the folder `NAME.beir`.

    Returns:
        How many pairs the format cannot hold: see `as_squad`, `stands_alone`, `as_hotpotqa`.
    """
    if kind == "pairs":
        write_jsonl(folder / f"{name}.jsonl", map(pair_to_dict, pairs))
    elif kind in _DOCUMENTS:
        value, left_out = _DOCUMENTS[kind](pairs, chunks, config)
        (folder / f"{name}.{kind}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        return left_out
    elif kind == "csv":
        return _write_table(folder / f"{name}.csv", pairs)
    elif kind == "beir":
        return _write_beir(folder / f"{name}.beir", name, pairs, chunks)
    else:
        write_jsonl(folder / f"{name}.{kind}.jsonl", (_RENDERED[kind](pair, chunks, config) for pair in pairs))
    return 0


def _write_table(path: Path, pairs: Sequence[Pair]) -> int:
    kept = [as_row(pair) for pair in pairs if stands_alone(pair)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "question", "answer", "gold", "answerable", "kind"])
        writer.writeheader()
        writer.writerows(kept)
    return len(pairs) - len(kept)


def _write_beir(folder: Path, name: str, pairs: Sequence[Pair], chunks: Mapping[str, Chunk]) -> int:
    contents, left_out = as_beir(pairs, chunks)
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", contents.corpus)
    write_jsonl(folder / "queries.jsonl", contents.queries)
    write_jsonl(folder / "qa.jsonl", contents.answers)
    (folder / "qrels" / f"{name}.tsv").write_text(contents.judgements, encoding="utf-8", newline="\n")
    return left_out


def export_all(
    folder: Path,
    kinds: Sequence[str],
    parts: Mapping[str, Sequence[Pair]],
    chunks: Mapping[str, Chunk],
    config: PromptConfig,
    made: Mapping[str, Any],
) -> dict[str, int]:
    """Writes all parts in the wanted formats, and `dataset_info.json` where LLaMA-Factory needs one.

    Args:
        folder: The folder to fill.
        kinds: Some of `FORMATS`; none means all.
        parts: Pairs by the name of their part, such as `train`.
        chunks: All chunks by id.
        config: How prompts look.
        made: The manifest of the pairs, for the data set's card.

    Returns:
        How many pairs each format cannot hold, where it cannot hold all.
    """
    kinds = kinds or FORMATS
    folder.mkdir(parents=True)
    left_out = dict.fromkeys(kinds, 0)
    for name, pairs in parts.items():
        for kind in kinds:
            if kind != "dataset":
                left_out[kind] += export_format(folder, name, kind, pairs, chunks, config)
    if "dataset" in kinds:
        _write_dataset(folder / "dataset", parts, chunks, config, made)
    entries = {
        f"{name}_{kind}": {"file_name": f"{name}.{kind}.jsonl", **entry}
        for kind, entry in _LLAMA_FACTORY.items()
        for name in parts
        if kind in kinds
    }
    if entries:
        (folder / "dataset_info.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return {kind: count for kind, count in left_out.items() if count}


def _write_dataset(
    folder: Path,
    parts: Mapping[str, Sequence[Pair]],
    chunks: Mapping[str, Chunk],
    config: PromptConfig,
    made: Mapping[str, Any],
) -> None:
    """A folder that `datasets.load_dataset` reads as a `DatasetDict`, by the card in it."""
    folder.mkdir()
    for name, pairs in parts.items():
        write_jsonl(folder / f"{name}.jsonl", (as_example(pair, chunks, config) for pair in pairs))
    write_card(folder, {name: len(pairs) for name, pairs in parts.items()}, made)
