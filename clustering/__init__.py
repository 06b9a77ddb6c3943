"""Genomic stratification: Dirichlet mixtures of binary lesions, usable alone on one table."""

from __future__ import annotations

import hashlib
from pathlib import Path

from numba.core import config

# Numba's cache of compiled kernels knows the file of a kernel, not those of the kernels that it calls and has inlined:
# after a change in one of them it would go on with the old code. So every version of the kernels has its own cache.
_here = Path(__file__).parent
_kernels = [text for path in sorted(_here.rglob("*.py")) if b"@njit" in (text := path.read_bytes())]
if not config.CACHE_DIR:  # type: ignore[attr-defined]
    _version = hashlib.sha256(b"\0".join(_kernels)).hexdigest()[:12]
    config.CACHE_DIR = str(_here / "__pycache__" / f"numba-{_version}")  # type: ignore[attr-defined]
