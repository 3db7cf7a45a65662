"""After documents changed: which pairs stay byte for byte, which get a new context, which go, and what comes."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid import Project
from hybrid.pairs.build import PairSet
from hybrid.pairs.candidates import Candidate
from hybrid.pairs.drafts import chunk_hash
from hybrid.pairs.formats.export import pair_to_dict, read_pairs
from hybrid.pairs.history import Last, affected_pairs, carry_over, mend_contexts, read_last, split_again, write_basis
from hybrid.retrieval.index import Index, document_hash
from hybrid.types import Chunk, Document, Pair, Question

Build = Callable[..., PairSet]
MakeWorld = Callable[..., Any]
SETTINGS = {"total": 120, "dev_share": 0.2, "p_absent": 0.1}


def _last(made: PairSet, world: Any) -> Last:
    return Last(
        made.train,
        made.dev,
        {candidate.id: candidate for candidate in made.candidates},
        {chunk.id: chunk_hash(chunk) for chunk in world.index.chunks},
        frozenset(world.index.documents),
    )


def _lines(pairs: Sequence[Pair]) -> dict[str, str]:
    return {pair.id: json.dumps(pair_to_dict(pair)) for pair in pairs}


def _documents(pairs: Sequence[Pair]) -> Counter[str]:
    return Counter(oracle.rpartition("#")[0] for pair in pairs for oracle in pair.oracles)


def _held(before: PairSet, after: PairSet, known: set[str]) -> tuple[int, int, int]:
    """Checks every pair of `before` against `after`; `known` are the chunks that are as they were.

    Returns:
        How many are the same, on another context, and gone.
    """
    same = moved = gone = 0
    for old, new in ((before.train, after.train), (before.dev, after.dev)):
        lines, pairs = _lines(new), {pair.id: pair for pair in new}
        for pair in old:
            if not known.issuperset(pair.oracles[:1]):
                gone += 1
                assert lines.get(pair.id) != _lines([pair])[pair.id]
            elif known.issuperset(pair.context):
                same += 1
                assert lines[pair.id] == _lines([pair])[pair.id]
            else:
                moved += 1
                found = pairs[pair.id]
                assert replace(found, context=pair.context, rank=pair.rank) == pair
                assert len(found.context) == len(set(found.context)) == len(pair.context)
                for was, now in zip(pair.context, found.context, strict=True):
                    assert was == now or was not in known
                assert bool(set(found.oracles) & set(found.context)) == (pair.kind != "absent")
    return same, moved, gone


@pytest.fixture
def edited(world: Any, make_world: MakeWorld) -> Any:
    """The world with other colours on page 7."""
    text = world.index.documents["page7.md"].text
    for colour in ("red", "blue", "green", "white", "black", "grey", "brown", "pink"):
        text = text.replace(f" {colour} ", " violet ")
    return make_world([replace(d, text=text) if d.id == "page7.md" else d for d in world.documents])


def _known(world: Any, other: Any) -> set[str]:
    return {chunk.id for chunk in other.index.chunks} & {
        chunk.id for chunk in world.index.chunks if chunk in other.index.chunks
    }


def test_an_edited_document_changes_exactly_its_pairs(build: Build, world: Any, edited: Any) -> None:
    before = build(**SETTINGS)
    after = build(world=edited, last=_last(before, world), **SETTINGS)
    same, moved, gone = _held(before, after, _known(world, edited))
    assert same > 60
    assert gone == _documents([*before.train, *before.dev])["page7.md"] > 0
    assert len(after.train) == 120
    came = [pair for pair in [*after.train, *after.dev] if pair.id not in _lines([*before.train, *before.dev])]
    assert _documents(came)["page7.md"] == len(came) == gone
    assert {name: after.counts[name] for name in ("carried over", "invalidated", "new")} == {
        "carried over": same,
        "invalidated": gone,
        "new": gone,
    }
    assert after.counts["carried over to a new context"] == moved
    assert "carried over" not in before.counts
    assert build(world=edited, last=_last(before, world), **SETTINGS) == after


def test_the_split_outlives_an_edit(build: Build, world: Any, edited: Any, make_world: MakeWorld) -> None:
    before = build(**SETTINGS)
    gone = {f"page{n}.md" for n in range(8, 20)}  # so many that other documents are asked about more
    fewer = make_world([document for document in edited.documents if document.id not in gone])
    after = build(world=fewer, last=_last(before, world), **SETTINGS)
    assert after.counts["new"] > 20
    assert not _documents(after.train).keys() & _documents(after.dev).keys()
    assert not _documents(after.train).keys() & _documents(before.dev).keys()
    assert not _documents(after.dev).keys() & _documents(before.train).keys()


def test_a_deleted_document_takes_its_pairs_along(build: Build, world: Any, make_world: MakeWorld) -> None:
    before = build(**SETTINGS)
    smaller = make_world([document for document in world.documents if document.id != "page7.md"])
    after = build(world=smaller, last=_last(before, world), **SETTINGS)
    same, _, gone = _held(before, after, _known(world, smaller))
    assert same > 90
    assert gone == _documents([*before.train, *before.dev])["page7.md"] > 0
    assert len(after.train) == 120
    shown = {chunk for pair in [*after.train, *after.dev] for chunk in (*pair.context, *pair.oracles)}
    assert shown <= {chunk.id for chunk in smaller.index.chunks}


def test_an_added_document_joins_without_replacing_while_there_is_room(
    build: Build, world: Any, make_world: MakeWorld
) -> None:
    part = make_world(world.documents[:10])
    larger = make_world(world.documents[:11])
    before = build(world=part, **{**SETTINGS, "total": 500})
    after = build(world=larger, last=_last(before, part), **{**SETTINGS, "total": 500})
    assert _held(before, after, _known(part, larger)) == (len(before.train) + len(before.dev), 0, 0)
    came = {world.documents[10].id}
    assert _documents([*after.train, *after.dev]).keys() - _documents([*before.train, *before.dev]).keys() == came


def test_an_added_document_takes_its_fair_share_of_a_full_total(
    build: Build, world: Any, make_world: MakeWorld
) -> None:
    part = make_world(world.documents[:10])
    settings = {**SETTINGS, "total": 44, "dev_share": 0.0}
    before = build(world=part, **settings)
    after = build(world=make_world(world.documents[:11]), last=_last(before, part), **settings)
    assert len(before.train) == len(after.train) == 44
    documents = _documents(after.train)
    assert documents[world.documents[10].id] == 4  # 44 pairs over 11 documents
    kept = _lines(after.train)
    assert sum(kept.get(key) == line for key, line in _lines(before.train).items()) == 40
    assert len(documents) == 11
    assert after.counts["retired"] == 4


def test_without_a_change_nothing_changes(build: Build, world: Any) -> None:
    for settings in (SETTINGS, {**SETTINGS, "total": 5000}):
        before = build(**settings)
        after = build(last=_last(before, world), **settings)
        assert _lines(after.train) == _lines(before.train)
        assert (after.train, after.dev, after.candidates) == (before.train, before.dev, before.candidates)
        assert after.counts["new"] == after.counts["invalidated"] == 0


def test_a_gate_takes_a_carried_pair_out_and_another_comes(build: Build, world: Any) -> None:
    before = build(**SETTINGS)
    last = _last(before, world)
    spoilt = before.train[3]
    candidates = {**last.candidates, spoilt.id: replace(last.candidates[spoilt.id], question="What is this section?")}
    after = build(last=last._replace(candidates=candidates), **SETTINGS)
    assert spoilt.id not in _lines(after.train)
    assert len(after.train) == len(before.train)
    assert len(_lines(before.train).items() - _lines(after.train).items()) == 1


def test_only_changed_chunks_are_drafted(
    build: Build, world: Any, edited: Any, make_teacher: Callable[[], Any], tmp_path: Path
) -> None:
    drafts, teacher = tmp_path / "d.jsonl", make_teacher()
    before = build(drafts=drafts, **SETTINGS)
    build(world=edited, drafts=drafts, teacher=teacher, last=_last(before, world), **SETTINGS)
    known = _known(world, edited)
    assert teacher.drafted == [chunk.id for chunk in edited.index.chunks if chunk.id not in known]
    assert 0 < len(teacher.drafted) <= sum(chunk.document == "page7.md" for chunk in edited.index.chunks)


def test_own_questions_are_carried_over_too(build: Build, world: Any, edited: Any) -> None:
    own = [
        Question(
            f"q{n}", f"Which colour has machine {n} got?", (text.split(" is ")[1].split()[0],), (f"page{n // 6}.md",)
        )
        for n in range(60)
        for text in [world.index.documents[f"page{n // 6}.md"].text.split(f"Machine {n}")[1]]
    ]
    settings = {**SETTINGS, "own": own, "total": 60}
    before = build(**settings)
    after = build(world=edited, last=_last(before, world), **settings)
    same, _, gone = _held(before, after, _known(world, edited))
    assert same > 0
    assert gone > 0


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_context_is_mended_at_its_place_by_the_best_chunk_that_answers_nobody() -> None:
    pairs = [
        Pair("a", "A?", "x", ("o#0-1", "gone#0-1", "keep#0-1"), ("o#0-1",), rank=3),
        Pair("b", "B?", "y", ("o#0-1", "gone#0-1", "keep#0-1"), ("o#0-1",)),
        Pair("c", "C?", "-", ("keep#0-1",), ("far#0-1",), kind="absent"),
        Pair("d", "D?", "-", ("gone#0-1",), (), kind="absent"),
    ]
    retrieved = {
        "a": ["keep#0-1", "o#0-1", "first#0-1"],
        "b": ["o#0-1", "bad#0-1", "second#0-1"],
        "c": ["o#0-1"],
        "d": ["gone#0-1"],
    }
    same = frozenset({"o#0-1", "keep#0-1", "far#0-1"})
    mended = mend_contexts(pairs, same, retrieved, lambda _, chunk: chunk == "bad#0-1")
    assert [(pair.id, pair.context, pair.rank) for pair in mended] == [
        ("a", ("o#0-1", "first#0-1", "keep#0-1"), 2),
        ("b", ("o#0-1", "first#0-1", "keep#0-1"), 1),
        ("c", ("keep#0-1",), 0),
    ]
    few = mend_contexts(pairs[:1], same, {"a": ["o#0-1"]}, lambda *_: False)
    assert few[0].context == ("o#0-1", "keep#0-1")


def test_a_chunk_of_the_same_span_with_other_text_is_another_chunk() -> None:
    chunk = Chunk("d#0-4", "d", 0, 4, "text", "Title")
    pair = Pair("p", "?", "text", ("d#0-4",), ("d#0-4",))
    made_from = {"p": Candidate("p", "?", "text", ("d#0-4",), ("d",), (), "test")}
    last = Last([pair], [], made_from, {"d#0-4": chunk_hash(chunk)}, frozenset({"d"}))
    assert carry_over(last, [chunk]).train == [pair]
    assert carry_over(last, [chunk]).is_settled
    for other in (replace(chunk, text="edit"), replace(chunk, title="Other")):
        carried = carry_over(last, [other])
        assert (carried.train, carried.lost, carried.is_settled) == ([], {"d": 1}, False)
    assert not carry_over(last, [chunk, replace(chunk, id="e#0-4")]).is_settled
    assert not carry_over(last, []).is_settled


def test_documents_keep_their_side_and_what_ties_the_sides_together_is_left_out() -> None:
    def about(number: int, *documents: str) -> Candidate:
        return Candidate(f"c{number}", "?", "a", (f"{documents[0]}#0-9",), documents, (), "test")

    found = [
        about(0, "old"),
        about(1, "kept"),
        about(2, "old", "x"),
        about(3, "x", "y"),
        about(4, "kept", "y"),
        about(5, "z"),
        about(6, "twin"),
    ]
    asked: list[Candidate] = []

    def split(free: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        asked.extend(free)
        return [], list(free)

    train, dev = split_again(found, {"old": False, "kept": True}, split, {"twin": "kept", "kept": "kept"})
    assert [c.id for c in asked] == ["c5"]
    assert [c.id for c in train] == ["c0", "c2", "c3"]
    assert [c.id for c in dev] == ["c1", "c6", "c5"]
    assert split_again(found, {}, split)[1] == found


# --- a whole project --------------------------------------------------------------------------------------------------


def _files(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.path("pairs").glob("*.jsonl")}


def _edit(project: Project) -> None:
    page = project.folder.parent / "toy" / "docs" / "radio.md"
    page.write_text("# Radio\n\nThe new radio stands in the old tower. It was bought in 2024.\n", encoding="utf-8")


def test_a_project_carries_its_pairs_over_and_force_does_not(finished_copy: Project, tmp_path: Path) -> None:
    before = {pair.id: pair for part in ("train", "dev") for pair in finished_copy.training_pairs(part)}
    _edit(finished_copy)
    manifest = finished_copy.pairs().manifest
    assert manifest["carried over"] > 0
    after = {pair.id: pair for part in ("train", "dev") for pair in finished_copy.training_pairs(part)}
    assert sum(after.get(key) == pair for key, pair in before.items()) == manifest["carried over"]
    touched = {
        key for key, pair in before.items() if any("radio.md#" in chunk for chunk in pair.context + pair.oracles)
    }
    assert before.keys() - touched <= {key for key, pair in after.items() if before.get(key) == pair}
    forced = finished_copy.pairs(force=True)
    assert "carried over" not in forced.manifest
    free = _files(finished_copy)
    alone = Project.create(
        tmp_path / "alone" / "project",
        finished_copy.documents,
        finished_copy.questions,
        **{name: getattr(finished_copy.config, name) for name in ("model", "embedder")},
        index={"chunk_tokens": 48},
        prompt={"k": 3},
        pairs={
            "total": 40,
            "questions_per_context": 6,
            "dev_share": 0.2,
            "p_absent": 0.08,
            "max_meaning": 2.0,
            "duplicate_meaning": 2.0,
        },
    )
    assert replace(alone.config.pairs, file=None) == replace(finished_copy.config.pairs, file=None)
    alone.pairs()
    assert _files(alone) == free


def test_other_settings_carry_nothing_over(finished_copy: Project) -> None:
    _edit(finished_copy)
    for setting in ("pairs.total=39", "seed=5", "prompt.k=2", "index.chunk_tokens=40"):
        changed = Project.open(finished_copy.folder, [setting])
        changed.index()
        index = Index.load(changed.path("index"))
        assert read_last(changed.path("pairs"), index, changed.stage_inputs("pairs")) is None
    finished_copy.index()
    index = Index.load(finished_copy.path("index"))
    inputs = finished_copy.stage_inputs("pairs")
    assert read_last(finished_copy.path("pairs"), index, inputs) is not None
    assert read_last(finished_copy.path("pairs"), index, {**inputs, "marks": [["a", "b", "c"]]}) is not None
    assert read_last(finished_copy.path("pairs"), index, {**inputs, "questions": "other"}) is None


@pytest.mark.parametrize("damage", ["basis.json", "candidates.jsonl", "train.jsonl", "manifest.json"])
def test_damaged_pairs_are_made_anew(damage: str, finished_copy: Project) -> None:
    folder = finished_copy.path("pairs")
    index, inputs = Index.load(finished_copy.path("index")), finished_copy.stage_inputs("pairs")
    for content in (b"{", b"[]", b'{"id": 3}', b"\xff"):
        (folder / damage).write_bytes(content)
        assert read_last(folder, index, inputs) is None
    (folder / damage).unlink()
    assert read_last(folder, index, inputs) is None


def test_what_is_written_is_read(finished_copy: Project, tmp_path: Path) -> None:
    folder = finished_copy.path("pairs")
    index = Index.load(finished_copy.path("index"))
    last = read_last(folder, index, finished_copy.stage_inputs("pairs"))
    assert last is not None
    assert last.train == read_pairs(folder / "train.jsonl")
    assert last.chunks.keys() == {chunk.id for chunk in index.chunks}
    assert carry_over(last, index.chunks).is_settled
    write_basis(tmp_path, index, last.candidates.values())
    for name in ("basis.json", "candidates.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_pairs_that_a_change_touches_are_counted(finished_copy: Project) -> None:
    documents = dict(Index.load(finished_copy.path("index")).meta.documents)
    pairs = [pair for part in ("train", "dev") for pair in finished_copy.training_pairs(part)]
    touched = sum("radio.md#" in oracle for pair in pairs for oracle in pair.oracles[:1])
    assert touched > 0
    unchanged = affected_pairs(finished_copy.path("pairs"), documents)
    assert unchanged == (0, 0, len(pairs))
    documents["radio.md"] = document_hash(Document("radio.md", "Other."))
    documents["new.md"] = document_hash(Document("new.md", "New."))
    found = affected_pairs(finished_copy.path("pairs"), documents)
    assert str(found) == f"2 documents; {touched} of {len(pairs)} pairs"
    del documents["new.md"], documents["radio.md"]
    assert str(affected_pairs(finished_copy.path("pairs"), documents)) == f"1 document; {touched} of {len(pairs)} pairs"
    assert affected_pairs(finished_copy.folder, documents) is None


def test_status_says_how_many_pairs_an_edit_touches(finished_copy: Project) -> None:
    pairs = [pair for part in ("train", "dev") for pair in finished_copy.training_pairs(part)]
    about = sum(any(oracle.startswith("radio.md#") for oracle in pair.oracles) for pair in pairs)
    _edit(finished_copy)
    (reason,) = [state.reason for state in finished_copy.status() if state.stage == "pairs"]
    assert reason == f"changed: index (1 document; {about} of {len(pairs)} pairs)"
