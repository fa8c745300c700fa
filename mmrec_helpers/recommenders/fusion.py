"""The MLLM recommender: items are words and image patches fused by attention, users the mean of their items."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.encoders.features import encode_patches, encode_tokens
from mmrec_helpers.evaluation.validation import validation_ndcg
from mmrec_helpers.lessons.fusion import FUSIONS, ItemFusion, TokenCrossAttention, cross_weights
from mmrec_helpers.lessons.overlap import info_nce
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.features import prepend_padding
from mmrec_helpers.recommenders.history_batches import HistoryBatch, HistoryBatches
from mmrec_helpers.recommenders.matrices import check_rows, history_counts
from mmrec_helpers.recommenders.pairwise import Pairs
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, TrainingHistory, train
from mmrec_helpers.training.losses import bpr_loss, gbce_loss

TASKS = ("ranking", "purchase", "rating", "alignment")
TEMPERATURE = 0.1
"""Of the alignment of texts and images."""
VALIDATION_QUERIES = 5_000
ENCODED = 256
"""Items that are fused together where no gradient is needed."""
EXCLUDED = -1e9
"""Score of a sampled negative that the user has interacted with."""


def fusion_inputs(dataset: RecDataset, text_encoder: str, image_encoder: str, max_len: int) -> dict[str, np.ndarray]:
    """``words`` (I + 1, L, F), the first L tokens of each text, and ``patches`` (I + 1, P, G), see ``coarser``."""
    words = encode_tokens(dataset, text_encoder, max_len).vectors
    patches = coarser(encode_patches(dataset, image_encoder).vectors)
    return {"words": prepend_padding(words.numpy()), "patches": prepend_padding(patches.numpy())}


def coarser(patches: Tensor) -> Tensor:
    """(N, P, G) of square grids -> (N, P / 4, G) means of 2 x 2 neighbours; of fewer at the edge of an odd grid."""
    side = int(patches.shape[1] ** 0.5)
    grid = patches.mT.unflatten(2, (side, side))
    return F.avg_pool2d(grid, 2, ceil_mode=True, count_include_pad=False).flatten(2).mT


def standardised(tokens: Tensor, reference: Tensor) -> Tensor:
    """(N, T, F) by the mean and the standard deviation of each column over the reference's tokens; zeros stay."""
    known = reference[reference.any(2)]
    return (tokens - known.mean(0)) / (known.std(0, correction=0) + 1e-6) * tokens.any(2)[..., None]


class FusionNetwork(nn.Module):
    """Item vectors by ``ItemFusion``, a linear layer for users, and the outputs of all tasks."""

    def __init__(self, fusion: ItemFusion, num_items: int, dim: int) -> None:
        super().__init__()
        self.fusion, self.user = fusion, nn.Linear(dim, dim)
        nn.init.eye_(self.user.weight)  # training begins with content-based recommendation
        nn.init.zeros_(self.user.bias)
        self.bias = nn.Parameter(torch.zeros(num_items + 1))
        self.purchase, self.rating = nn.Linear(dim, 1), nn.Linear(dim, 1)  # of the product of user and item
        self.log_variances = nn.Parameter(torch.zeros(len(TASKS)))


@dataclass(eq=False, kw_only=True)
class FusionRecommender(BaseRecommender):
    """A recommender on fused words and patches, after Thiyagarajan {cite}`thiyagarajan2025mllm`, section 3.

    The score is b_i + q(h) . v_i: v_i is the fused vector of the item, q(h) a linear function of the mean of those of
    the history. The paper leaves the user, the weights of the tasks and the loss of the ratings open. The encoders are
    frozen and their outputs given, as in its serving (3.4.2), not trained jointly as in its section 2.5. For the same
    reason masked language modelling is left out: the vectors of a word's neighbours were made by an encoder that has
    read the word.

    Args:
        words: (I + 1, L, F) vectors of the tokens of an item's text; zeros are padding.
        patches: (I + 1, P, G) vectors of the patches of its image; zeros are padding.
        fusion: one of FUSIONS.
        tasks: name of TASKS -> weight. ``ranking`` is BPR {cite}`rendle2009bpr`, ``purchase`` the cross-entropy of an
            interaction against negatives, ``rating`` the squared error, ``alignment`` InfoNCE of texts and images.
        uncertainty: learn the weights from the tasks' uncertainty {cite}`kendall2018multitask`; those of ``tasks`` are
            factors then.
        dim: D.
        num_heads: H, a divisor of D.
        dropout: of activations.
        num_negatives: sampled uniformly for each batch; a user's own items do not count.
        batch_size: users in a step.
        max_len: targets of a user in a step.
        epochs: maximum number of epochs over the users.
        lr: peak learning rate.
        weight_decay: of AdamW.
        patience: epochs without an improvement in validation before training stops.
        seed: of everything random.
        name: of the system in tables.

    Attributes:
        network: the model, once fitted.
        fitted: item vectors, the linear layer of users, and biases, once fitted.
        training: the history of the training, once fitted.
    """

    FITTED = ("fitted",)
    NOT_SAVED = ("words", "patches")
    words: np.ndarray = field(repr=False)
    patches: np.ndarray = field(repr=False)
    fusion: str = "cross-attention"
    tasks: Mapping[str, float] = field(default_factory=lambda: {"ranking": 1.0})
    uncertainty: bool = False
    dim: int = 64
    num_heads: int = 4
    dropout: float = 0.0
    num_negatives: int = 256
    batch_size: int = 512
    max_len: int = 12
    epochs: int = 30
    lr: float = 5e-3
    weight_decay: float = 0.05
    patience: int = 5
    seed: int = 0
    name: str = ""
    network: FusionNetwork = field(init=False, repr=False)
    fitted: tuple[np.ndarray, ...] = field(init=False, repr=False)
    training: TrainingHistory = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or f"MLLM, {self.fusion}"
        if self.fusion not in FUSIONS:
            raise ValueError(f"{self.name} has no fusion {self.fusion!r}; it has {', '.join(FUSIONS)}")
        if unknown := [task for task in self.tasks if task not in TASKS]:
            raise ValueError(f"{self.name} has no task {unknown[0]!r}; it has {', '.join(TASKS)}")

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Train on the training part; NDCG@10 on the valid part, if there is one, chooses the best weights."""
        self.prepare(split)
        batches = HistoryBatches(split, self.batch_size, self.seed, self.max_len)
        if not batches.users.size:
            raise ValueError(f"{self.name} learns from users with two training items; there is none")
        validate = validation_ndcg(lambda queries: scores_of(queries, self.embeddings()), split, VALIDATION_QUERIES, 0)
        steps, every = self.epochs * batches.per_epoch, batches.per_epoch if validate else 0
        config = TrainingConfig(
            steps, self.lr, self.weight_decay, steps // 10, validate_every=every, patience=self.patience, seed=self.seed
        )

        def loss_of(step: int) -> Tensor:
            return self.total(self.losses_of(batches.of(step)))

        identity = self.identity(split) if checkpoint else ""
        self.training = train(self.network, loss_of, config, validate, checkpoint, self.name, identity)
        self.fitted = self.embeddings()

    def prepare(self, split: Split) -> None:
        """Initialise the network, and look up what the tasks need of the training part."""
        for features in (self.words, self.patches):
            check_rows(features, split, self.name)
        device, frame = load_settings().device, split.interactions("train")
        tokens = (torch.as_tensor(part, dtype=torch.float32) for part in (self.words, self.patches))
        self.tokens = [standardised(part, part).to(device) for part in tokens]
        dims = [self.words.shape[2], self.patches.shape[2]]
        torch.manual_seed(self.seed)
        fusion = ItemFusion(dims, self.dim, self.num_heads, self.fusion, self.dropout)
        self.network = FusionNetwork(fusion, split.dataset.num_items, self.dim)
        if "rating" in self.tasks:
            nn.init.constant_(self.network.rating.bias, float(frame["rating"].mean()))
        self.network.to(device)
        self.interacted = Pairs(split).interacted
        pairs = frame["user"].to_numpy(), frame["item"].to_numpy()
        self.ratings = sparse.csr_array((frame["rating"].to_numpy(), pairs), shape=self.interacted.shape)

    def losses_of(self, batch: HistoryBatch) -> dict[str, Tensor]:
        """The loss of each task for the targets of a batch, with negatives that all of them share."""
        network, num_items = self.network, len(self.words) - 1
        device = network.bias.device
        windows = [np.append(batch.histories[row], batch.targets[row]) for row in batch.last]
        rows = np.zeros((len(windows), max(map(len, windows))), np.int64)  # (B, T + 1) padded at the right
        for row, window in zip(rows, windows, strict=True):
            row[: len(window)] = window
        negatives = batch.rng.integers(1, num_items + 1, self.num_negatives)
        fused, places = np.unique(np.append(rows.ravel(), negatives), return_inverse=True)  # each is fused once
        own = self.interacted[batch.users][:, negatives].toarray() > 0  # (Q, K)
        items, place, excluded, targets, sampled_items = (
            torch.from_numpy(part).to(device) for part in (fused, places, own, batch.targets, negatives)
        )
        vectors = self.fuse(items)
        of_windows = vectors[place[: rows.size]].unflatten(0, rows.shape)  # (B, T + 1, D)
        counts = torch.arange(1, rows.shape[1], device=device)[:, None]
        is_target = torch.from_numpy(rows[:, 1:] > 0).to(device)
        users = network.user(of_windows.cumsum(1)[:, :-1] / counts)[is_target]  # (Q, D) by the items before a target
        product, sampled = users * of_windows[:, 1:][is_target], vectors[place[rows.size :]]  # (Q, D), (K, D)
        losses = {}
        if "ranking" in self.tasks:
            positive, negative = product.sum(1) + network.bias[targets], users @ sampled.T + network.bias[sampled_items]
            losses["ranking"] = bpr_loss(positive[:, None] - negative.masked_fill(excluded, EXCLUDED))
        if "purchase" in self.tasks:
            negative = (users * network.purchase.weight) @ sampled.T + network.purchase.bias
            positive = network.purchase(product)[:, 0]
            losses["purchase"] = gbce_loss(positive, negative.masked_fill(excluded, EXCLUDED), 1.0)
        if "rating" in self.tasks:
            ratings = self.ratings[batch.users, batch.targets].astype(np.float32)
            losses["rating"] = F.mse_loss(network.rating(product)[:, 0], torch.from_numpy(ratings).to(device))
        if "alignment" in self.tasks:
            losses["alignment"] = self.alignment_loss(items)
        return losses

    def alignment_loss(self, items: Tensor) -> Tensor:
        """InfoNCE of the mean projected words and patches of the items that have both."""
        fusion, own = self.network.fusion, [part[items] for part in self.tokens]
        real = [part.any(2)[..., None] for part in own]
        has_both = real[0].any(1)[:, 0] & real[1].any(1)[:, 0]
        projected = fusion.words(own[0]), fusion.patches(own[1])
        texts, images = (
            ((part * known).sum(1) / known.sum(1).clamp(min=1))[has_both]
            for part, known in zip(projected, real, strict=True)
        )
        return info_nce(images, texts, TEMPERATURE)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the tasks' losses."""
        if not self.uncertainty:
            return torch.stack([self.tasks[task] * loss for task, loss in losses.items()]).sum()
        variances = self.network.log_variances
        terms = [(self.tasks[task] * loss, variances[TASKS.index(task)]) for task, loss in losses.items()]
        return torch.stack([(-s).exp() * loss + s for loss, s in terms]).sum()

    def fuse(self, items: Tensor) -> Tensor:
        """(N,) items -> (N, D) vectors."""
        words, patches = (part[items] for part in self.tokens)
        return self.network.fusion(words, patches)

    @torch.no_grad()
    def attention(self) -> np.ndarray:
        """(I + 1, L, P) attention weights of all items' words, means over the heads; only of cross-attention."""
        fusion, found = self.network.fusion, []
        norm, attention = fusion.block.before_attention, cast(TokenCrossAttention, fusion.block.attention)
        for words, patches in zip(*(part.split(ENCODED) for part in self.tokens), strict=True):
            hidden = norm(fusion.words(words)), norm(fusion.patches(patches))
            found.append(cross_weights(attention, *hidden, patches.any(2)).mean(1).cpu())
        return torch.cat(found).numpy()

    @torch.no_grad()
    def embeddings(self) -> tuple[np.ndarray, ...]:
        """(I + 1, D) item vectors, (D, D) and (D,) of the linear layer of users, (I + 1,) biases."""
        self.network.eval()
        parts = torch.arange(len(self.words), device=self.network.bias.device).split(ENCODED)
        user, vectors = self.network.user, torch.cat([self.fuse(part) for part in parts])
        return tuple(part.cpu().numpy() for part in (vectors, user.weight, user.bias, self.network.bias))

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores."""
        return scores_of(queries, self.fitted)


def scores_of(queries: Queries, fitted: tuple[np.ndarray, ...]) -> np.ndarray:
    """(N, I + 1) scores of all items by what ``FusionRecommender.embeddings`` gives."""
    return user_vectors(queries, fitted) @ fitted[0].T + fitted[3]


def user_vectors(queries: Queries, fitted: tuple[np.ndarray, ...]) -> np.ndarray:
    """(N, D) a linear function of the mean of the history's item vectors, by ``FusionRecommender.embeddings``."""
    vectors, weight, offset, _ = fitted
    counts = history_counts(queries, len(vectors) - 1)
    return (counts @ vectors) / np.maximum(counts.sum(axis=1), 1)[:, None] @ weight.T + offset
