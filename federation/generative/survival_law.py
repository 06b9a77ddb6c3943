"""The laws of event and censoring times over centers: two exact Cox models on one federated preprocessor."""

from __future__ import annotations

from federation.generative.steps import RunTask
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.survival import FitCox
from harmonization import Schema
from models.generative.survival_law import CoxLaw, LawOptions, SurvivalLaw


def fit_survival_law(run: RunTask, schema: Schema, options: LawOptions | None = None) -> SurvivalLaw:
    """The laws of the training patients of all centers, those of the pooled patients to numerical precision.

    Parameters
    ----------
    run
        Asks the federation.
    schema
        The federation's.
    options
        See `models.generative.survival_law.LawOptions`.
    """
    options = options or LawOptions()
    fitted = run("preprocessor of times", FitPreprocessor(schema, options.preprocessing))
    preprocessor = preprocessor_of(fitted)
    laws = {}
    for outcome in ("event", "censoring"):
        algorithm = FitCox(
            resolution=options.resolution,
            horizon=options.horizon,
            alpha=options.ridge * int(fitted["patients"]),
            preprocessor=preprocessor,
            outcome=outcome,
        )
        laws[outcome] = CoxLaw.of(run(f"{outcome} times", algorithm))
    return SurvivalLaw(preprocessor, laws["event"], laws["censoring"], options)
