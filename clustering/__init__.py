"""Genomic stratification: Dirichlet mixtures of binary lesions, usable alone on one table."""
