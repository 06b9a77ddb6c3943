"""A federation on a cluster of three nodes in this process' Ray: run as a script by test_scale_out.py.

Two hospitals are pinned to nodes of their own; one node is removed while the federation trains.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from federation.quorum import Quorum
from federation.strategies import Scaffold
from tests.actors.hospitals import NAMES, SCHEMA, RollCall, averaging, federation_of


def main(scratch: Path) -> None:
    """Prints what happened as JSON."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = {name: cluster.add_node(num_cpus=1, resources={name: 1}) for name in NAMES[:2]}
    cluster.wait_for_nodes()
    found: dict[str, object] = {"nodes": len(nodes) + 1}
    with ray_session(cluster.address):
        where = {r: n["NodeID"] for n in ray.nodes() for r in n["Resources"] if r in NAMES}
        specs = [replace(s, resource=s.name if s.name in nodes else None) for s in federation_of()]
        coordinator = Coordinator(
            specs, SCHEMA, directory=scratch / "centers", quorum=Quorum(0.5), timeout=20.0, hosts=3, cpus=0.0
        )
        assert coordinator.load() == {}
        actors = [a for a in ray._private.state.actors().values() if "CenterShell" in a["ActorClassName"]]
        homes = [a["Address"]["NodeID"] for a in actors]
        taken = all(ray.available_resources()[name] < 1 for name in nodes)
        found["pinned"] = (
            len(homes) == 3 and taken and where.keys() == nodes.keys() and set(where.values()) <= set(homes)
        )
        *_, last = coordinator.run(Task("together", averaging(Scaffold(), rounds=3)))
        np.save(scratch / "weights.npy", last.final["weights"])

        gate = scratch / "gate"
        stream = coordinator.run(Task("removed", RollCall(waits=1, gate=str(gate), rounds=5), report_seconds=0))
        next(stream)
        while not Path(f"{gate}.pid").exists():
            time.sleep(0.05)
        threading.Thread(target=cluster.remove_node, args=(nodes[NAMES[1]],), kwargs={"allow_graceful": False}).start()
        began = time.monotonic()
        *_, last = stream
        found["seconds"] = time.monotonic() - began
        found["present"] = last.final["present"].tolist()
        found["dropouts"] = dict(last.dropouts)
        coordinator.close()
    cluster.shutdown()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
