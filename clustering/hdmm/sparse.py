"""The same chain as `clustering.hdmm.reference`, but sparse: some ten times the sweeps per second.

A token's conditional has a patient's part, n_jk f_k(w), over the few components that the patient has, and a prior's
part, α β_k f_k(w), over all. The first is summed over the patient's other tokens; the second is drawn from tables per
gene that are made once for each block of patients, from the tokens *outside* the block alone, and the difference is
corrected by Metropolis–Hastings. The tables are thus no function of anything that changes while they are in use,
which makes each step reversible with respect to the exact conditional; tables made from all tokens are faster and
wrong. Components with no token outside the block are not in the tables but are summed exactly, one by one.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from clustering.hdmm.concentrations import update_concentrations

_11, _17, _19, _23, _41, _45 = (np.uint64(n) for n in (11, 17, 19, 23, 41, 45))


@njit(inline="always")
def uniform(s: np.ndarray) -> float:
    """The next number in [0, 1) of a xoshiro256++ stream (Blackman & Vigna 2021), four words of state."""
    s0, s1, s2, s3 = s[0], s[1], s[2], s[3]
    sum_ = s0 + s3
    result = ((sum_ << _23) | (sum_ >> _41)) + s0
    s2 ^= s0
    s3 ^= s1
    s[1] = s1 ^ s2
    s[0] = s0 ^ s3
    s[2] = s2 ^ (s1 << _17)
    s[3] = (s3 << _45) | (s3 >> _19)
    return np.int64(result >> _11) * (1.0 / 9007199254740992.0)


@njit(cache=True, error_model="numpy")
def scan(
    gene: np.ndarray,
    first: np.ndarray,
    blocks: np.ndarray,
    base: float,
    z: np.ndarray,
    beta: np.ndarray,
    rest: float,
    alpha: float,
    gamma: float,
    n: np.ndarray,
    n_wk: np.ndarray,
    inside: np.ndarray,
    inside_wk: np.ndarray,
    inverse: np.ndarray,
    work: np.ndarray,
    m: np.ndarray,
    s: np.ndarray,
) -> float:
    """Update each token once, in place; returns β_rest, or -1 when there is no place for a new component.

    ``n`` (places,) and ``n_wk`` (genes, places) are tokens of components and of genes in components, ``inside`` and
    ``inside_wk`` the same of each block; ``inverse`` is 1/(n + genes · base). ``m`` (places,) receives the tables: a
    patient's are drawn once its tokens are, for what they depend on does not change after that.
    """
    genes, nowhere = n_wk.shape[0], n_wk.shape[1]
    flat = genes * base
    table = np.empty((genes, nowhere))
    cumulative = np.empty((genes, nowhere))
    outside = np.zeros(nowhere)
    local = np.zeros(nowhere, np.int64)
    has = np.empty(len(work), np.int64)  # the components that the patient has had, and its tokens of each
    times = np.empty(len(work))
    m[:] = 0.0
    for b in range(len(blocks) - 1):
        high = 0
        locals_ = 0
        for k in range(nowhere):
            if n[k] > 0:
                out = n[k] - inside[b, k]
                if out > 0:
                    high = k + 1
                    outside[k] = alpha * beta[k] / (out + flat)
                else:
                    outside[k] = 0.0
                    local[locals_] = k
                    locals_ += 1
            else:
                outside[k] = 0.0
        for w in range(genes):  # up to the last component that has tokens outside; nothing beyond is read
            for k in range(high):
                table[w, k] = outside[k] * (n_wk[w, k] - inside_wk[b, w, k] + base)
            total = 0.0
            for k in range(high):
                total += table[w, k]
                cumulative[w, k] = total
            for k in range(high, nowhere):  # places that only the block's own components take
                if table[w, k] != 0.0:
                    table[w, k] = 0.0
        for j in range(blocks[b], blocks[b + 1]):
            low, end = first[j], first[j + 1]
            kinds = 0
            for i in range(low, end):
                a = 0
                while a < kinds and has[a] != z[i]:
                    a += 1
                if a == kinds:
                    has[a], times[a] = z[i], 0.0
                    kinds += 1
                times[a] += 1.0
            for i in range(low, end):
                w, c = gene[i], z[i]
                single = n[c] == 1.0
                here = 0
                while has[here] != c:
                    here += 1
                times[here] -= 1.0
                n_wk[w, c] -= 1.0
                inverse[c] = 1.0 / (n[c] - 1.0 + flat)
                own = 0.0
                for a in range(kinds):
                    own += times[a] * (n_wk[w, has[a]] + base) * inverse[has[a]]
                    work[a] = own
                spare = rest
                near = own
                if locals_ > 0:
                    if single:
                        spare += beta[c]
                    for at in range(locals_):
                        k = local[at]
                        if k != c or not single:
                            near += alpha * beta[k] * (n_wk[w, k] + base) * inverse[k]
                        work[kinds + at] = near
                new = alpha * spare / genes
                prior = cumulative[w, high - 1] if high > 0 else 0.0
                u = uniform(s) * (near + prior + new)
                k = 0
                if u < own:
                    at = 0
                    while work[at] <= u:
                        at += 1
                    k = has[at]
                elif u < near:
                    at = kinds
                    while work[at] <= u:
                        at += 1
                    k = local[at - kinds]
                elif u - near < prior:
                    u -= near
                    while cumulative[w, k] <= u:
                        k += 1
                else:
                    k = -1
                stays = k == c or (single and k < 0)
                if not stays:
                    # density and proposal of the component proposed and of the one at present
                    p, q, p_now, q_now = new, new, new, new
                    if k >= 0:
                        a = 0
                        while a < kinds and has[a] != k:
                            a += 1
                        mine = times[a] if a < kinds else 0.0
                        f = (n_wk[w, k] + base) * inverse[k]
                        p = (mine + alpha * beta[k]) * f
                        q = mine * f + table[w, k] if n[k] > inside[b, k] else p
                    if not single:
                        f = (n_wk[w, c] + base) * inverse[c]
                        p_now = (times[here] + alpha * beta[c]) * f
                        q_now = times[here] * f + table[w, c] if n[c] > inside[b, c] else p_now
                    ratio = p * q_now
                    bound = p_now * q
                    stays = ratio < bound and uniform(s) * bound >= ratio
                if stays:
                    times[here] += 1.0
                    n_wk[w, c] += 1.0
                    inverse[c] = 1.0 / (n[c] + flat)
                    continue
                n[c] -= 1.0
                inside[b, c] -= 1.0
                inside_wk[b, w, c] -= 1.0
                if single:
                    rest += beta[c]
                    beta[c] = 0.0
                    at = 0
                    while local[at] != c:
                        at += 1
                    locals_ -= 1
                    local[at] = local[locals_]
                if k < 0:
                    k = 0
                    while k < nowhere and n[k] > 0:
                        k += 1
                    if k == nowhere:
                        return -1.0
                    beta[k] = rest * (1.0 - (1.0 - uniform(s)) ** (1.0 / gamma))  # rest · Beta(1, γ)
                    rest -= beta[k]
                    local[locals_] = k
                    locals_ += 1
                z[i] = k
                n[k] += 1.0
                inside[b, k] += 1.0
                inside_wk[b, w, k] += 1.0
                n_wk[w, k] += 1.0
                inverse[k] = 1.0 / (n[k] + flat)
                a = 0
                while a < kinds and has[a] != k:
                    a += 1
                if a == kinds:
                    has[a], times[a] = k, 0.0
                    kinds += 1
                times[a] += 1.0
            for a in range(kinds):  # the r-th token of a component opens a table with probability αβ / (αβ + r)
                weight = alpha * beta[has[a]]
                for r in range(int(times[a])):
                    if r == 0 or uniform(s) * (weight + r) < weight:
                        m[has[a]] += 1.0
    return rest


@njit(cache=True, error_model="numpy")
def sparse_sweeps(
    gene: np.ndarray,
    first: np.ndarray,
    exceed: np.ndarray,
    genes: int,
    base: float,
    priors: np.ndarray,
    shared: bool,
    by_slice: bool,
    updates: int,
    sweeps: int,
    blocks: np.ndarray,
    z: np.ndarray,
    beta: np.ndarray,
    rest: float,
    alpha: float,
    gamma: float,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Some sweeps over all tokens; arguments and result as of `clustering.hdmm.reference.dense_sweeps`.

    ``blocks`` are the first patients of each block, and the number of patients.
    """
    places = len(beta)
    n = np.zeros(places)
    n_wk = np.zeros((genes, places))
    inside = np.zeros((len(blocks) - 1, places))
    inside_wk = np.zeros((len(blocks) - 1, genes, places))
    for b in range(len(blocks) - 1):
        for i in range(first[blocks[b]], first[blocks[b + 1]]):
            n[z[i]] += 1
            n_wk[gene[i], z[i]] += 1
            inside[b, z[i]] += 1
            inside_wk[b, gene[i], z[i]] += 1
    inverse = 1.0 / (n + genes * base)
    work = np.zeros(2 * len(exceed) + places + 2)
    m = np.zeros(places)
    s = np.empty(4, np.uint64)
    for i in range(4):
        s[i] = rng.integers(1, 2**63 - 1)
    for _ in range(sweeps):
        rest = scan(
            gene, first, blocks, base, z, beta, rest, alpha, gamma, n, n_wk, inside, inside_wk, inverse, work, m, s
        )
        if rest < 0:
            break
        clusters = (n > 0).sum()
        alpha, gamma = update_concentrations(
            alpha, gamma, clusters, m.sum(), priors, shared, by_slice, updates, exceed, first, rng
        )
        rest = rng.standard_gamma(gamma)
        total = rest
        for k in range(places):
            beta[k] = 0.0
            if m[k] > 0:
                beta[k] = rng.standard_gamma(m[k])
                total += beta[k]
        rest /= total
        for k in range(places):
            beta[k] /= total
    return rest, alpha, gamma
