"""Public sets as projects: layouts, splits without leaks, and that a folder is not taken for another set's."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.benchmarks import BENCHMARKS, Item, create_benchmark, hotpotqa, pubmedqa, split, squad
from hybrid.errors import ConfigError, QuestionError
from hybrid.pairs.formats.load import read_examples
from hybrid.project import Project
from hybrid.retrieval.load import load_documents
from hybrid.types import Question

SETS = {
    "squad": "squad11_dev13",
    "pubmedqa": "pubmedqa",
    "hotpotqa": "hotpot100",
    "clapnq": "clapnq",
    "emanual": "emanual_tv",
}
ITEMS = st.lists(
    st.builds(
        lambda group, documents: Item(Question("q", "?"), group, frozenset(documents)),
        st.sampled_from("abcdef"),
        st.sets(st.integers(0, 12).map(str), max_size=3),
    ),
    max_size=30,
)


def _lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _beir(folder: Path, count: int = 10, **fields: Any) -> Path:
    (folder / "qrels").mkdir(parents=True)
    _lines(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": f"Fact {n}."} for n in range(count)])
    _lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"Which fact is {n}?"} for n in range(count)])
    qrels = "".join(f"q{n}\td{n}\t1\n" for n in range(count))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels, encoding="utf-8")
    records = [
        {"id": f"q{n}", "question": f"Which fact is {n}?", "answers": [f"{n}"], "gold": [f"d{n}"], **fields}
        for n in range(count)
    ]
    _lines(folder / "qa.jsonl", records)
    return folder


@given(ITEMS, st.floats(0.1, 0.9), st.integers(0, 3))
def test_no_two_folds_ask_about_one_group(items: list[Item], share: float, seed: int) -> None:
    folds = [split(items, share, seed, fold).test for fold in range(30)]
    asked = [{item.group for item in test} for test in folds]
    assert sum(map(len, asked)) == len(set().union(*asked))
    assert [bool(test) for test in folds] == sorted((bool(test) for test in folds), reverse=True)
    assert all(len(test) >= share * len(items) for test in folds[: sum(map(bool, folds)) - 1])


@given(ITEMS, st.floats(0.1, 0.9), st.integers(0, 3))
def test_no_group_and_no_document_is_on_both_sides(items: list[Item], share: float, seed: int) -> None:
    parts = split(items, share, seed)
    assert parts == split(items, share, seed)
    train, test = ({item.group for item in side} for side in (parts.train, parts.test))
    assert not train & test
    known = [set().union(*(item.documents for item in side)) for side in (parts.train, parts.test)]
    assert not known[0] & known[1]
    assert len(parts.train) + len(parts.test) + parts.dropped == len(items)
    assert len(parts.test) >= share * len(items) / 2


def test_the_seed_draws_the_groups() -> None:
    items = [Item(Question(str(n), "?"), str(n), frozenset()) for n in range(20)]
    sides = {tuple(item.group for item in split(items, 0.3, seed).test) for seed in range(5)}
    assert len(sides) > 1
    assert {len(side) for side in sides} == {6}


def test_a_group_that_would_be_most_of_the_comparison_stays_with_training() -> None:
    items = [Item(Question(str(n), "?"), "large" if n < 50 else str(n), frozenset()) for n in range(100)]
    for seed in range(10):
        assert "large" not in {item.group for item in split(items, 0.3, seed).test}
    assert len(split(items, 0.6, 0).test) == 50, "the others are enough, though less than wanted"
    assert len(split(items[:60], 0.8, 0).test) >= 48, "it is taken where the others are too few"


@pytest.mark.parametrize("name", SETS)
def test_local_copies_split_without_loss(data_folder: Path, tmp_path: Path, name: str) -> None:
    project = create_benchmark(name, data_folder / SETS[name], tmp_path / name)
    record = json.loads((tmp_path / name / "benchmark.json").read_text(encoding="utf-8"))
    assert record["dropped"] == 0
    test, train = (read_examples(tmp_path / name / f"{part}.jsonl").questions for part in ("test", "train"))
    assert (len(test), len(train)) == (record["test"], record["train"])
    share = len(test) / (len(test) + len(train))
    assert BENCHMARKS[name].share <= share < BENCHMARKS[name].share + 0.2
    assert project.questions is not None and project.own_pairs is not None
    if name == "clapnq":
        assert 0.35 < sum(not question.answerable for question in test) / len(test) < 0.65
    if name == "pubmedqa":
        assert {answer for question in test for answer in question.answers} <= {"yes", "no", "maybe"}
        assert project.config.compare.metric == "accuracy"


def test_a_beir_folder_becomes_a_project_and_is_opened_again(tmp_path: Path) -> None:
    path = _beir(tmp_path / "set")
    project = create_benchmark("beir", path, tmp_path / "project", ["seed=3", "compare.limit=5"])
    assert (project.config.seed, project.config.compare.limit) == (3, 5)
    assert project.config.pairs.file == "train.jsonl"
    before = (tmp_path / "project" / "test.jsonl").read_bytes()
    again = create_benchmark("beir", path, tmp_path / "project", ["seed=3", "compare.limit=7"])
    assert again.config.compare.limit == 7
    assert Project.open(tmp_path / "project").config.compare.limit == 5
    assert (tmp_path / "project" / "test.jsonl").read_bytes() == before
    other = create_benchmark("beir", path, tmp_path / "other", ["seed=4"])
    assert (other.folder / "test.jsonl").read_bytes() == before, "runs with several seeds answer the same questions"
    second = create_benchmark("beir", path, tmp_path / "second", fold=1)
    asked = [
        (folder / "test.jsonl").read_text(encoding="utf-8").splitlines() for folder in (other.folder, second.folder)
    ]
    assert len(set(asked[0]) | set(asked[1])) == len(asked[0]) + len(asked[1])
    with pytest.raises(ConfigError, match="with another fold"):
        create_benchmark("beir", path, tmp_path / "second")
    with pytest.raises(QuestionError, match="fold 4 has too few groups"):
        create_benchmark("beir", path, tmp_path / "fifth", fold=4)
    with pytest.warns(UserWarning, match="fold 3 of .* holds what was left, 1 of the 3 questions"):
        create_benchmark("beir", path, tmp_path / "fourth", fold=3)
    with pytest.raises(ConfigError, match="fold is -1; folds are counted from 0"):
        create_benchmark("beir", path, tmp_path / "none", fold=-1)
    for setting in ("questions=mine.jsonl", "pairs.file=mine.jsonl", "seed=abc", "pairs=5"):
        with pytest.raises(ConfigError):
            create_benchmark("beir", path, tmp_path / "wrong", [setting])
    with pytest.raises(ConfigError, match="with another benchmark"):
        create_benchmark("pubmedqa", path, tmp_path / "project", ["seed=3"])


def test_a_project_of_ones_own_is_not_taken_over(tmp_path: Path) -> None:
    path = _beir(tmp_path / "set")
    Project.create(tmp_path / "mine", path / "corpus.jsonl")
    with pytest.raises(ConfigError, match="is a project already, and no benchmark's"):
        create_benchmark("beir", path, tmp_path / "mine")


def test_questions_that_share_a_document_with_the_comparison_are_left_out(tmp_path: Path) -> None:
    path = _beir(tmp_path / "set", passages=["d0"])
    with pytest.raises(QuestionError, match="cannot be split by group"):
        create_benchmark("beir", path, tmp_path / "project")
    assert not (tmp_path / "project").exists()


SQUAD = {
    "data": [
        {
            "title": f"City_{city}",
            "paragraphs": [
                {
                    "context": f"City {city} has {n} towers.",
                    "qas": [
                        {
                            "id": f"{city}-{n}",
                            "question": "How many?",
                            "answers": [{"text": f"{n}", "answer_start": 11}],
                        },
                        {"id": f"{city}-{n}-no", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
                for n in (3, 4)
            ],
        }
        for city in range(5)
    ]
}
PUBMEDQA = {
    str(pmid): {
        "QUESTION": f"Does {pmid} help?",
        "CONTEXTS": ["We asked.", f"It was {pmid}."],
        "LONG_ANSWER": "Much.",
        "final_decision": "maybe",
    }
    for pmid in range(10)
}
HOTPOT = [
    {
        "_id": f"h{n}",
        "question": f"Who is {n}?",
        "answer": f"{n}",
        "type": "bridge",
        "supporting_facts": [[f"A{n}", 0], [f"B{n}", 1]],
        "context": [
            [f"A{n}", [f"One {n}. ", "Two."]],
            [f"B{n}", [f"Three {n}."]],
            ["Shared" if n < 2 else f"C{n}", [f"Four {n}."]],
        ],
    }
    for n in range(10)
]


def test_published_squad_is_grouped_by_article_and_names_its_paragraph() -> None:
    read = squad(SQUAD, "dev.json")
    assert len(read.passages) == 10
    assert read.passages[0] == ("City_0#0", "City 0", "City 0 has 3 towers.")
    assert read.items[0].question.gold == ("City_0#0",)
    assert read.items[1].question.answerable is False
    assert read.items[1].question.gold == ()
    assert {item.group for item in read.items} == {f"City_{n}" for n in range(5)}


def test_published_pubmedqa_is_answered_by_its_decision() -> None:
    read = pubmedqa(PUBMEDQA, "ori_pqal.json")
    assert read.items[3].question.answers == ("maybe",)
    assert read.passages[3] == ("3", "", "We asked.\nIt was 3.")


def test_published_hotpotqa_drops_shared_titles() -> None:
    read = hotpotqa(HOTPOT, "dev.json")
    assert read.items[0].question.gold == ("A0", "B0")
    assert read.passages[0] == ("A0", "A0", "One 0. Two.")
    assert len([passage for passage in read.passages if passage.title == "Shared"]) == 1
    seeds = [seed for seed in range(20) if split(read.items, 0.5, seed).dropped]
    assert seeds
    for seed in seeds:
        assert split(read.items, 0.5, seed).dropped == 1


@pytest.mark.parametrize(("name", "content"), [("squad", SQUAD), ("pubmedqa", PUBMEDQA), ("hotpotqa", HOTPOT)])
def test_a_published_file_becomes_a_project(tmp_path: Path, name: str, content: Any) -> None:
    file = tmp_path / "dev.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    project = create_benchmark(name, file, tmp_path / "project")
    documents = {document.id for document in load_documents(project.documents).documents}
    for part in ("train", "test"):
        for question in read_examples(tmp_path / "project" / f"{part}.jsonl").questions:
            assert set(question.gold) <= documents
    assert create_benchmark(name, tmp_path, tmp_path / "other").config == project.config, "or its folder"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("squad", "{", "is not in the published layout"),
        ("squad", '{"data": [{"title": "a"}]}', "is not in the published layout"),
        ("pubmedqa", "{}", "holds no question with an answer"),
        ("emanual", "{}", "must hold corpus.jsonl with queries.jsonl and qa.jsonl, found 1"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(QuestionError, match=message):
        create_benchmark(name, file, tmp_path / "project")
    with pytest.raises(QuestionError, match="nowhere does not exist"):
        create_benchmark(name, tmp_path / "nowhere", tmp_path / "project")
    with pytest.raises(ConfigError, match="unknown benchmark 'squd'; known are squad, pubmedqa"):
        create_benchmark("squd", file, tmp_path / "project")


def test_answers_are_needed(tmp_path: Path) -> None:
    path = _beir(tmp_path / "set")
    (path / "qa.jsonl").unlink()
    with pytest.raises(QuestionError, match=r"10 questions have no answer.*add a qa\.jsonl"):
        create_benchmark("beir", path, tmp_path / "project")
