"""Multivariate Fisher's noncentral hypergeometric law: n balls drawn from an urn of m_g balls of odds w_g by colour.

P(x | n) = Π C(m_g, x_g) w_g^{x_g} / c_n, c_n the coefficient of z^n in Π (1 + w_g z)^{m_g} (McCullagh & Nelder 1989,
Generalized Linear Models, ch. 7; Fog 2008, Commun. Stat. Simul. Comput. 37:241). Coefficients are convolved colour by
colour on logarithms, O(colours · n · min(m, n)), so that no odds overflow. With one ball a colour it is the
conditional Bernoulli law, which has its own faster module.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit


def checked_log_odds(log_odds: np.ndarray) -> np.ndarray:
    """Log odds as contiguous floats.

    Raises
    ------
    ValueError
        For NaN and +inf.
    """
    values = np.ascontiguousarray(log_odds, dtype=float)
    if np.isnan(values).any() or (values == np.inf).any():
        raise ValueError("log_odds: must be finite, or -inf for odds of zero")
    return values


def newton(
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]], start: np.ndarray, steps: int = 100
) -> np.ndarray:
    """Maximum of a concave function of log odds that does not change when a constant is added to all of them.

    Newton's method with halved steps. A maximum at infinity shows by steps that stay large while the information
    vanishes.

    Parameters
    ----------
    evaluate
        Value, score (colours,) and information (colours, colours) at log odds (colours,).

    Raises
    ------
    ValueError
        If the maximum is not finite, or not unique up to the constant.
    """
    at = start - start.mean()
    value, score, information = evaluate(at)
    for _ in range(steps):
        scale = max(float(np.diag(information).max(initial=0.0)), 1e-300)
        pinned = information + scale / len(at)  # the one direction without information gets some
        if np.linalg.eigvalsh(pinned)[0] < 1e-10 * scale:
            break
        step = np.linalg.solve(pinned, score)
        if np.abs(step).max() < 1e-8:
            return np.asarray(at + step)
        for _ in range(60):
            trial = evaluate(at + step)
            if trial[0] >= value - 1e-12 * abs(value):
                break
            step = step / 2
        at, (value, score, information) = at + step, trial
    raise ValueError("x: the likelihood has no finite or no unique maximum; use prior > 0")


@njit(cache=True)
def _log_terms(m: int, log_odds: float, degree: int) -> np.ndarray:
    """log C(m, j) w^j for j = 0 … min(m, degree)."""
    terms = np.zeros(1 if log_odds == -np.inf else min(m, degree) + 1)
    for j in range(1, len(terms)):
        terms[j] = terms[j - 1] + np.log((m - j + 1) / j) + log_odds
    return terms


@njit(cache=True)
def _times(log_coefficients: np.ndarray, log_terms: np.ndarray) -> np.ndarray:
    """Logarithms of the coefficients of the product of two polynomials, to the degree of the first."""
    result = np.full(len(log_coefficients), -np.inf)
    for n in range(len(result)):
        last = min(n, len(log_terms) - 1)
        top = -np.inf
        for j in range(last + 1):
            top = max(top, log_coefficients[n - j] + log_terms[j])
        if top > -np.inf:
            total = 0.0
            for j in range(last + 1):
                total += np.exp(log_coefficients[n - j] + log_terms[j] - top)
            result[n] = top + np.log(total)
    return result


@njit(cache=True)
def _suffixes(m: np.ndarray, log_odds: np.ndarray, degree: int) -> np.ndarray:
    """Log coefficients of the colours g, g + 1, …, for every g: (colours + 1, degree + 1); row 0 is the normalizer."""
    result = np.full((len(m) + 1, degree + 1), -np.inf)
    result[-1, 0] = 0.0
    for g in range(len(m) - 1, -1, -1):
        result[g] = _times(result[g + 1], _log_terms(m[g], log_odds[g], degree))
    return result


@njit(cache=True)
def _step(terms: np.ndarray, after: np.ndarray, here: np.ndarray, left: int, j: int) -> float:
    """Probability of j balls of this colour when ``left`` are to be drawn from it and the colours after it."""
    if here[left] == -np.inf:
        return 0.0
    return float(np.exp(terms[j] + after[left - j] - here[left]))


@njit(cache=True)
def _move(
    state: np.ndarray, terms: np.ndarray, after: np.ndarray, here: np.ndarray, power: int
) -> tuple[np.ndarray, np.ndarray]:
    """Σ state[left] p(j | left) j^power by the balls left after this colour; and Σ state[left] E[j | left]."""
    moved, expected = np.zeros(len(state)), np.zeros(len(state))
    for left in range(len(state)):
        if state[left] == 0.0:
            continue
        for j in range(min(left, len(terms) - 1) + 1):
            mass = state[left] * _step(terms, after, here, left, j)
            moved[left - j] += mass * j**power
            expected[left] += mass * j
    return moved, expected


@njit(cache=True)
def _moments(m: np.ndarray, log_odds: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ_n counts_n E[x | n] and Σ_n counts_n E[x xᵀ | n], forward through the colours with the suffixes behind."""
    colours, degree = len(m), len(counts) - 1
    suffix = _suffixes(m, log_odds, degree)
    first, second = np.zeros(colours), np.zeros((colours, colours))
    state = counts.astype(np.float64)
    for g in range(colours):
        terms = _log_terms(m[g], log_odds[g], degree)
        second[g, g] = _move(state, terms, suffix[g + 1], suffix[g], 2)[0].sum()
        with_g, expected = _move(state, terms, suffix[g + 1], suffix[g], 1)  # paths weighted by x_g
        first[g] = expected.sum()
        state = _move(state, terms, suffix[g + 1], suffix[g], 0)[0]
        for h in range(g + 1, colours):
            terms = _log_terms(m[h], log_odds[h], degree)
            with_g, expected = _move(with_g, terms, suffix[h + 1], suffix[h], 0)
            second[g, h] = second[h, g] = expected.sum()
    return first, second


@njit(cache=True)
def _sample(m: np.ndarray, log_odds: np.ndarray, n: int, rng: np.random.Generator, result: np.ndarray) -> None:
    suffix = _suffixes(m, log_odds, n)
    for g in range(len(m)):
        terms = _log_terms(m[g], log_odds[g], n)
        for i in range(len(result)):
            left = n - result[i, :g].sum()
            u, j, last = rng.random(), 0, min(left, len(terms) - 1)
            for j in range(last + 1):
                u -= _step(terms, suffix[g + 1], suffix[g], left, j)
                if u < 0.0:
                    break
            while suffix[g + 1, left - j] == -np.inf:  # rounding left u above the sum: the last possible number
                j -= 1
            result[i, g] = j


@njit(cache=True)
def _log_normalizers(m: np.ndarray, log_odds: np.ndarray, degree: int) -> np.ndarray:
    result = np.empty((len(log_odds), degree + 1))
    for k in range(len(log_odds)):
        result[k] = _suffixes(m, log_odds[k], degree)[0]
    return result


def logpmf(x: np.ndarray, m: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """log P(x | n = Σ x) of many rows under many odds.

    Parameters
    ----------
    x
        Shape (rows, colours): balls drawn.
    m
        Shape (colours,): balls in the urn.
    log_odds
        Shape (components, colours); -inf for a colour that is never drawn.

    Returns
    -------
    numpy.ndarray
        Shape (rows, components); -inf outside 0 ≤ x ≤ m.

    Raises
    ------
    ValueError
        For log odds that are NaN or +inf.
    """
    x, m, odds = np.asarray(x, dtype=np.int64), np.asarray(m, dtype=np.int64), np.atleast_2d(checked_log_odds(log_odds))
    inside = np.all((x >= 0) & (x <= m), axis=1)
    x = np.where(inside[:, None], x, 0)
    n, j = x.sum(1), np.arange(1, x.max(initial=0) + 1)
    steps = np.log(np.maximum(m[:, None] - j + 1, 1) / j)  # log C(m, j) by sums loses fewer digits than by gammaln
    log_choose = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
    choices = log_choose[np.arange(len(m)), x].sum(1)
    finite = odds > -np.inf
    numerators = choices[:, None] + x @ np.where(finite, odds, 0.0).T
    possible = inside[:, None] & (x @ (~finite).T == 0)
    normalizers = _log_normalizers(m, odds, int(n.max(initial=0)))[:, n].T
    return np.where(possible, numerators - np.where(possible, normalizers, 0.0), -np.inf)


def cornfield_odds(mean: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Cornfield's approximation of the odds that give a mean: μ / (m − μ), up to a factor (Fog 2008)."""
    return np.asarray(mean / (m - np.asarray(mean, dtype=float)))


class MultivariateFisherNCHypergeometric:
    """Multivariate Fisher's noncentral hypergeometric distribution, frozen, in scipy's idiom.

    Parameters
    ----------
    m
        Shape (colours,): balls of each colour in the urn.
    n
        Balls drawn.
    odds
        Shape (colours,), up to a common factor.
    log_odds
        Instead of ``odds``: their logarithms, of any size; -inf for odds of zero.

    Raises
    ------
    ValueError
        For negative m, negative or infinite odds, or more balls drawn than the urn has with positive odds.
    """

    def __init__(
        self, m: np.ndarray, n: int, odds: np.ndarray | None = None, *, log_odds: np.ndarray | None = None
    ) -> None:
        if (odds is None) == (log_odds is None):
            raise ValueError("odds: give either odds or log_odds")
        if odds is not None:
            odds = np.asarray(odds, dtype=float)
            if not (odds >= 0).all():
                raise ValueError(f"odds: {odds} must not be negative")
            log_odds = np.log(odds, out=np.full(odds.shape, -np.inf), where=odds > 0)
        self.m = np.asarray(m, dtype=np.int64)
        self.n = int(n)
        self.log_odds = checked_log_odds(np.asarray(log_odds))
        if self.m.shape != self.log_odds.shape or (self.m < 0).any():
            raise ValueError(f"m: {self.m} must be at least 0, one for each of {self.log_odds.size} odds")
        urn = int(self.m[self.log_odds > -np.inf].sum())
        if not 0 <= self.n <= urn:
            raise ValueError(f"n: {n} balls cannot be drawn, the urn has {urn} with positive odds")

    def logpmf(self, x: np.ndarray) -> np.ndarray:
        """Log probability of draws, shape (..., colours) -> (...)."""
        x = np.asarray(x)
        rows = x.reshape(-1, len(self.m))
        whole = np.all(rows == np.floor(rows), axis=1) & (rows.sum(1) == self.n)
        values = logpmf(np.where(whole[:, None], rows, 0), self.m, self.log_odds)[:, 0]
        return np.where(whole, values, -np.inf).reshape(x.shape[:-1])[()]

    def pmf(self, x: np.ndarray) -> np.ndarray:
        """Probability of draws, shape (..., colours) -> (...)."""
        return np.asarray(np.exp(self.logpmf(x)))[()]

    def _only_n(self) -> np.ndarray:
        counts = np.zeros(self.n + 1)
        counts[self.n] = 1.0
        return counts

    def mean(self) -> np.ndarray:
        """Expected balls of each colour, (colours,): exact."""
        return np.asarray(_moments(self.m, self.log_odds, self._only_n())[0])

    def cov(self) -> np.ndarray:
        """Covariance of the balls drawn, (colours, colours): exact."""
        first, second = _moments(self.m, self.log_odds, self._only_n())
        return np.asarray(second - np.outer(first, first))

    def rvs(self, size: int = 1, rng: np.random.Generator | None = None) -> np.ndarray:
        """Exact independent draws, (size, colours), colour by colour."""
        result = np.zeros((size, len(self.m)), np.int64)
        _sample(self.m, self.log_odds, self.n, np.random.default_rng() if rng is None else rng, result)
        return result

    @classmethod
    def fit(cls, x: np.ndarray, m: np.ndarray, prior: float | np.ndarray = 0.0) -> np.ndarray:
        """Log odds of highest likelihood or posterior density.

        Parameters
        ----------
        x
            Shape (rows, colours): draws from like urns, of any numbers of balls.
        m
            Shape (colours,): balls in each urn.
        prior
            Pseudo-draws a_g of one ball of each colour from an urn with one ball a colour: Π w_g^{a_g} / (Σ w)^{Σ a}.

        Returns
        -------
        numpy.ndarray
            Log odds (colours,), with mean zero over those finite; -inf for colours never drawn, without a prior.

        Raises
        ------
        ValueError
            If x is outside 0 … m, or, without a prior, if the maximum is not finite and unique.
        """
        x, m = np.asarray(x, dtype=np.int64), np.asarray(m, dtype=np.int64)
        if (x < 0).any() or (x > m).any():
            raise ValueError("x: must lie between 0 and m")
        pseudo = np.broadcast_to(np.asarray(prior, dtype=float), m.shape)
        sums, counts = x.sum(0) + pseudo, np.bincount(x.sum(1)).astype(float)
        active = sums > 0
        if not active.any():
            raise ValueError("x: no ball was drawn; use prior > 0")
        urn, drawn = m[active], np.flatnonzero(counts)

        def evaluate(at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            normalizers = _log_normalizers(urn, at[None], len(counts) - 1)[0]
            shares = np.exp(at - at.max())
            value = sums[active] @ at - counts[drawn] @ normalizers[drawn]
            value -= pseudo.sum() * (at.max() + np.log(shares.sum()))
            shares /= shares.sum()
            score = sums[active] - pseudo.sum() * shares
            information = pseudo.sum() * (np.diag(shares) - np.outer(shares, shares))
            for n in drawn:
                mean, second = _moments(urn, at, np.eye(int(n) + 1)[n])
                score -= counts[n] * mean
                information += counts[n] * (second - np.outer(mean, mean))
            return float(value), score, information

        result = np.full(len(m), -np.inf)
        room = len(x) * m[active] - sums[active] + pseudo[active]
        result[active] = newton(evaluate, np.log(sums[active] + 0.5) - np.log(room + 0.5))
        return result
