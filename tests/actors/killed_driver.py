"""A driver that trains with checkpoints: run as a script by test_scale_out.py, which kills it."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from federation.checkpoint import save_state
from federation.strategies import Scaffold
from tests.actors.hospitals import SCHEMA, HeldAveraging, averaging, federation_of


def main(scratch: Path) -> None:
    """Prints the rounds it saw as JSON and saves the final state."""
    algorithm = averaging(Scaffold(), HeldAveraging, rounds=7, wait_round=5, gate=str(scratch / "gate"))
    with ray_session(num_cpus=2):
        coordinator = Coordinator(federation_of(), SCHEMA, directory=scratch / "centers", hosts=2, cpus=0.0)
        coordinator.load()
        task = Task("killed", algorithm, checkpoint=scratch / "kept.npz", checkpoint_every=2, report_seconds=0)
        heard = list(coordinator.run(task))
        coordinator.close()
    assert heard[-1].final is not None
    save_state(scratch / "final.npz", heard[-1].final)
    print(json.dumps({"rounds": [progress.round for progress in heard]}), flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
