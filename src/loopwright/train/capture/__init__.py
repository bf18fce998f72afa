"""Whole-step capture: a training step recorded as one graph of ATen operations, and replayed."""
