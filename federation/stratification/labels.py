"""Labels drawn by a center: the same for a patient whichever center holds it, in whatever company and order.

A patient's random number is a function of (seed, patient id, round) by the counter-based generator Philox4x64-10
(Salmon et al., SC 2011), and its law under a component is a sum over its own events.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from federation.randomness import entropy

Floats = NDArray[np.float64]
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


def patient_keys(ids: NDArray[np.str_], prefix: str = "") -> NDArray[np.uint64]:
    """64 bits of each patient's id, (patients,); they stay in the center."""
    return np.array([entropy(prefix + str(i)) for i in ids], dtype=np.uint64)


@njit(cache=True)
def _high(a: np.uint64, b: np.uint64) -> np.uint64:
    """High 64 bits of a 128-bit product."""
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + ((a0 * b0) >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _HALF) + (other >> _HALF)


@njit(cache=True)
def uniforms(key: NDArray[np.uint64], patients: NDArray[np.uint64], round: np.uint64) -> Floats:
    """A number in [0, 1) per patient: the first word of Philox4x64-10 at counter (patient, round, 0, 0).

    Parameters
    ----------
    key
        Of the run, (2,).
    patients
        See `patient_keys`, (patients,).
    round
        Number of the round.
    """
    result = np.empty(len(patients))
    for i in range(len(patients)):
        c0, c1, c2, c3 = patients[i], np.uint64(round), np.uint64(0), np.uint64(0)
        k0, k1 = key[0], key[1]
        for _ in range(10):
            c0, c1, c2, c3 = (
                _high(_MULTIPLIER_1, c2) ^ c1 ^ k0,
                _MULTIPLIER_1 * c2,
                _high(_MULTIPLIER_0, c0) ^ c3 ^ k1,
                _MULTIPLIER_0 * c0,
            )
            k0 += _WEYL_0
            k1 += _WEYL_1
        result[i] = (c0 >> np.uint64(11)) * (1.0 / 9007199254740992.0)
    return result


@njit(cache=True)
def draw_labels(
    starts: NDArray[np.int64],
    genes: NDArray[np.int64],
    pattern: NDArray[np.int64],
    theta: Floats,
    log_norms: Floats,
    log_weights: Floats,
    heat: float,
    uniform: Floats,
) -> NDArray[np.int64]:
    """Each patient's component, with probabilities ∝ π_k P(x_i | n_i, θ_k)^heat, (patients,).

    Parameters
    ----------
    starts, genes, pattern
        See `clustering.mixture.data.Data`.
    theta, log_norms, log_weights
        Log weights (components, genes), log e_n (components, panels, highest number of events + 1), log π.
    heat
        Power of the likelihood.
    uniform
        A number in [0, 1) per patient.
    """
    components = len(theta)
    log_p, cumulative = np.empty(components), np.empty(components)
    labels = np.empty(len(pattern), np.int64)
    for i in range(len(pattern)):
        start, end = starts[i], starts[i + 1]
        best = -np.inf
        for k in range(components):
            law = -log_norms[k, pattern[i], end - start]
            for j in range(start, end):
                law += theta[k, genes[j]]
            log_p[k] = log_weights[k] + heat * law
            best = max(best, log_p[k])
        total = 0.0
        for k in range(components):
            total += np.exp(log_p[k] - best)
            cumulative[k] = total
        k = 0
        while k < components - 1 and cumulative[k] <= uniform[i] * total:
            k += 1
        labels[i] = k
    return labels
