"""Chapter 9's service: saved recommenders behind HTTP, with batches, limits, a fallback and versions."""
