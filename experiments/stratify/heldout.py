"""Held-out predictive probability: the conditional-Bernoulli mixture against the multinomial one, patient by patient.

    python -m experiments.stratify.heldout table.csv --splits 5

Both are laws of which genes are mutated given how many, log P(x | n). The multinomial mixture is renormalized to rows
of 0 and 1, and has the number of components that predicts best in a part of the training patients.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.model_selection import train_test_split

from clustering.events import EventTable, read_events
from clustering.mixture import ConditionalBernoulliMixture
from clustering.multinomial import fit_multinomial_mixture


def best_multinomial(train: EventTable, components: list[int], seed: int) -> int:
    """Number of components of highest mean log P(x | n, binary) in a fifth of the training patients."""
    inner, check = train_test_split(np.arange(len(train)), test_size=0.2, random_state=seed)
    scores = [
        fit_multinomial_mixture(train.events[inner], k, np.random.default_rng([seed, k]))
        .logpmf_binary(train.events[check])
        .mean()
        for k in components
    ]
    return components[int(np.argmax(scores))]


def compare(
    table: EventTable, split: int, seed: int, components: list[int], sweeps: int, chains: int
) -> dict[str, float]:
    """One split into four fifths and one fifth: mean log P(x | n) of each, the paired difference and its error."""
    rows = train_test_split(np.arange(len(table)), test_size=0.2, random_state=seed + split)
    train, test = (table.select(np.sort(r)) for r in rows)
    ours = ConditionalBernoulliMixture(chains=chains, sweeps=sweeps, random_state=seed + split)
    mixture = ours.fit(train).score_samples(test)
    k = best_multinomial(train, components, seed + split)
    rng = np.random.default_rng([seed + split, k, 1])
    multinomial = fit_multinomial_mixture(train.events, k, rng).logpmf_binary(test.events)
    difference = mixture - multinomial
    return {
        "split": split,
        "patients": len(test),
        "mixture": float(mixture.mean()),
        "clusters": float(ours.scalars_["clusters"].mean()),
        "multinomial": float(multinomial.mean()),
        "components": k,
        "difference": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
    }


def main(
    csv: Path,
    splits: Annotated[int, typer.Option(help="Random splits, 80% for training.")] = 5,
    seed: int = 0,
    sweeps: Annotated[int, typer.Option(help="Sweeps of each chain.")] = 10_000,
    chains: int = 2,
    min_events: Annotated[int, typer.Option(help="Genes seen in fewer patients are left out.")] = 2,
    exclude: Annotated[str, typer.Option(help="Columns that are no genes, comma-separated.")] = "",
) -> None:
    """Print a line of JSON a split, and the mean over splits last."""
    table, _ = read_events(csv, exclude=tuple(c for c in exclude.split(",") if c))
    table = table.only_genes((table.events == 1).sum(0) >= min_events)
    table = table.select(table.counts > 0)
    rows = []
    for split in range(splits):
        rows.append(compare(table, split, seed, [2, 4, 6, 8, 10, 12, 14, 16, 20], sweeps, chains))
        typer.echo(json.dumps(rows[-1]))
    difference = np.array([row["difference"] for row in rows])
    summary = {"mean_difference": float(difference.mean()), "sd_over_splits": float(difference.std(ddof=1))}
    typer.echo(json.dumps(summary))


if __name__ == "__main__":
    typer.run(main)
