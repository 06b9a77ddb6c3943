"""Floor 5: the haemfed command, configurations, data sets, tracking, sweeps, reports and benchmarks."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before anything imports MLflow
