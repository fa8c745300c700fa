"""Pretrained image and text encoders: feature matrices, cached on disk."""
