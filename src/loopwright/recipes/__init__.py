"""Recipes: what ``loopwright train NAME`` runs, and the examples that people copy."""
