"""The configuration: round trips, the messages of mistakes, overrides, and its documentation."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from hybrid.config import (
    ArmConfig,
    Config,
    TeacherConfig,
    apply_override,
    config_from_dict,
    config_to_yaml,
    load_config,
)
from hybrid.errors import ConfigError

SECTIONS = [f.name for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.default_factory)]
CLASSES = [Config, *(typing.get_type_hints(Config)[name] for name in SECTIONS), TeacherConfig, ArmConfig]


def _keys(kind: Any = Config, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(kind)
    nested = [f.name for f in dataclasses.fields(kind) if dataclasses.is_dataclass(hints[f.name])]
    keys = [prefix + f.name for f in dataclasses.fields(kind) if f.name not in nested]
    return keys + [key for name in nested for key in _keys(hints[name], f"{prefix}{name}.")]


def _get(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _hint(key: str) -> Any:
    hint: Any = Config
    for name in key.split("."):
        hint = typing.get_type_hints(hint)[name]
    return hint


def _other(key: str, value: Any) -> Any:
    """A valid value that is not the default."""
    if key == "compare.arms":
        return ["rag", "base"]
    if key == "tune.target_modules":
        return ["q_proj", "v_proj"]
    hint = _hint(key)
    if typing.get_origin(hint) is Literal:
        return next((choice for choice in typing.get_args(hint) if choice != value), value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.01
    if isinstance(value, tuple):
        return ["tensorboard"]
    return f"{value or 'a'}-ü"


def _write(folder: Path, text: str) -> Path:
    path = folder / "hybrid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_sections_are_found() -> None:
    assert SECTIONS == ["index", "prompt", "pairs", "tune", "compare", "serve"]


def test_defaults_survive_yaml(tmp_path: Path) -> None:
    assert load_config(_write(tmp_path, config_to_yaml(Config()))) == Config()


def test_the_model_of_a_teacher_is_written_only_where_it_is_set() -> None:
    assert "teacher_model" not in config_to_yaml(Config())
    assert "teacher_model" in config_to_yaml(config_from_dict({"pairs": {"teacher_model": {"model": "x"}}}))


def test_a_judge_is_written_only_where_it_is_set() -> None:
    assert "judge" not in yaml.safe_load(config_to_yaml(Config()))["compare"]
    judged = config_from_dict({"compare": {"judge": {"mode": "rubric"}}})
    assert yaml.safe_load(config_to_yaml(judged))["compare"]["judge"]["mode"] == "rubric"


@pytest.mark.parametrize("key", ["compare.grounding", "compare.judge.mode", "pairs.verify"])
def test_a_bare_off_is_understood(key: str, tmp_path: Path) -> None:
    assert _get(load_config(_write(tmp_path, ""), [f"{key}=off"]), key) == "off"
    with pytest.raises(ConfigError, match="is True; it can be"):
        load_config(_write(tmp_path, ""), [f"{key}=on"])


def test_entailment_needs_a_model() -> None:
    with pytest.raises(ConfigError, match=r"set compare\.entailment_model"):
        config_from_dict({"compare": {"grounding": "entailment"}})
    config_from_dict({"compare": {"grounding": "entailment", "entailment_model": "folder"}})


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(_write(tmp_path, "")) == Config()


@pytest.mark.parametrize("key", _keys())
def test_every_key_round_trips(key: str, tmp_path: Path) -> None:
    wanted = _other(key, _get(Config(), key))
    # A limit on the cost is refused where nothing has a price.
    values: dict[str, Any] = {"pairs": {"teacher_model": {"price_out": 1.0}}} if key.endswith("max_cost") else {}
    beside = yaml.safe_dump(values) if values else ""
    place = values
    for name in key.split(".")[:-1]:
        place = place.setdefault(name, {})
    place[key.split(".")[-1]] = wanted
    config = config_from_dict(values)
    assert _get(config, key) == (tuple(wanted) if isinstance(wanted, list) else wanted)
    assert load_config(_write(tmp_path, config_to_yaml(config))) == config
    assert load_config(_write(tmp_path, beside), [f"{key}={yaml.safe_dump(wanted, default_flow_style=True)}"]) == config


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("modle: x", "modle", "model"),
        ("tune:\n  epoch: 2", "tune.epoch", "tune.epochs"),
        ("pairs:\n  p_absnt: 0.1", "pairs.p_absnt", "pairs.p_absent"),
        ("compare:\n  arm: [rag]", "compare.arm", "compare.arms"),
        ("prompt:\n  5: 1", "prompt.5", "prompt."),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, unknown: str, nearest: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"unknown key {re.escape(unknown)}; did you mean {re.escape(nearest)}"):
        load_config(_write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: one", "seed must be int, found 'one'"),
        ("seed: true", "seed must be int, found True"),
        ("seed: -1", "seed is -1; it must lie between"),
        ("model: 3", "model must be str, found 3"),
        ("questions: [a]", "questions must be str"),
        ("tune: 3", "tune must be a section with keys, found 3"),
        ("tune:\n  epochs: many", "tune.epochs must be float, found 'many'"),
        ("tune:\n  method: lra", "tune.method is 'lra'; it can be qlora, lora, full"),
        ("tune:\n  rank: 0", "tune.rank is 0, but must be a whole number above 0"),
        ("compare:\n  arms: rag", "compare.arms must be a list, found 'rag'"),
        ("compare:\n  dev_questions: 0", "compare.dev_questions is 0"),
        ("pairs:\n  p_absent: 1.5", "pairs.p_absent is 1.5; it must lie between 0 and 1"),
        ("pairs:\n  p_absent: .nan", "pairs.p_absent is nan"),
        ("pairs:\n  oracle_in_top: -5", "pairs.oracle_in_top is -5"),
        ("pairs:\n  teacher: gpt", "pairs.teacher is 'gpt'; it can be syntax, model, endpoint"),
        ("pairs:\n  teacher_model: {concurrency: 0}", "pairs.teacher_model.concurrency is 0"),
        ("index:\n  overlap_tokens: 5000", "index.overlap_tokens is 5000"),
        ("index:\n  chunk_tokens: 15", "index.chunk_tokens is 15"),
        ("index:\n  chunk_tokens: 64\n  overlap_tokens: 33", "index.overlap_tokens is 33"),
        ("- a\n- b", "must hold keys and values, found list"),
        ("documents: {{ folder }}", "is not valid YAML: a key must be a word"),
        ("? [a, b]\n: 1", "is not valid YAML: a key must be a word"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_wrong_value_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(_write(tmp_path, text))
    assert caught.value.exit_code == 2


def test_a_missing_file_says_how_to_make_a_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no project: hybrid\.yaml is missing; run: hybrid init"):
        load_config(tmp_path / "hybrid.yaml")


def test_a_section_without_keys_is_the_defaults(tmp_path: Path) -> None:
    path = _write(tmp_path, "tune:\n#  epochs: 3\n")
    assert load_config(path) == Config()
    assert load_config(path, ["tune.epochs=3"]).tune.epochs == 3


def test_overrides_win_over_the_file_and_the_last_over_the_first(tmp_path: Path) -> None:
    path = _write(tmp_path, "tune:\n  epochs: 3\n  rank: 4\n")
    config = load_config(path, ["tune.epochs=5", "tune.epochs=6.5", "tune.learning_rate=1e-4", "compare.arms=[rag]"])
    assert (config.tune.epochs, config.tune.rank, config.tune.learning_rate) == (6.5, 4, 1e-4)
    assert config.compare.arms == ("rag",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune.epochs", "is not key=value"),
        ("model.size=3", "'model' is no section"),
        ("tune.epochs=[", "is not valid YAML"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        apply_override({"model": "x"}, override)
    assert repr(override) in str(caught.value)


def test_settings_from_python_may_be_tuples() -> None:
    assert config_from_dict({"compare": {"arms": ("rag",)}}).compare.arms == ("rag",)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_setting_is_documented(kind: type[Any]) -> None:
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    documented = set(re.findall(r"^    (\w+): \S", section, re.M))
    fields = {f.name for f in dataclasses.fields(kind)} - set(SECTIONS)
    assert documented == fields


def test_an_arm_may_be_a_section(tmp_path: Path) -> None:
    arms = ["rag", {"name": "far", "model": "m", "base_url": "http://h/v1", "context": "none"}]
    config = config_from_dict({"compare": {"arms": arms}})
    assert config.compare.arms == ("rag", ArmConfig("far", "none", "m", base_url="http://h/v1"))
    assert load_config(_write(tmp_path, config_to_yaml(config))) == config
    with pytest.raises(ConfigError, match=r"unknown key compare\.arms\.modle; did you mean compare\.arms\.model"):
        config_from_dict({"compare": {"arms": [{"name": "x", "modle": "m"}]}})
    with pytest.raises(ConfigError, match=r"compare\.arms: x\.concurrency is 0"):
        config_from_dict({"compare": {"arms": [{"name": "x", "model": "m", "concurrency": 0}]}})


@pytest.mark.parametrize(
    "text", ["seed: 1\nseed: 2\n", "index: {k: 1}\nindex:\n  k: 2\n", "tune:\n  epochs: 1\n  epochs: 2\n"]
)
def test_a_key_that_stands_twice_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "hybrid.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid YAML: the key stands twice"):
        load_config(file)
