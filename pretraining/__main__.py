"""Train the models that come with the book, from nothing: ``python -m pretraining [NAME ...]``.

Without a name all pocket models are trained. A run that was killed resumes from its last checkpoint, with the same
result. photo-clip and photo-siglip are trained only if they are named: they need photographs, lite0 and minilm.
"""

import sys
from collections.abc import Callable

from mmrec_helpers.encoders.checkpoints import PHOTO
from pretraining.encoders import dual_encoder, resnet, sbert
from pretraining.language import causal_lm, gpt2, instruct_lm, vision_language_model
from pretraining.photo import photo_model

RECIPES: dict[str, tuple[Callable[[str, int], None], int]] = {
    "pocket-resnet": (resnet, 800),
    "pocket-clip": (dual_encoder, 3_000),
    "pocket-siglip": (dual_encoder, 1_400),  # starts from pocket-clip
    "pocket-sbert": (sbert, 400),
    "pocket-lm": (causal_lm, 6_000),
    "pocket-instruct": (instruct_lm, 3_900),  # starts from pocket-lm
    "pocket-vlm": (vision_language_model, 600),  # made of pocket-clip and pocket-lm
    "pocket-gpt2": (gpt2, 4_000),  # with pocket-lm's tokenizer
}
"""Model -> its recipe and the number of steps."""


def main(names: list[str]) -> None:
    """Train models, all of RECIPES if none are named."""
    if unknown := [name for name in names if name not in (*RECIPES, *PHOTO)]:
        raise SystemExit(f"no model is named {', '.join(unknown)}; there are: {', '.join((*RECIPES, *PHOTO))}")
    for name in names or RECIPES:
        if name in PHOTO:
            photo_model(name)
        else:
            recipe, steps = RECIPES[name]
            recipe(name, steps)


if __name__ == "__main__":
    main(sys.argv[1:])
