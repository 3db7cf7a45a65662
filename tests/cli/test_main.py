"""The command line: results on stdout, one line for a mistake, exit codes, and JSON for machines."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hybrid.artefacts import locked
from hybrid.cli import commands, main

if TYPE_CHECKING:
    from hybrid import Project

Command = Callable[..., "subprocess.CompletedProcess[str]"]
STAGES = ["index", "pairs", "tune/tuned", "tune/hybrid", "compare"]


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs a command with `--json` in this process; stdout must be one JSON object."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == 0
        value = json.loads(capsys.readouterr().out)
        assert isinstance(value, dict)
        return value

    return run


# --- what works -------------------------------------------------------------------------------------------------------


def test_init_and_run_give_one_json_object(
    toy: Path, tmp_path: Path, tiny_settings: dict[str, Any], hybrid_command: Command
) -> None:
    flat = {
        f"{section}.{key}": value
        for section, values in tiny_settings.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    flat |= {key: value for key, value in tiny_settings.items() if not isinstance(value, dict)}
    settings = [part for key, value in flat.items() for part in ("--set", f"{key}={value}")]
    project = tmp_path / "project"
    done = hybrid_command(
        "init", project, "--documents", toy / "docs", "--questions", toy / "questions.jsonl", *settings, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"project": str(project)}
    done = hybrid_command("run", "--project", project, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert [stage["stage"] for stage in result["stages"]] == STAGES
    assert all(stage["skipped"] is False for stage in result["stages"])
    _check_arms(result)


def _check_arms(result: dict[str, Any]) -> None:
    keys = {"name", "n", "em", "f1", "rouge_l", "contains", "recall_at_k", "abstained", "seconds", "vs_rag"}
    assert [arm["name"] for arm in result["arms"]] == ["base", "rag", "tuned", "hybrid"]
    for arm in result["arms"]:
        assert keys <= arm.keys()
        if arm["name"] != "rag":
            assert set(arm["vs_rag"]) == {"f1_difference", "low", "high", "p", "p_holm"}
            assert arm["vs_rag"]["low"] <= arm["vs_rag"]["f1_difference"] <= arm["vs_rag"]["high"]
            assert 0 <= arm["vs_rag"]["p"] <= 1


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_fresh_project_is_skipped_and_reported(
    command: str, finished_copy: "Project", run_json: Callable[..., dict[str, Any]]
) -> None:
    result = run_json(command, "--project", finished_copy.folder)
    assert all(stage["skipped"] is True for stage in result["stages"])
    _check_arms(result)


def test_the_table_and_the_path_of_the_report_are_shown(
    finished_copy: "Project", capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--project", str(finished_copy.folder)]) == 0
    output = capsys.readouterr().out
    for stage in STAGES:
        assert f"{stage:<12} fresh, skipped" in output
    table = output[output.index("arm ") :].splitlines()
    assert [line.split()[0] for line in table[1:5]] == ["base", "rag", "tuned", "hybrid"]
    assert finished_copy.report().verdict in output
    path = Path(output.strip().splitlines()[-1].removeprefix("report: "))
    assert path.is_file()
    assert path.name == "report.html"


def test_settings_can_be_overridden_for_one_command(
    finished_copy: "Project", run_json: Callable[..., dict[str, Any]]
) -> None:
    result = run_json("index", "--project", finished_copy.folder, "--set", "index.chunk_tokens=20")
    (stage,) = result["stages"]
    assert not stage["skipped"]
    assert stage["chunks"] > 30
    states = run_json("status", "--project", finished_copy.folder)["stages"]
    assert states[0] == {"stage": "index", "state": "stale", "reason": "changed: index settings"}


def test_status_names_states_and_reasons(toy_project: "Project", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--project", str(toy_project.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [[stage, "missing", "never", "run"] for stage in STAGES]


def test_force_runs_a_fresh_stage_again(finished_copy: "Project", run_json: Callable[..., dict[str, Any]]) -> None:
    (stage,) = run_json("index", "--force", "--project", finished_copy.folder)["stages"]
    assert not stage["skipped"]
    assert stage["unchanged"] == 6


def test_ask_prints_the_answer_and_where_it_is_from(
    finished_project: "Project", run_json: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    question = ["Where", "does", "the", "beacon", "stand?"]
    answer = run_json("ask", *question, "--project", finished_project.folder)
    assert set(answer) == {"text", "citations", "hits", "abstained", "seconds", "invalid_citations", "cut_off"}
    assert len(answer["hits"]) == 3
    assert main(["ask", *question, "--project", str(finished_project.folder)]) == 0
    assert capsys.readouterr().out.startswith(answer["text"])
    closed = run_json("ask", *question, "--arm", "base", "--project", finished_project.folder)
    assert closed["hits"] == []


def test_chat_answers_each_line(
    finished_project: "Project", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who bakes?\n\n  When?\n"))
    assert main(["chat", "--project", str(finished_project.folder), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["question"] for answer in answers] == ["Who bakes?", "When?"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("caf\udce9?\nWho bakes?\n"))
    assert main(["chat", "--project", str(finished_project.folder), "--json"]) == 0
    said = capsys.readouterr()
    assert "not UTF-8 text" in said.err
    assert [json.loads(line)["question"] for line in said.out.splitlines()] == ["Who bakes?"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who bakes?\n"))
    assert main(["chat", "--project", str(finished_project.folder)]) == 0
    assert capsys.readouterr().out.strip().startswith(answers[0]["text"])


def test_export_writes_a_model(
    finished_project: "Project", tmp_path: Path, run_json: Callable[..., dict[str, Any]]
) -> None:
    result = run_json("export", tmp_path / "model", "--arm", "tuned", "--project", finished_project.folder)
    assert result == {"model": str(tmp_path / "model")}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "model").iterdir()
    }


def test_pairs_from_a_file_of_another_format(
    toy_project: "Project", tmp_path: Path, run_json: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my: data").write_text(
        "Question;Answer\nHow much water do the rain barrels hold?;600 litres\nWho was that?;Nobody at all\n",
        encoding="utf-8",
    )
    arguments = ["pairs", "--project", str(toy_project.folder), "--set", "pairs.p_absent=0", "--set", "questions=null"]
    assert main([*arguments, "--from", str(tmp_path / "my: data"), "--json"]) == 0
    output = capsys.readouterr()
    (stage,) = json.loads(output.out)["stages"][-1:]
    assert (stage["stage"], stage["candidates"]) == ("pairs", 2)
    assert (stage["oracles found by retrieval"], stage["dropped: oracle not found"]) == (1, 1)
    assert f"{tmp_path / 'my: data'}: 2 questions, read as table\n" in output.err
    setting = json.dumps(str(tmp_path / "my: data"))
    assert f"for later commands set pairs.file to {setting} in {toy_project.folder / 'hybrid.yaml'}" in output.err
    (same,) = run_json(*arguments, "--set", f"pairs.file={setting}")["stages"][-1:]
    assert same["skipped"]


def test_export_writes_the_training_pairs(
    finished_project: "Project",
    tmp_path: Path,
    run_json: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = ["--project", str(finished_project.folder)]
    result = run_json("export", "--pairs", tmp_path / "all", *project)
    assert result["pairs"] == str(tmp_path / "all")
    assert set(result["left_out"]) <= {"squad", "csv", "beir", "hotpotqa", "pubmedqa"}
    assert {"train.squad.json", "dev.csv", "dataset", "train.sharegpt.jsonl"} <= {
        path.name for path in (tmp_path / "all").iterdir()
    }
    assert "| train | " in (tmp_path / "all" / "dataset" / "README.md").read_text(encoding="utf-8")
    for name in ("train.jsonl", "dev.jsonl", "train.messages.jsonl", "train.prompt_completion.jsonl"):
        assert (tmp_path / "all" / name).read_bytes() == (finished_project.path("pairs") / name).read_bytes()
    assert main(["export", "--pairs", str(tmp_path / "one"), "--format", "alpaca", *project]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'one'}\n"
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "train.alpaca.jsonl",
        "dev.alpaca.jsonl",
        "dataset_info.json",
    }


def test_pairs_older_than_the_index_are_not_exported(
    finished_copy: "Project", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ["--project", str(finished_copy.folder)]
    assert main(["index", *project, "--set", "index.chunk_tokens=20"]) == 0
    assert main(["export", "--pairs", str(tmp_path / "new"), *project]) == 1
    assert "the pairs are older than the index; run: hybrid pairs --project" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_without_questions_the_run_says_what_to_do_next(
    toy: Path, tmp_path: Path, tiny_settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from hybrid import Project

    compare = {**tiny_settings["compare"], "arms": ["rag"]}
    Project.create(tmp_path / "project", toy / "docs", **{**tiny_settings, "compare": compare})
    assert main(["run", "--project", str(tmp_path / "project")]) == 0
    assert "no question file is set, so nothing was compared; try: hybrid ask" in capsys.readouterr().out


# --- mistakes ---------------------------------------------------------------------------------------------------------


def _mistake(done: "subprocess.CompletedProcess[str]", code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("hybrid: ") :]
    assert len(message.strip().splitlines()) <= 2
    for part in parts:
        assert part in message


def test_folders_without_a_readable_document(
    tmp_path: Path, tiny_embedder: Path, tiny_model: Path, hybrid_command: Command
) -> None:
    (tmp_path / "docs").mkdir()
    project = tmp_path / "project"
    settings = ["--set", f"model={tiny_model}", "--set", f"embedder={tiny_embedder}"]
    assert hybrid_command("init", project, "--documents", tmp_path / "docs", *settings).returncode == 0
    _mistake(hybrid_command("run", "--project", project), 1, "no documents in", "the folder is empty")
    (tmp_path / "docs" / "a.png").write_bytes(b"\x89PNG\0\1\2")
    (tmp_path / "docs" / "b.txt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "docs" / "c.pdf").write_bytes(b"%PDF-1.4 broken")
    _mistake(hybrid_command("run", "--project", project, "--json"), 1, "no readable document in", "3 files found")


def test_a_question_without_its_field(
    toy: Path, tmp_path: Path, toy_project: "Project", hybrid_command: Command
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "A?", "answer": "b"}\n{"answer": "b"}\n', encoding="utf-8")
    done = hybrid_command("init", tmp_path / "new", "--documents", toy / "docs", "--questions", bad)
    _mistake(done, 1, f"{bad}:2: the field 'question' is missing")
    assert not (tmp_path / "new").exists()
    done = hybrid_command("pairs", "--project", toy_project.folder, "--set", f"questions={bad}")
    _mistake(done, 1, f"{bad}:2: the field 'question' is missing")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status", "--set", "modle=x"], 2, "unknown key modle; did you mean model?"),
        (["run", "--set", "tune.epoch=2"], 2, "unknown key tune.epoch; did you mean tune.epochs?"),
        (["run", "--set", "tune.epochs"], 2, "is not key=value"),
        (["run", "--set", "tune.epochs=[many]"], 2, "tune.epochs must be float"),
        (["run", "--set", "compare.arms=[oracel]"], 2, "unknown arm 'oracel'; known are"),
        (["run", "--set", "model=nobody/no-such-model"], 1, "model 'nobody/no-such-model' not found; tried:"),
        (["run", "--set", "model=no-such-model"], 1, "model 'no-such-model' not found; tried:"),
        (["run", "--set", "documents=nowhere"], 1, "nowhere do not exist"),
        (["compare", "--set", "questions=null"], 1, "nothing to compare on: set `questions`"),
        (["compare", "--fold", "1"], 2, "--fold is a part of a published set"),
        (["ask", "Who?"], 1, "has no index; run: hybrid index"),
        (["ask", "Who?", "--arm", "best"], 2, "unknown arm 'best'"),
        (["export", "."], 2, ". exists already"),
        (["export", "new"], 1, "'hybrid' has not been trained; run: hybrid tune"),
        (["export", "--pairs", "."], 2, ". exists already"),
        (["export", "--pairs", "new"], 1, "has no pairs; run: hybrid pairs"),
        (["export", "new", "--format", "csv"], 2, "--format csv is a format of training pairs: add --pairs FOLDER"),
        (["pairs", "--from", "nowhere.csv"], 1, "nowhere.csv does not exist"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], code: int, message: str, toy_project: "Project", hybrid_command: Command
) -> None:
    _mistake(hybrid_command(*arguments, "--project", toy_project.folder), code, message)


def test_what_is_no_project(tmp_path: Path, hybrid_command: Command) -> None:
    _mistake(hybrid_command("run", "--project", tmp_path), 2, "is no project", f"run: hybrid init {tmp_path}")


def test_init_refuses_a_project_and_what_is_not_there(
    toy_project: "Project", tmp_path: Path, hybrid_command: Command
) -> None:
    documents = toy_project.documents
    _mistake(hybrid_command("init", toy_project.folder, "--documents", documents), 2, "is a project already")
    _mistake(hybrid_command("init", tmp_path / "a", "--documents", tmp_path / "none"), 1, "none do not exist")
    for setting in ("model.size=1", "model=[", "model"):
        done = hybrid_command("init", tmp_path / "a", "--documents", documents, "--set", "model=x", "--set", setting)
        _mistake(done, 2, repr(setting))
    for setting, told in (
        ("documents=x", "give it as an argument"),
        ("model=5", "model"),
        ("embedder=[1]", "embedder"),
    ):
        done = hybrid_command("init", tmp_path / "a", "--documents", documents, "--set", setting)
        _mistake(done, 2, told)


def test_an_empty_question(finished_project: "Project", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", " ", "--project", str(finished_project.folder)]) == 2
    assert capsys.readouterr().err.endswith("hybrid: the question is empty\n")
    assert main(["ask", "caf\udce9?", "--project", str(finished_project.folder)]) == 2
    assert "not UTF-8 text, from its character 4 on" in capsys.readouterr().err


def test_a_model_folder_that_is_not_whole(
    toy_project: "Project", tiny_model: Path, tmp_path: Path, hybrid_command: Command
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    arguments = ["tune", "--project", toy_project.folder, "--set", f"model={broken}"]
    _mistake(hybrid_command(*arguments), 1, f"cannot load the model in {broken}")
    (broken / "tokenizer.json").unlink()
    (broken / "tokenizer_config.json").unlink()
    _mistake(hybrid_command(*arguments), 1, f"the tokenizer in {broken} cannot be loaded")


def test_a_project_at_work(toy_project: "Project", hybrid_command: Command) -> None:
    with locked(toy_project.store):
        done = hybrid_command("index", "--project", toy_project.folder)
    _mistake(done, 1, f"another command works on {toy_project.folder}; wait until it is done")


def test_a_project_that_cannot_be_written(finished_copy: "Project", hybrid_command: Command) -> None:
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root may write anywhere, unless it gives that power up
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv when it runs as root")
        prefix = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    folders = [finished_copy.folder, *(path for path in finished_copy.folder.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    (finished_copy.store / "lock").chmod(0o444)
    try:
        done = hybrid_command("index", "--project", finished_copy.folder, "--force", prefix=prefix)
        _mistake(done, 1, "Permission denied", str(finished_copy.store))
        done = hybrid_command("status", "--project", finished_copy.folder, prefix=prefix)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("fresh") == 5
        done = hybrid_command("ask", "Who bakes?", "--json", "--project", finished_copy.folder, prefix=prefix)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["hits"]
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_wrong_use_shows_the_usage(hybrid_command: Command) -> None:
    wrong_format = ["export", "--pairs", "x", "--format", "xml"]
    for arguments in (
        [],
        ["trian"],
        ["run", "--projct", "x"],
        ["ask"],
        ["init", "x"],
        ["export"],
        ["export", "x", "--pairs", "y"],
        wrong_format,
    ):
        done = hybrid_command(*arguments)
        assert done.returncode == 2
        assert "usage: hybrid" in done.stderr
        assert "Traceback" not in done.stderr
    done = hybrid_command("--help")
    assert done.returncode == 0
    for command in ("init", "run", "index", "pairs", "tune", "compare", "ask", "chat", "status", "export"):
        assert f"\n    {command} " in done.stdout


def test_debug_shows_the_traceback(tmp_path: Path, hybrid_command: Command) -> None:
    done = hybrid_command("run", "--project", tmp_path, "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
        (
            OSError(28, "No space left on device", "x"),
            1,
            "hybrid: No space left on device: x; nothing that was finished is lost",
        ),
        (MemoryError(), 1, "hybrid: out of memory; lower tune.max_tokens"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "hybrid: out of memory; lower"),
    ],
)
def test_trouble_with_the_machine_is_one_line(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "status", fail)
    assert main(["status"]) == code
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""


def test_a_reader_that_goes_away_is_no_error(finished_project: "Project") -> None:
    program = "import sys; from hybrid.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "status", "--json", "--project", str(finished_project.folder)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_answers_from_what_has_changed_since_say_so(
    finished_copy: "Project", capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["ask", "--project", str(finished_copy.folder), "--arm", "rag", "Where does the beacon stand?"]
    assert main(ask) == 0
    assert "stale" not in capsys.readouterr().err
    assert main([*ask, "--arm", "tuned_rag", "--set", "tune.learning_rate=1e-3"]) == 0
    assert "stale: tune/tuned (changed: " in capsys.readouterr().err
    page = next(finished_copy.documents.iterdir())
    page.write_text(page.read_text(encoding="utf-8") + "\nOne more sentence.\n", encoding="utf-8")
    assert main(ask) == 0
    assert "stale: index (changed: documents); to renew it, run: hybrid run" in capsys.readouterr().err
    shutil.rmtree(finished_copy.documents)
    assert main(ask) == 0


def test_a_closed_stdout_is_no_mistake(finished_project: "Project", hybrid_command: Command) -> None:
    done = hybrid_command("status", "--project", finished_project.folder, prefix=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert (done.returncode, done.stderr) == (0, "")
