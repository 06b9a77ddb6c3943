"""The configuration of a stratification: YAML or a bare CSV in, checked and complete out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from actors.chains import Plan
from clustering.chain import Sampler
from clustering.hdmm import HDMMSampler
from clustering.mixture import MixtureSampler
from experiments.config import ConfigError, Section, set_key

Method = Literal["cb", "hdmm"]
SAMPLERS: dict[str, Callable[..., Sampler]] = {"cb": MixtureSampler, "hdmm": HDMMSampler}
"""Method -> its chain, built from the table and the method's options."""


class DataSection(Section):
    """Which patients.

    Parameters
    ----------
    csv
        Lesions, 0/1 columns (`clustering.events.read_events`); relative to the configuration's own directory.
    truth
        Column of a known classification.
    exclude
        Columns that are neither.
    min_events
        Genes seen in fewer patients are left out.
    """

    csv: Path
    truth: str | None = None
    exclude: tuple[str, ...] = ()
    min_events: int = Field(default=1, ge=0)


class StratifyConfig(Section):
    """A stratification.

    Parameters
    ----------
    methods
        Method -> options of its sampler.
    chains
        How they run; the seed is theirs too.
    """

    name: str = "stratify"
    data: DataSection
    methods: dict[Method, dict[str, Any]] = Field(default={"cb": {}}, min_length=1)
    chains: Plan = Plan()

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `load_stratify` takes back."""
        return self.model_dump(mode="json")


def load_stratify(
    source: Path, truth: str | None = None, methods: Sequence[str] = (), changes: Sequence[str] = ()
) -> StratifyConfig:
    """Read and check a configuration, or make the default one for a CSV.

    Parameters
    ----------
    source
        ``.yaml`` / ``.yml``, or else the CSV itself.
    truth, methods
        Take the place of the configuration's; a method that it lists keeps its options.
    changes
        ``key=value`` each, as in `experiments.config.load_config`.

    Raises
    ------
    ConfigError
        Naming file, key and value.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: no such file")
    data: Any = {"name": source.stem, "data": {"csv": str(source.absolute())}}
    if source.suffix in (".yaml", ".yml"):
        try:
            data = yaml.safe_load(source.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{source}: a configuration is a mapping of keys to values")
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {change}: write key=value")
        try:
            set_key(data, key, yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {change}: not YAML: {' '.join(str(error).split())}") from None
    if truth is not None:
        set_key(data, "data.truth", truth)
    if methods:
        known = data.get("methods") or {}
        data["methods"] = {method: known.get(method, {}) for method in methods}
    try:
        config = StratifyConfig.model_validate(data)
    except ValidationError as error:
        said = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r})" for e in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(said)) from None
    csv = source.parent / config.data.csv.expanduser()  # an absolute path stays
    return config.model_copy(update={"data": config.data.model_copy(update={"csv": csv.absolute()})})
