"""Assignments side by side: of chains in a directory, and of a published table of components."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

from actors.chain_files import ChainsError
from actors.chains import advance_chain, read_chains
from clustering.events import EventTable
from clustering.hdmm.assignment import mfnch_odds
from experiments.stratify.assignments import assignments, components_of, main, rows_of
from experiments.stratify.config import load_stratify
from experiments.stratify.patients import read_patients

GENES = ("A", "B", "C", "D", "E")


def cohort(seed: int = 0) -> tuple[EventTable, np.ndarray]:
    """Two classes that share a gene, some cells not tested."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], 40)
    p = np.array([[0.9, 0.6, 0.0, 0.3, 0.02], [0.0, 0.1, 0.9, 0.3, 0.02]])[truth]
    events = (rng.random(p.shape) < p).astype(np.int8)
    events[:, 0] |= events.sum(1) == 0
    events[::7, 4] = -1
    return EventTable(np.arange(80).astype(str), GENES, events), truth.astype(str)


def test_a_published_table_gives_cornfields_odds_and_drops_rare_genes(tmp_path: Path) -> None:
    table, truth = cohort()
    published = pd.DataFrame({"0": [1, 0, 0, 2, 1], "1": [30, 20, 0, 9, 0], "2": [0, 4, 36, 12, 0]}, index=list(GENES))
    published.to_csv(tmp_path / "t.csv", index_label="Gene")
    kept, components = components_of(table, tmp_path / "t.csv")
    assert kept.genes == GENES[:4]
    assert components.number == 2
    np.testing.assert_allclose(mfnch_odds(components)[2, 1:], [4 / 20, 36 / 1e-10, 12 / 11], rtol=1e-3)
    rows = rows_of(kept, truth, [components], drawn=False).set_index("assignment")
    assert "posterior" not in rows.index
    assert rows.loc["multinomial, untested absent", "ari"] > 0.8
    assert (rows["least"] == rows["most"]).all()
    found = dict(assignments(kept, components, drawn=False))
    assert set(np.unique(found["MFNCH, real, untested absent, catch-all too"][0])) <= {-1, 0, 1}

    published.rename(index={"A": "Z"}).to_csv(tmp_path / "u.csv", index_label="Gene")
    with pytest.raises(ValueError, match="gene Z is no column"):
        components_of(table, tmp_path / "u.csv")


def test_chains_of_a_run_are_read_as_far_as_all_of_them_are(tmp_path: Path) -> None:
    table, truth = cohort()
    frame = pd.DataFrame(table.events, columns=list(GENES)).replace(-1, "").astype(str)
    frame.insert(0, "id", table.ids)
    frame["class"] = truth
    frame.to_csv(tmp_path / "cohort.csv", index=False)
    changes = ["chains.chains=2", "chains.sweeps=400", "chains.seed=3", "chains.block_seconds=1000"]
    changes += ["methods={hdmm: {initial_clusters: 6}}"]
    config = load_stratify(tmp_path / "cohort.csv", truth="class", changes=changes)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    home = tmp_path / "chains" / "hdmm"
    with pytest.raises(ChainsError, match="holds no chains"):
        read_chains(config.chains, home)
    home.mkdir(parents=True)
    (home / "chains.json").write_text(json.dumps({"seed": 3, "spacing": 10, "pairs": 100}))
    sampler = config.sampler("hdmm", read_patients(config.data))
    advance_chain(sampler, config.chains, home / "chain-000", 0)
    with pytest.raises(ChainsError, match="chain 1 has no steps"):
        read_chains(config.chains, home)
    advance_chain(sampler, config.chains, home / "chain-001", 1)
    chains = read_chains(config.chains, home)
    assert chains.shape == (2, 40)
    assert chains.first == 20
    assert len(list(chains.draws(1))) == 20
    assert np.isfinite(chains.r_hat)

    app = typer.Typer()
    app.command()(main)
    said = CliRunner().invoke(app, [str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert "2 chains of 40 steps" in said.output
    assert said.output.count("MFNCH, simulation, untested absent") == 4
