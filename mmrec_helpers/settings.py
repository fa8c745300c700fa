"""Where the book runs: profile, data, device, seed, cache folder. The only module that reads the environment."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROFILES = ("laptop", "gpu")
SOURCES = ("folder", "amazon", "microlens")
"""Kinds of real data; ``mmrec_helpers.sources`` reads them."""


@dataclass(frozen=True)
class Settings:
    """What a notebook needs to know of the machine it runs on."""

    profile: str
    """``laptop`` (CPU, no network) or ``gpu`` (one GPU, larger shop)."""
    data: str
    """``pocket``, or ``SOURCE:PATH`` of real data."""
    device: str
    """``cpu`` or ``cuda``."""
    cache: Path
    """Folder for what can be made again: generated shops, features, checkpoints."""
    clip: str = "pocket-clip"
    """The CLIP encoder: a pocket model, a folder or a hub name, see ``mmrec_helpers.encoders.checkpoints``."""
    siglip: str = "pocket-siglip"
    """The SigLIP encoder, named alike."""
    text: str = "tfidf"
    """What chapter 4 reads items' texts by: ``tfidf``, or an encoder of texts, named alike."""
    gpt2: str = "pocket-gpt2"
    """Chapter 4's pretrained GPT-2, named alike."""
    seed: int = 0
    progress: bool = field(default=True, compare=False)
    """Whether progress bars are shown. Not where outputs are stored or rendered: ``TQDM_DISABLE=1``."""

    @property
    def shop_size(self) -> str:
        """Size of the Pocket Shop in this profile."""
        return self.profile


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read ``MMREC_PROFILE``, ``MMREC_DATA``, ``MMREC_CACHE``, ``MMREC_CLIP``, ``MMREC_SIGLIP``, ``MMREC_TEXT``,
    ``MMREC_GPT2`` and ``TQDM_DISABLE``.

    Whether the models exist is found out when they are loaded.

    Raises:
        ValueError: a variable has a value that the book does not know.
    """
    profile = environ.get("MMREC_PROFILE", "laptop")
    if profile not in PROFILES:
        raise ValueError(f"MMREC_PROFILE is {profile!r}; this version of the book has only {', '.join(PROFILES)}")
    data = environ.get("MMREC_DATA") or "pocket"
    source, _, path = data.partition(":")
    if data != "pocket" and (source not in SOURCES or not path.strip()):
        forms = ", ".join(f"{source}:PATH" for source in SOURCES)
        raise ValueError(f"MMREC_DATA is {data!r}; write pocket for the Pocket Shop, or one of {forms}")
    cache_home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(environ.get("MMREC_CACHE") or Path(cache_home) / "mmrec").expanduser()
    named = {kind: environ.get(f"MMREC_{kind.upper()}") for kind in ("clip", "siglip", "text", "gpt2")}
    models = {kind: name for kind, name in named.items() if name}
    device = "cpu" if profile == "laptop" else _best_device()
    return Settings(profile, data, device, cache, **models, progress=environ.get("TQDM_DISABLE", "") in ("", "0"))


def _best_device() -> str:
    import torch  # takes seconds: imported only where asked for

    return "cuda" if torch.cuda.is_available() else "cpu"


def diagnose(settings: Settings) -> str:
    """One line that says where a notebook runs; it belongs into every problem report."""
    from importlib.metadata import version

    parts = [
        f"mmrec_helpers {version('mmrec-helpers')}",
        f"profile {settings.profile}",
        f"data {settings.data}",
        f"{settings.device}, {os.cpu_count()} cores",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        f"torch {version('torch')}",
    ]
    return " | ".join(parts)
