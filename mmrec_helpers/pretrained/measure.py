"""What the pocket models can do on worlds that they were not trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from mmrec_helpers.encoders import embed_pictures, load_encoder
from mmrec_helpers.pretrained.corpus import Corpus

SEEN = ("category", "colour", "pattern", "style")


def pictures_of(corpus: Corpus) -> list[Image.Image]:
    """The items' pictures."""
    return [Image.fromarray(pixels) for pixels in corpus.pixels]


def linear_probe(known: torch.Tensor, labels: Sequence[str], asked: torch.Tensor, truth: Sequence[str]) -> float:
    """Share of labels that a linear map tells from vectors: ridge regression on one column a label.

    Args:
        known: (N, D) vectors to learn from, with N labels.
        asked: (M, D) vectors to name, with the truth.
    """
    mean, spread = known.mean(0), known.std(0) + 1e-6
    known, asked = ((torch.cat([(x - mean) / spread, torch.ones(len(x), 1)], dim=1)).double() for x in (known, asked))
    names = sorted(set(labels))
    wanted = torch.tensor([[label == name for name in names] for label in labels]).double()
    gram = known.T @ known + torch.eye(known.shape[1]).double()
    places = (asked @ torch.linalg.solve(gram, known.T @ wanted)).argmax(1).tolist()
    return float(np.mean([names[place] == label for place, label in zip(places, truth, strict=True)]))


def measure(name: str, world: Corpus, other: Corpus) -> dict[str, float]:
    """What a model reaches on a world; its probes learn from another one.

    Returns:
        What was asked -> the share that was right.
    """
    encoder, rows = load_encoder(name), {}
    known, asked = (embed_pictures(pictures_of(corpus), encoder).vectors for corpus in (other, world))
    for attribute in SEEN:
        labels, truth = ([facts[attribute] for facts in corpus.facts] for corpus in (other, world))
        rows[f"probe of pictures: {attribute}"] = linear_probe(known, labels, asked, truth)
    return rows
