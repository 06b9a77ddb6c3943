"""The federated survival model as MLflow serves it: raw features in, risk and survival probabilities out.

MLflow keeps this file as the model's code ("models from code"), beside plain arrays: no pickle is involved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from experiments.fitting import Fit
from harmonization import Cohort, Schema
from harmonization.schema import EVENT, ID, TIME
from models.survival.network import network_class


class SurvivalModel(PythonModel):
    """Predicts risk and survival at the horizons of its card."""

    card: dict[str, Any]
    schema: Schema
    fit: Fit

    @classmethod
    def of(cls, card: Path, fit: Path) -> SurvivalModel:
        """From a card (JSON) and a fit (arrays)."""
        model = cls()
        model.card = json.loads(Path(card).read_text())
        model.schema = Schema.from_dict(model.card["schema"])
        model.fit = Fit.load(Path(fit))
        return model

    def load_context(self, context: Any) -> None:
        """Called by MLflow."""
        loaded = self.of(Path(context.artifacts["card"]), Path(context.artifacts["fit"]))
        self.card, self.schema, self.fit = loaded.card, loaded.schema, loaded.fit

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Risk and survival.

        Parameters
        ----------
        model_input
            One row per patient, a column per feature of the schema; missing values stay empty.

        Returns
        -------
        DataFrame
            ``log_hazard`` (``risk`` of a network without proportional hazards) and ``survival_<horizon>y`` per patient.
        """
        missing = [name for name in self.schema.names if name not in model_input.columns]
        if missing:
            raise ValueError(f"the input lacks the columns {', '.join(missing)}")
        frame = model_input[list(self.schema.names)].reset_index(drop=True).copy()
        frame[ID], frame[TIME], frame[EVENT] = np.arange(len(frame)).astype(str), 0.0, 0
        schema = Schema(self.schema.name, self.schema.version, self.schema.features)
        cohort = Cohort.from_frame(frame, schema, "model input")
        name = self.card["model"]["name"]
        risk, survival = self.fit.predict(name, cohort, np.array(self.card["horizons"]))
        columns = {f"survival_{h:g}y": survival[:, j] for j, h in enumerate(self.card["horizons"])}
        proportional = network_class(name).proportional
        return pd.DataFrame({"log_hazard" if proportional else "risk": risk, **columns})


mlflow.models.set_model(SurvivalModel())
