"""The card of an exported data set: a README.md whose header the `datasets` library reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# Names and types as `dataset_info` writes them; without, a column of empty lists would have no type.
_SPAN = {"document": "string", "start": "int64", "end": "int64", "text": "string"}
_PASSAGE = {"document": "string", "title": "string", "text": "string", "is_oracle": "bool"}
FIELDS: dict[str, tuple[str | dict[str, str], str]] = {
    "id": ("string", "stable for the same documents, settings and seed"),
    "question": ("string", "what a user would ask"),
    "answer": ("string", "the target answer; for the kind `absent` the refusal, or the real one from memory"),
    "kind": ("string", "`grounded`, `multi` (several oracles), `absent` (no oracle is shown) or `conflict`"),
    "source": ("string", "the teacher or the file that the question is from"),
    "context": (_PASSAGE, "the passages of the prompt, in order; `is_oracle` marks those that support the answer"),
    "quotes": (_SPAN, "what proves the answer: spans of characters of a document, oracles that are not shown included"),
    "messages": ({"role": "string", "content": "string"}, "the whole example as a chat, ready for training"),
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_BODY = """\
# Grounded question and answer pairs

Questions about a collection of documents, each with the passages that a retriever finds for it, the answer, and the
spans of the documents that prove the answer. The parts share no document that an answer is from.

{parts}

{fields}

## How it was made

By `hybrid pairs` of hybrid-rag {version}; what was kept, and why the rest was dropped:

{counts}

## Licence

None is set. Passages and quotes are text of the documents, and what may be done with these decides what may be done
with this data set. Add `license:` to the header of this file before you pass it on.
"""


def write_card(folder: Path, sizes: Mapping[str, int], made: Mapping[str, Any]) -> None:
    """Writes README.md for the files `PART.jsonl` beside it.

    Args:
        folder: Folder of the data set.
        sizes: Number of examples by part; an empty part is not announced, as no reader can load it.
        made: The manifest of the pairs.
    """
    header = {
        "pretty_name": "Grounded question and answer pairs",
        "task_categories": ["question-answering", "text-generation"],
        "size_categories": [next((name for limit, name in _SIZES if sum(sizes.values()) < limit), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"{name}.jsonl"} for name, size in sizes.items() if size],
            }
        ],
        "dataset_info": {"features": [_feature(name, kind) for name, (kind, _) in FIELDS.items()]},
    }
    text = yaml.safe_dump(header, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{text}---\n\n{_body(sizes, made)}", encoding="utf-8")


def _feature(name: str, kind: str | Mapping[str, str]) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"name": name, "dtype": kind}
    return {"name": name, "list": [_feature(inner, dtype) for inner, dtype in kind.items()]}


def _body(sizes: Mapping[str, int], made: Mapping[str, Any]) -> str:
    counts = {name: value for name, value in made.items() if isinstance(value, int | float) and name != "seconds"}
    return _BODY.format(
        version=made.get("versions", {}).get("hybrid-rag", "of an unknown version"),
        parts=_table(("part", "examples"), {name: str(size) for name, size in sizes.items()}),
        fields=_table(("field", "meaning"), {f"`{name}`": meaning for name, (_, meaning) in FIELDS.items()}),
        counts=_table(("figure", "value"), {name: f"{value:g}" for name, value in counts.items()}),
    )


def _table(header: tuple[str, str], rows: Mapping[str, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in [header, ("---", "---"), *rows.items()])
