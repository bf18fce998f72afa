"""A recording in words: what is said of a line, of a phase, of a step."""
