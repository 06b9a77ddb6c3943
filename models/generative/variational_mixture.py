"""Gaussian mixtures by variational Bayes from sums alone: one state machine, for one table or for a federation.

The model and its updates are scikit-learn's `BayesianGaussianMixture` (Bishop 2006, section 10.2; Blei & Jordan 2006),
whose M step needs of the patients only sums of responsibilities, of values and of outer products:

1. *Moments*: number, mean and covariance of the points, which the prior is made of.
2. *Lloyd*: k-means from starting centers that the coordinator draws; a round sums the points of each cluster.
3. *Start*: the same sums as in the next phase, each point belonging to its cluster.
4. *Variational*: sums under the responsibilities that the broadcast posterior gives.

Several mixtures are fitted at once, one per *block* of columns: a single block of all columns, or a block per column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, digamma, gammaln, logsumexp, ndtri

if TYPE_CHECKING:
    from sklearn.mixture import BayesianGaussianMixture

Floats = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]

MOMENTS, LLOYD, START, VARIATIONAL, DONE = range(5)

_POSTERIOR = ("concentration", "mean_precision", "means", "degrees", "covariances")
_NOTHING = 10 * np.finfo(np.float64).eps  # what scikit-learn adds to every component's number of points


@dataclass(frozen=True)
class MixtureOptions:
    """The model, and when its fit ends.

    Parameters
    ----------
    components
        Most components; those that are not needed get little weight.
    covariance
        ``full`` or ``diag``.
    prior
        ``dirichlet_process`` or ``dirichlet_distribution``, of the weights.
    concentration
        Of that prior; 1 / components by default.
    mean_precision
        Prior patients behind the mean.
    degrees_of_freedom
        Of the prior of the precision; the number of columns by default.
    reg_covar
        Added to variances.
    tol
        The fit ends when the lower bound changes by less.
    max_iter
        It ends then at the latest.
    lloyd_rounds
        Of k-means at most.
    """

    components: int = 10
    covariance: Literal["full", "diag"] = "full"
    prior: Literal["dirichlet_process", "dirichlet_distribution"] = "dirichlet_process"
    concentration: float | None = None
    mean_precision: float = 1.0
    degrees_of_freedom: float | None = None
    reg_covar: float = 1e-6
    tol: float = 1e-3
    max_iter: int = 100
    lloyd_rounds: int = 10

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for name in ("components", "max_iter"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 or more")
        for name in ("concentration", "mean_precision"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; more than 0")


@dataclass(frozen=True)
class VariationalMixture:
    """The fit.

    Parameters
    ----------
    options
        See `MixtureOptions`.
    seed
        Of the starting centers; those of blocks of one column are quantiles of a normal law and need none.

    Notes
    -----
    Points have shape (n, blocks, columns); a point with a NaN is left out of its block.
    """

    options: MixtureOptions = MixtureOptions()
    seed: int = 0

    def start(self) -> dict[str, NDArray[Any]]:
        """The first state."""
        return {"phase": np.array(MOMENTS), "iterations": np.array(0)}

    def done(self, state: State) -> bool:
        """Whether the state is final."""
        return int(state["phase"]) == DONE

    def broadcast(self, state: State) -> dict[str, NDArray[Any]]:
        """What an answer needs of a state."""
        wanted = ("phase", "centers", "prior_mean", *_POSTERIOR)
        return {name: state[name] for name in wanted if name in state}

    # -- where the patients are --------------------------------------------------------------------------------------

    def answer(self, state: State, points: Floats) -> dict[str, Floats]:
        """The sums that a state asks for."""
        known: NDArray[np.bool_] = np.asarray(~np.isnan(points).any(axis=2))
        x = np.where(known[:, :, None], points, 0.0)
        phase = int(state["phase"])
        if phase == MOMENTS:
            return {
                "number": known.sum(0).astype(np.float64),
                "sum": x.sum(0),
                "outer": np.einsum("nbi,nbj->bij", x, x),
            }
        if phase in (LLOYD, START):
            nearest = _nearest(x, state["centers"])
            belongs = np.eye(state["centers"].shape[1])[nearest] * known[:, :, None]
            if phase == LLOYD:
                return {"number": belongs.sum(0), "sum": np.einsum("nbk,nbi->bki", belongs, x)}
            return self._sums(x - state["prior_mean"], belongs, np.zeros(x.shape[1]))
        log_r = log_responsibilities(state, x, self.options)
        r = np.exp(log_r) * known[:, :, None]
        return self._sums(x - state["prior_mean"], r, -(r * log_r).sum(axis=(0, 2)))

    def _sums(self, u: Floats, r: Floats, entropy: Floats) -> dict[str, Floats]:
        second = "nbk,nbi,nbj->bkij" if self.options.covariance == "full" else "nbk,nbi,nbi->bki"
        return {
            "number": r.sum(0),
            "sum": np.einsum("nbk,nbi->bki", r, u),
            "outer": np.einsum(second, r, u, u, optimize=True),
            "entropy": entropy,
        }

    # -- where the sums arrive ---------------------------------------------------------------------------------------

    def update(self, state: State, total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        """The next state.

        Raises
        ------
        ValueError
            If a block has fewer than two points.
        """
        phase = int(state["phase"])
        if phase == MOMENTS:
            return {**state, **self._prior(total)}
        if phase == LLOYD:
            return {**state, **self._lloyd(state, total)}
        posterior = self._posterior(state, total)
        blocks = len(total["number"])
        if phase == START:
            bound = np.full(blocks, -np.inf)
            new = {"bound": bound, "converged": np.zeros(blocks, bool), "block_iterations": np.zeros(blocks, np.int64)}
            kept = {n: a for n, a in state.items() if n not in ("centers", "counts")}
            return {**kept, **posterior, **new, "phase": np.array(VARIATIONAL)}
        bound = lower_bound(posterior, total["entropy"], self.options)
        frozen = state["converged"]  # a block that has converged stays as it is while others go on
        for name in _POSTERIOR:
            posterior[name] = np.where(_like(frozen, posterior[name]), state[name], posterior[name])
        bound = np.where(frozen, state["bound"], bound)
        converged = frozen | (np.abs(bound - state["bound"]) < self.options.tol)
        iterations = int(state["iterations"]) + 1
        new = {"bound": bound, "converged": converged, "iterations": np.array(iterations)}
        new["block_iterations"] = np.where(frozen, state["block_iterations"], iterations)
        ended = converged.all() or iterations >= self.options.max_iter
        return {**state, **posterior, **new, "phase": np.array(DONE if ended else VARIATIONAL)}

    def _prior(self, total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        number = total["number"]
        if (number < 2).any():
            raise ValueError(f"block {int(np.argmin(number))} of the mixture has {int(number.min())} points; 2 or more")
        mean = total["sum"] / number[:, None]
        scatter = total["outer"] - number[:, None, None] * mean[:, :, None] * mean[:, None, :]
        covariance = scatter / (number - 1)[:, None, None]
        if self.options.covariance == "diag":
            covariance = np.einsum("bii->bi", covariance).copy()
        columns = mean.shape[1]
        deviation = np.sqrt(covariance if covariance.ndim == 2 else np.einsum("bii->bi", covariance))
        if columns == 1:
            k = self.options.components
            noise = np.broadcast_to(ndtri((np.arange(k) + 0.5) / k)[None, :, None], (len(mean), k, 1))
        else:
            rng = np.random.default_rng(np.random.SeedSequence([self.seed]))
            noise = rng.standard_normal((len(mean), self.options.components, columns))
        centers = mean[:, None] + deviation[:, None] * noise
        ready = {"phase": np.array(LLOYD if self.options.lloyd_rounds else START), "centers": centers}
        return {**ready, "prior_mean": mean, "prior_covariance": covariance, "lloyd": np.array(0)}

    def _lloyd(self, state: State, total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        number = total["number"]
        means = total["sum"] / np.maximum(number, 1.0)[:, :, None]
        centers = np.where(number[:, :, None] > 0, means, state["centers"])  # a center with no point stays
        rounds = int(state["lloyd"]) + 1
        still = "counts" in state and np.array_equal(state["counts"], number)
        ended = still or rounds >= self.options.lloyd_rounds
        new = {"centers": centers, "counts": number, "lloyd": np.array(rounds)}
        return {**new, "phase": np.array(START if ended else LLOYD)}

    def _posterior(self, state: State, total: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        """The M step (Bishop 2006, eq. 10.58 to 10.63), covariances divided by their degrees of freedom."""
        options, r = self.options, total["number"]
        number = r + _NOTHING
        prior_mean, prior = state["prior_mean"][:, None], state["prior_covariance"][:, None]
        columns = prior_mean.shape[2]
        mean = (total["sum"] + r[:, :, None] * prior_mean) / number[:, :, None]
        shift = mean - prior_mean
        precision = options.mean_precision + number
        degrees = (options.degrees_of_freedom or columns) + number
        full = options.covariance == "full"
        own, pull = _product(shift, shift, full), total["sum"]
        n, m, k = (_like(a, own) for a in (r, number, precision))
        spread = total["outer"] - _product(shift, pull, full) - _product(pull, shift, full) + n * own
        ridge = options.reg_covar * (np.eye(columns) if full else np.ones(columns))
        scatter = prior + spread + m * (ridge + options.mean_precision / k * own)
        return {
            "concentration": self._concentration(number),
            "mean_precision": precision,
            "means": (options.mean_precision * prior_mean + number[:, :, None] * mean) / precision[:, :, None],
            "degrees": degrees,
            "covariances": scatter / _like(degrees, scatter),
        }

    def _concentration(self, number: Floats) -> Floats:
        """Shape (blocks, components, 2) of the Beta laws of a stick, or (blocks, components, 1) of a Dirichlet law."""
        prior = self.options.concentration or 1.0 / self.options.components
        if self.options.prior == "dirichlet_distribution":
            return (prior + number)[:, :, None]
        after = np.cumsum(number[:, ::-1], axis=1)[:, ::-1] - number
        after[:, -1] = 0.0
        return np.stack([1.0 + number, prior + after], axis=2)


def _like(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """With trailing axes of length 1, so that it broadcasts against b."""
    return a.reshape(a.shape + (1,) * (b.ndim - a.ndim))


def _product(a: Floats, b: Floats, full: bool) -> Floats:
    return a[..., :, None] * b[..., None, :] if full else a * b


def _nearest(x: Floats, centers: Floats) -> NDArray[np.int64]:
    """Which center is next, shape (n, blocks); the first of several."""
    distance = -2 * np.einsum("nbi,bki->nbk", x, centers) + (centers**2).sum(axis=2)
    return np.asarray(distance.argmin(axis=2), np.int64)


def _precision_roots(covariances: Floats, full: bool) -> tuple[Floats, Floats]:
    """Upper factors of the precisions (or inverse standard deviations), and the logarithms of their determinants."""
    if not full:
        roots = 1.0 / np.sqrt(covariances)
        return roots, np.log(roots).sum(axis=-1)
    roots = np.linalg.inv(np.linalg.cholesky(covariances)).swapaxes(-1, -2)
    return roots, np.log(np.einsum("...ii->...i", roots)).sum(axis=-1)


def log_responsibilities(posterior: State, x: Floats, options: MixtureOptions) -> Floats:
    """Log probability of each component for each point, shape (n, blocks, components); Bishop 2006, eq. 10.46."""
    joint = _log_joint(posterior, x, options)
    return np.asarray(joint - logsumexp(joint, axis=2, keepdims=True), np.float64)


def _log_joint(posterior: State, x: Floats, options: MixtureOptions) -> Floats:
    full, degrees, columns = options.covariance == "full", posterior["degrees"], x.shape[2]
    roots, log_det = _precision_roots(posterior["covariances"], full)
    deviations = x[:, :, None] - posterior["means"]
    scaled = np.einsum("nbki,bkij->nbkj", deviations, roots) if full else deviations * roots
    log_gauss = -0.5 * (columns * np.log(2 * np.pi) + (scaled**2).sum(axis=3)) + log_det
    log_gauss -= 0.5 * columns * np.log(degrees)
    log_lambda = columns * np.log(2.0) + digamma(0.5 * (degrees[..., None] - np.arange(columns))).sum(axis=2)
    concentration = posterior["concentration"]
    if options.prior == "dirichlet_process":
        of_both = digamma(concentration.sum(axis=2))
        broken, left = digamma(concentration[..., 0]) - of_both, digamma(concentration[..., 1]) - of_both
        log_weights = broken + np.cumsum(left, axis=1) - left
    else:
        log_weights = digamma(concentration[..., 0]) - digamma(concentration[..., 0].sum(axis=1, keepdims=True))
    expected = 0.5 * (log_lambda - columns / posterior["mean_precision"])
    return np.asarray(log_gauss + expected + log_weights, np.float64)


def lower_bound(posterior: State, entropy: Floats, options: MixtureOptions) -> Floats:
    """Of the log evidence of each block, constant terms left out as in scikit-learn, shape (blocks,).

    Parameters
    ----------
    entropy
        −Σ r·log r over points and components, of the responsibilities behind the posterior.
    """
    degrees, columns = posterior["degrees"], posterior["means"].shape[2]
    _, log_det = _precision_roots(posterior["covariances"], options.covariance == "full")
    log_det = log_det - 0.5 * columns * np.log(degrees)
    gammas = gammaln(0.5 * (degrees[..., None] - np.arange(columns))).sum(axis=2)
    log_wishart = -(degrees * log_det + degrees * columns * 0.5 * np.log(2.0) + gammas).sum(axis=1)
    concentration = posterior["concentration"]
    if options.prior == "dirichlet_process":
        log_norm = -betaln(concentration[..., 0], concentration[..., 1]).sum(axis=1)
    else:
        log_norm = gammaln(concentration[..., 0].sum(axis=1)) - gammaln(concentration[..., 0]).sum(axis=1)
    means = 0.5 * columns * np.log(posterior["mean_precision"]).sum(axis=1)
    return np.asarray(entropy - log_wishart - log_norm - means, np.float64)


@dataclass(frozen=True, eq=False)
class FittedMixture:
    """Mixtures, one per block.

    Parameters
    ----------
    state
        Final.
    options
        Of the fit.
    """

    state: State
    options: MixtureOptions

    @property
    def posterior(self) -> State:
        """The part of the state that says where points belong (`log_responsibilities`)."""
        return {name: self.state[name] for name in _POSTERIOR}

    @property
    def means(self) -> Floats:
        """Shape (blocks, components, columns)."""
        return np.asarray(self.state["means"])

    @property
    def covariances(self) -> Floats:
        """Shape (blocks, components, columns, columns), or (blocks, components, columns) if diagonal."""
        return np.asarray(self.state["covariances"])

    @property
    def weights(self) -> Floats:
        """Expected, shape (blocks, components)."""
        concentration = self.state["concentration"]
        if self.options.prior == "dirichlet_distribution":
            return np.asarray(concentration[..., 0] / concentration[..., 0].sum(axis=1, keepdims=True))
        broken, left = np.moveaxis(concentration / concentration.sum(axis=2, keepdims=True), 2, 0)
        weights = broken * np.concatenate([np.ones((len(left), 1)), np.cumprod(left[:, :-1], axis=1)], axis=1)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    @property
    def lower_bound(self) -> Floats:
        """Shape (blocks,)."""
        return np.asarray(self.state["bound"])

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Shape (blocks,)."""
        return np.asarray(self.state["converged"])

    def probabilities(self, points: Floats) -> Floats:
        """Of each component for points (n, blocks, columns), shape (n, blocks, components); NaN where a point is."""
        return np.exp(log_responsibilities(self.state, points, self.options))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
        """Draw points from the expected mixtures, shape (n, blocks, columns), and their components (n, blocks)."""
        weights, columns = self.weights, self.means.shape[2]
        uniform = rng.random((n, len(weights), 1))
        chosen = np.minimum((uniform > np.cumsum(weights, axis=1)).sum(axis=2), weights.shape[1] - 1)
        block = np.arange(len(weights))
        covariances = self.covariances
        roots = np.linalg.cholesky(covariances) if self.options.covariance == "full" else np.sqrt(covariances)
        noise = rng.standard_normal((n, len(weights), columns))
        own = roots[block, chosen]
        spread = np.einsum("nbij,nbj->nbi", own, noise) if self.options.covariance == "full" else own * noise
        return self.means[block, chosen] + spread, chosen

    def to_sklearn(self, block: int = 0) -> BayesianGaussianMixture:
        """One block as scikit-learn's own, to predict with or to continue from."""
        from sklearn.mixture import BayesianGaussianMixture

        o, s = self.options, {name: self.state[name][block] for name in _POSTERIOR}
        model = BayesianGaussianMixture(
            n_components=o.components,
            covariance_type=o.covariance,
            weight_concentration_prior_type=o.prior,
            weight_concentration_prior=o.concentration,
            mean_precision_prior=o.mean_precision,
            degrees_of_freedom_prior=o.degrees_of_freedom,
            reg_covar=o.reg_covar,
            tol=o.tol,
            max_iter=o.max_iter,
        )
        model._check_weights_parameters()
        model.mean_prior_, model.mean_precision_prior_ = self.state["prior_mean"][block], o.mean_precision
        model.covariance_prior_ = self.state["prior_covariance"][block]
        model.degrees_of_freedom_prior_ = o.degrees_of_freedom or self.means.shape[2]
        stick = o.prior == "dirichlet_process"
        concentration = tuple(s["concentration"].T) if stick else s["concentration"][:, 0]
        roots, _ = _precision_roots(s["covariances"], o.covariance == "full")
        model._set_parameters(
            (concentration, s["mean_precision"], s["means"], s["degrees"], s["covariances"], roots), xp=np
        )
        model.n_features_in_ = self.means.shape[2]
        model.converged_, model.lower_bound_ = bool(self.converged[block]), float(self.lower_bound[block])
        model.n_iter_ = int(self.state["block_iterations"][block])
        return model


def fit_mixture(points: Floats, options: MixtureOptions | None = None, seed: int = 0) -> FittedMixture:
    """Fit to one table of points, shape (n, blocks, columns)."""
    solver = VariationalMixture(options or MixtureOptions(), seed)
    state = solver.start()
    while not solver.done(state):
        state = solver.update(state, solver.answer(solver.broadcast(state), points))
    return FittedMixture(state, solver.options)
