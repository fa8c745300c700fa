"""Metrics, protocols, runs, intervals and tables."""
