"""Flower's simulation engine on the benchmark's task; see README.md here. Needs flwr[simulation] 1.41."""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation
from task import center, epoch, network


class Client(NumPyClient):
    """One center."""

    def __init__(self, index: int) -> None:
        self.data = center(index)

    def fit(self, parameters, config):  # type: ignore[no-untyped-def]
        """One local epoch."""
        torch.set_num_threads(1)
        model = network()
        for p, value in zip(model.parameters(), parameters, strict=True):
            p.data = torch.tensor(value)
        epoch(model, *self.data)
        return [p.detach().numpy() for p in model.parameters()], len(self.data[0]), {}


class Timed(FedAvg):
    """Notes when each round is aggregated."""

    def __init__(self, marks: list[float], **options) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**options)
        self.marks = marks

    def aggregate_fit(self, *arguments):  # type: ignore[no-untyped-def]
        """As the parent."""
        found = super().aggregate_fit(*arguments)
        self.marks.append(time.perf_counter())
        return found


def milliseconds(centers: int, rounds: int) -> float:
    """Median per round after the first."""
    marks: list[float] = []
    start = ndarrays_to_parameters([p.detach().numpy() for p in network().parameters()])

    def server(context: Context) -> ServerAppComponents:
        strategy = Timed(
            marks,
            fraction_fit=1.0,
            fraction_evaluate=0.0,
            min_fit_clients=centers,
            min_available_clients=centers,
            initial_parameters=start,
        )
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds + 1))

    client = ClientApp(client_fn=lambda context: Client(int(context.node_config["partition-id"])).to_client())
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(ServerApp(server_fn=server), client, num_supernodes=centers, backend_config=resources)
    return 1000 * statistics.median(np.diff(marks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--centers", default="10,100,500")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps({n: milliseconds(int(n), options.rounds) for n in options.centers.split(",")}))
