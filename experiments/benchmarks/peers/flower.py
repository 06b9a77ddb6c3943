"""Flower's simulation engine on the benchmark's task; see README.md here. Needs flwr[simulation] 1.41."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation
from task import center, epoch, network, order, report


class Client(NumPyClient):
    """One center."""

    def __init__(self, index: int) -> None:
        self.index, self.data = index, center(index)

    def fit(self, parameters, config):  # type: ignore[no-untyped-def]
        """One local epoch."""
        torch.set_num_threads(1)
        model = network()
        for p, value in zip(model.parameters(), parameters, strict=True):
            p.data = torch.tensor(value)
        rows = order(self.index, config["server_round"] - 1)
        epoch(model, *(table[rows] for table in self.data))
        return [p.detach().numpy() for p in model.parameters()], len(self.data[0]), {}


class Timed(FedAvg):
    """Notes when each round is aggregated, and the weights."""

    def __init__(self, marks: list[float], weights: list[np.ndarray], **options) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**options)
        self.marks, self.weights = marks, weights

    def aggregate_fit(self, *arguments):  # type: ignore[no-untyped-def]
        """As the parent."""
        found = super().aggregate_fit(*arguments)
        self.marks.append(time.perf_counter())
        self.weights[:] = parameters_to_ndarrays(found[0])
        return found


def measured(centers: int, rounds: int) -> dict[str, float]:
    """Rounds after the first."""
    marks: list[float] = []
    weights: list[np.ndarray] = []
    start = ndarrays_to_parameters([p.detach().numpy() for p in network().parameters()])

    def server(context: Context) -> ServerAppComponents:
        strategy = Timed(
            marks,
            weights,
            on_fit_config_fn=lambda r: {"server_round": r},
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
    return report(centers, rounds + 1, marks, np.concatenate([w.ravel() for w in weights]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--centers", default="10,100,500")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps({n: measured(int(n), options.rounds) for n in options.centers.split(",")}))
