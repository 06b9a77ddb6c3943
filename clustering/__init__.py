"""Genomic stratification: Dirichlet mixtures of binary lesions, usable alone on one table."""

from __future__ import annotations

import hashlib
from pathlib import Path

from numba.core import config

# Numba's cache of compiled kernels knows the file of a kernel, not those of the kernels that it calls and has inlined:
# after a change in one of them it would go on with the old code. So every version of the sources has its own cache.
_here = Path(__file__).parent
_stamps = [(str(p.relative_to(_here)), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(_here.rglob("*.py"))]
if not config.CACHE_DIR:
    config.CACHE_DIR = str(_here / "__pycache__" / f"numba-{hashlib.sha256(repr(_stamps).encode()).hexdigest()[:12]}")
