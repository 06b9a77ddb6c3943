"""Starting Ray, or joining one that runs."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from actors.cluster import cluster_cpus, ray_session


def test_a_session_that_runs_is_used_and_left_running(cluster: None) -> None:
    address = ray.get_runtime_context().gcs_address
    with ray_session():
        assert ray.get_runtime_context().gcs_address == address
    assert ray.is_initialized()
    assert cluster_cpus() == 2


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        (None, None, "local"),  # never the cluster that somebody else left running on this machine
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),  # inside a Ray job
        ("auto", "10.0.0.1:6379", "auto"),
    ],
)
def test_which_cluster_is_joined(
    address: str | None, environment: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: asked.update(ended=True))
    if environment is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    with ray_session(address, num_cpus=3):
        assert asked["address"] == expected
        assert asked["num_cpus"] == (3 if expected == "local" else None)  # Ray refuses it when joining
        assert "ended" not in asked
    assert asked["ended"]
