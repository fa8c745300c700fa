"""Real and synthetic interaction data in one form: data set, splits, cleaning."""
