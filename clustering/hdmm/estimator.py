"""The whole published method in scikit-learn's idiom: chains, components, assignment."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from clustering.chain import steps
from clustering.events import MISSING, EventTable
from clustering.hdmm.assignment import Estimator, assign_mfnch, assign_multinomial, assign_posterior
from clustering.hdmm.components import Components, extract_components
from clustering.hdmm.sampler import HDMMSampler

Assignment = Literal["mfnch", "multinomial", "posterior"]


class HierarchicalDirichletMixture(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Subgroups of patients by their lesions: a hierarchical Dirichlet process mixture of multinomials (HDMM).

    Chains run one after the other in this process; `HDMMSampler` is what to run elsewhere.

    Parameters
    ----------
    assignment
        How patients go to components: by ``mfnch`` (Fisher's noncentral hypergeometric laws), ``multinomial``
        likelihood, or ``posterior`` exposure.
    estimator
        Of the means in the odds of ``mfnch``: ``simulation`` or ``real``, see `mfnch_odds`.
    chains, burn_in, samples, spacing
        Chains; in each, sweeps before the first draw, draws, and sweeps from draw to draw.
    base_weight
        h, the weight of each gene in the components' prior.
    initial_clusters
        Of every chain; None: each draws 1 … 30. Chains started with few seldom split them, and a component that one
        chain lacks counts for none: many is the better start.
    shared_concentration
        One concentration for patients and top, or one each.
    merge
        Cosine similarity from which components are one.
    random_state
        Seed of the chains, a `numpy.random.RandomState`, or None for fresh randomness.

    Attributes
    ----------
    labels_
        Shape (n_samples,): cluster of each patient, columns of ``probabilities_``; -1 for the catch-all, which only the
        posterior assignment uses.
    probabilities_
        Shape (n_samples, max(n_components_, 1)).
    n_components_
        Components, the catch-all not among them. Some may be nobody's most probable.
    components_
        Shape (n_components_, n_features): mean distributions over genes.
    extraction_
        `Components`: intervals, exposures and tokens of each draw.
    traces_
        Name of a summary (log_likelihood, clusters, …) -> shape (chains, samples).
    n_features_in_
        Genes.

    References
    ----------
    Teh, Jordan, Beal & Blei (2006), Hierarchical Dirichlet processes, JASA 101:1566.
    Dall'Olio et al. (2023), PLOS Comput Biol 19:e1011299.
    """

    labels_: np.ndarray
    probabilities_: np.ndarray
    n_components_: int
    components_: np.ndarray
    extraction_: Components
    traces_: dict[str, np.ndarray]

    def __init__(
        self,
        assignment: Assignment = "mfnch",
        estimator: Estimator = "simulation",
        *,
        chains: int = 4,
        burn_in: int = 2000,
        samples: int = 200,
        spacing: int = 20,
        base_weight: float = 0.5,
        initial_clusters: int | None = 30,
        shared_concentration: bool = False,
        merge: float = 0.9,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.assignment = assignment
        self.estimator = estimator
        self.chains = chains
        self.burn_in = burn_in
        self.samples = samples
        self.spacing = spacing
        self.base_weight = base_weight
        self.initial_clusters = initial_clusters
        self.shared_concentration = shared_concentration
        self.merge = merge
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> HierarchicalDirichletMixture:
        """Run the chains and classify the patients.

        Parameters
        ----------
        X
            Shape (n_samples, n_features): 1 present, 0 absent, NaN or -1 not tested.
        y
            Ignored.

        Raises
        ------
        ValueError
            If X has other values, or an option is out of its range.
        """
        self._check_options()
        table = self._table(X, reset=True)
        sampler = HDMMSampler(
            table,
            base_weight=self.base_weight,
            initial_clusters=self.initial_clusters,
            shared_concentration=self.shared_concentration,
        )
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        discarded = -(-self.burn_in // self.spacing)  # a step is `spacing` sweeps; no fewer sweeps than asked for
        runs = [
            list(islice(steps(sampler, int(seed), chain, self.spacing), discarded, discarded + self.samples))
            for chain in range(self.chains)
        ]
        self.traces_ = {
            name: np.array([[step.scalars[name] for step in run] for run in runs]) for name in runs[0][0].scalars
        }
        self.extraction_ = extract_components(table, [[step.draw for step in run] for run in runs], self.merge)
        self.n_components_ = self.extraction_.number
        self.components_ = self.extraction_.mean[1:]
        if self.assignment == "posterior":
            self.labels_, self.probabilities_ = assign_posterior(self.extraction_)
        else:
            self.labels_, self.probabilities_ = self._assign(table)
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Cluster of each patient, new ones too, shape (n_samples,).

        Raises
        ------
        ValueError
            As `predict_proba`.
        """
        return self._assign(self._table(X, reset=False))[0]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each cluster, shape (n_samples, max(n_components_, 1)); rows sum to one.

        Raises
        ------
        ValueError
            If X has other values than `fit` allows, or other genes; or for the posterior assignment, which is of the
            patients of `fit` alone: theirs are ``labels_`` and ``probabilities_``.
        """
        return self._assign(self._table(X, reset=False))[1]

    def _assign(self, table: EventTable) -> tuple[np.ndarray, np.ndarray]:
        if self.assignment == "posterior":
            raise ValueError("assignment: posterior exposures are of the fitted patients alone; use mfnch for new ones")
        if self.assignment == "multinomial":
            return assign_multinomial(table, self.extraction_)
        return assign_mfnch(table, self.extraction_, self.estimator)

    def _table(self, X: ArrayLike, reset: bool) -> EventTable:
        if not reset:
            check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset)
        x = np.where(np.isnan(x), MISSING, x)
        wrong = ~np.isin(x, (MISSING, 0, 1))
        if wrong.any():
            raise ValueError(
                f"X: {x[wrong][0]:g}, but only 1 (present), 0 (absent), NaN and -1 (not tested) are allowed"
            )
        return EventTable(np.arange(len(x)).astype(str), tuple(map(str, range(x.shape[1]))), x.astype(np.int8))

    def _check_options(self) -> None:
        for name, least in (("chains", 1), ("burn_in", 0), ("samples", 1), ("spacing", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)}, but must be at least {least}")
        if self.assignment not in ("mfnch", "multinomial", "posterior"):
            raise ValueError(f"assignment: {self.assignment}, but must be mfnch, multinomial or posterior")
        if self.estimator not in ("simulation", "real"):
            raise ValueError(f"estimator: {self.estimator}, but must be simulation or real")
        if not 0 < self.merge < 1:
            raise ValueError(f"merge: {self.merge}, but must be in (0, 1)")
