"""Floor 4: the actor system on Ray: centers and hosts of centers, the coordinator, start-up, and parallel work."""
