"""Public question sets as projects: a local copy, split without leaks, trained on one part and compared on the other.

project = create_benchmark("squad", Path("squad11_dev13"), Path("squad"))
project.run()

Read are folders with `corpus.jsonl` and `qa.jsonl` beside it (BEIR, with answers), and the published files of SQuAD,
PubMedQA and HotpotQA, whose passages become the documents. Whole groups, such as the articles of SQuAD, are put aside
for the comparison, and training questions about any document that a comparison question names are left out.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hybrid.config import apply_override, config_from_dict
from hybrid.errors import ConfigError, QuestionError
from hybrid.pairs.formats.beir import FILES
from hybrid.pairs.formats.load import load_examples
from hybrid.pairs.formats.records import read_hotpotqa, read_pubmedqa, read_squad
from hybrid.project import CONFIG, Project
from hybrid.types import Question

RECORD = "benchmark.json"
_SPLIT_SEED = 0
CORPUS = "corpus.jsonl"
_DECISIONS = {"yes", "no", "maybe"}


class Item(NamedTuple):
    """A question of a set.

    Attributes:
        question: The question with its answers and gold.
        group: Questions of one group go to one side of the split.
        documents: Everything that it was asked about; no other side may learn from it.
    """

    question: Question
    group: str
    documents: frozenset[str]


class Passage(NamedTuple):
    """A document of a published file."""

    id: str
    title: str
    text: str


class Published(NamedTuple):
    """What a published file holds."""

    items: list[Item]
    passages: list[Passage]


class Split(NamedTuple):
    """The two sides, and how many training questions were left out because of their documents."""

    train: list[Item]
    test: list[Item]
    dropped: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is particular to a set.

    Attributes:
        group: Field of `qa.jsonl` that names the group; without it, the first document is the group.
        share: Share of the questions kept for the comparison.
        settings: Settings of its project that differ from the defaults.
        published: Reads its published file.
    """

    group: str
    share: float
    settings: Mapping[str, Any]
    published: Callable[[Any, str], Published] | None = None


def split(items: Sequence[Item], share: float, seed: int, fold: int = 0) -> Split:
    """Puts whole groups aside until they hold `share` of the questions, and drops what would leak from the rest.

    Groups that would be most of the test side by themselves stay for training, as a comparison about one group says
    little, unless the others are less than half of what is wanted.

    Args:
        items: The questions of the set.
        share: Share of the questions to put aside.
        seed: Orders the groups.
        fold: Which of the sides in this order to put aside, from 0; no two have a group in common. The last one may
            hold less than `share`, or nothing.
    """
    wanted = share * len(items)
    sizes = Counter(item.group for item in items)
    groups = sorted(sizes)
    Random(seed).shuffle(groups)
    small = [group for group in groups if sizes[group] <= wanted / 2]
    if sum(sizes[group] for group in small) >= wanted / 2:
        groups = small
    aside = _sides(groups, sizes, wanted)[fold : fold + 1]
    here = set(aside[0]) if aside else set()
    test = [item for item in items if item.group in here]
    asked = frozenset().union(*(item.documents for item in test))
    rest = [item for item in items if item.group not in here]
    train = [item for item in rest if not item.documents & asked]
    return Split(train, test, len(rest) - len(train))


def _sides(groups: Sequence[str], sizes: Mapping[str, int], wanted: float) -> list[list[str]]:
    """The groups in their order, cut where those before hold `wanted` questions."""
    sides, size = list[list[str]](), wanted
    for group in groups:
        if size >= wanted:
            sides.append([])
            size = 0
        sides[-1].append(group)
        size += sizes[group]
    return sides


def create_benchmark(name: str, path: Path, folder: Path, overrides: Sequence[str] = (), *, fold: int = 0) -> Project:
    """Makes the project of a set, or opens it where it was made before.

    Args:
        name: One of `BENCHMARKS`.
        path: The local copy: a folder, or a published file.
        folder: The project folder.
        overrides: Further settings as `key=value`; a project that exists is opened with them.
        fold: Which part of the questions is put aside; see `split`.

    Raises:
        ConfigError: The set is unknown, or the folder holds another project.
        QuestionError: The copy is not in a layout that is read, or has no such fold.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"unknown benchmark {name!r}; known are {', '.join(BENCHMARKS)}")
    if fold < 0:
        raise ConfigError(f"fold is {fold}; folds are counted from 0")
    benchmark, folder = BENCHMARKS[name], folder.resolve()
    values = copy.deepcopy(dict(benchmark.settings))
    for override in overrides:
        apply_override(values, override)
    given = config_from_dict(values, "--set")
    if {"documents", "questions"} & values.keys() or given.pairs.file:
        raise ConfigError(f"a benchmark names its documents, questions and pairs.file itself; leave out {overrides}")
    # The same split whatever the seed of a run, so that runs with several seeds answer the same questions.
    split_by = {"share": benchmark.share, "seed": _SPLIT_SEED, "fold": fold}
    record = {"benchmark": name, "path": str(path.resolve()), **split_by}
    if (folder / CONFIG).exists():
        _check_same(folder, record)
        return Project.open(folder, overrides)
    documents, items = _read(benchmark, path, folder)
    parts = split(items, benchmark.share, _SPLIT_SEED, fold)
    if not parts.train or not parts.test:
        raise QuestionError(f"{path}: {len(items)} questions cannot be split by group; fold {fold} has too few groups")
    wanted = round(benchmark.share * len(items))
    if 2 * len(parts.test) < wanted:
        told = f"fold {fold} of {path} holds what was left, {len(parts.test)} of the {wanted} questions of a whole one"
        warnings.warn(f"{told}; a comparison on so few shows little", stacklevel=2)
    folder.mkdir(parents=True, exist_ok=True)
    for part, side in (("train", parts.train), ("test", parts.test)):
        write_questions(folder / f"{part}.jsonl", [item.question for item in side])
    counts = {"train": len(parts.train), "test": len(parts.test), "dropped": parts.dropped}
    values.setdefault("pairs", {})["file"] = "train.jsonl"
    project = Project.create(folder, documents, folder / "test.jsonl", **values)
    (folder / RECORD).write_text(json.dumps({**record, **counts}, indent=2) + "\n", encoding="utf-8")
    return project


def _check_same(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuses a project of the user's own, or of another split."""
    try:
        found = {"fold": 0, **json.loads((folder / RECORD).read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        raise ConfigError(f"{folder} is a project already, and no benchmark's; give --project a new folder") from None
    changed = [name for name, value in record.items() if found.get(name) != value]
    if changed:
        raise ConfigError(
            f"{folder} is the project of {found.get('benchmark')!r} with another {', '.join(changed)}; "
            "give --project a new folder"
        )


# --- layouts ----------------------------------------------------------------------------------------------------------


def _read(benchmark: Benchmark, path: Path, folder: Path) -> tuple[Path, list[Item]]:
    """The documents and the questions of a copy; the passages of a published file are written into the folder."""
    if (path / CORPUS).is_file():
        return path / CORPUS, _items(benchmark, path)
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    if benchmark.published is None or len(files) != 1:
        kinds = " or one published .json file" if benchmark.published else ""
        raise QuestionError(
            f"{path} must hold {CORPUS} with {' and '.join(FILES)}{kinds}, found {len(files)} .json files"
            if path.exists()
            else f"{path} does not exist"
        )
    try:
        read = benchmark.published(json.loads(files[0].read_text(encoding="utf-8")), str(files[0]))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise QuestionError(f"{files[0]} is not in the published layout ({error!r})") from error
    if not read.items:
        raise QuestionError(f"{files[0]} holds no question with an answer")
    folder.mkdir(parents=True, exist_ok=True)
    corpus = ({"_id": passage.id, "title": passage.title, "text": passage.text} for passage in read.passages)
    _write_lines(folder / CORPUS, corpus)
    return folder / CORPUS, read.items


def _items(benchmark: Benchmark, path: Path) -> list[Item]:
    """The questions of a folder; fields of `qa.jsonl` beyond those of a question file say what belongs together."""
    questions = load_examples(path, answered=True)
    lines = (path / "qa.jsonl").read_text(encoding="utf-8-sig").split("\n")
    read = (json.loads(line) for line in lines if line.strip())
    records = {str(record.get("id", record.get("_id"))): record for record in read}
    items = []
    for question in questions:
        record = records.get(question.id, {})
        documents = [*question.gold, *record.get("passages", ()), *record.get("distractors", ())]
        group = str(record[benchmark.group]) if benchmark.group in record else (documents or [question.id])[0]
        kind = question.kind or str(record.get("type", ""))
        items.append(Item(replace(question, kind=kind), group, frozenset(documents)))
    return items


def squad(document: Any, where: str) -> Published:  # noqa: ANN401
    """`{"data": [{"title", "paragraphs": [{"context", "qas"}]}]}`: grouped by article."""
    items, passages = [], []
    for article in document["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            passage = Passage(f"{article['title']}#{number}", article["title"].replace("_", " "), paragraph["context"])
            passages.append(passage)
            for record in paragraph["qas"]:
                question = read_squad(record, where, str(record.get("id"))).question
                if question:
                    gold = (passage.id,) if question.answerable else ()
                    items.append(Item(replace(question, gold=gold), article["title"], frozenset({passage.id})))
    return Published(items, passages)


def pubmedqa(document: Any, where: str) -> Published:  # noqa: ANN401
    """`{pmid: {"QUESTION", "CONTEXTS", "final_decision"}}`: answered by the decision, one document each."""
    items, passages = [], []
    for pmid, record in document.items():
        question = read_pubmedqa(record, where, pmid).question
        labels = tuple(answer for answer in question.answers if answer in _DECISIONS) if question else ()
        if question and labels:
            passages.append(Passage(pmid, "", "\n".join(record["CONTEXTS"])))
            items.append(Item(replace(question, answers=labels), pmid, frozenset({pmid})))
    return Published(items, passages)


def hotpotqa(document: Any, where: str) -> Published:  # noqa: ANN401
    """`[{"question", "answer", "supporting_facts", "context": [[title, sentences]]}]`: grouped by question."""
    items, passages = [], dict[str, Passage]()
    for number, record in enumerate(document):
        question = read_hotpotqa(record, where, str(number)).question
        for title, sentences in record["context"]:
            passages.setdefault(title, Passage(title, title, "".join(sentences)))
        if question:
            documents = frozenset(title for title, _ in record["context"])
            items.append(Item(question, question.id, documents))
    return Published(items, list(passages.values()))


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes a question file."""
    _write_lines(path, map(asdict, questions))


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")


# Instructions ask for answers as the gold is worded, or every arm would be judged by its style.
BENCHMARKS: dict[str, Benchmark] = {
    "squad": Benchmark(
        "article",
        0.3,
        {
            "pairs": {"oracle_in_top": 0},
            "compare": {"limit": 150},
        },
        squad,
    ),
    "pubmedqa": Benchmark(
        "",
        0.5,
        {
            "index": {"chunk_tokens": 256},
            # Two chunks hold most abstracts whole; their results stand at the end.
            "prompt": {
                "instructions": "Answer the question from the passages with yes, no or maybe.",
                "closed_book": "Answer the question with yes, no or maybe.",
            },
            "pairs": {"oracle_in_top": 0},
            "tune": {"epochs": 2.0, "learning_rate": 5e-4},
            "compare": {"limit": 250, "max_new_tokens": 16, "metric": "accuracy"},
        },
        pubmedqa,
    ),
    "hotpotqa": Benchmark(
        "id",
        0.5,
        {
            "index": {"chunk_tokens": 256},
            "prompt": {"k": 4},
            "pairs": {"oracle_in_top": 0},
            "compare": {"limit": 150},
        },
        hotpotqa,
    ),
    "clapnq": Benchmark(
        "",
        0.5,
        {
            "index": {"chunk_tokens": 256},
            "prompt": {
                "instructions": "Answer the question from the passages in one or two sentences. "
                "If they do not answer it, reply: {refusal}",
                "closed_book": "Answer the question in one or two sentences.",
            },
            # Half of its questions are unanswerable already.
            "pairs": {"oracle_in_top": 0},
            "tune": {"epochs": 2.0},
            "compare": {"limit": 200, "max_new_tokens": 64},
        },
    ),
    "emanual": Benchmark(
        "group",
        0.35,
        {
            "index": {"chunk_tokens": 256},
            "prompt": {
                "k": 3,
                "instructions": "Answer the question from the passages, in the words of the passages. "
                "If they do not answer it, reply: {refusal}",
                "closed_book": "Answer the question about the television.",
            },
            "pairs": {"oracle_in_top": 0},
            "tune": {"epochs": 3.0},
            # A quarter of the training answers are longer, but with more tokens an untrained model only repeats itself.
            "compare": {"limit": 200, "max_new_tokens": 96, "metric": "rouge_l"},
        },
    ),
    "beir": Benchmark("", 0.3, {"pairs": {"oracle_in_top": 0}, "compare": {"limit": 150}}),
}
