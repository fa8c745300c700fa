"""Pretrained GPT-2 backbones: their sizes and their weights."""

import json

from safetensors.torch import load_file
from torch import Tensor

from mmrec_helpers.encoders.checkpoints import find_checkpoint, weights_file


def backbone_sizes(name: str) -> dict[str, int]:
    """``dim``, ``num_layers`` and ``num_heads`` of a pretrained GPT-2, named as for ``find_checkpoint``.

    Raises:
        ValueError: the model is not a GPT-2.
    """
    folder = find_checkpoint(name)
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "gpt2":
        raise ValueError(f"{folder} contains a model of type {config['model_type']}, not gpt2")
    return {"dim": config["n_embd"], "num_layers": config["n_layer"], "num_heads": config["n_head"]}


def backbone_weights(name: str) -> dict[str, Tensor]:
    """The state dict of a pretrained GPT-2, named as for ``backbone_sizes``, in float32.

    Raises:
        ValueError: the model is not a GPT-2, or its file lacks blocks.
    """
    folder, num_layers = find_checkpoint(name), backbone_sizes(name)["num_layers"]
    state = {key: weight.float() for key, weight in load_file(weights_file(folder)).items()}
    names = [key.removeprefix("transformer.") for key in state]
    blocks = {name.split(".")[1] for name in names if name.startswith("h.")}
    if len(blocks) != num_layers:
        raise ValueError(f"{folder} contains {len(blocks)} of the {num_layers} blocks of its config.json")
    return state
