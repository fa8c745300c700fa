"""Import torchvision beside a torch that it was not built for, such as a CPU build on a machine without a GPU."""

import sys

import torch

MISSING = "operator torchvision::nms does not exist"


def mend_torchvision() -> None:
    """Call it before timm, or what prepares pictures in transformers, is imported. A sound torchvision stays as it is.

    torchvision's compiled operators cannot be loaded then, and its import stops at the two that it describes. They are
    declared here, without a body: transforms and networks do not use them.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if str(error) != MISSING:
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]  # half imported
        import torchvision  # noqa: F401
