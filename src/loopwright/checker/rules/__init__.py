"""The rules, one file per family: the order of the step, coverage, modes, losses, bookkeeping, data, ranks."""
