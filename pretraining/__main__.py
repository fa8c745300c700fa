"""Train the pocket models, ordinary checkpoints of library classes, from nothing: ``python -m pretraining [NAME ...]``.

Without a name all of them are trained. A run that was killed resumes from its last checkpoint, with the same result.
"""

import sys
from collections.abc import Callable

from pretraining.encoders import dual_encoder, resnet, sbert
from pretraining.language import causal_lm, gpt2, vision_language_model

RECIPES: dict[str, tuple[Callable[[str, int], None], int]] = {
    "pocket-resnet": (resnet, 800),
    "pocket-clip": (dual_encoder, 3_000),
    "pocket-siglip": (dual_encoder, 1_400),  # starts from pocket-clip
    "pocket-sbert": (sbert, 400),
    "pocket-lm": (causal_lm, 6_000),
    "pocket-vlm": (vision_language_model, 600),  # made of pocket-clip and pocket-lm
    "pocket-gpt2": (gpt2, 4_000),  # with pocket-lm's tokenizer
}
"""Model -> its recipe and the number of steps."""


def main(names: list[str]) -> None:
    """Train models, all of RECIPES if none are named."""
    if unknown := [name for name in names if name not in RECIPES]:
        raise SystemExit(f"no pocket model is named {', '.join(unknown)}; there are: {', '.join(RECIPES)}")
    for name in names or RECIPES:
        recipe, steps = RECIPES[name]
        recipe(name, steps)


if __name__ == "__main__":
    main(sys.argv[1:])
