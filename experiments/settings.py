"""What configurations of all kinds have in common: sections read from YAML, changed by key, and checked.

A mistake is one line that names file, key and value, with the nearest known key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.files import write_text


class ConfigError(ValueError):
    """A configuration is wrong; the message names the key and what to do."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that the section is made from again."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write as YAML."""
        write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), path)


Checked = TypeVar("Checked", bound=Section)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ConfigError."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration; examples are in experiments/configs/")
    data = _yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values")
    return data


def with_settings(data: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The data with changes ``key=value`` made (see `load_config`); raises ConfigError."""
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {change}: write key=value")
        set_key(data, key, _yaml(value, f"--set {change}"))
    return data


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}") from None


def set_key(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested mappings and lists; missing mappings are made.

    Raises
    ------
    ConfigError
        If the key leads into a value, past the end of a list, or nowhere.
    """
    *parents, last = key.split(".")
    here: Any = data
    try:
        if "" in (*parents, last):
            raise ValueError
        for part in parents:
            if isinstance(here, list):
                here = here[int(part)]
                continue
            if not isinstance(here.get(part), (dict, list)):
                here[part] = {}
            here = here[part]
        here[int(last) if isinstance(here, list) else last] = value
    except (ValueError, IndexError, AttributeError, TypeError):
        raise ConfigError(f"{key!r} names no place in the configuration (dots for parts, numbers in lists)") from None


def check(kind: type[Checked], data: Mapping[str, Any], source: str) -> Checked:
    """Plain data as a section of some kind; a ConfigError names source, key and value, with the nearest known key."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explain(e, kind) for e in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(dict.fromkeys(lines))) from None


def _explain(error: Any, kind: type[Section]) -> str:
    """One pydantic error in one line."""
    location = [str(part) for part in error["loc"] if part != "[key]"]  # pydantic's word for a key that is wrong itself
    key = ".".join(location)
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(kind, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if error["type"] == "missing":
        return f"{key!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key or 'configuration'}: {message} (found {error['input']!r})" if location else message


def _known_keys(kind: Any, location: Sequence[str]) -> list[str]:
    """Keys of the section at a location."""
    for part in location:
        options = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
        if part not in options:
            continue  # an index in a list, or a union's branch
        annotation = options[part].annotation
        candidates = [annotation, *get_args(annotation), *options[part].metadata]
        kind = next(
            (c for c in candidates if is_dataclass(c) or (isinstance(c, type) and issubclass(c, BaseModel))), kind
        )
    if is_dataclass(kind):
        return [f.name for f in fields(kind)]
    return list(kind.model_fields)
