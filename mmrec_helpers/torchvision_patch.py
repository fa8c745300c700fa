"""Let torchvision be imported beside a torch that it was not built for, such as a CPU build on a machine without a GPU.

torchvision's compiled operators cannot be loaded then, and its import fails at the two that it describes. They are
declared here without an implementation: transforms and networks do not use them. A matching torchvision is imported as
it is.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MISSING = "operator torchvision::nms does not exist"


class _PatchingLoader(Loader):
    """Import torchvision; where its operators are missing, declare them and import it again."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            if str(error) != MISSING:
                raise
            import torch  # takes seconds: not before torchvision is imported

            for name in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", schema)
            for name in [name for name in sys.modules if name.startswith("torchvision.")]:
                del sys.modules[name]  # half imported
            self.loader.exec_module(module)


class _Finder(MetaPathFinder):
    """Finds torchvision where Python would, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "torchvision" else None
        if spec and spec.loader:
            spec.loader = _PatchingLoader(spec.loader)
        return spec


def patch_torchvision() -> None:
    """Have torchvision patched when it is imported; the package calls this when it is imported itself."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
