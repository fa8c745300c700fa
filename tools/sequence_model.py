"""A small sequence model for measuring the Pocket Shop: what can be learnt from ids, or from some attributes alone.

It is SASRec in shape: a causal transformer over item vectors, the same vectors tied to the output, and full
cross-entropy. It is an instrument for the shop and no part of the book's package.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, LAYERS, LENGTH, BATCH = 64, 2, 2, 30, 128


class SequenceModel(nn.Module):
    """Scores every item after every position of a history.

    Args:
        features: (I + 1, F) what is known of each item; row 0, the padding, is zero.
        use_ids: give each item a free vector of its own as well.
        dropout: share of activations dropped.
    """

    def __init__(self, features: np.ndarray, use_ids: bool, dropout: float):
        super().__init__()
        self.register_buffer("features", torch.as_tensor(features, dtype=torch.float32))
        self.from_features = nn.Linear(features.shape[1], WIDTH, bias=False)
        self.ids = nn.Embedding(len(features), WIDTH) if use_ids else None
        self.bias = nn.Parameter(torch.zeros(len(features)))
        self.position = nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(WIDTH)
        for parameter in (self.from_features.weight, self.position.weight, *([self.ids.weight] if use_ids else [])):
            nn.init.normal_(parameter, std=0.05)

    def item_vectors(self) -> torch.Tensor:
        """(I + 1, D)."""
        vectors = self.from_features(self.features)
        return vectors if self.ids is None else vectors + self.ids.weight

    def forward(self, history: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Scores (number of True in ``where``, I + 1).

        Args:
            history: (B, T) items, padded with 0 at the right, so that a causal mask hides the padding.
            where: (B, T) bool, the positions after which to score.
        """
        vectors = self.item_vectors()
        length = history.shape[1]
        hidden = self.dropout(4 * vectors[history] + self.position.weight[:length])
        hidden = self.blocks(hidden, mask=torch.triu(torch.ones(length, length, dtype=torch.bool), 1))
        return self.norm(hidden[where]) @ vectors.T + self.bias


def pad_right(histories: np.ndarray, length: int) -> torch.Tensor:
    """(N, length) the last items of histories that are padded at the left, now padded at the right."""
    padded = torch.zeros(len(histories), length, dtype=torch.long)
    for row, history in zip(padded, histories, strict=True):
        items = history[history > 0][-length:]
        row[: len(items)] = torch.as_tensor(items)
    return padded


def fit(features: np.ndarray, use_ids: bool, sequences: np.ndarray, epochs: int = 50, seed: int = 0) -> SequenceModel:
    """Train on (U, T) sequences of items; ids want a stronger hand against overfitting than attributes."""
    torch.manual_seed(seed)
    dropout, rate, decay = (0.4, 2e-3, 0.1) if use_ids else (0.2, 4e-3, 0.05)
    model = SequenceModel(features, use_ids, dropout)
    items = pad_right(sequences, LENGTH + 1)
    items = items[(items > 0).sum(dim=1) > 1]
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
    steps = epochs * -(-len(items) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(epochs):
        for batch in items[torch.randperm(len(items))].split(BATCH):
            batch = batch[:, : int((batch > 0).sum(dim=1).max())]
            target = batch[:, 1:]
            where = target > 0
            loss = F.cross_entropy(model(batch[:, :-1], where), target[where])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def score(model: SequenceModel, histories: np.ndarray) -> np.ndarray:
    """(N, I + 1) scores of the next item after each history."""
    items = pad_right(histories, LENGTH)
    scores = []
    for batch in items.split(512):
        last = (batch > 0).sum(dim=1) - 1
        where = torch.arange(LENGTH) == last[:, None]
        scores.append(model(batch, where).numpy())
    return np.concatenate(scores)


def ndcg_at_10(scores: np.ndarray, histories: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,) NDCG@10 of one target each, over the full catalogue less the history; ties count half.

    Args:
        scores: (N, I + 1); column 0 is padding.
        histories: (N, T) items, 0 for padding.
        target: (N,).
    """
    scores = scores.astype(float)
    np.put_along_axis(scores, histories, -np.inf, axis=1)
    scores[:, 0] = -np.inf
    mine = np.take_along_axis(scores, target[:, None], axis=1)
    rank = (scores > mine).sum(axis=1) + ((scores == mine).sum(axis=1) - 1) / 2
    return np.where(rank < 10, 1 / np.log2(rank + 2), 0.0)
