"""What is exported can be imported: the same questions and answers, in every format that holds both."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.config import PromptConfig
from hybrid.eval.answers import normalise
from hybrid.pairs.formats.export import FORMATS, export_all, export_format
from hybrid.pairs.formats.load import read_examples
from hybrid.types import Chunk, Pair, Question, Quote

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), min_size=1, max_size=40).map(
    str.strip
)
_GOOD = _TEXT.filter(bool)
WIND = Chunk("d#0-4", "d", 0, 4, "Wind")


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in {"squad", "dataset"}])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(_GOOD, _GOOD), min_size=1, max_size=4), shown=st.booleans())
def test_an_export_gives_the_same_questions_and_answers(
    kind: str, texts: list[tuple[str, str]], shown: bool, tmp_path: Path
) -> None:
    context = (WIND.id,) if shown else ()
    pairs = [Pair(f"p{n}", question, answer, context, (WIND.id,)) for n, (question, answer) in enumerate(texts)]
    export_format(tmp_path, "train", kind, pairs, {WIND.id: WIND}, PromptConfig())
    (path,) = tmp_path.iterdir()
    found = read_examples(path)
    path.unlink()
    assert [(q.id, q.question, q.answers) for q in found.questions] == [(p.id, p.question, (p.answer,)) for p in pairs]
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


@pytest.mark.parametrize("kind", ["pairs", "csv", "squad"])
def test_a_refusal_comes_back_as_an_unanswerable_question(kind: str, tmp_path: Path) -> None:
    other = Chunk("e#0-5", "e", 0, 5, "Other")
    pair = Pair("1", "Why?", "Not answered.", (other.id,), (WIND.id,), (), "absent")
    export_format(tmp_path, "t", kind, [pair], {WIND.id: WIND, other.id: other}, PromptConfig())
    (path,) = tmp_path.iterdir()
    (question,) = read_examples(path).questions
    assert (question.answers, question.answerable) == ((), False)
    assert question.gold == (() if kind == "squad" else ("d",))


def test_rows_of_an_exported_data_set_are_questions(tmp_path: Path) -> None:
    pair = Pair("1", "Why?", "Wind", (WIND.id,), (WIND.id,), (Quote("d", 0, 4, "Wind"),), source="x")
    export_all(tmp_path / "new", ["dataset"], {"train": [pair]}, {WIND.id: WIND}, PromptConfig(), {})
    (question,) = read_examples(tmp_path / "new" / "dataset" / "train.jsonl").questions
    assert (question.question, question.answers) == ("Why?", ("Wind",))
