"""pfl-research's simulation on the benchmark's task; see README.md here. Needs pfl[pytorch] 0.6."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from task import BATCH, RATE, center, cox_loss, flat, network, order, report


class Network(torch.nn.Module):
    """The task's network with the methods that pfl calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def loss(self, x, time, event, is_eval=False):  # type: ignore[no-untyped-def]
        """Cox loss of a batch."""
        return cox_loss(self.inner(x).squeeze(1), time, event)

    @torch.no_grad()
    def metrics(self, x, time, event):  # type: ignore[no-untyped-def]
        """Loss as a metric."""
        return {"loss": Weighted(float(self.loss(x, time, event)) * len(x), len(x))}


class Clock(TrainingProcessCallback):
    """Notes the end of every round."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):  # type: ignore[no-untyped-def]
        """Called by pfl."""
        self.marks.append(time.perf_counter())
        return False, Metrics()


def measured(centers: int, rounds: int) -> dict[str, float]:
    """Rounds after the first."""
    torch.set_num_threads(1)
    data = {f"{j}": center(j) for j in range(centers)}
    asked: Counter[str] = Counter()

    def user(name: str) -> Dataset:
        rows = order(int(name), asked[name])
        asked[name] += 1
        return Dataset(raw_data=[table[rows] for table in data[name]], user_id=name)

    sampler = get_user_sampler("minimize_reuse", list(data))
    model = Network()
    wrapped = PyTorchModel(
        model=model, local_optimizer_create=torch.optim.SGD, central_optimizer=torch.optim.SGD(model.parameters(), 1.0)
    )
    clock = Clock()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds + 1,
            evaluation_frequency=10**9,
            train_cohort_size=centers,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=FederatedDataset(user, sampler), val_data=None),
        model=wrapped,
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=RATE, local_batch_size=BATCH),
        model_eval_params=NNEvalHyperParams(local_batch_size=BATCH),
        callbacks=[clock],
    )
    return report(centers, rounds + 1, clock.marks, flat(model.inner))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--centers", default="10,100,500")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps({n: measured(int(n), options.rounds) for n in options.centers.split(",")}))
