# mypy: disable-error-code="no-untyped-call, arg-type"

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from hybrid.errors import ArtefactError, ModelError
from hybrid.tuning.fast_paths import fast_paths
from hybrid.tuning.lora import attach_adapter, base_weight
from hybrid.tuning.loss import check_parity, separate_gradients, shared_gradients
from hybrid.tuning.model import TunedRecord, compute_dtype, load_base, load_tuned, read_record, write_record
from hybrid.tuning.settings import TuneSettings
from hybrid.tuning.shape import load_shape
from hybrid.tuning.trainer import prepare_model
from hybrid.tuning.tree import Example, build_trees

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_resident_weights_are_the_packed_ones(
    model_folder: Callable[[str], Path], kind: str, dtype: torch.dtype
) -> None:
    models = {
        w: load_base(model_folder(kind), method="qlora", weights=w, dtype=dtype, device=CPU)
        for w in ("nf4", "resident")
    }
    packed = {n: m for n, m in models["nf4"].named_modules() if type(m).__name__ == "Linear4bit"}
    resident = dict(models["resident"].named_modules())
    assert len(packed) == 14
    assert type(models["nf4"].get_output_embeddings()) is torch.nn.Linear
    for name, module in packed.items():
        assert torch.equal(base_weight(module)(), resident[name].weight)
    ids = torch.arange(2, 20)[None]
    assert torch.equal(*(model(input_ids=ids).logits for model in models.values()))


def test_packed_weights_that_are_misread_are_refused(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.tuning.model.dequantize_4bit", lambda packed, state: dequantize_4bit(packed, state) + 1)
    with pytest.raises(ModelError, match=r"misreads packed weights of shape .* set tune\.weights to resident"):
        load_base(model_folder("llama"), method="qlora", weights="nf4", device=CPU)


def test_rounding_changes_the_model(model_folder: Callable[[str], Path]) -> None:
    plain, rounded = (
        load_base(model_folder("llama"), method=m, weights="resident", device=CPU) for m in ("lora", "qlora")
    )
    ids = torch.arange(2, 20)[None]
    assert not torch.equal(plain(input_ids=ids).logits, rounded(input_ids=ids).logits)
    assert torch.equal(plain.get_input_embeddings().weight, rounded.get_input_embeddings().weight)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_base(tmp_path, method="lora", device=CPU)


def test_records_come_back(tmp_path: Path) -> None:
    record = TunedRecord("qlora", "nf4", "bfloat16", {"base": "abc"})
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


@pytest.mark.parametrize("text", ["{", "{}", '{"method": "x", "weights": "", "dtype": "", "notes": {}}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "hybrid.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"hybrid\.json .*; run: hybrid tune --force"):
        read_record(tmp_path)


def test_an_empty_folder_is_no_tuned_model(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"holds no tuned model: .* run: hybrid tune --force"):
        load_tuned(tmp_path, tmp_path, device=CPU)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("adapter_model.safetensors", lambda content: content[: len(content) // 2]),
        ("adapter_model.safetensors", lambda _: b""),
        ("adapter_config.json", lambda content: content[: len(content) // 2]),
        ("adapter_config.json", lambda content: content.replace(b"peft_type", b"pefu_type")),
        ("adapter_config.json", lambda _: b"[]"),
    ],
)
def test_a_damaged_adapter_is_told_with_a_way_out(
    model_folder: Callable[[str], Path], tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    base = load_base(model_folder("llama"), method="lora", device=CPU)
    attach_adapter(base, TuneSettings(method="lora", rank=2)).save_pretrained(str(tmp_path))
    load_tuned(model_folder("llama"), tmp_path, device=CPU)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(
        ModelError, match=f"the adapter in {tmp_path}: (?s:.*); if it is damaged, run: hybrid tune --force"
    ):
        load_tuned(model_folder("llama"), tmp_path, device=CPU)


def test_a_damaged_tuned_model_is_told_with_a_way_out(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(model_folder("llama"), tmp_path / "tuned")
    write_record(tmp_path / "tuned", TunedRecord("full", "resident", "float32", {}))
    (tmp_path / "tuned" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"the model in .*tuned: .*; if it is damaged, run: hybrid tune --force"):
        load_tuned(model_folder("llama"), tmp_path / "tuned", device=CPU)
    with pytest.raises(ModelError) as raised:
        load_tuned(tmp_path / "tuned" / "gone", _plain_adapter(tmp_path), device=CPU)
    assert "hybrid tune" not in str(raised.value), "it is the base that is missing"


def _plain_adapter(folder: Path) -> Path:
    (folder / "adapter_config.json").write_text("{}")
    return folder


def test_dtypes_by_name() -> None:
    assert compute_dtype("bfloat16", CPU) is torch.bfloat16
    assert compute_dtype("auto", CPU) in (torch.bfloat16, torch.float32)


EVIL = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path(__file__).with_name("ran").touch()
"""


def test_code_that_comes_with_a_model_is_not_run(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "m.LlamaConfig", "AutoModelForCausalLM": "m.LlamaForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "foreign", "auto_map": own}))
    (folder / "m.py").write_text(EVIL)
    with pytest.raises(ModelError, match="cannot load the model"):
        load_base(folder, method="lora")
    assert not list(tmp_path.rglob("ran"))


def test_pickled_weights_are_not_read(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load the model"):
        load_base(folder, method="lora")


def _stored(folder: Path, target: Path, **options: object) -> Path:
    """A model whose weights are stored quantised."""
    quantisation = BitsAndBytesConfig(**options)
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantisation, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    model.save_pretrained(target)
    return target


NESTED = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_stored_in_nf4_are_tuned_as_they_are(
    model_folder: Callable[[str], Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    stored = _stored(model_folder("llama"), tmp_path, **NESTED)
    shape, ordinary = load_shape(stored), load_shape(model_folder("llama"))
    assert (shape.linears, shape.parameters) == (ordinary.linears, ordinary.parameters)
    assert shape.stored_bytes < ordinary.stored_bytes
    settings = TuneSettings(method="qlora", weights="nf4", rank=3)
    model = prepare_model(stored, settings, dtype, CPU)
    (tree,) = build_trees([Example(n, "g", (*range(2, 30), n_), (5, 1)) for n_, n in enumerate("abc")], max_tokens=99)
    truth = separate_gradients(model, tree)
    with fast_paths(model, settings):
        check_parity(shared_gradients(model, tree), truth, model)


@pytest.mark.parametrize(
    ("options", "settings", "told"),
    [
        (
            NESTED,
            TuneSettings(method="qlora", weights="resident"),
            r"stored in NF4, which only tune\.method qlora with",
        ),
        (NESTED, TuneSettings(method="lora"), r"stored in NF4, which only tune\.method qlora with tune\.weights nf4"),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            TuneSettings(weights="nf4"),
            "cannot be tuned: name the",
        ),
        (
            {"load_in_8bit": True},
            TuneSettings(method="lora"),
            r"stored quantised \(bitsandbytes\) in a way that cannot",
        ),
    ],
    ids=["resident", "lora", "plain scales", "8 bits"],
)
def test_weights_stored_otherwise_are_refused(
    model_folder: Callable[[str], Path], tmp_path: Path, options: dict[str, object], settings: TuneSettings, told: str
) -> None:
    stored = _stored(model_folder("llama"), tmp_path, **options)
    with pytest.raises(ModelError, match=told):
        prepare_model(stored, settings, torch.float32, CPU)
