"""The tuned model as one GGUF file, which is there only if llama.cpp answers by it like the model."""

from pathlib import Path
from typing import Any

import pytest

from hybrid import Project
from hybrid.cli import main
from hybrid.errors import ConfigError, DependencyError, ModelError
from hybrid.tuning.gguf_parity import Parity
from hybrid.tuning.settings import GgufWeights


@pytest.mark.parametrize(("arm", "weights"), [("hybrid", "f16"), ("tuned", "q8_0")])
def test_the_file_is_written_once_it_answers_like_the_model(
    arm: str, weights: GgufWeights, finished_project: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = finished_project.export(tmp_path / "new" / "model.gguf", arm, weights)
    assert file.read_bytes()[:4] == b"GGUF"
    assert [path.name for path in file.parent.iterdir()] == ["model.gguf"]
    assert "llama.cpp continues 8 prompts like the model" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="exists already"):
        finished_project.export(file, arm, weights)


def test_it_is_given_prompts_as_the_adapter_knows_them(
    finished_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def compare(folder: Path, file: Path, texts: list[str], limit: float) -> Parity:
        seen.append(texts)
        return Parity(len(texts), 0.0)

    monkeypatch.setattr("hybrid.tuning.gguf_parity.compare_gguf", compare)
    for arm in ("hybrid", "tuned"):
        finished_project.export(tmp_path / arm, arm, "f16")
    pair = finished_project.training_pairs()[0]
    assert all(pair.question in texts[0] for texts in seen)
    assert ["[1]" in texts[0] for texts in seen] == [True, False]


def test_an_edit_of_the_documents_stops_no_export(
    finished_copy: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for page in finished_copy.documents.iterdir():
        page.write_text(f"A new line.\n\n{page.read_text(encoding='utf-8')}", encoding="utf-8")
    finished_copy.index()
    assert finished_copy.export(tmp_path / "model.gguf", "hybrid", "f16").is_file()
    assert "llama.cpp continues 8 prompts like the model" in capfd.readouterr().err


def test_a_missing_engine_is_told_before_the_work(
    finished_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge(*_: object) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr("hybrid.tuning.export.merge", merge)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "xllamacpp" else object())
    with pytest.raises(DependencyError, match=r"xllamacpp.*hybrid-rag\[gguf\]"):
        finished_project.export(tmp_path / "model.gguf", "hybrid", "f16")


@pytest.mark.parametrize("gguf", ["f16", None])
def test_what_appeared_meanwhile_is_not_overwritten(
    gguf: GgufWeights | None, finished_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid.tuning import export

    merge, output = export.merge, tmp_path / "model"

    def slow(*arguments: Any) -> None:
        merge(*arguments)
        output.write_text("mine", encoding="utf-8")

    monkeypatch.setattr(export, "merge", slow)
    with pytest.raises(ConfigError, match="model exists already; choose a new name"):
        finished_project.export(output, "hybrid", gguf)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("model", "mine")]


def test_a_file_that_answers_otherwise_is_not_left(
    finished_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Heads whose dimensions are left as transformers orders them: the commonest mistake of such files.
    monkeypatch.setattr("hybrid.tuning.gguf_file._interleaved", lambda tensor, heads: tensor)
    with pytest.raises(ModelError, match=r"by llama\.cpp model\.gguf answers otherwise than the model does"):
        finished_project.export(tmp_path / "model.gguf", "hybrid", "f16")
    assert list(tmp_path.iterdir()) == []


def test_the_command(finished_project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = ["--project", str(finished_project.folder)]
    assert main(["export", str(tmp_path / "model.gguf"), "--gguf", "bf16", *project]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'model.gguf'}\n"
    assert main(["export", "--pairs", str(tmp_path / "pairs"), "--gguf", "bf16", *project]) == 2
    assert "--gguf bf16 is a type of a model's weights" in capsys.readouterr().err
