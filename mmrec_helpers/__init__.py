"""Helper package of the book *Recommenders that see and read*."""

from mmrec_helpers.torchvision_patch import patch_torchvision

__version__ = "0.1.0"

patch_torchvision()
