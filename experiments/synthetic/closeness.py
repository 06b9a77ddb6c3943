"""Whether synthetic patients lie closer to the training patients than other real patients do, and exact copies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from experiments.synthetic.distances import Floats, Ints, MixedDistance, by_rows, nearest
from experiments.synthetic.rates import Estimate, Rate, residual_risk
from harmonization import Cohort
from harmonization.schema import DAYS_PER

RELABELINGS = 100


def closeness(
    train: Cohort, heldout: Cohort, synthetic: Cohort, distance: MixedDistance, seed: int
) -> dict[str, float]:
    """Distance to the closest record, nearest-neighbor distance ratio, and which real patients are the closer ones.

    No pair is left out: a synthetic patient in row i that is the training patient in row i is at distance 0.

    Returns
    -------
    dict
        ``dcr_5th_percentile_ratio``, ``nndr_ratio`` (5th percentiles of synthetic patients' distances to training
        patients over those of held-out patients), ``dcr_median``, ``dcr_median_heldout``, and ``dcr_share`` with its
        interval.

    References
    ----------
    Platzer and Reutterer (2021), Holdout-based empirical assessment of mixed-type synthetic data, Frontiers in Big
    Data 4. Zhao et al. (2021), CTAB-GAN, ACML (5th percentiles of both distances).
    """
    points = [distance.embed(cohort) for cohort in (train, heldout, synthetic)]
    own, baseline = (nearest(points[i], points[0], 2)[0] for i in (2, 1))
    return {
        "dcr_median": float(np.median(own[:, 0])),
        "dcr_median_heldout": float(np.median(baseline[:, 0])),
        "dcr_5th_percentile_ratio": _percentile_ratio(own[:, 0], baseline[:, 0]),
        "nndr_ratio": _percentile_ratio(_distance_ratio(own), _distance_ratio(baseline)),
        **share_nearer(points[0], points[1], points[2], seed).named("dcr_share"),
    }


def _distance_ratio(distances: Floats) -> Floats:
    """Nearest over second nearest; 1 where two training patients are equally near, at distance 0 too."""
    first, second = distances.T
    ratio: Floats = np.divide(first, second, out=np.ones_like(first), where=second > 0)
    return ratio


def _percentile_ratio(own: Floats, baseline: Floats) -> float:
    """Of the 5th percentiles; 1 where real patients reach 0 themselves, since nothing is nearer."""
    low, real = np.percentile(own, 5), np.percentile(baseline, 5)
    return float(low / real) if real > 0 else 1.0


def share_nearer(train: Floats, heldout: Floats, synthetic: Floats, seed: int) -> Estimate:
    """Share of synthetic patients nearer to a training than to a held-out patient, were there equally many of both.

    The larger of the two tables is thinned to the size of the other: the share is the mean over *all* ways to thin it,
    in closed form. Ties count half. Chance is .5, and the interval is as wide as the shares of random relabelings of
    the real patients are (`RELABELINGS`).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    n, m = len(train), len(heldout)
    real = np.concatenate([train, heldout])
    fewer_heldout = m <= n
    few = np.arange(n + m) >= n if fewer_heldout else np.arange(n + m) < n
    masks = np.stack([few, *(rng.permutation(few) for _ in range(RELABELINGS))])
    most, least = max(n, m), min(n, m)

    def reduce(distances: Floats, start: int) -> tuple[Floats]:
        order = np.argsort(distances, axis=1)
        ranked = np.take_along_axis(distances, order, 1)
        shares = []
        for mask in masks:
            first = np.argmax(mask[order], axis=1)  # all before it are of the larger table
            h = np.take_along_axis(ranked, first[:, None], 1)
            nearer = (ranked < h).sum(axis=1)
            tied = ((ranked == h) & ~mask[order]).sum(axis=1)
            none, none_tied = _none_drawn(nearer, most, least), _none_drawn(nearer + tied, most, least)
            shares.append(1 - (none + none_tied) / 2)
        return (np.stack(shares, axis=1),)

    shares = by_rows(synthetic, real, reduce)[0].mean(axis=0)
    if not fewer_heldout:
        shares = 1 - shares
    error = 1.96 * float(np.std(shares[1:], ddof=1))
    return Estimate(float(shares[0]), float(shares[0]) - error, float(shares[0]) + error)


def _none_drawn(chosen: Ints, total: int, drawn: int) -> Floats:
    """Probability that none of so many chosen ones is among those drawn without replacement from a total."""
    left = total - chosen - drawn
    possible = left >= 0
    left = np.maximum(left, 0)
    log = gammaln(total - chosen + 1) - gammaln(left + 1) - gammaln(total + 1) + gammaln(total - drawn + 1)
    return np.where(possible, np.exp(np.minimum(log, 0)), 0.0)


def copies(train: Cohort, heldout: Cohort, synthetic: Cohort) -> dict[str, float]:
    """Synthetic patients who equal a real one.

    Returns
    -------
    dict
        ``exact_matches``: synthetic patients with all features of a training patient; ``exact_matches_share`` and
        ``exact_matches_heldout_share``: of the training and of the held-out patients, those with such a double.
        ``rare_copies``: synthetic patients with all features of a training patient whose features no other real
        patient has. ``outcome_copies``: exact matches whose time, to the day, and event are the same too.
        ``rare_combinations``: the residual risk that a combination of all that is not a number (lesions, categories,
        what is missing), unique among real patients, is found among synthetic ones: of training against held-out
        patients.
    """
    real = [_keys(c.values) for c in (train, heldout, synthetic)]
    days = [
        np.column_stack([c.values, np.rint(c.time * DAYS_PER[c.schema.time_unit]), c.event]) for c in (train, synthetic)
    ]
    outcome = [_keys(x) for x in days]
    rare = _unique(real[0], real[1])
    discrete = [j for j, feature in enumerate(train.schema.features) if not feature.numeric]
    found = {
        "exact_matches": float(np.isin(real[2], real[0]).sum()),
        "exact_matches_share": float(np.isin(real[0], real[2]).mean()),
        "exact_matches_heldout_share": float(np.isin(real[1], real[2]).mean()),
        "rare_copies": float(np.isin(real[2], real[0][rare]).sum()),
        "outcome_copies": float(np.isin(outcome[1], outcome[0]).sum()),
    }
    if discrete:
        parts = [_keys(c.values[:, discrete]) for c in (train, heldout, synthetic)]
        rates = []
        for one, other in ((parts[0], parts[1]), (parts[1], parts[0])):
            alone = one[_unique(one, other)]
            rates.append(Rate.of(int(np.isin(alone, parts[2]).sum()), len(alone)))
        found |= residual_risk(*rates).named("rare_combinations")
    return found


def _keys(values: Floats) -> NDArray[np.void]:
    """One key per row, equal where rows are (to seven digits, as tables are written; missing equals missing)."""
    rows = np.ascontiguousarray(values.astype(np.float32) + 0.0)  # -0 is 0
    rows[np.isnan(rows)] = np.nan  # one of the many
    return rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()


def _unique(keys: NDArray[np.void], others: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which keys occur once, and not among the others."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    alone: NDArray[np.bool_] = (counts[inverse] == 1) & ~np.isin(keys, others)
    return alone
