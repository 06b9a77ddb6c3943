"""Ray's own door: a cluster with a token takes nobody in who has another, or none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CLUSTER = """
import os, subprocess, sys, ray
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
address = ray.get_runtime_context().gcs_address
code = f"import ray; ray.init({address!r}, log_to_driver=False); print(ray.get(ray.remote(lambda: 'in').remote()))"
for token in sys.argv[1:]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token != "none" else {}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    print(token[:4], found.returncode, found.stdout.strip())
"""


@pytest.mark.slow
def test_a_cluster_with_a_token_takes_nobody_in_without_it() -> None:
    right, wrong = "a" * 64, "b" * 64
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": right}
    env.pop("RAY_ADDRESS", None)
    found = subprocess.run(
        [sys.executable, "-c", CLUSTER, right, wrong, "none"], env=env, capture_output=True, text=True, timeout=400
    )
    assert found.stdout.splitlines() == ["aaaa 0 in", "bbbb 1 ", "none 1 "], found.stderr
