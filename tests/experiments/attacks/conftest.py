"""A small study in seven centers, for attacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.attacks.config import AttackConfig, load_attacks
from experiments.study import Study
from harmonization import write_cohort
from tests.federation.hospitals import patients

Made = tuple[AttackConfig, Study]


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Makes a configuration of attacks, and the study it is about; keywords are its sections."""
    folder = tmp_path_factory.mktemp("attacked")
    everybody = patients(700, 5, follow_up=9)
    cohort = everybody[np.flatnonzero(~np.isnan(everybody.values).any(axis=1))[:280]]
    write_cohort(cohort, folder / "cohort.csv")
    (folder / "cox.yaml").write_text(
        f"""
name: small
dataset: {{name: table, options: {{path: {folder / "cohort.csv"}}}}}
partition: {{name: fractions, parameters: {{fractions: [0.2, 0.19, 0.17, 0.15, 0.13, 0.12, 0.04]}}}}
split: {{folds: 2, repeats: 1, validation: 0}}
ridge: 5
training: {{steps: 1, learning_rate: 0.5}}
rounds: 25
"""
    )

    def make(**sections: Any) -> Made:
        import yaml

        (folder / "attacks.yaml").write_text(yaml.safe_dump({"experiment": "cox.yaml", "seed": 2, **sections}))
        config = load_attacks(Path(folder / "attacks.yaml"), [])
        return config, Study.load(config.target(), None)

    return make
