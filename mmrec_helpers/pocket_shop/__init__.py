"""The Pocket Shop: a synthetic shop whose truth is known."""
