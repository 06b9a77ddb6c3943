"""Floor 5: the haemfed command, configurations, data sets, tracking, sweeps, reports and benchmarks."""
