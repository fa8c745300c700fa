"""Recommenders to compare with: one class each, with a name, fit(split) and score(histories)."""
