"""What sequential recommenders share: item embeddings, losses, training and scoring.

They differ in their backbone and in what is masked. Batches inside a network are padded with 0 at the right, unlike
``Queries.histories``, and processed in parts of similar length.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import log, sqrt
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.validation import validation_ndcg
from mmrec_helpers.lessons.decoder import Add, ItemEmbedding
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, TrainingHistory, batch_rows, train
from mmrec_helpers.training.losses import catalogue_cross_entropy, gbce_beta, gbce_loss, sample_negatives

LOSSES = ("ce", "bce", "gbce", "ssm")
PART = 32
"""Rows of a batch that are processed together, truncated to the longest."""
GATHER_COST = 64
"""Fetching an item's embedding for one position costs about as much as scoring this many items for it."""
SCORED = 512
"""Queries that are scored together."""
VALIDATION_QUERIES = 5_000
"""Maximum number of queries for early stopping."""
INIT_STD = 0.05
"""Standard deviation of initial embeddings."""


# Networks -------------------------------------------------------------------------------------------------------------


class CatalogueEmbedding(ItemEmbedding):
    """Item embeddings that are fused once for all queries: in evaluation, until a weight or feature changes."""

    fused_from: tuple[tuple[int, int], ...] = ()

    def forward(self) -> Tensor:
        """(I + 1, D), not to be changed in place."""
        if self.training or torch.is_grad_enabled():
            return super().forward()
        versions = tuple((own.data_ptr(), own._version) for own in (*self.parameters(), *self.buffers()))
        if versions != self.fused_from:
            self.fused, self.fused_from = super().forward(), versions
        return self.fused


class SequenceModel(nn.Module):
    """A backbone between the input embeddings and the scores of items.

    Args:
        backbone: (B, T, D) embeddings and (B, T) bool, False at padding, -> (B, T, D) hidden states.
        item_embedding: of items 1..I and a special token, I + 1.
    """

    def __init__(self, backbone: nn.Module, item_embedding: ItemEmbedding) -> None:
        super().__init__()
        self.backbone, self.item_embedding = backbone, item_embedding

    @property
    def bias(self) -> Tensor:
        """(I,) of the items' scores."""
        return self.item_embedding.bias

    def forward(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states at some positions, and the output embeddings.

        Args:
            inputs: (B, T) items or special tokens, 0 is padding, only at the right.
            positions: (B, T) bool, the Q positions to compute; none is padding.

        Returns:
            (Q, D) and (I, D).
        """
        embeddings = self.item_embedding()
        return self.hidden_states(inputs, positions, embeddings), embeddings[:-1]

    def hidden_states(self, inputs: Tensor, positions: Tensor, embeddings: Tensor) -> Tensor:
        """(Q, D) hidden states. Of a batch sorted by length, little is padding: each part has a length of its own."""
        parts = inputs.split(PART)
        longest = torch.stack([(part > 0).sum(1).max() for part in parts]).tolist()
        states = [
            self.encode(part[:, :length], embeddings)[selected[:, :length]]
            for part, selected, length in zip(parts, positions.split(PART), longest, strict=True)
        ]
        return torch.cat(states)

    def encode(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """(B, T) inputs, (I + 1, D) embeddings -> (B, T, D)."""
        return self.backbone(F.embedding((inputs - 1).clamp(min=0), embeddings), inputs > 0)

    def logits(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """(Q, D), (I, D) -> (Q, I) scores; column i - 1 is item i."""
        return torch.addmm(self.bias, hidden, embeddings.T)

    def logits_of(self, hidden: Tensor, embeddings: Tensor, items: Tensor) -> Tensor:
        """(Q, D), (I, D), (Q, C) -> (Q, C) scores of some items for each position."""
        if items.shape[1] * GATHER_COST > len(embeddings):
            return self.logits(hidden, embeddings).gather(1, items - 1)
        return (F.embedding(items - 1, embeddings) @ hidden[:, :, None]).squeeze(2) + self.bias[items - 1]


# Sequences ------------------------------------------------------------------------------------------------------------


def windows(users: np.ndarray, items: np.ndarray, max_len: int, bos: int) -> np.ndarray:
    """(W, length + 1) all interactions in windows of at most ``max_len``, cut from the end, padded at the right.

    Column 0 is the item before the window's first, or ``bos`` at the beginning of a user's interactions.

    Args:
        users: (R,) sorted.
        items: (R,) of each user oldest first.
        max_len: items in a window.
        bos: the BOS token.

    Raises:
        ValueError: there are no items.
    """
    if not len(users):
        raise ValueError("no interaction is in the training part: choose another split")
    is_first = np.r_[True, users[1:] != users[:-1]]
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.r_[starts, len(users)])
    owner = np.cumsum(is_first) - 1
    position = np.arange(len(users)) - starts[owner]  # from the user's first item
    from_end = (counts[owner] - 1 - position) // max_len  # 0 is the user's last window
    row = np.cumsum(is_first | (np.diff(from_end, prepend=0) != 0)) - 1
    column = position - np.maximum(counts[owner] - (from_end + 1) * max_len, 0)
    rows = np.zeros((row[-1] + 1, max_len + 1), np.int64)
    rows[row, column + 1] = items
    begins = np.flatnonzero(column == 0)
    rows[row[begins], 0] = np.where(position[begins] == 0, bos, items[begins - 1])
    return rows


def pad_right(items: np.ndarray) -> np.ndarray:
    """(N, T) the same rows with their padding, 0, at the right."""
    return np.take_along_axis(items, np.argsort(items == 0, axis=1, kind="stable"), axis=1)


def sort_by_length(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) right-padded rows sorted by length and truncated to the longest, and (B,) their row numbers before."""
    lengths, order = (rows > 0).sum(1).sort(stable=True)
    return rows[order, : int(lengths[-1])], order


def last_positions(inputs: Tensor) -> Tensor:
    """(B, T) bool, True at the last position of each right-padded row."""
    return F.one_hot((inputs > 0).sum(1) - 1, inputs.shape[1]).bool()


def standardise(features: np.ndarray) -> np.ndarray:
    """(I, F) columns with mean 0 and equal variance over the items with features, rows with mean square length 1.

    Items without features, which are rows of zeros, keep zeros.
    """
    known = np.any(features, axis=1)
    centred = np.where(known[:, None], features - features[known].mean(axis=0) if known.any() else 0.0, 0.0)
    std = centred[known].std(axis=0) if known.any() else np.zeros(features.shape[1])
    return centred / np.where(std > 0, std, 1.0) / sqrt(features.shape[1])


# Recommenders ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class SequentialRecommender(BaseRecommender):
    """Base class of the sequential recommenders.

    Args:
        features: (I + 1, F) item features, row 0 is padding; zeros for items without features.
        use_ids: learn an ID embedding for each item, added to the projected features. Without it items differ only by
            their features and by a bias, which learns their popularity.
        name: of the system in tables; by default its class, with _F if it has features.
        loss: ``ce``, cross-entropy over the whole catalogue {cite}`klenitskiy2023turning`; ``bce``, binary
            cross-entropy with one negative; ``gbce``, with many and calibrated {cite}`petrov2023gsasrec`; ``ssm``,
            sampled softmax: cross-entropy over the target and some negatives {cite}`jean2015vocabulary`.
        num_negatives: k of gBCE and of sampled softmax.
        calibration: t of gBCE.
        dim: D.
        num_layers: of the backbone.
        max_len: T, the longest input; longer training histories are cut into windows.
        dropout: of activations.
        batch_size: windows in a step.
        epochs: maximum number of epochs.
        lr: peak learning rate.
        weight_decay: of AdamW.
        validate_every: epochs between two validations: NDCG@10 over the full catalogue.
        patience: validations without an improvement before training stops.
        seed: of everything random.

    Attributes:
        special_token_id: I + 1: BOS, or [MASK] of BERT4Rec.
        num_users: U.
        num_features: F of what ``item_features`` gives; None without features.
        network: the model, once fitted.
        training: the history of the training, once fitted.
    """

    FITTED: ClassVar[tuple[str, ...]] = ("special_token_id", "num_users", "num_features", "network")
    NOT_SAVED = ("features",)
    features: np.ndarray | None = field(default=None, repr=False)
    use_ids: bool = True
    name: str = ""
    loss: str = "ce"
    num_negatives: int = 256
    calibration: float = 0.75
    dim: int = 64
    num_layers: int = 2
    max_len: int = 50
    dropout: float = 0.4
    batch_size: int = 128
    epochs: int = 50
    lr: float = 2e-3
    weight_decay: float = 0.1
    validate_every: int = 2
    patience: int = 5
    seed: int = 0
    special_token_id: int = field(init=False, repr=False)
    num_users: int = field(init=False, repr=False)
    num_features: int | None = field(init=False, repr=False)
    network: SequenceModel = field(init=False, repr=False)
    training: TrainingHistory = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or type(self).__name__ + ("" if self.features is None else "_F")
        if self.loss not in LOSSES:
            raise ValueError(f"{self.name} has no loss {self.loss!r}; it has {', '.join(LOSSES)}")
        if self.features is None and not self.use_ids:
            raise ValueError(f"{self.name} has no input: give features, or set use_ids=True")

    # Implemented by each system -----------------------------------------------------------------------------------

    def backbone(self) -> nn.Module:
        """A randomly initialised backbone, see ``SequenceModel``."""
        raise NotImplementedError

    def inputs_and_targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) inputs and (B, T) targets, 0 where there is none, of (B, T + 1) windows."""
        raise NotImplementedError

    def inputs_for(self, items: np.ndarray) -> np.ndarray:
        """(N, T') inputs, padded at the right, whose last position predicts the item after (N, T) histories."""
        raise NotImplementedError

    # Shared, and overridden by some -------------------------------------------------------------------------------

    def build_model(self, features: Tensor | None) -> SequenceModel:
        """A randomly initialised model for items with these (I, F) features."""
        backbone, ids = self.backbone(), None
        if self.use_ids:
            ids = INIT_STD * torch.randn(self.special_token_id - 1, self.dim)
        embedding = CatalogueEmbedding(self.dim, None if features is None else [features], None, ids)
        nn.init.normal_(embedding.special_token, std=INIT_STD)
        if features is not None:  # initialised last, so that all other weights are those of a model without features
            embedding.fusion = Add([features.shape[1]], self.dim, bias=False)
        return SequenceModel(backbone, embedding)

    def initial_model(self, split: Split) -> SequenceModel:
        """The model that training begins with."""
        self.special_token_id, self.num_users = split.dataset.num_items + 1, split.dataset.num_users
        features = self.item_features(split.dataset.num_items)
        self.num_features = None if features is None else features.shape[1]
        torch.manual_seed(self.seed)
        return self.build_model(features)

    def empty_network(self) -> SequenceModel:
        """See ``BaseRecommender``."""
        num_items, num_features = self.special_token_id - 1, self.num_features
        return self.build_model(None if num_features is None else torch.zeros(num_items, num_features))

    def training_rows(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(W, length + 1) training windows of (R,) users and items, see ``windows``."""
        return windows(users, items, self.max_len, self.special_token_id)

    def training_config(self, batches: int, validated: bool) -> TrainingConfig:
        """The configuration of a training whose epochs have so many batches."""
        return TrainingConfig(
            steps=self.epochs * batches,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.epochs * batches // 20,
            validate_every=self.validate_every * batches if validated else 0,
            patience=self.patience,
            seed=self.seed,
        )

    def inputs_of(self, queries: Queries) -> np.ndarray:
        """(N, T') inputs of queries, see ``inputs_for``."""
        return self.inputs_for(queries.histories)

    def prepare(self, split: Split) -> Tensor:
        """Initialise the model; return the (W, length + 1) training windows."""
        self.network = self.initial_model(split).to(load_settings().device)
        if self.loss in ("bce", "gbce"):  # initial bias: the prior odds that an item is the target, not a negative
            num_negatives, beta = self._sampling(split.dataset.num_items)
            nn.init.constant_(self.network.item_embedding.bias, log(beta / num_negatives))
        return self.windows_of(split)

    def windows_of(self, split: Split) -> Tensor:
        """The (W, length + 1) training windows of a split, on the model's device."""
        frame = split.interactions("train")
        rows = self.training_rows(frame["user"].to_numpy(), frame["item"].to_numpy())
        return torch.from_numpy(rows).to(self.device)

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Train on the training part; the valid part, if there is one, chooses the best weights."""
        rows = self.prepare(split)
        validate = validation_ndcg(self.score, split, VALIDATION_QUERIES, self.seed, self.max_len)
        batches = -(-len(rows) // self.batch_size)
        config = self.training_config(batches, validate is not None)

        @lru_cache(maxsize=1)
        def rows_of(epoch: int) -> Tensor:  # of the seed and the epoch alone: a resumed training sees the same
            return rows if split.has_tie_order else self.windows_of(split.shuffle_ties([self.seed, epoch]))

        def loss_of(step: int) -> Tensor:
            return self.loss_of(rows_of(step // batches), step)

        identity = self.identity(split) if checkpoint else ""
        self.training = train(self.network, loss_of, config, validate, checkpoint, self.name, identity)

    @torch.no_grad()
    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores of the next item; column 0, the padding, is 0."""
        self.network.eval()
        num_items = self.special_token_id - 1
        scores = np.zeros((len(queries), num_items + 1), np.float32)
        for start in range(0, len(queries), SCORED):
            inputs = torch.from_numpy(self.inputs_of(queries.take(slice(start, start + SCORED))))
            inputs, order = sort_by_length(inputs.to(self.device))
            logits = self.network.logits(*self.network(inputs, last_positions(inputs)))
            scores[start + order.cpu().numpy(), 1:] = logits[:, :num_items].cpu().numpy()  # without an EOS token
        return scores

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.network.item_embedding.special_token.device

    def loss_of(self, rows: Tensor, step: int) -> Tensor:
        """The loss of a step's batch out of all (W, length + 1) windows."""
        batch = torch.from_numpy(batch_rows(len(rows), self.batch_size, step, self.seed)).to(self.device)
        inputs, targets = self.inputs_and_targets(sort_by_length(rows[batch])[0])
        hidden, embeddings = self.network(inputs, targets > 0)
        targets = targets[targets > 0]
        if self.loss == "ce":
            return catalogue_cross_entropy(hidden, embeddings, self.network.bias, targets)
        num_negatives, beta = self._sampling(len(embeddings))
        negatives = sample_negatives(targets, num_negatives, len(embeddings))
        logits = self.network.logits_of(hidden, embeddings, torch.cat([targets[:, None], negatives], 1)).float()
        if self.loss == "ssm":
            return F.cross_entropy(logits, torch.zeros_like(targets))
        return gbce_loss(logits[:, 0], logits[:, 1:], beta)

    def _sampling(self, num_items: int) -> tuple[int, float]:
        """Number of negatives for each target, and the loss's beta."""
        is_bce = self.loss == "bce"
        num_negatives, calibration = (1, 0.0) if is_bce else (min(self.num_negatives, num_items - 1), self.calibration)
        return num_negatives, gbce_beta(num_negatives, num_items, calibration)

    def item_features(self, num_items: int) -> Tensor | None:
        """(I, F) standardised features, or None without any.

        Raises:
            ValueError: their shape does not fit the items, or a number is not finite.
        """
        if self.features is None:
            return None
        features, num_rows = np.asarray(self.features, float), num_items + 1
        if features.ndim != 2 or len(features) != num_rows or not np.isfinite(features).all():
            fault = f"{self.name}: features of shape {features.shape} are not {num_rows} rows of finite numbers"
            raise ValueError(f"{fault}, a row for the padding and one for each of the {num_items} items")
        return torch.as_tensor(standardise(features[1:]), dtype=torch.float32)


class CausalRecommender(SequentialRecommender):
    """Learns the next item at each position of a history, which begins with the BOS token."""

    def inputs_and_targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequentialRecommender``."""
        targets = rows[:, 1:]
        return rows[:, :-1] * (targets > 0), targets

    def inputs_for(self, items: np.ndarray) -> np.ndarray:
        """See ``SequentialRecommender``."""
        items = items[:, -self.max_len :]
        is_whole = (items > 0).sum(axis=1, keepdims=True) < self.max_len  # otherwise its beginning is cut off
        return pad_right(np.concatenate([is_whole * self.special_token_id, items], axis=1))
