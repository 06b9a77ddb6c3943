"""Shared by all tests: where the real data are, one Ray, and strategies that draw schemas and cohorts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from harmonization import Cohort, Feature, Schema

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory with the publishers' files; a test that asks for it is skipped where there is none."""
    chosen = os.environ.get("HAEMFED_DATA")
    directory = Path(chosen).expanduser() if chosen else ROOT.parent / "shared" / "data"
    for folder in ("aml_amlsg", "mds_iwg"):
        if not (directory / folder).is_dir():
            pytest.skip(f"no {folder} in {directory}; set HAEMFED_DATA (docs/data.md says what to download)")
    return directory


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One Ray on this machine for all tests that need it; the code under test finds it running and leaves it so."""
    import ray  # takes seconds: only for those who ask

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else the other tests go first
    quiet: dict[str, Any] = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    ray.init("local", num_cpus=2, **quiet)
    yield
    ray.shutdown()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (``pytest -n``): a file's tests stay together, and all that need Ray share one worker."""
    with_ray = {item.path for item in items if "cluster" in getattr(item, "fixturenames", ())}
    compiled = ROOT / "tests" / "clustering"  # what one of them has compiled, the others find
    for item in items:
        alone = "clustering" if compiled in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group("ray" if item.path in with_ray else alone))


def _numbers(low: float | None, high: float | None) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


# Words that CSV readers like to take for something else are among the words drawn.
_WORDS = st.sampled_from(["NA", "null", "1", "01", "1.0", "yes", "True", "a,b", 'a "b"', "ä"]) | st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Cc", "Cs", "Zs")), min_size=1, max_size=6
)


@st.composite
def _features(draw: st.DrawFn, name: str) -> Feature:
    kind: Any = draw(st.sampled_from(["continuous", "binary", "categorical", "count"]))
    modality: Any = draw(st.sampled_from(["clinical", "genomic"]))
    if kind == "categorical":
        words = draw(st.lists(_WORDS, min_size=1, max_size=4, unique=True))
        return Feature(name, kind, modality, categories=tuple(words))
    if kind == "binary":
        return Feature(name, kind, modality)
    low, high = draw(st.none() | _numbers(-1e6, 0)), draw(st.none() | _numbers(10, 1e6))
    return Feature(name, kind, modality, unit=draw(st.sampled_from(["", "g/dL"])), low=low, high=high)


@st.composite
def _schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(st.from_regex(r"[a-zß][a-z0-9_]{0,5}", fullmatch=True), min_size=2, max_size=6, unique=True))
    names = [f"x_{name}" for name in names]  # none of the names that every table has
    features = [draw(_features(name)) for name in names]
    scores = draw(st.integers(0, 1))
    time_unit: Any = draw(st.sampled_from(["days", "months", "years"]))
    causes = draw(st.sampled_from([(), (), ("relapse", "death"), ("death", "relapse", "second cancer")]))
    return Schema("drawn", "1", tuple(features[scores:]), tuple(features[:scores]), time_unit, causes=causes)


@st.composite
def _cohorts(draw: st.DrawFn) -> Cohort:
    schema = draw(_schemas())
    n = draw(st.integers(1, 8))
    words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
    ids = draw(st.lists(words, min_size=n, max_size=n, unique=True))

    def column(feature: Feature) -> list[float]:
        values: st.SearchStrategy[Any] = {
            "continuous": _numbers(feature.low, feature.high),
            "count": st.integers(0, 10).map(float),
            "binary": st.sampled_from([0.0, 1.0]),
            "categorical": st.integers(0, max(0, len(feature.categories) - 1)).map(float),
        }[feature.kind]
        return draw(st.lists(values | st.just(np.nan), min_size=n, max_size=n))

    def block(features: tuple[Feature, ...]) -> Any:
        return np.column_stack([column(f) for f in features]) if features else np.empty((n, 0))

    codes = np.array(draw(st.lists(st.integers(0, max(1, len(schema.causes))), min_size=n, max_size=n)))
    return Cohort(
        schema,
        np.array(ids),
        block(schema.features),
        np.array(draw(st.lists(_numbers(0, 1e5), min_size=n, max_size=n))),
        codes > 0,
        block(schema.scores),
        codes if schema.causes else None,
    )


@pytest.fixture(scope="session")
def schemas() -> st.SearchStrategy[Schema]:
    """Draws schemas with every kind of feature."""
    return _schemas()


@pytest.fixture(scope="session")
def cohorts() -> st.SearchStrategy[Cohort]:
    """Draws cohorts with missing values, of every kind of feature, with or without a score, of one event or several."""
    return _cohorts()
