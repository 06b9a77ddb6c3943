"""Training and measuring many small tables as one computation, each with weights of its own."""
