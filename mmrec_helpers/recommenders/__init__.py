"""Every recommender of the book: one class each, with a name, fit(split) and score(queries)."""
