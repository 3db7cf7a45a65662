"""A project from documents to report with tiny models: stages, fingerprints, resume after SIGKILL, and the API."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

import hybrid
from hybrid.artefacts import read_manifest
from hybrid.config import SMOLLM2
from hybrid.errors import ArtefactError, ConfigError, DocumentError, LockedError, QuestionError, TrainingError
from hybrid.pairs.formats.export import read_pairs
from hybrid.project import Project
from hybrid.retrieval.index import Index

STAGES = ["index", "pairs", "tune/tuned", "tune/hybrid", "compare"]


def _states(project: Project) -> dict[str, tuple[str, str]]:
    return {state.stage: (state.state, state.reason) for state in Project.open(project.folder).status()}


# --- create and open --------------------------------------------------------------------------------------------------


def test_a_new_project_is_one_readable_file(toy: Path, tmp_path: Path) -> None:
    project = hybrid.Project.create(
        tmp_path / "new" / "project", toy / "docs", toy / "questions.jsonl", pairs={"total": 7}, seed=3
    )
    assert [path.name for path in project.folder.iterdir()] == ["hybrid.yaml"]
    values = yaml.safe_load((project.folder / "hybrid.yaml").read_text(encoding="utf-8"))
    assert (project.folder / values["documents"]).resolve() == (toy / "docs").resolve()
    assert values["pairs"]["total"] == 7
    assert Project.open(project.folder).config == project.config
    assert project.questions is not None
    assert project.questions.samefile(toy / "questions.jsonl")


def test_a_project_and_its_documents_move_together(finished_copy: Project) -> None:
    assert {state for state, _ in _states(finished_copy).values()} == {"fresh"}


def test_a_relative_model_folder_is_found_later(
    toy: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    project = Project.create(tmp_path / "project", toy / "docs", model=tiny_model.name)
    monkeypatch.chdir(tmp_path)
    assert project.model == Project.open("project").model == tiny_model.resolve()


def test_mistakes_at_creation_are_named(toy: Path, tmp_path: Path) -> None:
    Project.create(tmp_path / "taken", toy / "docs")
    with pytest.raises(ConfigError, match="is a project already"):
        Project.create(tmp_path / "taken", toy / "docs")
    with pytest.raises(DocumentError, match="nowhere do not exist"):
        Project.create(tmp_path / "a", tmp_path / "nowhere")
    with pytest.raises(QuestionError, match=r"none\.jsonl does not exist"):
        Project.create(tmp_path / "a", toy / "docs", tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match=r"settings: unknown key pairs\.totl; did you mean pairs\.total"):
        Project.create(tmp_path / "a", toy / "docs", pairs={"totl": 1})
    assert not (tmp_path / "a").exists()


def test_documents_that_went_away_are_named(toy_project: Project) -> None:
    (toy_project.folder.parent / "toy" / "docs").rename(toy_project.folder.parent / "gone")
    with pytest.raises(DocumentError, match=r"docs do not exist; set `documents` in .*hybrid\.yaml"):
        toy_project.index()
    assert not toy_project.store.exists(), "a mistake leaves no trace"


# --- a whole run ------------------------------------------------------------------------------------------------------


def test_a_run_makes_every_artefact(finished_project: Project) -> None:
    assert finished_project.stage_names == STAGES
    for stage in STAGES:
        manifest = json.loads((finished_project.path(stage) / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["stage"] == stage
        assert manifest["seconds"] >= 0
        assert manifest["versions"]["torch"]
        assert set(manifest["inputs"]) == set(finished_project.stage_inputs(stage))
    assert {state for state, _ in _states(finished_project).values()} == {"fresh"}
    assert not any((finished_project.store / "work").rglob("*.jsonl")), "no work is left"


def test_the_report_is_whole(finished_project: Project) -> None:
    report = finished_project.report()
    assert {path.name for path in report.folder.iterdir()} == {
        "manifest.json",
        "rag_prompt.json",
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
    }
    assert [arm["name"] for arm in report.data["arms"]] == list(finished_project.config.compare.arms)
    for arm in report.data["arms"]:
        assert {"name", "n", "em", "f1", "rouge_l", "contains", "recall_at_k", "abstained", "seconds"} <= arm.keys()
        assert arm["n"] == 8
        if arm["name"] == "rag":
            assert arm["vs_rag"] is None
        else:
            assert set(arm["vs_rag"]) == {"f1_difference", "low", "high", "p", "p_holm"}
        assert (arm["recall_at_k"] is None) == (arm["name"] in {"base", "tuned"})
    by_name = {arm["name"]: arm for arm in report.data["arms"]}
    # They share the retriever; the rag prompt that was chosen may show fewer chunks.
    assert by_name["rag"]["recall_at_k"] <= by_name["hybrid"]["recall_at_k"]
    assert report.verdict


def test_the_report_tells_how_long_all_runs_of_a_training_took(finished_copy: Project) -> None:
    file = finished_copy.path("tune/tuned") / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    assert 0 < manifest["training_seconds"] <= manifest["seconds"] + 0.1
    file.write_text(json.dumps(manifest | {"training_seconds": 5000.0}), encoding="utf-8")
    finished_copy.compare(force=True)
    data = finished_copy.report().data
    assert data["facts"]["Training, tuned"].startswith("5000 s, ")
    assert {cost["arm"]: cost["training_seconds"] for cost in data["costs"]}["tuned"] == 5000


def test_adapters_differ_from_each_other_and_learnt(finished_project: Project) -> None:
    from safetensors.torch import load_file

    adapters = [
        load_file(finished_project.path(f"tune/{arm}") / "adapter_model.safetensors") for arm in ("tuned", "hybrid")
    ]
    assert any(not torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    for arm in ("tuned", "hybrid"):
        manifest = json.loads((finished_project.path(f"tune/{arm}") / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["loss_last"] < manifest["loss_first"]
    assert manifest["pairs"] == len(read_pairs(finished_project.path("pairs") / "train.jsonl"))


def test_comparison_answers_do_not_leak_into_the_pairs(finished_project: Project) -> None:
    pairs = read_pairs(finished_project.path("pairs") / "train.jsonl")
    asked = {question["question"].lower() for question in finished_project.report().data["questions"]}
    assert pairs
    assert not asked & {pair.question.lower() for pair in pairs}


def test_an_index_of_another_format_is_made_again_and_nothing_else(
    finished_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.stages.inputs.VERSION", 99)
    monkeypatch.setattr("hybrid.retrieval.store.VERSION", 99)
    states = _states(finished_copy)
    assert states.pop("index") == ("stale", "changed: format")
    assert {state for state, _ in states.values()} == {"fresh"}
    with pytest.raises(ArtefactError, match="reads 99"):
        Index.load(finished_copy.path("index"))
    finished_copy.index()
    assert len(Index.load(finished_copy.path("index")).chunks) > 0


def test_a_damaged_index_is_mended_as_its_error_says(finished_copy: Project) -> None:
    with (finished_copy.path("index") / "chunks.jsonl").open("a") as file:
        file.write("x")
    with pytest.raises(ArtefactError, match="run `hybrid index --force`"):
        Index.load(finished_copy.path("index"))
    finished_copy.index(force=True)
    assert len(Index.load(finished_copy.path("index")).chunks) > 0


def test_a_second_run_skips_everything(finished_copy: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_copy.store.rglob("*") if path.is_file()}
    results = finished_copy.run()
    assert [(result.stage, result.skipped) for result in results] == [(stage, True) for stage in STAGES]
    after = {path: path.stat().st_mtime_ns for path in finished_copy.store.rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if p.name != "lock"} == {p: t for p, t in before.items() if p.name != "lock"}


def test_force_does_it_again_with_the_same_result(finished_copy: Project) -> None:
    before = (finished_copy.path("pairs") / "train.jsonl").read_bytes()
    result = finished_copy.pairs(force=True)
    assert not result.skipped
    assert (finished_copy.path("pairs") / "train.jsonl").read_bytes() == before
    assert _states(finished_copy)["tune/hybrid"][0] == "fresh"


def test_an_edited_document_is_embedded_again_and_no_other(finished_copy: Project) -> None:
    page = finished_copy.folder.parent / "toy" / "docs" / "radio.md"
    assert finished_copy.index().skipped
    page.write_text("# Radio\n\nThe new radio stands in the tower. It was bought in 2024.\n", encoding="utf-8")
    states = _states(finished_copy)
    assert states["index"] == ("stale", "changed: documents")
    pairs = [pair for part in ("train", "dev") for pair in finished_copy.training_pairs(part)]
    about = sum(any(oracle.startswith("radio.md#") for oracle in pair.oracles) for pair in pairs)
    assert states["pairs"] == ("stale", f"changed: index (1 document; {about} of {len(pairs)} pairs)")
    assert states["tune/hybrid"] == ("stale", "changed: pairs")
    assert states["compare"][0] == "stale"
    result = finished_copy.index()  # the same object: it must see the change too
    assert not result.skipped
    assert (result.manifest["changed"], result.manifest["unchanged"]) == (1, 5)
    chunks = [chunk for chunk in Index.load(finished_copy.path("index")).chunks if chunk.document == "radio.md"]
    assert result.manifest["embedded"] == len(chunks)
    assert _states(finished_copy)["index"][0] == "fresh"


def test_added_and_deleted_documents_are_counted(finished_copy: Project) -> None:
    folder = finished_copy.folder.parent / "toy" / "docs"
    (folder / "boats.md").unlink()
    (folder / "new.txt").write_text("The dog is called Rolf.", encoding="utf-8")
    manifest = finished_copy.index().manifest
    assert {name: manifest[name] for name in ("added", "changed", "deleted", "unchanged")} == {
        "added": 1,
        "changed": 0,
        "deleted": 1,
        "unchanged": 5,
    }
    assert manifest["embedded"] == 1


@pytest.mark.parametrize(
    ("override", "stale"),
    [
        ("compare.max_new_tokens=5", ["compare"]),
        ("tune.epochs=1", ["tune/tuned", "tune/hybrid", "compare"]),
        ("pairs.total=30", ["pairs", "tune/tuned", "tune/hybrid", "compare"]),
        ("prompt.k=2", ["pairs", "tune/tuned", "tune/hybrid", "compare"]),
        ("index.chunk_tokens=40", STAGES),
        ("seed=1", ["pairs", "tune/tuned", "tune/hybrid", "compare"]),
    ],
)
def test_a_setting_makes_its_stages_stale(override: str, stale: list[str], finished_project: Project) -> None:
    changed = Project.open(finished_project.folder, [override])
    states = {state.stage: state for state in changed.status()}
    assert [stage for stage in STAGES if states[stage].state == "stale"] == stale
    assert "settings" in states[stale[0]].reason or "seed" in states[stale[0]].reason


def test_another_arm_makes_only_the_comparison_stale(finished_project: Project) -> None:
    changed = Project.open(finished_project.folder, ["compare.arms=[rag, hybrid]"])
    assert {state.stage: state.state for state in changed.status()} == {
        "index": "fresh",
        "pairs": "fresh",
        "tune/hybrid": "fresh",
        "compare": "stale",
    }


def test_pairs_that_come_out_as_they_were_train_nothing_again(
    finished_copy: Project, one_thread: Callable[[], AbstractContextManager[None]]
) -> None:
    assert finished_copy.questions is not None
    adapters = {arm: finished_copy.path(f"tune/{arm}") / "adapter_model.safetensors" for arm in ("tuned", "hybrid")}
    before = {arm: (file.stat().st_mtime_ns, file.read_bytes()) for arm, file in adapters.items()}
    with finished_copy.questions.open("a", encoding="utf-8") as file:
        file.write("\n")
    assert _states(finished_copy)["tune/hybrid"] == ("stale", "changed: pairs")
    with one_thread():
        results = finished_copy.run()
        assert {result.stage: result.skipped for result in results} == {
            "index": True,
            "pairs": False,
            "tune/tuned": True,
            "tune/hybrid": True,
            "compare": False,
        }
        assert {state for state, _ in _states(finished_copy).values()} == {"fresh"}
        assert {arm: (file.stat().st_mtime_ns, file.read_bytes()) for arm, file in adapters.items()} == before
        finished_copy.mark_pairs([finished_copy.training_pairs()[0].id])
        assert not any(result.skipped for result in finished_copy.tune())


def test_an_input_that_went_away_is_named(finished_copy: Project) -> None:
    Project.open(finished_copy.folder, ["serve.min_cosine=0.2"]).compare()
    assert _states(finished_copy)["compare"] == ("stale", "changed: serve settings")
    finished_copy.compare(extra_arms={"mine": lambda question, hits: "an answer"})
    assert _states(finished_copy)["compare"] == ("stale", "changed: functions")


@pytest.mark.parametrize(
    "arms",
    ['["rag", "tuned", {"name": "far", "model": "m", "base_url": "http://127.0.0.1:9/v1", "key_env": "NO_KEY"}]'],
)
def test_a_missing_key_is_told_before_the_training(
    finished_copy: Project, arms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    project = Project.open(finished_copy.folder, [f"compare.arms={arms}", "tune.epochs=1"])
    before = (project.path("tune/tuned") / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match=r"NO_KEY, which compare\.arms: far\.key_env names, is not set"):
        project.run()
    assert (project.path("tune/tuned") / "manifest.json").read_bytes() == before


def test_an_arm_that_has_answered_before_needs_no_key(finished_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    arm = '{"name": "far", "model": "m", "base_url": "http://127.0.0.1:9/v1", "key_env": "NO_KEY"}'
    project = Project.open(finished_copy.folder, [f'compare.arms=["rag", {arm}]', "pairs.total=30"])
    kept = project.store / "cache" / "replies" / "far-0123.jsonl"
    kept.write_text("")
    with pytest.raises(ConfigError, match=r"NO_KEY, which compare\.arms: far\.key_env names, is not set"):
        project.run()
    assert project.status()[1].state == "fresh", "the key was asked for by the arm, after the pairs"


def test_a_function_that_fails_is_not_said_to_be_asked_by_the_command(finished_copy: Project) -> None:
    def fails(question: str, hits: object) -> str:
        raise ValueError(question)

    finished_copy.compare(extra_arms={"mine": fails})
    (note,) = [note for note in finished_copy.report().data["notes"] if "failed and count as wrong" in note]
    assert note.endswith("compare with the function again: everything is asked anew")


def test_edited_questions_are_noticed(finished_copy: Project) -> None:
    assert finished_copy.questions is not None
    with finished_copy.questions.open("a", encoding="utf-8") as file:
        file.write('{"question": "Who?", "answer": "Rolf"}\n')
    states = _states(finished_copy)
    assert states["index"][0] == "fresh"
    assert "questions" in states["compare"][1]


def test_without_questions_a_run_ends_after_training(toy: Path, tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    compare = {**tiny_settings["compare"], "arms": ["base", "rag"]}
    project = Project.create(tmp_path / "project", toy / "docs", **{**tiny_settings, "compare": compare})
    assert [result.stage for result in project.run()] == ["index", "pairs"]
    with pytest.raises(QuestionError, match="nothing to compare on: set `questions`"):
        project.compare()
    with pytest.raises(ArtefactError, match="has no report yet; run: hybrid compare"):
        project.report()
    assert project.assistant().arm == "rag"


def test_own_questions_train_instead_of_a_teacher(toy_project: Project) -> None:
    own = toy_project.folder / "own.jsonl"
    facts = {"garden.md": "600 litres", "kitchen.md": "80 litres", "weather.md": "51 metres per second"}
    lines: list[dict[str, object]] = [
        {"id": doc, "question": f"What is the figure in {doc}?", "answer": text, "gold": [doc]}
        for doc, text in facts.items()
    ]
    lines.append({"id": "none", "question": "Who painted the moon?", "answers": [], "answerable": False})
    own.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    project = Project.open(
        toy_project.folder, ["pairs.file=own.jsonl", "questions=null", "pairs.dev_share=0", "pairs.p_absent=0"]
    )
    assert project.pairs().manifest["train"] == 4
    pairs = {pair.id: pair for pair in read_pairs(project.path("pairs") / "train.jsonl")}
    assert {pair.id: pair.kind for pair in pairs.values()} == {
        "garden.md": "grounded",
        "kitchen.md": "grounded",
        "weather.md": "grounded",
        "none": "absent",
    }
    assert {pair.source for pair in pairs.values()} == {"own.jsonl"}
    assert pairs["garden.md"].quotes[0].text == "600 litres"
    with pytest.raises(QuestionError, match=r"gone\.jsonl does not exist; set `pairs\.file`"):
        Project.open(toy_project.folder, ["pairs.file=gone.jsonl"]).pairs()


def test_a_dev_part_is_kept_from_training(finished_project: Project) -> None:
    def documents(name: str) -> set[str]:
        pairs = read_pairs(finished_project.path("pairs") / f"{name}.jsonl")
        return {oracle.rpartition("#")[0] for pair in pairs for oracle in pair.oracles}

    assert documents("dev")
    assert not documents("dev") & documents("train")


# --- documents of all kinds -------------------------------------------------------------------------------------------


def test_odd_documents_are_indexed_or_named(toy_project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    pdf = pytest.importorskip("fpdf")
    folder = toy_project.folder.parent / "toy" / "docs"
    page = pdf.FPDF()
    page.add_page()
    page.set_font("helvetica", size=12)
    page.cell(text="The pump is repaired in June.")
    page.output(str(folder / "good.pdf"))
    (folder / "corrupt.pdf").write_bytes((folder / "good.pdf").read_bytes()[:200])
    (folder / "twin.md").write_text((folder / "radio.md").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "polar.txt").write_text("Der Eisbär schläft. 北极熊在睡觉。 Белый медведь спит.", encoding="utf-8")
    (folder / "long.md").write_text("# Long\n\n" + "The river flows past the mill every day. " * 3000, encoding="utf-8")
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    manifest = toy_project.index().manifest
    assert manifest["documents"] == 9
    skipped = {entry.partition(": ")[0] for entry in manifest["files skipped"]}
    assert skipped == {"corrupt.pdf", "twin.md", "image.png"}
    output = capsys.readouterr().err
    assert "skipped corrupt.pdf: " in output
    assert "skipped twin.md: same text as radio.md" in output
    index = Index.load(toy_project.path("index"))
    assert len([chunk for chunk in index.chunks if chunk.document == "long.md"]) > 100
    assert toy_project.pairs().manifest["train"] > 0
    answer = toy_project.assistant("rag").ask("Что делает белый медведь?")
    assert len(answer.hits) == 3


def test_a_corpus_no_question_can_be_drawn_from_is_an_error_with_reasons(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("发动机每二百五十小时保养一次。船长每天检查缆绳。", encoding="utf-8")
    project = Project.create(tmp_path / "project", tmp_path / "docs", **tiny_settings)
    with pytest.raises(TrainingError, match="no training pair is left of"):
        project.pairs()
    assert _states(project)["index"][0] == "fresh"


def test_a_damaged_index_is_built_again(finished_copy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (finished_copy.path("index") / "chunks.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ArtefactError, match="damaged"):
        finished_copy.assistant()
    assert not finished_copy.index(force=True).skipped
    assert "the old index is not used" in capsys.readouterr().err
    assert finished_copy.assistant().ask("Who?").hits


def test_a_damaged_report_is_named(finished_copy: Project) -> None:
    (finished_copy.path("compare") / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"report\.json is damaged; delete .*compare .*run: hybrid compare"):
        finished_copy.report()


# --- export -----------------------------------------------------------------------------------------------------------


def test_an_export_that_fails_leaves_nothing(
    finished_project: Project, short_files: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    with short_files(1 << 15), pytest.raises(OSError, match=r"File too large.*model") as raised:
        finished_project.export(tmp_path / "model")
    assert raised.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


KILLED_EXPORT = """
import os, signal, sys
import hybrid, hybrid.tuning.export as export
merge = export.merge
def merge_and_die(*arguments):
    merge(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
export.merge = merge_and_die
hybrid.Project.open(sys.argv[1]).export(sys.argv[2])
"""


def test_exports_that_were_killed_leave_nothing_once_one_is_done(finished_project: Project, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_EXPORT, str(finished_project.folder), str(tmp_path / "model")]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert {path.name for path in tmp_path.iterdir()} == {".model.lock", ".model.partial"}
    (tmp_path / ".model.partial" / "stale.json").write_text("{}", encoding="utf-8")
    folder = finished_project.export(tmp_path / "model")
    assert list(tmp_path.iterdir()) == [folder]
    assert not (folder / "stale.json").exists()


def test_two_exports_to_one_folder_are_kept_apart(finished_project: Project, tmp_path: Path) -> None:
    with (
        FileLock(str(tmp_path / ".model.lock")),
        pytest.raises(LockedError, match=r"another command exports to .*model; wait"),
    ):
        finished_project.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_link_to_the_documents_stays_one(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text(f"This is {name}.", encoding="utf-8")
    (tmp_path / "current").symlink_to("v1")
    project = Project.create(tmp_path / "p", tmp_path / "current")
    assert project.config.documents == "../current"
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("v2")
    assert (project.documents / "a.md").read_text(encoding="utf-8") == "This is v2."


def test_an_exported_model_loads_and_answers_like_the_assistant(finished_project: Project, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished_project.export(tmp_path / "model")
    assert folder == tmp_path / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assistant = finished_project.assistant()
    assistant.runner.model.float()  # type: ignore[no-untyped-call]
    question = "Where does the beacon stand?"
    hits = assistant.ask(question).hits
    ids, _ = assistant.runner.encode(question, hits, assistant.choice)
    exported = model(torch.tensor([ids])).logits
    with torch.inference_mode():
        served = assistant.runner.model(torch.tensor([ids])).logits
    # The assistant's merged weights were rounded to 16 bit where the processor computes in it.
    assert torch.nn.functional.cosine_similarity(exported[0, -1], served[0, -1], dim=0) > 0.99
    assert tokenizer.chat_template == assistant.runner.tokenizer.chat_template
    with pytest.raises(ConfigError, match="exists already"):
        finished_project.export(tmp_path / "model")


def test_what_was_not_trained_cannot_be_exported(toy_project: Project, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="'hybrid' has not been trained"):
        toy_project.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("arm", ["base", "rag", "tuned", "hybrid"])
def test_prompts_longer_than_the_model_reads_are_refused(finished_copy: Project, arm: str) -> None:
    project = Project.open(finished_copy.folder, ["prompt.max_tokens=4085", "compare.max_new_tokens=12"])
    with pytest.raises(ConfigError, match=r"more than the 4096 tokens .* set prompt\.max_tokens to 4084 or less"):
        project.assistant(arm)
    with pytest.raises(ConfigError, match="4096 tokens"):
        project.tune()
    Project.open(finished_copy.folder, ["prompt.max_tokens=4084", "compare.max_new_tokens=12"]).assistant(arm)


def test_gold_documents_that_do_not_exist_are_named(finished_copy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    questions = finished_copy.questions
    assert questions
    lines = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    gold = next(line["gold"] for line in lines if line.get("gold"))
    gold[0] = f"docs/{gold[0]}"
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    Project.open(finished_copy.folder, ["compare.arms=[base]"]).compare()
    assert f"gold documents are not in the index and count as not retrieved, such as {gold[0]!r}" in (
        capsys.readouterr().err
    )
    assert any(gold[0] in note for note in finished_copy.report().data["notes"])


# --- two at once, and kills -------------------------------------------------------------------------------------------

RUN = "import sys, hybrid; hybrid.Project.open(sys.argv[1]).run()"


def _start(project: Project) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(project.folder)], stderr=subprocess.PIPE, text=True, env=environment
    )


def _kill_when(project: Project, ready: Callable[[Path], bool]) -> None:
    """Starts a run and kills it as soon as `ready` holds for the folder of unfinished work."""
    process = _start(project)
    deadline = time.monotonic() + 180
    try:
        while not ready(project.store / "work"):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def _has_lines(file: Path, count: int) -> bool:
    return file.is_file() and file.read_bytes().count(b"\n") >= count


def _texts(project: Project) -> dict[str, dict[str, Any]]:
    questions = project.report().data["questions"]
    drop = ("seconds",)
    return {
        question["id"]: {
            arm: {name: value for name, value in reply.items() if name not in drop}
            for arm, reply in question["replies"].items()
        }
        for question in questions
    }


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_artefacts(
    toy_project: Project, finished_project: Project, one_thread: Callable[[], AbstractContextManager[None]]
) -> None:
    from safetensors.torch import load_file

    drafts = toy_project.store / "cache" / "drafts"
    _kill_when(toy_project, lambda _: any(_has_lines(file, 3) for file in drafts.glob("*.jsonl")))
    states = _states(toy_project)
    assert states["index"][0] == "fresh"
    assert states["pairs"] == ("begun", "interrupted; run it again to go on")
    drafted = next(drafts.glob("*.jsonl")).read_bytes()
    _kill_when(
        toy_project, lambda work: (work / "tune" / "hybrid" / "checkpoints" / "checkpoint-1" / "complete").is_file()
    )
    assert next(drafts.glob("*.jsonl")).read_bytes().startswith(drafted[: drafted.rfind(b"\n") + 1])
    assert _states(toy_project)["tune/tuned"][0] == "fresh"
    assert _states(toy_project)["tune/hybrid"][0] == "begun"
    kept = toy_project.store / "cache" / "replies"
    _kill_when(toy_project, lambda _: any(_has_lines(file, 1) for file in kept.glob("hybrid-*.jsonl")))
    replies = {file: file.read_bytes() for file in kept.glob("rag-*.jsonl")}
    assert _states(toy_project)["compare"][0] == "begun"
    assert not toy_project.path("compare").exists()
    with one_thread():  # as in the killed processes and in the reference
        results = toy_project.run()
    assert [result.skipped for result in results] == [True, True, True, True, False]
    assert replies
    assert {file: file.read_bytes() for file in kept.glob("rag-*.jsonl")} == replies, "nobody asked rag again"

    for name in sorted(path.name for path in finished_project.path("pairs").glob("*.jsonl")):
        assert (toy_project.path("pairs") / name).read_bytes() == (finished_project.path("pairs") / name).read_bytes()
    for arm in ("tuned", "hybrid"):
        ours, theirs = (
            load_file(p.path(f"tune/{arm}") / "adapter_model.safetensors") for p in (toy_project, finished_project)
        )
        assert ours.keys() == theirs.keys()
        for name in ours:
            # Some processors round differently from process to process; a step lost or done twice changes 1e-2.
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-4)
        ours, theirs = (read_manifest(p.path(f"tune/{arm}")) or {} for p in (toy_project, finished_project))
        for name in ("steps", "tokens", "answer_tokens"):
            assert ours[name] == theirs[name]
    assert _texts(toy_project) == _texts(finished_project)
    assert not any((toy_project.store / "work").rglob("*.jsonl"))


def test_two_commands_at_once_are_kept_apart(toy_project: Project) -> None:
    process = _start(toy_project)
    try:
        deadline = time.monotonic() + 180
        while not (toy_project.store / "work" / "index").is_dir():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        with pytest.raises(LockedError, match=f"another command works on {toy_project.folder}; wait until it is done"):
            toy_project.index()
    finally:
        process.kill()
        process.communicate()
    assert not toy_project.index().skipped, "the lock died with its process"


def test_the_embedded_model_is_the_default(toy: Path, tmp_path: Path) -> None:
    assert Project.create(tmp_path / "project", toy / "docs").config.model == SMOLLM2
