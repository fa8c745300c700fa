"""Pretrained GPT-2 backbones: their sizes and their weights."""

from safetensors.torch import load_file
from torch import Tensor

from mmrec_helpers.encoders.checkpoints import find_checkpoint, read_json, usable, weights_file

SIZES = {"dim": "n_embd", "num_layers": "n_layer", "num_heads": "n_head"}
"""Our names of a GPT-2's sizes -> its config.json's."""


def backbone_sizes(name: str) -> dict[str, int]:
    """``dim``, ``num_layers`` and ``num_heads`` of a pretrained GPT-2, named as for ``find_checkpoint``.

    Raises:
        ValueError: the model is not a GPT-2.
    """
    folder = find_checkpoint(name)
    config = read_json(folder / "config.json")
    if (kind := config.get("model_type")) != "gpt2":
        raise ValueError(f"{folder} contains a model of type {kind}, not gpt2")
    with usable(folder, "GPT-2", "pocket-gpt2"):
        return {name: int(config[key]) for name, key in SIZES.items()}


def backbone_weights(name: str) -> dict[str, Tensor]:
    """The state dict of a pretrained GPT-2, named as for ``backbone_sizes``, in float32.

    Raises:
        ValueError: the model is not a GPT-2, or its file lacks blocks.
    """
    folder, num_layers = find_checkpoint(name), backbone_sizes(name)["num_layers"]
    weights = weights_file(folder)
    with usable(folder, "GPT-2", "pocket-gpt2"):
        state = {key: weight.float() for key, weight in load_file(weights).items()}
    names = [key.removeprefix("transformer.") for key in state]
    blocks = {name.split(".")[1] for name in names if name.startswith("h.")}
    if len(blocks) != num_layers:
        raise ValueError(f"{folder} contains {len(blocks)} of the {num_layers} blocks of its config.json")
    return state
