"""Helper package of the book *Recommenders that see and read*."""

__version__ = "0.1.0"
