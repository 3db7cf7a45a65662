"""Replies on disk: what is asked again, and what is not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.arms import PromptChoice
from hybrid.artefacts import open_work
from hybrid.eval.comparison import Reply
from hybrid.prompt import Shot
from hybrid.replies import (
    Kept,
    answer_once,
    append_replies,
    keep_forced,
    read_replies,
    replies_file,
    replies_folder,
    reply_key,
)
from hybrid.types import Chunk, Citation, Hit, Question

CHOICE = PromptChoice("zero-shot", 2, ())
QUESTIONS = [Question(f"q{n}", f"Why {n}?", ("x",)) for n in range(4)]
HITS = [[Hit(Chunk(f"d{n}#0-6", f"d{n}", 0, 6, f"Fact {n}"), 1.0, 1)] for n in range(4)]
REPLIES = {
    "a": Kept(
        Reply("a", "Line\u2028two\u0085 “3”\n", False, ("d",), ("d#0-1",), 0.5, (Citation(1, "d", 0, 1, "x"),)), 7.5
    ),
    "b": Kept(Reply("b", "I do not know", True, (), (), 0.25), None),
}


class _Answerer:
    """Answers by the question's id; some questions fail, and after some it breaks."""

    def __init__(self, failing: Sequence[str] = (), breaks_after: int = 100) -> None:
        self.failing, self.breaks_after = failing, breaks_after
        self.asked: list[str] = []

    def answer(
        self,
        questions: Sequence[Question],
        hits: Sequence[Sequence[Hit]],
        choice: PromptChoice,
        *,
        label: str,
        done: Mapping[str, Reply],
        record: Callable[[Sequence[Reply]], None],
    ) -> list[Reply]:
        replies = dict(done)
        for question in questions:
            if question.id in done:
                continue
            if len(self.asked) == self.breaks_after:
                raise KeyboardInterrupt
            self.asked.append(question.id)
            error = "down" if question.id in self.failing else ""
            replies[question.id] = Reply(question.id, f"to {question.question}", False, (), (), 0.5, error=error)
            record([replies[question.id]])
        return [replies[question.id] for question in questions]


def _ask(
    answerer: _Answerer,
    file: Path | None,
    questions: Sequence[Question] = QUESTIONS,
    hits: Sequence[Sequence[Hit]] = HITS,
) -> list[Reply]:
    return answer_once(lambda: answerer, questions, hits, CHOICE, label="t", file=file).replies


def test_replies_come_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "new" / "rag.jsonl"
    assert read_replies(file) == {}
    for key, kept in REPLIES.items():
        append_replies(file, {key: kept})
    assert read_replies(file) == REPLIES


def test_a_half_written_line_is_left_out_now_and_later(tmp_path: Path) -> None:
    file = tmp_path / "rag.jsonl"
    append_replies(file, REPLIES)
    whole = file.read_bytes()
    for end in range(len(whole) - 40, len(whole) - 1):
        file.write_bytes(whole[:end])
        assert set(read_replies(file)) == {"a"}
    # The run that goes on writes behind the half line; a second interruption must not lose what it wrote.
    append_replies(file, {"c": REPLIES["b"]})
    append_replies(file, {"d": REPLIES["b"]})
    assert {"a", "d"} <= set(read_replies(file))


def test_what_is_kept_is_not_asked_and_nothing_is_loaded_for_it(tmp_path: Path) -> None:
    file = tmp_path / "rag.jsonl"
    first = _ask(_Answerer(), file)

    def load() -> _Answerer:
        raise AssertionError("loaded")

    assert answer_once(load, QUESTIONS, HITS, CHOICE, label="t", file=file).replies == first


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "rag.jsonl"
    with pytest.raises(KeyboardInterrupt):
        _ask(_Answerer(breaks_after=3), file)
    later = _Answerer()
    assert [reply.question_id for reply in _ask(later, file)] == ["q0", "q1", "q2", "q3"]
    assert later.asked == ["q3"]


def test_what_failed_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "rag.jsonl"
    assert [bool(reply.error) for reply in _ask(_Answerer(["q1", "q2"]), file)] == [False, True, True, False]
    later = _Answerer()
    assert not any(reply.error for reply in _ask(later, file))
    assert later.asked == ["q1", "q2"]


def test_an_edited_question_is_asked_again_and_so_is_one_with_other_passages(tmp_path: Path) -> None:
    file = tmp_path / "rag.jsonl"
    _ask(_Answerer(), file)
    edited = [replace(QUESTIONS[0], question="Why not?"), *QUESTIONS[1:]]
    hits = [*HITS[:2], [Hit(replace(HITS[2][0].chunk, text="Fact 9"), 1.0, 1)], HITS[3]]
    later = _Answerer()
    assert [reply.text for reply in _ask(later, file, edited, hits)][:2] == ["to Why not?", "to Why 1?"]
    assert later.asked == ["q0", "q2"]
    other_answers = [replace(question, answers=("y",), gold=("d",)) for question in QUESTIONS]
    later = _Answerer()
    _ask(later, file, other_answers)
    assert later.asked == [], "what is right does not change what is said"


def test_a_question_is_known_by_its_text_whatever_its_id(tmp_path: Path) -> None:
    file = tmp_path / "rag.jsonl"
    first = _ask(_Answerer(), file)
    moved = [replace(question, id=f"line {n}") for n, question in enumerate(QUESTIONS, 7)]
    answerer = _Answerer()
    again = _ask(answerer, file, [Question("new", "Why not?", ("x",)), *moved], [HITS[0], *HITS])
    assert answerer.asked == ["new"]
    assert again[1:] == [replace(reply, question_id=question.id) for reply, question in zip(first, moved, strict=True)]


def test_without_a_file_everything_is_asked_every_time() -> None:
    answerer = _Answerer()
    _ask(answerer, None)
    _ask(answerer, None)
    assert len(answerer.asked) == 8


def test_memory_is_that_of_the_runs_that_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rag.jsonl"

    def measured(megabytes: float, part: slice) -> float | None:
        monkeypatch.setattr("hybrid.replies.reset_peak_memory", lambda: True)
        monkeypatch.setattr("hybrid.replies.peak_memory_mb", lambda: megabytes)
        return answer_once(_Answerer, QUESTIONS[part], HITS[part], CHOICE, label="t", file=file).peak_memory_mb

    assert measured(50.0, slice(2)) == 50.0
    assert measured(900.0, slice(2)) == 50.0, "nothing was asked, so nothing was measured"
    assert measured(20.0, slice(4)) == 50.0
    assert measured(20.0, slice(2, 4)) == 20.0
    monkeypatch.setattr("hybrid.replies.reset_peak_memory", lambda: False)
    unmeasured = answer_once(_Answerer, QUESTIONS, HITS, CHOICE, label="t", file=None)
    assert unmeasured.peak_memory_mb is None


def test_a_file_belongs_to_an_arm_with_its_prompt(tmp_path: Path) -> None:
    file = replies_file(tmp_path, "rag", {"model": "m"}, CHOICE)
    assert file is not None and file.name.startswith("rag-")
    assert replies_file(tmp_path, "rag", {"model": "m"}, CHOICE._replace(name="other", score=0.5)) == file
    others = [
        replies_file(tmp_path, "hybrid", {"model": "m"}, CHOICE),
        replies_file(tmp_path, "rag", {"model": "n"}, CHOICE),
        replies_file(tmp_path, "rag", {"model": "m"}, CHOICE._replace(k=1)),
        replies_file(tmp_path, "rag", {"model": "m"}, CHOICE._replace(best_last=True)),
        replies_file(tmp_path, "rag", {"model": "m"}, CHOICE._replace(shots=(Shot("A?", "B", (HITS[0][0].chunk,)),))),
    ]
    assert len({file, *others}) == 6
    assert replies_file(tmp_path, "mine", None, CHOICE) is None


def test_a_key_tells_questions_and_passages_apart() -> None:
    keys = {reply_key(question, found) for question in QUESTIONS for found in [[], *HITS]}
    assert len(keys) == 20


def test_a_forced_run_takes_nothing_over_until_it_is_whole(tmp_path: Path) -> None:
    store, work = tmp_path, tmp_path / "work" / "compare"
    open_work(work, "mark")
    usual = replies_folder(store, work)
    append_replies(usual / "rag.jsonl", {"a": REPLIES["a"]})
    append_replies(usual / "base.jsonl", {"a": REPLIES["a"]})
    keep_forced(store, work)
    open_work(work, "forced mark")
    forced = replies_folder(store, work)
    assert not forced.exists()
    keep_forced(store, work)
    append_replies(forced / "rag.jsonl", {"b": REPLIES["b"]})
    assert replies_folder(store, open_work(work, "forced mark")) == forced, "goes on when it was interrupted"
    assert read_replies(forced / "rag.jsonl") == {"b": REPLIES["b"]}
    assert read_replies(usual / "rag.jsonl") == {"a": REPLIES["a"]}
    keep_forced(store, work)
    assert read_replies(usual / "rag.jsonl") == {"b": REPLIES["b"]}
    assert read_replies(usual / "base.jsonl") == {"a": REPLIES["a"]}
