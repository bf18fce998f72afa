"""Averages and metrics that cost the training loop no synchronisation, and what a classifier answered."""
