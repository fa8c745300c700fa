"""One training loop with exact resume, and the losses."""
