"""MM-GPT2Rec as a system of the league: chapter 4's item decoder, trained and asked as SASRec is, and its ablations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from mmrec_helpers.baselines.sequential import PART, SPREAD, Causal, Network, SASRec
from mmrec_helpers.dataset import RecDataset, Split
from mmrec_helpers.evaluation import Recommender
from mmrec_helpers.league import grid, image_features, text_features
from mmrec_helpers.lessons.decoder import GPT2, Add, Concat, CrossAttention, ItemDecoder, ItemTokens, Weighted

FUSIONS = {"concat": Concat, "add": Add, "weighted": Weighted, "attention": CrossAttention}
SETTINGS = {
    name: grid(rate=(2e-3, 4e-3), dropout=(0.1, 0.2, 0.3)) for name in ("MM-GPT2Rec", "SASRec on text and picture")
}
"""Six settings for each of the two that are compared; the ablations have those that are best for MM-GPT2Rec."""
TEXT = 128
"""Columns of the texts' features."""
PAPER = 64
"""Columns of each modality where, as in the paper, both side by side are as wide as GPT-2."""


class Decoding(Network):
    """An item decoder, asked at some positions of a batch."""

    def __init__(self, decoder: ItemDecoder):
        super().__init__(decoder.gpt2, decoder.tokens)
        self.decoder = decoder

    def forward(self, inputs: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Network``; PART rows of a batch sorted by length are cut to the longest, so that little is padding."""
        vectors, found = self.items(), []
        for rows, some in zip(inputs.split(PART), asked.split(PART), strict=True):
            longest = int((rows > 0).sum(1).max())
            found.append(self.decoder.hidden(rows[:, :longest], vectors)[some[:, :longest]])
        return torch.cat(found), self.decoder.outputs(vectors)


@dataclass(eq=False, kw_only=True)
class MMGPT2Rec(Causal):
    """GPT-2 over items that are made of their text and picture {cite}`olaniyi_mmgpt2rec`.

    ``features`` are the modalities side by side. Without ``use_ids`` an item has no vector of its own beside what they
    say, so that one without any interaction has one, too.

    Args:
        widths: F of each modality in ``features``; by default all columns are one.
        fusion: of the modalities, one of FUSIONS.
        tied: score items by the vectors that are read, not by free ones.
        heads: H of self-attention, a divisor of the width.
    """

    widths: tuple[int, ...] = ()
    fusion: str = "add"
    tied: bool = True
    heads: int = 4
    use_ids: bool = False
    dropout: float = 0.2
    epochs: int = 30
    rate: float = 4e-3
    weight_decay: float = 0.05

    def __post_init__(self):
        self.name = self.name or "MM-GPT2Rec"
        super().__post_init__()
        if self.fusion not in FUSIONS:
            raise ValueError(f"{self.name} has no fusion {self.fusion!r}; it has {', '.join(FUSIONS)}")

    def build(self, split: Split) -> Network:
        features, fusion, free = self._features(split), None, None
        if features is not None:
            widths = self.widths or (features.shape[1],)
            if sum(widths) != features.shape[1]:
                raise ValueError(
                    f"{self.name}: widths {widths} are not those of {features.shape[1]} columns of features"
                )
            fusion = FUSIONS[self.fusion](widths, self.width)
            features = features.split(widths, dim=1)
        if self.use_ids:
            free = SPREAD * torch.randn(split.dataset.num_items, self.width)
        tokens = ItemTokens(self.width, features, fusion, free)
        # One place more than items: the start token stands before them.
        gpt2 = GPT2(self.width, self.layers, self.heads, self.length + 1, self.dropout)
        return Decoding(ItemDecoder(tokens, gpt2, self.tied))


def variants(dataset: RecDataset, encoder: str, seed: int = 0) -> dict[str, Callable[..., Recommender]]:
    """Chapter 4's systems by name, each made by a call with settings: the decoder, its ablations, and SASRec.

    Args:
        dataset: a data set with pictures.
        encoder: of the pictures.
        seed: of everything random.
    """
    text, image = text_features(dataset, TEXT), image_features(dataset, encoder)
    both, widths = np.concatenate([text, image], axis=1), (text.shape[1], image.shape[1])
    order = np.random.default_rng(seed).permutation(dataset.num_items)
    shuffled = np.concatenate([both[:1], both[1:][order]])
    small = text_features(dataset, PAPER), main_directions(image, PAPER)
    narrow = {"features": np.concatenate(small, axis=1), "width": sum(part.shape[1] for part in small)}
    narrow |= {"widths": tuple(part.shape[1] for part in small)}
    fused = {"features": both, "widths": widths}
    changes = {
        "MM-GPT2Rec": fused,
        "text alone": {"features": text},
        "picture alone": {"features": image},
        "ids alone": {"use_ids": True},
        "both and ids": fused | {"use_ids": True},
        "both, shuffled": fused | {"features": shuffled},
        "weighted": fused | {"fusion": "weighted"},
        "attention": fused | {"fusion": "attention"},
        "64 + 64 columns, add": narrow,
        "64 + 64 columns, identity": narrow | {"fusion": "concat"},
        "not tied": fused | {"tied": False},
    }
    found = {name: partial(MMGPT2Rec, name=name, seed=seed, **change) for name, change in changes.items()}
    name = "SASRec on text and picture"
    return found | {name: partial(SASRec, features=both, use_ids=False, name=name, weight_decay=0.05, seed=seed)}


def main_directions(features: np.ndarray, num: int) -> np.ndarray:
    """(I + 1, num) the directions in which (I + 1, F) features vary most; row 0, the padding, is 0."""
    return np.concatenate([np.zeros((1, num)), PCA(num, random_state=0).fit_transform(features[1:])])
