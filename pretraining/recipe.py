"""The recipe of the pocket models: ordinary checkpoints of library classes, trained on worlds of their own.

``python -m pretraining.recipe [NAME ...]`` (``make pretrained``) trains them from nothing into WEIGHTS. A
run that was killed goes on from its last checkpoint, to the same end.
"""

import sys

from pretraining.encoders import resnet, sbert, towers
from pretraining.language import gpt2, lm, vlm

RECIPES = {
    "pocket-resnet": (resnet, 800),
    "pocket-clip": (towers, 3_000),
    "pocket-siglip": (towers, 1_400),  # goes on from pocket-clip
    "pocket-sbert": (sbert, 400),
    "pocket-lm": (lm, 6_000),
    "pocket-vlm": (vlm, 600),  # made of pocket-clip and pocket-lm
    "pocket-gpt2": (gpt2, 4_000),  # reads by pocket-lm's tokenizer
}
"""Model -> its recipe and the number of steps."""

if __name__ == "__main__":
    for name in sys.argv[1:] or RECIPES:
        recipe, steps = RECIPES[name]
        recipe(name, steps)
