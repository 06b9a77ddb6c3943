"""Floor 2: models for one table; no federation, no Ray."""
