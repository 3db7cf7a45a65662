"""Marks and pages of a project whose pairs have been made."""

import json
from pathlib import Path

import pytest

from hybrid import Pair, Project
from hybrid.errors import ArtefactError, ConfigError, LockedError
from hybrid.pairs.review.marks import Mark, read_marks
from hybrid.stages.pairs import published_page


def states(project: Project) -> dict[str, str]:
    return {state.stage: state.reason for state in project.status()}


def page(text: str) -> dict[str, list[dict[str, object]]]:
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert isinstance(data, dict)
    return data


def test_pairs_are_read_by_part(finished_project: Project) -> None:
    train, dev = finished_project.training_pairs(), finished_project.training_pairs("dev")
    assert train
    assert dev
    assert all(isinstance(pair, Pair) for pair in train)
    assert not {pair.id for pair in train} & {pair.id for pair in dev}
    with pytest.raises(ConfigError, match="unknown part 'test' of the pairs; known are train, dev"):
        finished_project.training_pairs("test")


def test_pairs_of_an_edited_document_are_not_shown_with_its_new_text(finished_copy: Project, tmp_path: Path) -> None:
    # Of the same length, so that all chunks keep their ids.
    document = finished_copy.documents / "beacon.md"
    document.write_text(document.read_text(encoding="utf-8").replace("310 kg", "999 kg"), encoding="utf-8")
    finished_copy.index()
    assert "1 document" in states(finished_copy)["pairs"]
    for show in (lambda: published_page(finished_copy), lambda: finished_copy.export_pairs(tmp_path / "out")):
        with pytest.raises(ArtefactError, match="the pairs are older than the index; run: hybrid pairs"):
            show()
    finished_copy.pairs()
    assert "310 kg" not in published_page(finished_copy)


@pytest.mark.parametrize("part", ["train", "dev"])
def test_a_part_that_was_cut_is_not_used(finished_copy: Project, part: str) -> None:
    file = finished_copy.path("pairs") / f"{part}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
    message = rf"{part}\.jsonl is damaged: .*run: hybrid pairs --project .* --force"
    with pytest.raises(ArtefactError, match=message):
        finished_copy.training_pairs()
    with pytest.raises(ArtefactError, match=message):
        finished_copy.tune(force=True) if part == "train" else finished_copy.compare(force=True)


def test_the_stage_writes_the_page(finished_project: Project) -> None:
    data = page((finished_project.path("pairs") / "pairs.html").read_text(encoding="utf-8"))
    pairs = [*finished_project.training_pairs(), *finished_project.training_pairs("dev")]
    assert [pair["id"] for pair in data["pairs"]] == [pair.id for pair in pairs]
    assert data == page(published_page(finished_project)), "and the command writes the same"


def test_a_mark_makes_the_pairs_stale_and_clearing_it_fresh_again(finished_copy: Project) -> None:
    pair = finished_copy.training_pairs()[0]
    assert states(finished_copy)["pairs"] == ""
    finished_copy.mark_pairs([pair.id], "good")
    finished_copy.marks.write_text(finished_copy.marks.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")
    assert states(finished_copy)["pairs"] == "", "a good mark changes no pairs"
    finished_copy.mark_pairs([pair.id], "bad", "nonsense")
    assert states(finished_copy)["pairs"] == "changed: marks"
    assert read_marks(finished_copy.marks).by_id[pair.id].reason == "nonsense"
    (shown,) = [p for p in page(published_page(finished_copy))["pairs"] if p["id"] == pair.id]
    assert shown["marked"] == pair.id
    finished_copy.mark_pairs([pair.id], None)
    assert set(states(finished_copy).values()) == {""}


def test_mistakes_mark_nothing(finished_copy: Project, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pair 'nobody'"):
        finished_copy.mark_pairs([finished_copy.training_pairs()[0].id, "nobody"])
    assert not finished_copy.marks.exists()
    finished_copy.marks.write_text('{"id": 1}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"marks\.jsonl:1: "):
        finished_copy.status()
    empty = Project.create(tmp_path / "empty", toy / "docs")
    with pytest.raises(ArtefactError, match=r"has no pairs; run: hybrid pairs --project .*empty"):
        empty.mark_pairs(["a"])


def test_a_mark_waits_for_another_and_says_so_in_the_end(
    finished_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr("hybrid.stages.pairs._MARKING_SECONDS", 0.1)
    with FileLock(finished_copy.store / "marks.lock"), pytest.raises(LockedError, match=r"writes .*marks\.jsonl"):
        finished_copy.mark_pairs([finished_copy.training_pairs()[0].id])


def test_a_marked_question_does_not_come_back(finished_copy: Project) -> None:
    pair = finished_copy.training_pairs()[0]
    gone = Mark("gone", "Who asks this?", "nobody", "bad")
    finished_copy.mark_pairs([pair.id], "bad")
    with finished_copy.marks.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": gone.id, "question": gone.question, "answer": gone.answer, "mark": "bad"}) + "\n")
    made = finished_copy.pairs()
    pairs = [*finished_copy.training_pairs(), *finished_copy.training_pairs("dev")]
    assert pair.question not in {other.question for other in pairs}
    assert made.manifest["marks"] == {"applied": [pair.id], "unmatched": ["gone"]}
    assert made.manifest["dropped: marked bad"] == 1
    html = (finished_copy.path("pairs") / "pairs.html").read_text(encoding="utf-8")
    assert "1 met a candidate and 1 met none" in " ".join(html.split())
    assert finished_copy.status()[1].state == "fresh"
