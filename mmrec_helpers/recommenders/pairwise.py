"""Learning to rank from pairs: what a user took shall score above what the user did not take."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.recommenders.matrices import presence, purchases, shown
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import History, TrainingConfig, batch_of, fit

VALIDATED = 1_000
"""Moments by which the best weights are chosen, where a split has more."""
SPREAD = 0.02
"""Standard deviation of new vectors."""


class Pairs:
    """The training interactions as P pairs of a user and an item; those of users who took every item are left out.

    Attributes:
        num_items: I.
        taken: (U, I + 1) sparse, 1 where a user took an item in training.
        rows: (P,) which training interaction each pair is.
        users, items: (P,) of each pair.

    Raises:
        ValueError: there is no pair.
    """

    def __init__(self, split: Split):
        self.num_items, self.taken = split.dataset.num_items, presence(purchases(split))
        self.taken.sort_indices()
        starts, count = self.taken.indptr[:-1].astype(np.int64), np.diff(self.taken.indptr)
        frame = split.interactions("train")
        user = frame["user"].to_numpy(np.int64)
        self.rows = np.flatnonzero(count[user] < self.num_items)
        if not len(self.rows):
            raise ValueError(f"{split.dataset.name}, {split.name}: no user took some items in training and left others")
        self.users, self.items = user[self.rows], frame["item"].to_numpy(np.int64)[self.rows]
        # Of a user's items, sorted, item t at place k has t - 1 - k items before it that the user did not take.
        place = np.arange(len(self.taken.indices)) - np.repeat(starts, count)
        owner = np.repeat(np.arange(len(count)), count)
        self.skipped = owner * (self.num_items + 1) + self.taken.indices - 1 - place
        self.starts, self.left = starts, self.num_items - count  # (U,) each

    def __len__(self) -> int:
        return len(self.rows)

    def negatives(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B,) for each user an item not taken in training, each such item as likely as any other."""
        number = rng.integers(self.left[users])  # which of the items not taken, from 0
        passed = np.searchsorted(self.skipped, users * (self.num_items + 1) + number, side="right") - self.starts[users]
        return number + passed + 1


class KnownUsers:
    """Vectors for the users at N moments: their own where they took something in training.

    Any other user gets the mean over the history's items of the mean vector of the training users who took the item;
    where nobody took any of them, the mean of all training users.
    """

    def __init__(self, split: Split):
        taken = presence(purchases(split))
        self.known = taken.sum(axis=1) > 0  # (U,)
        share = 1 / np.maximum(taken.sum(axis=0), 1)
        self.takers = (taken * share).T.tocsr()  # (I + 1, U), rows sum to 1, or to 0 where nobody took the item

    def vectors(self, queries: Queries, users: np.ndarray) -> np.ndarray:
        """(N, D) out of (U, D)."""
        found = users[queries.users]
        new = np.flatnonzero(~self.known[queries.users])
        if len(new):
            takers = shown(queries.take(new), self.takers.shape[0] - 1) @ self.takers  # (new, U)
            weight = takers.sum(axis=1)[:, None]
            means = (takers @ users) / np.where(weight > 0, weight, 1)
            found[new] = np.where(weight > 0, means, users[self.known].mean(axis=0))
        return found


@dataclass(eq=False, kw_only=True)
class Pairwise:
    """What the systems share that learn by BPR's loss: -log sigmoid of a margin {cite}`rendle2009bpr`.

    A margin is the score of an item that the user took less that of another item. A user without training interactions
    gets the vector that KnownUsers says.

    Args:
        epochs: passes over the training interactions, at most.
        lr: the highest learning rate.
        weight_decay: of AdamW; pulls vectors to zero, as does the paper's regularization.
        batch_size: interactions in a step.
        patience: epochs without a gain in validation before training stops.
        seed: of everything random.

    Attributes:
        model: the network, once fitted.
        training: the history of the training, once fitted.
    """

    epochs: int = 100
    lr: float = 5e-3
    weight_decay: float = 1.0
    batch_size: int = 1_024
    patience: int = 5
    seed: int = 0
    model: nn.Module = field(init=False, repr=False)
    training: History = field(init=False, repr=False)

    # What the systems differ in ----------------------------------------------------------------------------------

    def make(self, split: Split) -> nn.Module:
        """The network before its first step; reads what else is to be read of the training part."""
        raise NotImplementedError

    def margins(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Margins of some pairs, each with one or more items drawn by the generator."""
        raise NotImplementedError

    def sides(self) -> tuple[np.ndarray, ...]:
        """All that scores are made of: (U, D) users, then what ``combined`` wants of the items."""
        raise NotImplementedError

    def combined(self, users: np.ndarray, items: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """(N, I + 1) scores out of (N, D) users and the items' side: here (I + 1, D) vectors and (I + 1,) biases."""
        return users @ items.T + bias

    # What they share ---------------------------------------------------------------------------------------------

    def fit(self, split: Split) -> "Pairwise":
        """Learn from the training part; NDCG@10 on the valid part, if there is one, chooses the best weights."""
        torch.manual_seed(self.seed)
        self.model = self.make(split).to(load_settings().device)
        self.known, pairs, moments = KnownUsers(split), Pairs(split), split.queries("valid")
        if len(moments) > VALIDATED:
            moments = moments.take(np.random.default_rng(self.seed).permutation(len(moments))[:VALIDATED])
        epoch = -(-len(pairs) // self.batch_size)
        plan = TrainingConfig(
            steps=self.epochs * epoch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.epochs * epoch // 20,
            validate_every=epoch if len(moments) else 0,
            patience=self.patience,
            seed=self.seed,
        )

        def loss_of(step: int) -> Tensor:
            rows = batch_of(len(pairs), self.batch_size, step, self.seed)
            return -logsigmoid(self.margins(pairs, rows, np.random.default_rng([self.seed, step]))).mean()

        def validate() -> float:
            scores = self._scores(moments, self.sides())
            return ndcg(TargetRanks.of(scores, moments.targets[:, :1], moments.histories), 10).mean()

        self.training = fit(self.model, loss_of, plan, validate if len(moments) else None, name=self.name)
        with torch.no_grad():
            self.fitted = self.sides()
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores."""
        return self._scores(queries, self.fitted)

    def tensor(self, values: np.ndarray) -> Tensor:
        """The values where the model lies."""
        return torch.as_tensor(values, device=next(self.model.parameters()).device)

    def _scores(self, queries: Queries, sides: tuple[np.ndarray, ...]) -> np.ndarray:
        return self.combined(self.known.vectors(queries, sides[0]), *sides[1:])
