"""Let torchvision be imported beside a torch that it was not built for, and transformers 4 read what 5 has written.

torchvision's import fails beside another torch at the two compiled operators that it describes. They are declared, not
implemented: transforms and networks do not use them. transformers 4 has another name and form of our tokenizers.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _PatchingLoader(Loader):
    """Import torchvision, again if its operators had to be declared; or transformers."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            if str(error) != "operator torchvision::nms does not exist":
                raise
            import torch  # takes seconds: not before torchvision is imported

            for name in ("nms", "qnms"):
                torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision.")]:
                del sys.modules[name]  # half imported
            self.loader.exec_module(module)
        if module.__name__ == "transformers" and module.__version__.startswith("4."):
            fast = sys.modules["transformers"].PreTrainedTokenizerFast  # a lazy module has taken its place
            own = {"__init__": lambda self, *args, extra_special_tokens=(), **more: fast.__init__(self, *args, **more)}
            vars(sys.modules["transformers"])["TokenizersBackend"] = type("TokenizersBackend", (fast,), own)


class _Finder(MetaPathFinder):
    """Finds torchvision and transformers where Python would, and wraps their loader."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in ("torchvision", "transformers") else None
        if spec and spec.loader:
            spec.loader = _PatchingLoader(spec.loader)
        return spec


def patch_torchvision() -> None:
    """Have the two patched when they are imported; the package calls this when it is imported itself."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
