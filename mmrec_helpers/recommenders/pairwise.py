"""Pairwise recommenders: an item that a user interacted with is trained to score above a sampled negative."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.validation import validation_ndcg
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.matrices import history_counts, interaction_counts, presence
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, TrainingHistory, batch_rows, train
from mmrec_helpers.training.losses import bpr_loss

VALIDATION_QUERIES = 1_000
"""Maximum number of queries for early stopping."""
INIT_STD = 0.02
"""Standard deviation of initial embeddings."""


class Pairs:
    """The training interactions as P pairs of a user and an item, without users who interacted with every item.

    Attributes:
        num_items: I.
        interacted: (U, I + 1) sparse, 1 where a user interacted with an item in training.
        rows: (P,) the training interaction of each pair.
        users: (P,) user of each pair.
        items: (P,) item of each pair.

    Raises:
        ValueError: there is no pair.
    """

    def __init__(self, split: Split) -> None:
        self.num_items, self.interacted = split.dataset.num_items, presence(interaction_counts(split))
        self.interacted.sort_indices()
        starts, counts = self.interacted.indptr[:-1].astype(np.int64), np.diff(self.interacted.indptr)
        frame = split.interactions("train")
        users = frame["user"].to_numpy(np.int64)
        self.rows = np.flatnonzero(counts[users] < self.num_items)
        if not len(self.rows):
            raise ValueError(
                f"{split.dataset.name}, {split.name}: no user has both an item of the training part and another item"
            )
        self.users, self.items = users[self.rows], frame["item"].to_numpy(np.int64)[self.rows]
        # Before the item t at position k of a user's sorted items there are t - 1 - k negatives.
        position = np.arange(len(self.interacted.indices)) - np.repeat(starts, counts)
        owner = np.repeat(np.arange(len(counts)), counts)
        self.negatives_before = owner * (self.num_items + 1) + self.interacted.indices - 1 - position
        self.starts, self.num_negatives = starts, self.num_items - counts  # (U,) each

    def __len__(self) -> int:
        return len(self.rows)

    def negatives(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B,) a negative for each user, sampled uniformly from the items without a training interaction."""
        number = rng.integers(self.num_negatives[users])  # which of the user's negatives, from 0
        key = users * (self.num_items + 1) + number
        skipped = np.searchsorted(self.negatives_before, key, side="right") - self.starts[users]
        return number + skipped + 1


@dataclass(frozen=True, eq=False)
class UserEmbeddings:
    """Embeddings of the users of N queries: their own if they are in the training part.

    Any other user gets the mean over the history's items of the mean embedding of the training users who interacted
    with the item; without any such item, the mean of all training users.

    Attributes:
        known: (U,) whether a user is in the training part.
        item_users: (I + 1, U) weights of an item's users; they sum to 1, or to 0 for items without users.
    """

    known: np.ndarray
    item_users: sparse.csr_array

    @classmethod
    def of_training(cls, split: Split) -> "UserEmbeddings":
        """Those of the training part."""
        interacted = presence(interaction_counts(split))
        share = 1 / np.maximum(interacted.sum(axis=0), 1)
        return cls(interacted.sum(axis=1) > 0, (interacted * share).T.tocsr())

    def of(self, queries: Queries, embeddings: np.ndarray) -> np.ndarray:
        """(N, D) out of the (U, D) learnt embeddings."""
        users = embeddings[queries.users]
        new = np.flatnonzero(~self.known[queries.users])
        if len(new):
            similar = history_counts(queries.take(new), self.item_users.shape[0] - 1) @ self.item_users  # (new, U)
            weight = similar.sum(axis=1)[:, None]
            means = (similar @ embeddings) / np.where(weight > 0, weight, 1)
            users[new] = np.where(weight > 0, means, embeddings[self.known].mean(axis=0))
        return users


@dataclass(eq=False, kw_only=True)
class PairwiseRecommender(BaseRecommender):
    """Base class of the recommenders trained by BPR's loss {cite}`rendle2009bpr`.

    Args:
        epochs: maximum number of epochs over the training interactions.
        weight_decay: of AdamW; stands for the paper's regularization.
        batch_size: interactions in a step.
        patience: epochs without an improvement in validation before training stops.

    Attributes:
        model: the network, once fitted.
        users: see ``UserEmbeddings``, once fitted.
        fitted: what ``embeddings`` gave, once fitted.
    """

    FITTED: ClassVar[tuple[str, ...]] = ("users", "fitted")
    epochs: int = 100
    lr: float = 5e-3
    weight_decay: float = 1.0
    batch_size: int = 1_024
    patience: int = 5
    seed: int = 0
    name: str = ""
    model: nn.Module = field(init=False, repr=False)
    training: TrainingHistory = field(init=False, repr=False)

    # Implemented by each system -----------------------------------------------------------------------------------

    def build_model(self, split: Split) -> nn.Module:
        """A randomly initialised network for the split."""
        raise NotImplementedError

    def score_differences(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Positive minus negative scores of some pairs, each with one or more negatives sampled by the generator."""
        raise NotImplementedError

    def embeddings(self) -> tuple[np.ndarray, ...]:
        """(U, D) user embeddings, then the items' arguments of ``scores_of``."""
        raise NotImplementedError

    def scores_of(self, users: np.ndarray, items: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """(N, I + 1) scores of (N, D) users, here by (I + 1, D) item embeddings and (I + 1,) biases."""
        return users @ items.T + bias

    # Shared -------------------------------------------------------------------------------------------------------

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Train on the training part; NDCG@10 on the valid part, if there is one, chooses the best weights."""
        torch.manual_seed(self.seed)
        self.model = self.build_model(split).to(load_settings().device)
        self.users, pairs = UserEmbeddings.of_training(split), Pairs(split)
        steps_per_epoch = -(-len(pairs) // self.batch_size)
        validate = validation_ndcg(
            lambda queries: self._scores(queries, self.embeddings()), split, VALIDATION_QUERIES, self.seed
        )
        config = TrainingConfig(
            steps=self.epochs * steps_per_epoch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.epochs * steps_per_epoch // 20,
            validate_every=steps_per_epoch if validate else 0,
            patience=self.patience,
            seed=self.seed,
        )

        def loss_of(step: int) -> Tensor:
            rows = batch_rows(len(pairs), self.batch_size, step, self.seed)
            return bpr_loss(self.score_differences(pairs, rows, np.random.default_rng([self.seed, step])))

        identity = self.identity(split) if checkpoint else ""
        self.training = train(self.model, loss_of, config, validate, checkpoint, self.name, identity)
        with torch.no_grad():
            self.fitted = self.embeddings()

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores."""
        return self._scores(queries, self.fitted)

    def tensor(self, values: np.ndarray) -> Tensor:
        """The values on the model's device."""
        return torch.as_tensor(values, device=next(self.model.parameters()).device)

    def _scores(self, queries: Queries, embeddings: tuple[np.ndarray, ...]) -> np.ndarray:
        return self.scores_of(self.users.of(queries, embeddings[0]), *embeddings[1:])
