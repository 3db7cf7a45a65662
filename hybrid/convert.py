"""From the values of a YAML file to frozen dataclasses: every key is known and every value has its type."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hybrid.errors import ConfigError


def build(kind: type[Any], values: Mapping[str, Any], source: str, prefix: str = "") -> Any:  # noqa: ANN401
    """Builds a dataclass from nested mappings.

    Args:
        kind: The dataclass; its fields are scalars, choices, tuples, dataclasses or unions of these.
        values: Its keys and values.
        source: Where they stand, for messages.
        prefix: What stands before the keys in messages, such as `tune.`.

    Raises:
        ConfigError: A key is unknown (the nearest known key is named), or a value has the wrong type.
    """
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    arguments = {}
    for key, value in values.items():
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{source}: unknown key {prefix}{key}; did you mean {prefix}{nearest}?")
        arguments[key] = _convert(hints[key], value, source, prefix + key)
    return kind(**arguments)


def _convert(hint: Any, value: Any, source: str, key: str) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(hint):
        value = {} if value is None else value  # a section whose keys are all commented out
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {key} must be a section with keys, found {value!r}")
        return build(typing.cast("type[Any]", hint), value, source, key + ".")
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        value = "off" if value is False and "off" in choices else value  # YAML reads a bare off as false
        if value not in choices:
            raise ConfigError(f"{source}: {key} is {value!r}; it can be {', '.join(map(str, choices))}")
        return value
    if origin in {types.UnionType, typing.Union}:
        return _convert_union(choices, value, source, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{source}: {key} must be a list, found {value!r}")
        return tuple(_convert(choices[0], item, source, key) for item in value)
    return _scalar(hint, value, source, key)


def _convert_union(choices: Sequence[Any], value: Any, source: str, key: str) -> Any:  # noqa: ANN401
    if value is None and types.NoneType in choices:
        return None
    problem = ConfigError(f"{source}: {key} is {value!r}")
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _convert(choice, value, source, key)
            except ConfigError as error:
                problem = error
    raise problem


def _scalar(hint: Any, value: Any, source: str, key: str) -> Any:  # noqa: ANN401
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # falls through to the message below
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{source}: {key} must be {hint.__name__}, found {value!r}")
