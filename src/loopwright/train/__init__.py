"""The engine: a visible training loop with everything around it done right."""
