"""Synthetic patients as files for others: Parquet, CSV, and FHIR where a dictionary describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.synthetic.arms import FEDERATED, Draw, Files, Patients, read_sample
from experiments.synthetic.config import SyntheticConfig
from experiments.synthetic.fitting import finished, fit_generator, kept
from federation.state import file_name
from harmonization import Cohort, Dictionary, Schema, write_cohort
from harmonization.dictionary_file import available
from harmonization.writing import write_fhir

DIRECTORY = "synthetic"


def write_tables(
    config: SyntheticConfig, data_dir: Path | None, files: Files, draws: Sequence[Draw]
) -> tuple[list[Path], list[str]]:
    """Write ``synthetic/MODEL-ARM.parquet`` and ``.csv`` of the first seed's fits, and FHIR of the federated ones.

    Real patients are not written. With conditions or a balanced feature, of the generators alone.

    Returns
    -------
    written, not_written
        Paths, and why there is no table of a fit.
    """
    directory = files.out / DIRECTORY
    patients = Patients.load(config, data_dir, 0)
    dictionary = dictionary_of(patients.train().schema)
    written: list[Path] = []
    not_written: list[str] = []
    for draw in draws:
        if draw.repeat or draw.model == "real" or files.failed(draw).exists():
            continue
        if config.sample.as_judged:
            cohort = read_sample(patients, files, draw, 0)
        elif draw.model in config.generators:
            try:
                cohort = as_wanted(config, patients, files, draw)
            except ValueError as error:  # what is wanted may occur nowhere at one center, or hardly anywhere
                not_written.append(f"{draw.model}, {draw.arm}: no table ({error})")
                continue
        else:
            continue
        name = file_name(draw.model, draw.arm.replace("/", "-")).replace("--", "-")
        for kind in ("parquet", "csv"):
            write_cohort(cohort, directory / f"{name}.{kind}")
            written.append(directory / f"{name}.{kind}")
        if dictionary is not None and draw.arm == FEDERATED:
            write_fhir(cohort, dictionary, directory / "fhir" / name, config.seed)
            written.append(directory / "fhir" / name)
    return written, not_written


def as_wanted(config: SyntheticConfig, patients: Patients, files: Files, draw: Draw) -> Cohort:
    """Patients as the section ``sample`` wants them, from a fit on disk."""
    schema, directory = patients.learned(draw.arm).schema, files.fit(draw)
    fitted = fit_generator(draw.model, config, schema, kept(finished(directory), directory), draw.arm == FEDERATED)
    wanted, n = config.sample, config.sample.patients or len(patients.train())
    return fitted.sample(n, patients.sample_seed(0), wanted.conditions or None, wanted.balance, wanted.center)


def dictionary_of(schema: Schema) -> Dictionary | None:
    """The data dictionary that has this schema, if one of the package's has."""
    for name in available():
        dictionary = Dictionary.read(name)
        if dictionary.columns and dictionary.endpoint == "overall survival" and dictionary.schema().hash == schema.hash:
            return dictionary
    return None
