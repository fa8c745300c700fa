"""Where the book runs: profile, data, models, device, cache folder. The only module that reads the environment."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_POCKET = {"clip": "pocket-clip", "siglip": "pocket-siglip", "text": "tfidf", "gpt2": "pocket-gpt2", "llm": "pocket-lm"}
PROFILES = {
    "laptop": _POCKET,
    "real": {
        "clip": "photo-clip",
        "siglip": "photo-siglip",
        "text": "minilm",
        "gpt2": "pocket-gpt2",  # no package has a real GPT-2
        "llm": "smollm2",
    },
    "gpu": _POCKET,
    "paper": {
        "clip": "openai/clip-vit-large-patch14",
        "siglip": "google/siglip-so400m-patch14-384",
        "text": "sentence-transformers/all-mpnet-base-v2",
        "gpt2": "openai-community/gpt2-medium",
        "llm": "princeton-nlp/Sheared-LLaMA-2.7B",
    },
}
"""Profile -> role -> model, as ``mmrec_helpers.encoders.checkpoints`` names it."""
SOURCES = ("folder", "amazon", "microlens")
"""Kinds of real data; ``mmrec_helpers.data.readers`` reads them."""
VARIABLES = ("MMREC_PROFILE", "MMREC_DATA", "MMREC_MODELS", "MMREC_CACHE", "MMREC_DATA_HOME")  # the last in tests


@dataclass(frozen=True)
class Settings:
    """What a notebook needs to know of the machine it runs on."""

    profile: str
    """``laptop`` (CPU, no network), ``real`` (photographs and real texts; models from the package index), ``gpu`` (one
    GPU, larger shop) or ``paper`` (the papers' models, from the hub)."""
    data: str
    """``pocket``, or ``SOURCE:PATH`` of real data."""
    device: str
    """``cpu`` or ``cuda``."""
    cache: Path
    """Folder for what can be made again: generated shops, features, checkpoints."""
    models: dict[str, str] = field(hash=False)
    """Role -> model: ``clip`` and ``siglip`` encode images and texts, ``text`` (``tfidf`` or a text encoder) encodes
    chapter 4's titles and descriptions, ``gpt2`` is its pretrained language model, ``llm`` chapter 5's."""
    seed: int = 0
    progress: bool = field(default=True, compare=False)
    """Whether progress bars are shown. Not where outputs are stored or rendered: ``TQDM_DISABLE=1``."""

    @property
    def shop_size(self) -> str:
        """Size of the Pocket Shop in this profile."""
        return "gpu" if self.profile == "gpu" else "laptop"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read ``MMREC_PROFILE``, ``MMREC_DATA``, ``MMREC_MODELS``, ``MMREC_CACHE`` and ``TQDM_DISABLE``.

    Whether the models exist is found out when they are loaded.

    Raises:
        ValueError: a variable has a value that the book does not know.
    """
    profile = environ.get("MMREC_PROFILE") or "laptop"
    if profile not in PROFILES:
        raise ValueError(f"MMREC_PROFILE is {profile!r}; this version of the book has only {', '.join(PROFILES)}")
    data = environ.get("MMREC_DATA") or "pocket"
    source, _, path = data.partition(":")
    if data != "pocket" and (source not in SOURCES or not path.strip()):
        forms = ", ".join(f"{source}:PATH" for source in SOURCES)
        raise ValueError(f"MMREC_DATA is {data!r}; write pocket for the Pocket Shop, or one of {forms}")
    models = PROFILES[profile] | _overrides(environ, tuple(PROFILES[profile]))
    cache_home = environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = Path(os.path.expanduser(environ.get("MMREC_CACHE") or Path(cache_home) / "mmrec"))
    if str(cache).startswith("~"):
        raise ValueError(f"there is no home folder for {cache}: set MMREC_CACHE to a folder without ~")
    device = "cpu"
    if profile != "laptop":
        import torch  # takes seconds: imported only where needed

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Settings(profile, data, device, cache, models, progress=environ.get("TQDM_DISABLE", "") in ("", "0"))


def _overrides(environ: Mapping[str, str], roles: tuple[str, ...]) -> dict[str, str]:
    """Role -> model, as ``MMREC_MODELS`` names them: ``clip=openai/clip-vit-base-patch32,text=minilm``."""
    for name in environ:  # one that would be ignored: misspelt, or of an earlier version
        if name.startswith("MMREC_") and environ[name] and name not in VARIABLES:
            raise ValueError(f"{name} is not read; there are {', '.join(VARIABLES)}, with MMREC_MODELS=ROLE=MODEL")
    models: dict[str, str] = {}
    for entry in filter(None, map(str.strip, environ.get("MMREC_MODELS", "").split(","))):
        role, _, name = (part.strip() for part in entry.partition("="))
        if role not in roles or not name:
            raise ValueError(
                f"MMREC_MODELS has {entry!r}; write ROLE=MODEL, separated by commas, with the roles {', '.join(roles)}"
            )
        if role in models:
            raise ValueError(f"MMREC_MODELS names two models for {role}, {models[role]!r} and {name!r}; leave one")
        models[role] = name
    return models


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
