"""Patients as documents: each lesion that is present is one token; lesions not tested are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustering.events import EventTable


@dataclass(frozen=True)
class Tokens:
    """The lesions of patients, one after the other.

    Parameters
    ----------
    gene
        Shape (tokens,), column of each token's lesion.
    first
        Shape (patients + 1,): patient j has the tokens first[j] … first[j + 1] - 1.
    genes
        Number of columns.
    """

    gene: np.ndarray
    first: np.ndarray
    genes: int

    @classmethod
    def of(cls, table: EventTable) -> Tokens:
        """The tokens of a table, patient by patient."""
        _, gene = np.nonzero(table.events == 1)
        first = np.concatenate([[0], np.cumsum(table.counts)])
        return cls(gene.astype(np.int64), first.astype(np.int64), len(table.genes))

    def __len__(self) -> int:
        return len(self.gene)

    @property
    def patients(self) -> int:
        """Number of patients, with or without tokens."""
        return len(self.first) - 1

    @property
    def patient(self) -> np.ndarray:
        """The patient of each token, shape (tokens,)."""
        return np.repeat(np.arange(self.patients), np.diff(self.first))

    def exceed(self) -> np.ndarray:
        """Number of patients with more than r tokens, for r = 0 … max n_j - 1."""
        lengths = np.diff(self.first)
        return np.array([(lengths > r).sum() for r in range(int(lengths.max(initial=0)))], float)

    def per_gene(self, z: np.ndarray, clusters: int) -> np.ndarray:
        """Tokens of each gene in each component, shape (clusters, genes)."""
        return np.bincount(z * self.genes + self.gene, minlength=clusters * self.genes).reshape(clusters, self.genes)

    def per_patient(self, z: np.ndarray, clusters: int) -> np.ndarray:
        """Tokens of each patient in each component, shape (patients, clusters)."""
        cells = self.patient * clusters + z
        return np.bincount(cells, minlength=self.patients * clusters).reshape(self.patients, clusters)
