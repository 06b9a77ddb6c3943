"""Agreement of the multinomial mixture with known classes by every published way to go from draws to patients.

    python -m experiments.stratify.assignments RUN
    python -m experiments.stratify.assignments RUN --components TABLE.csv

RUN is a directory of ``haemfed stratify`` with chains of ``hdmm`` and a known classification. The second form takes the
components from a table of genes by components instead, the catch-all first, such as the one published with Dall'Olio et
al. (PLOS Comput Biol 2023), whose genes with fewer than two events are left out as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from sklearn.metrics import adjusted_rand_score

from actors.chains import read_chains
from clustering.chain import State
from clustering.events import EventTable
from clustering.hdmm.assignment import assign_mfnch, assign_multinomial, assign_posterior
from clustering.hdmm.components import Components, extract_components
from experiments.stratify.config import load_stratify
from experiments.stratify.patients import read_patients
from experiments.stratify.results import thinned

FEWEST = 2
"""Events of a gene of a published table."""


def assignments(
    table: EventTable, components: Components, drawn: bool = True
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Every assignment in words, and its labels and probabilities.

    Parameters
    ----------
    drawn
        Whether the components are of draws; without, there are no exposures and no patients per component.
    """
    if drawn:
        yield "posterior", assign_posterior(components)
    for untested, catch_all in product(("absent", "marginalized"), (False, True)):
        assigned = assign_multinomial(table, components, catch_all, untested)  # type: ignore[arg-type]
        yield f"multinomial, untested {untested}{_with(catch_all)}", assigned
    for estimator, untested, catch_all in product(("real", "simulation"), ("absent", "marginalized"), (False, True)):
        if drawn or estimator == "real":
            assigned = assign_mfnch(table, components, estimator, catch_all, untested)  # type: ignore[arg-type]
            yield f"MFNCH, {estimator}, untested {untested}{_with(catch_all)}", assigned


def rows_of(table: EventTable, truth: np.ndarray, found: Sequence[Components], drawn: bool = True) -> pd.DataFrame:
    """ARI among the patients with a class (``truth`` not empty) by assignment: median and range over ``found``."""
    classed = truth != ""
    values: dict[str, list[float]] = {}
    used: dict[str, list[int]] = {}
    for components in found:
        for name, (labels, _) in assignments(table, components, drawn):
            values.setdefault(name, []).append(float(adjusted_rand_score(truth[classed], labels[classed])))
            used.setdefault(name, []).append(len(np.unique(labels[labels >= 0])))
    rows = [
        {"assignment": name, "clusters": np.median(used[name]), "ari": np.median(v), "least": min(v), "most": max(v)}
        for name, v in values.items()
    ]
    return pd.DataFrame(rows)


def components_of(table: EventTable, path: Path) -> tuple[EventTable, Components]:
    """Patients and components of a published table: its first column the genes, then the catch-all and K components.

    Raises
    ------
    ValueError
        For a gene that the patients' table lacks.
    """
    counts = pd.read_csv(path, index_col=0).astype(float)
    counts = counts[counts.sum(axis=1) >= FEWEST]
    unknown = sorted(set(counts.index) - set(table.genes))
    if unknown:
        raise ValueError(f"{path}: gene {unknown[0]} is no column of the patients")
    table = table.only_genes(np.isin(table.genes, counts.index))
    n = counts.loc[list(table.genes)].to_numpy().T[None]
    shares = n[0] / np.maximum(n[0].sum(1, keepdims=True), 1)
    weights = n[0].sum(1) / n.sum()
    holders = np.ones(n.shape[:2], np.int64)
    nothing: dict[str, Any] = {"z": np.empty((1, 0), np.int16), "chain": np.zeros(1), "exposure": np.empty((0, 0))}
    return table, Components(
        counts=n, holders=holders, mean=shares, low=shares, high=shares, weights=weights, **nothing
    )


def main(
    run: Path,
    components: Annotated[Path | None, typer.Option(help="CSV of genes by components, the catch-all first.")] = None,
    data: Annotated[Path | None, typer.Option(envvar="HAEMFED_DATA", help="Directory of downloaded data sets.")] = None,
    draws: Annotated[int, typer.Option(help="Of all chains together.")] = 1000,
) -> None:
    """Print a table of ARI by assignment: of the components that all chains share, and of each chain's own."""
    config = load_stratify(run / "config.yaml")
    everybody = read_patients(config.data, data)
    patients = everybody.select(everybody.table.counts > 0)
    if patients.truth is None:
        raise typer.BadParameter(f"{run}: without a known classification (data.truth) there is nothing to agree with")
    truth = np.where(np.isin(patients.truth, config.data.unclassed), "", patients.truth)
    if components is not None:
        table, published = components_of(patients.table, components)
        some = table.counts > 0
        typer.echo(f"{published.number} components of {components}, {(truth[some] != '').sum()} patients with a class")
        _print(rows_of(table.select(some), truth[some], [published], drawn=False))
        return
    chains = read_chains(config.chains, run / "chains" / "hdmm")
    kept: list[list[State]] = thinned(chains, draws)
    typer.echo(f"{chains.shape[0]} chains of {chains.shape[1]} steps, R-hat {chains.r_hat:.3f}, ESS {chains.ess:.0f}")
    shared = extract_components(patients.table, kept)
    typer.echo(f"\ncomponents of all chains: {shared.number}, {shared.explained:.1%} of the events")
    _print(rows_of(patients.table, truth, [shared]))
    single = [extract_components(patients.table, [chain]) for chain in kept]
    typer.echo(f"\ncomponents of each chain: {', '.join(str(one.number) for one in single)}")
    _print(rows_of(patients.table, truth, single))


def _with(catch_all: bool) -> str:
    return ", catch-all too" if catch_all else ""


def _print(rows: pd.DataFrame) -> None:
    typer.echo(rows.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    typer.run(main)
