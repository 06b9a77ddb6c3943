"""Floor 3: federated algorithms. Plain Python, no Ray: the loop, contributions, the center's wall, strategies."""
