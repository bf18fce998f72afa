"""Where batches come from: loaders of any kind, the order of their samples, and going on inside an epoch."""
