"""A run's folder: what is written into it and when, reading it back, whether it is sound."""
