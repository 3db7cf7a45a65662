"""What is exported can be imported: the same questions and answers, in every format that holds both."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.config import PromptConfig
from hybrid.eval.answers import normalise
from hybrid.pairs.formats.export import FORMATS, export_all, export_format
from hybrid.pairs.formats.load import read_examples
from hybrid.pairs.formats.retrieval_sets import split_sentences
from hybrid.retrieval import load_documents
from hybrid.types import Chunk, Pair, Question, Quote

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), min_size=1, max_size=40).map(
    str.strip
)
_GOOD = _TEXT.filter(bool)
WIND = Chunk("d#0-4", "d", 0, 4, "Wind")
OTHER = Chunk("e#0-5", "e", 0, 5, "Other")
CHUNKS = {WIND.id: WIND, OTHER.id: OTHER}
PROMPT = PromptConfig()
ANSWERED = Pair("0", "What blows?", "Wind", (WIND.id,), (WIND.id,), (Quote("d", 0, 4, "Wind"),))
HIDDEN = Pair("1", "Why?", PROMPT.refusal, (OTHER.id,), (WIND.id,), (Quote("d", 0, 4, "Wind"),), "absent")
DISAGREE = Pair("2", "When?", "The documents disagree: a; b.", (WIND.id, OTHER.id), (WIND.id, OTHER.id), (), "conflict")


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in {"squad", "dataset"}])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(_GOOD, _GOOD), min_size=1, max_size=4), shown=st.booleans())
def test_an_export_gives_the_same_questions_and_answers(
    kind: str, texts: list[tuple[str, str]], shown: bool, tmp_path: Path
) -> None:
    context = (WIND.id,) if shown or kind in {"pubmedqa", "hotpotqa"} else ()
    pairs = [Pair(f"p{n}", question, answer, context, (WIND.id,)) for n, (question, answer) in enumerate(texts)]
    export_format(tmp_path, "train", kind, pairs, {WIND.id: WIND}, PromptConfig())
    (path,) = tmp_path.iterdir()
    found = read_examples(path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [(q.id, q.question, q.answers[-1:]) for q in found.questions] == [
        (p.id, p.question, (p.answer,)) for p in pairs
    ]
    assert found.format != "questions"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.sampled_from(["", "so ", "15 "]), answer=_GOOD, after=st.sampled_from(["", " then", "."]))
def test_squad_offsets_point_at_the_answer(before: str, answer: str, after: str, tmp_path: Path) -> None:
    chunk = Chunk("d#7-99", "d", 7, 99, f"{answer}x and {before}{answer}{after}")
    start = len(f"{answer}x and {before}")
    quote = Quote("d", 7 + start, 7 + start + len(answer), answer)
    pair = Pair("1", "Why?", answer, (chunk.id,), (chunk.id,), (quote,))
    left_out = export_format(tmp_path, "t", "squad", [pair], {chunk.id: chunk}, PromptConfig())
    if normalise(answer) in {"yes", "no", "maybe"}:  # also "NO§": a decision proves nothing where it stands
        return
    assert left_out == 0
    document = json.loads((tmp_path / "t.squad.json").read_text(encoding="utf-8"))
    (paragraph,) = document["data"][0]["paragraphs"]
    (found,) = paragraph["qas"][0]["answers"]
    assert found == {"text": answer, "answer_start": start}
    assert paragraph["context"][start : start + len(answer)] == answer
    assert read_examples(tmp_path / "t.squad.json").questions == [Question("1", "Why?", (answer,))]


@pytest.mark.parametrize(
    "documents",
    [
        ["a.md"],
        ["a.md", "b/c.md"],
        ["pump; old.md", "b.md"],
        [";"],
        ['5" pipe; "new".md', '"a"', "c"],
        ["a,b.md", "d e.md"],
    ],
)
def test_a_table_keeps_the_names_of_gold_documents(documents: list[str], tmp_path: Path) -> None:
    chunks = {f"{name}#0-4": Chunk(f"{name}#0-4", name, 0, 4, "Wind") for name in documents}
    export_format(tmp_path, "t", "csv", [Pair("1", "What blows?", "Wind", (), tuple(chunks))], chunks, PROMPT)
    (question,) = read_examples(tmp_path / "t.csv").questions
    assert question.gold == tuple(documents)


@pytest.mark.parametrize(
    ("cell", "gold"),
    [
        ("a.md; b.md ;", ("a.md", "b.md")),
        ("", ()),
        (' 5" pipe.md;c', ('5" pipe.md', "c")),
        ("a.md;\nb.md", ("a.md", "b.md")),
        ('"Pump" manual.md;b.md', ('"Pump" manual.md', "b.md")),
        ('"a;b.md', ('"a', "b.md")),
    ],
)
def test_gold_documents_of_a_table_written_by_hand(cell: str, gold: tuple[str, ...], tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "answer", "gold"], ["What blows?", "Wind", cell]])
    (question,) = read_examples(tmp_path / "t.csv").questions
    assert question.gold == gold


@pytest.mark.parametrize("kind", ["pairs", "csv", "squad", "beir"])
def test_a_refusal_comes_back_as_an_unanswerable_question(kind: str, tmp_path: Path) -> None:
    pair = Pair("1", "Why?", PROMPT.refusal, (OTHER.id,), (), (), "absent")
    assert export_format(tmp_path, "t", kind, [pair], CHUNKS, PROMPT) == 0
    (path,) = tmp_path.iterdir()
    (question,) = read_examples(path).questions
    assert (question.answers, question.answerable, question.gold) == ((), False, ())


def _exported(folder: Path, kind: str, pairs: list[Pair]) -> tuple[Path, int]:
    """The training part in a format, and how many pairs it does not hold."""
    left_out = export_all(folder, [kind], {"train": pairs}, CHUNKS, PROMPT, {})
    (path,) = folder.iterdir()
    return path / "train.jsonl" if kind == "dataset" else path, left_out.get(kind, 0)


@pytest.mark.parametrize("kind", ["pairs", "dataset", "csv", "beir", "pubmedqa", "hotpotqa"])
def test_pairs_that_no_question_file_can_express_are_counted(kind: str, tmp_path: Path) -> None:
    remembered = replace(HIDDEN, id="3", question="Who?", answer="Wind")
    path, left_out = _exported(tmp_path / "new", kind, [ANSWERED, HIDDEN, DISAGREE, remembered])
    found = read_examples(path)
    assert [(q.question, q.answers, q.answerable) for q in found.questions] == [("What blows?", ("Wind",), True)]
    names = {"pairs whose passage was hidden from the model": 2, "pairs about contradictions": 1}
    assert (left_out, found.left_out) == ((0, names) if kind in {"pairs", "dataset"} else (3, {}))


@pytest.mark.parametrize("kind", ["pairs", "dataset"])
def test_a_pair_with_several_oracles_keeps_all_its_documents(kind: str, tmp_path: Path) -> None:
    pair = replace(ANSWERED, kind="multi", context=(WIND.id, OTHER.id), oracles=(WIND.id, OTHER.id))
    path, _ = _exported(tmp_path / "new", kind, [pair])
    assert read_examples(path).questions == [Question("0", "What blows?", ("Wind",), ("d", "e"))]


def test_an_exported_beir_folder_is_a_corpus_with_questions(tmp_path: Path) -> None:
    multi = replace(ANSWERED, id="line\nand\ttab", oracles=(WIND.id, OTHER.id), asks="fact")
    path, left_out = _exported(tmp_path / "new", "beir", [multi, replace(ANSWERED, oracles=())])
    assert {file.name for file in path.iterdir()} == {"corpus.jsonl", "queries.jsonl", "qa.jsonl", "qrels"}
    assert read_examples(path / "qrels" / "train.tsv").questions == [
        Question("line and tab", "What blows?", ("Wind",), (WIND.id, OTHER.id), kind="fact")
    ]
    documents = load_documents(path).documents
    assert [(document.id, document.text) for document in documents] == [(WIND.id, "Wind"), (OTHER.id, "Other")]
    assert left_out == 1


def test_an_exported_hotpotqa_file_names_the_proving_sentences(tmp_path: Path) -> None:
    text = "It rains. Wind blows.\nBring a coat. "
    chunks = [Chunk(f"d#{n}-{n + len(text)}", "d", n, n + len(text), text) for n in (0, 40)]
    pair = Pair("1", "What?", "Wind", (*(c.id for c in chunks), OTHER.id), (chunks[1].id, OTHER.id), asks="comparison")
    pair = replace(pair, quotes=(Quote("d", 52, 56, "Wind"),))
    export_format(tmp_path, "t", "hotpotqa", [pair], {c.id: c for c in [*chunks, OTHER]}, PROMPT)
    (record,) = json.loads((tmp_path / "t.hotpotqa.json").read_text(encoding="utf-8"))
    assert [title for title, _ in record["context"]] == [chunks[0].id, chunks[1].id, "e"]
    assert ["".join(parts) for _, parts in record["context"]] == [text, text, "Other"]
    assert record["supporting_facts"] == [[chunks[1].id, 1], ["e", 0]]
    assert read_examples(tmp_path / "t.hotpotqa.json").questions == [
        Question("1", "What?", ("Wind",), (chunks[1].id, "e"), kind="comparison")
    ]


def test_an_exported_pubmedqa_file_concludes_from_quotes(tmp_path: Path) -> None:
    pair = replace(ANSWERED, answer="Yes.")
    export_format(tmp_path, "t", "pubmedqa", [pair, replace(pair, id="2", context=())], CHUNKS, PROMPT)
    assert json.loads((tmp_path / "t.pubmedqa.json").read_text(encoding="utf-8")) == {
        "0": {"QUESTION": "What blows?", "CONTEXTS": ["Wind"], "LONG_ANSWER": "Wind", "final_decision": "yes"}
    }
    assert read_examples(tmp_path / "t.pubmedqa.json").questions == [Question("0", "What blows?", ("yes",), ("0",))]


@given(text=st.text(st.sampled_from("a. \n!"), max_size=30))
def test_sentences_joined_give_the_text(text: str) -> None:
    assert "".join(split_sentences(text)) == text


def test_rows_of_an_exported_data_set_are_questions(tmp_path: Path) -> None:
    pair = Pair("1", "Why?", "Wind", (WIND.id,), (WIND.id,), (Quote("d", 0, 4, "Wind"),), source="x")
    export_all(tmp_path / "new", ["dataset"], {"train": [pair]}, {WIND.id: WIND}, PromptConfig(), {})
    (question,) = read_examples(tmp_path / "new" / "dataset" / "train.jsonl").questions
    assert (question.question, question.answers) == ("Why?", ("Wind",))
