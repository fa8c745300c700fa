"""Systems that read a history in its order: GRU4Rec, SASRec and BERT4Rec, on items' ids, their features, or both.

They share their item vectors, their losses and the way they are trained and asked. What differs is the network that
reads the history, and what is hidden from it. Inside, a history stands at the left of its row, filled up with 0 at the
right, and only the P real positions of a batch are computed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import History, TrainingConfig, batch_of, fit

LOSSES = ("ce", "bce", "gbce", "ssm")
PART = 32
"""Rows of a batch that are spread together."""
WORTH = 64
"""To fetch an item's vector for one position costs about as much as to score so many items for it."""
LOGITS = {"cpu": 2**18, "cuda": 2**27}
"""Of the catalogue's scores at many positions, how many are held at once: on a CPU what its cache holds."""
SCORED = 512
"""Histories that are scored together."""
VALIDATED = 5_000
"""Moments by which the best weights are chosen, where a split has more."""
SPREAD = 0.05
"""Standard deviation of new vectors."""


# Networks -------------------------------------------------------------------------------------------------------------


class Layout:
    """Where the P real positions of a batch lie: packed (P, D), or spread over rows.

    PART neighbouring rows are spread together, no wider than the longest of them: of a batch sorted by length, little
    is padding.

    Args:
        inputs: (B, T) items or the token, 0 for padding, only at the right.
    """

    def __init__(self, inputs: Tensor):
        lengths = (inputs > 0).sum(1)
        self.flat = (inputs > 0).flatten().nonzero().squeeze(1)  # (P,)
        row, column = self.flat // inputs.shape[1], self.flat % inputs.shape[1]
        self.ago = lengths[row] - 1 - column  # (P,) how many positions of the row follow
        self.parts, self.sizes = [], []
        for first, some in zip(range(0, len(inputs), PART), lengths.cpu().split(PART), strict=True):
            begin, size, longest = sum(self.sizes), int(some.sum()), int(some.max())
            places = (row[begin : begin + size] - first) * longest + column[begin : begin + size]
            real = torch.arange(longest, device=inputs.device) < lengths[first : first + PART, None]
            self.parts.append((places, real))
            self.sizes.append(size)

    def spread(self, packed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(P, D) -> of each part (b, t, D), zeros at padding, and (b, t) bool what is real."""
        found = []
        for some, (places, real) in zip(packed.split(self.sizes), self.parts, strict=True):
            rows = packed.new_zeros(real.numel(), packed.shape[1]).index_copy(0, places, some)
            found.append((rows.unflatten(0, real.shape), real))
        return found

    def pack(self, rows: list[Tensor]) -> Tensor:
        """Of each part (b, t, D) -> (P, D)."""
        return torch.cat([some.flatten(0, 1)[places] for some, (places, _) in zip(rows, self.parts, strict=True)])


class ItemVectors(nn.Module):
    """(I + 1, D): row i - 1 is the vector of item i, the last that of a token that is no item.

    Beside them each item has a bias of its score: how popular it is, which neither its picture nor its text tells.

    Args:
        num_items: I.
        dim: D.
        features: (I, F) or None; what is known of each item, mapped linearly.
        use_ids: give each item a free vector as well.
    """

    def __init__(self, num_items: int, dim: int, features: Tensor | None, use_ids: bool):
        super().__init__()
        self.token = nn.Parameter(SPREAD * torch.randn(1, dim))
        self.ids = nn.Parameter(SPREAD * torch.randn(num_items, dim)) if use_ids else None
        self.bias = nn.Parameter(torch.zeros(num_items))
        self.register_buffer("features", features)
        self.from_features = None if features is None else nn.Parameter(SPREAD * torch.randn(features.shape[1], dim))

    def forward(self) -> Tensor:
        known = [] if self.ids is None else [self.ids]
        if self.features is not None:
            known.append(self.features @ self.from_features)
        return torch.cat([sum(known), self.token])


class Recurrence(nn.Module):
    """Layers of gated recurrent units."""

    def __init__(self, dim: int, num_layers: int, dropout: float):
        super().__init__()
        self.cells = nn.GRU(dim, dim, num_layers, batch_first=True)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, vectors: Tensor, layout: Layout) -> Tensor:
        """(P, D) -> (P, D)."""
        spread = layout.spread(self.dropout(sqrt(vectors.shape[1]) * vectors))
        return self.norm(self.dropout(layout.pack([self.cells(rows)[0] for rows, _ in spread])))


class Block(nn.Module):
    """Self-attention, then two layers at each position by itself; each after a norm and beside a shortcut.

    Args:
        dim: D.
        num_heads: H, a divisor of D.
        dropout: share of what is dropped of each of the two.
        causal: a position sees itself and what lies before it; otherwise it sees the whole history.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, causal: bool):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.query_key_value, self.attended = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.inner, self.outer = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """(P, D) -> (P, D)."""
        spread = layout.spread(self.query_key_value(self.norms[0](hidden)))
        mixed = layout.pack([self.mix(*part) for part in spread])
        hidden = hidden + self.dropout(self.attended(mixed))
        return hidden + self.dropout(self.outer(F.gelu(self.inner(self.norms[1](hidden)))))

    def mix(self, rows: Tensor, real: Tensor) -> Tensor:
        """(b, t, 3 D) queries, keys and values -> (b, t, D)."""
        # To the right of a position lies all padding: where it may not look there, padding needs no mask of its own.
        mask = None if self.causal else real[:, None, None]
        mixed = F.scaled_dot_product_attention(*self.heads_of(rows), mask, is_causal=self.causal)
        return mixed.transpose(1, 2).flatten(2)

    def heads_of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, t, 3 D) -> queries, keys and values, (b, H, t, D / H) each."""
        return rows.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def weights(self, hidden: Tensor, layout: Layout) -> Tensor:
        """(b, H, t, t) of the first part: how much each position (row) takes from each (column); a row sums to 1."""
        rows, real = layout.spread(self.query_key_value(self.norms[0](hidden)))[0]
        query, key, _ = self.heads_of(rows)
        seen = real[:, None, None].expand(-1, 1, key.shape[2], -1)
        seen = seen.tril() if self.causal else seen
        return (query @ key.mT / sqrt(key.shape[3])).masked_fill(~seen, -torch.inf).softmax(-1)


class Transformer(nn.Module):
    """Blocks of self-attention over item vectors and learnt vectors of the places in a history.

    Places are counted from the end, as in the papers, where padding stands before the items: so the place that is asked
    has been learnt, however long the history.
    """

    def __init__(self, dim: int, num_layers: int, num_heads: int, max_len: int, dropout: float, causal: bool):
        super().__init__()
        self.places = nn.Parameter(SPREAD * torch.randn(max_len, dim))
        self.blocks = nn.ModuleList(Block(dim, num_heads, dropout, causal) for _ in range(num_layers))
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, vectors: Tensor, layout: Layout) -> Tensor:
        """(P, D) -> (P, D)."""
        return self.norm(self.through_blocks(vectors, layout)[-1])

    def attention(self, vectors: Tensor, layout: Layout) -> Tensor:
        """(layers, B, H, T, T)."""
        states = self.through_blocks(vectors, layout)
        return torch.stack([block.weights(state, layout) for block, state in zip(self.blocks, states, strict=False)])

    def through_blocks(self, vectors: Tensor, layout: Layout) -> list[Tensor]:
        """(P, D) before the first block and after each."""
        scaled = sqrt(vectors.shape[1]) * vectors
        states = [self.dropout(scaled + F.embedding(layout.ago, self.places))]
        for block in self.blocks:
            states.append(block(states[-1], layout))
        return states


class Network(nn.Module):
    """A body that reads histories, and the item vectors at both its ends."""

    def __init__(self, body: nn.Module, items: ItemVectors):
        super().__init__()
        self.body, self.items = body, items

    @property
    def bias(self) -> Tensor:
        """(I,) of each item's score."""
        return self.items.bias

    def forward(self, inputs: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """What the body makes of the positions where something is asked, and the item vectors.

        Args:
            inputs: (B, T) items, I + 1 for the token, 0 for padding, only at the right.
            asked: (B, T) bool, the Q positions asked for; none is padding.

        Returns:
            (Q, D) and (I, D).
        """
        embedded, layout, vectors = self.read(inputs)
        return self.body(embedded, layout)[asked.flatten()[layout.flat]], vectors[:-1]

    def read(self, inputs: Tensor) -> tuple[Tensor, Layout, Tensor]:
        """(P, D) the vectors of the real positions, where these lie, and (I + 1, D) all vectors."""
        vectors, layout = self.items(), Layout(inputs)
        return F.embedding(inputs.flatten()[layout.flat] - 1, vectors), layout, vectors

    def logits(self, hidden: Tensor, vectors: Tensor) -> Tensor:
        """(Q, D), (I, D) -> (Q, I) scores; column i - 1 is item i."""
        return torch.addmm(self.bias, hidden, vectors.T)

    def logits_of(self, hidden: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
        """(Q, D), (I, D), (Q, C) -> (Q, C) scores of some items for each position."""
        if items.shape[1] * WORTH > len(vectors):
            return self.logits(hidden, vectors).gather(1, items - 1)
        return (F.embedding(items - 1, vectors) @ hidden[:, :, None]).squeeze(2) + self.bias[items - 1]


# Losses ---------------------------------------------------------------------------------------------------------------


class _CatalogueLoss(torch.autograd.Function):
    """``F.cross_entropy`` of (Q, I) logits that are never held all at once: loss and gradients are made chunk by chunk.

    The memory that (Q, I) needs is what makes cross-entropy over a catalogue slow on a CPU.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, vectors: Tensor, bias: Tensor, wanted: Tensor) -> Tensor:
        to_hidden, to_vectors, to_bias = torch.empty_like(hidden), torch.zeros_like(vectors), torch.zeros_like(bias)
        total, rows = hidden.new_zeros(()), max(LOGITS[hidden.device.type] // len(vectors), 1)
        for some, column, to_some in zip(*(part.split(rows) for part in (hidden, wanted, to_hidden)), strict=True):
            slope = torch.addmm(bias, some, vectors.T).log_softmax(1)
            total -= slope.gather(1, column[:, None]).sum()
            slope.exp_().scatter_add_(1, column[:, None], slope.new_full((len(some), 1), -1.0))
            torch.mm(slope, vectors, out=to_some)
            to_vectors.addmm_(slope.T, some)
            to_bias += slope.sum(0)
        ctx.save_for_backward(to_hidden, to_vectors, to_bias)
        return total / len(hidden)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, ...]:
        slope = slope / len(ctx.saved_tensors[0])
        return *(slope * part for part in ctx.saved_tensors), None


def cross_entropy(hidden: Tensor, vectors: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the whole catalogue.

    Args:
        hidden: (Q, D).
        vectors: (I, D), row i - 1 is item i.
        bias: (I,).
        targets: (Q,) the items 1..I that came next.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        return _CatalogueLoss.apply(hidden.float(), vectors.float(), bias, targets - 1)


def sample_negatives(targets: Tensor, num: int, num_items: int) -> Tensor:
    """(Q, num) items at random, each as likely as the other, never the (Q,) target; one may be drawn twice."""
    drawn = torch.randint(1, num_items, (len(targets), num), device=targets.device)  # 1..I - 1
    return drawn + (drawn >= targets[:, None])


def calibrated(num: int, num_items: int, calibration: float) -> float:
    r"""The power :math:`\beta` of gBCE {cite}`petrov2023gsasrec`, equation 7.

    With k negatives out of the other I - 1 items, :math:`\alpha = k / (I - 1)` is the sampling rate, and
    :math:`\beta = \alpha\,(t\,(1 - 1/\alpha) + 1/\alpha)` falls from 1 to it as t goes from 0 to 1.

    Args:
        num: k.
        num_items: I.
        calibration: t. 0 is binary cross-entropy, whose probabilities are too large; 1 takes all of that back.
    """
    share = num / (num_items - 1)
    return share * (calibration * (1 - 1 / share) + 1 / share)


def sampled_loss(positive: Tensor, negative: Tensor, beta: float) -> Tensor:
    r"""Mean over Q positions of :math:`-[\beta \log \sigma(s^+) + \sum_k \log(1 - \sigma(s^-_k))] / (k + 1)`.

    Args:
        positive: (Q,) scores of the targets.
        negative: (Q, k) scores of the negatives.
        beta: see ``calibrated``; 1 is binary cross-entropy.
    """
    return -(beta * F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean() / (negative.shape[1] + 1)


# Sequences ------------------------------------------------------------------------------------------------------------


def windows(users: np.ndarray, items: np.ndarray, max_len: int, token: int) -> np.ndarray:
    """(W, length + 1) all users' items in rows of at most ``max_len``, cut from the end, padded with 0 at the right.

    Column 0 is what came before the row's first item: an item, or the token where the user begins.

    Args:
        users: (R,) sorted.
        items: (R,) of each user oldest first.
        max_len: items in a row.
        token: what stands before a user's first item.

    Raises:
        ValueError: there are no items.
    """
    if not len(users):
        raise ValueError("there is nothing to learn from: no interaction is in the training part")
    first = np.r_[True, users[1:] != users[:-1]]
    starts = np.flatnonzero(first)
    count = np.diff(np.r_[starts, len(users)])
    owner = np.cumsum(first) - 1
    place = np.arange(len(users)) - starts[owner]  # from the user's first item
    turn = (count[owner] - 1 - place) // max_len  # 0 is the user's last row
    row = np.cumsum(first | (np.diff(turn, prepend=0) != 0)) - 1
    column = place - np.maximum(count[owner] - (turn + 1) * max_len, 0)
    rows = np.zeros((row[-1] + 1, max_len + 1), np.int64)
    rows[row, column + 1] = items
    begins = np.flatnonzero(column == 0)
    rows[row[begins], 0] = np.where(place[begins] == 0, token, items[begins - 1])
    return rows


def pad_right(items: np.ndarray) -> np.ndarray:
    """(N, T) rows whose padding 0 now stands at the right."""
    return np.take_along_axis(items, np.argsort(items == 0, axis=1, kind="stable"), axis=1)


def by_length(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) right-padded rows sorted by length and cut to the longest, and (B,) which row each was."""
    lengths, order = (rows > 0).sum(1).sort(stable=True)
    return rows[order, : int(lengths[-1])], order


def standardised(features: np.ndarray) -> np.ndarray:
    """(I, F) features whose columns have mean 0 and equal spread over the items that have any, and rows of length 1
    in the mean; the zeros of an item of which nothing is known stay."""
    known = features.any(axis=1)
    centred = np.where(known[:, None], features - features[known].mean(axis=0) if known.any() else 0.0, 0.0)
    spread = centred[known].std(axis=0) if known.any() else np.zeros(features.shape[1])
    return centred / np.where(spread > 0, spread, 1.0) / sqrt(features.shape[1])


# Systems --------------------------------------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class Sequential:
    """What the sequential systems share.

    Args:
        features: (I + 1, F) what is known of each item; row 0, the padding, is not read. Zeros where nothing is known.
        use_ids: learn a free vector of each item; with features, the two are added. Without it items differ by their
            features and by a bias, their popularity.
        name: of the system in tables; by default its class, with _F where it has features.
        loss: ``ce``, cross-entropy over the whole catalogue {cite}`klenitskiy2023turning`; ``bce``, binary
            cross-entropy with one negative; ``gbce``, with many and calibrated {cite}`petrov2023gsasrec`; ``ssm``,
            sampled softmax: cross-entropy over the target and some negatives {cite}`jean2015vocabulary`.
        num_negatives: k of gBCE and of sampled softmax.
        calibration: t of gBCE.
        dim: D.
        num_layers: of the network.
        max_len: T, the longest history that is read; longer ones are learnt from in several windows.
        dropout: share of activations dropped in training.
        batch_size: windows in a step.
        epochs: passes over the training data, at most.
        lr: the highest learning rate.
        weight_decay: of AdamW.
        validate_every: epochs between two validations: NDCG@10 over the full catalogue.
        patience: validations without a gain before training stops.
        seed: of everything random.

    Attributes:
        training: the history of the training, once fitted.
    """

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
    token: int = field(init=False, repr=False)
    network: Network = field(init=False, repr=False)
    training: History = field(init=False, repr=False)

    def __post_init__(self):
        self.name = self.name or type(self).__name__ + ("" if self.features is None else "_F")
        if self.loss not in LOSSES:
            raise ValueError(f"{self.name} has no loss {self.loss!r}; it has {', '.join(LOSSES)}")
        if self.features is None and not self.use_ids:
            raise ValueError(f"{self.name} would know nothing of the items: give features, or use ids")

    # What the systems differ in ----------------------------------------------------------------------------------

    def body(self) -> nn.Module:
        """The network that reads histories."""
        raise NotImplementedError

    def lesson(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) inputs and (B, T) targets, 0 where nothing is asked, of (B, T + 1) windows."""
        raise NotImplementedError

    def question(self, items: np.ndarray) -> np.ndarray:
        """(N, T') inputs, padded with 0 at the right, whose last position asks for the item after (N, T) histories."""
        raise NotImplementedError

    def rows(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(W, length + 1) what is learnt from: the windows of (R,) users and items, see ``windows``."""
        return windows(users, items, self.max_len, self.token)

    def plan(self, batches: int, validated: bool) -> TrainingConfig:
        """How the network is trained, where an epoch has so many batches."""
        return TrainingConfig(
            steps=self.epochs * batches,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.epochs * batches // 20,
            validate_every=self.validate_every * batches if validated else 0,
            patience=self.patience,
            seed=self.seed,
        )

    # What they share ---------------------------------------------------------------------------------------------

    def build(self, split: Split) -> Network:
        """The network before it has learnt, for the split's items."""
        # The features' weights are drawn last, so that all others are those of a system without features.
        body = self.body()
        return Network(body, ItemVectors(split.dataset.num_items, self.dim, self._features(split), self.use_ids))

    def prepare(self, split: Split) -> Tensor:
        """Make the network as it is before it has learnt; return the (W, length + 1) rows that it learns from."""
        self.token = split.dataset.num_items + 1
        torch.manual_seed(self.seed)
        self.network = self.build(split).to(load_settings().device)
        if self.loss in ("bce", "gbce"):  # begin at the odds that an item is the target and no negative, not one to one
            num, beta = self._sampling(split.dataset.num_items)
            nn.init.constant_(self.network.items.bias, log(beta / num))
        frame = split.interactions("train")
        users, bought = (frame[column].to_numpy() for column in ("user", "item"))
        return torch.from_numpy(self.rows(users, bought)).to(self.device)

    def fit(self, split: Split) -> "Sequential":
        """Learn from the training part; the valid part, if there is one, chooses the best weights."""
        rows, validate = self.prepare(split), self._validation(split)
        plan = self.plan(-(-len(rows) // self.batch_size), validate is not None)
        self.training = fit(self.network, lambda step: self.loss_of(rows, step), plan, validate, name=self.name)
        return self

    @torch.no_grad()
    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores of the next item; column 0, the padding, is 0."""
        self.network.eval()
        scores = np.zeros((len(queries), self.token), np.float32)
        for start in range(0, len(queries), SCORED):
            inputs = torch.from_numpy(self.questions(queries.take(slice(start, start + SCORED))))
            inputs, order = by_length(inputs.to(self.device))
            asked = F.one_hot((inputs > 0).sum(1) - 1, inputs.shape[1]).bool()
            logits = self.network.logits(*self.network(inputs, asked))[:, : self.token - 1]  # the token is no item
            scores[start + order.cpu().numpy(), 1:] = logits.cpu().numpy()
        return scores

    def questions(self, queries: Queries) -> np.ndarray:
        """(N, T') inputs, as ``question`` makes them, of some users' histories."""
        return self.question(queries.histories)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.network.items.token.device

    def loss_of(self, rows: Tensor, step: int) -> Tensor:
        """The loss of a step's batch of all (W, length + 1) windows."""
        rows = rows[torch.from_numpy(batch_of(len(rows), self.batch_size, step, self.seed)).to(self.device)]
        inputs, targets = self.lesson(by_length(rows)[0])
        asked = targets > 0
        hidden, vectors = self.network(inputs, asked)
        targets = targets[asked]
        if self.loss == "ce":
            return cross_entropy(hidden, vectors, self.network.bias, targets)
        num, beta = self._sampling(len(vectors))
        drawn = torch.cat([targets[:, None], sample_negatives(targets, num, len(vectors))], 1)
        logits = self.network.logits_of(hidden, vectors, drawn).float()
        if self.loss == "ssm":
            return F.cross_entropy(logits, torch.zeros_like(targets))
        return sampled_loss(logits[:, 0], logits[:, 1:], beta)

    def _sampling(self, num_items: int) -> tuple[int, float]:
        """Negatives for each target, and the loss's beta."""
        num, calibration = (
            (1, 0.0) if self.loss == "bce" else (min(self.num_negatives, num_items - 1), self.calibration)
        )
        return num, calibrated(num, num_items, calibration)

    def _features(self, split: Split) -> Tensor | None:
        if self.features is None:
            return None
        features, wanted = np.asarray(self.features, float), split.dataset.num_items + 1
        if features.ndim != 2 or len(features) != wanted or not np.isfinite(features).all():
            found = f"{self.name}: features of shape {features.shape} are not {wanted} rows of finite numbers"
            raise ValueError(f"{found}, a row for the padding and one for each of the {wanted - 1} items")
        return torch.as_tensor(standardised(features[1:]), dtype=torch.float32)

    def _validation(self, split: Split) -> Callable[[], float] | None:
        """NDCG@10 of the next item in the valid part, over the full catalogue; None where there is no such part."""
        moments = split.queries("valid", self.max_len)
        if not len(moments):
            return None
        if len(moments) > VALIDATED:
            moments = moments.take(np.random.default_rng(self.seed).permutation(len(moments))[:VALIDATED])

        def validate() -> float:
            total = 0.0
            for start in range(0, len(moments), SCORED):
                some = moments.take(slice(start, start + SCORED))
                total += ndcg(TargetRanks.of(self.score(some), some.targets[:, :1], some.histories), 10).sum()
            return total / len(moments)

        return validate


class Causal(Sequential):
    """Learns at each position of a history which item comes next; the token begins every history."""

    def lesson(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        targets = rows[:, 1:]
        return rows[:, :-1] * (targets > 0), targets

    def question(self, items: np.ndarray) -> np.ndarray:
        items = items[:, -self.max_len :]
        whole = (items > 0).sum(axis=1, keepdims=True) < self.max_len  # else its beginning was cut off
        return pad_right(np.concatenate([whole * self.token, items], axis=1))


class Attentive(Sequential):
    """Reads by self-attention."""

    @torch.no_grad()
    def attention(self, items: np.ndarray) -> np.ndarray:
        """(layers, H, T', T') how much each position (row) of one history takes from each (column).

        Args:
            items: (T,) oldest first. T' counts the token too: SASRec's stands before the items, BERT4Rec's after them.
        """
        vectors, layout, _ = self.network.read(torch.from_numpy(self.question(np.asarray(items)[None])).to(self.device))
        return self.network.body.attention(vectors, layout)[:, 0].float().cpu().numpy()


@dataclass(eq=False, kw_only=True)
class GRU4Rec(Causal):
    """Gated recurrent units over the history {cite}`hidasi2016gru4rec`.

    The paper ranks the target above other targets of the batch (TOP1, BPR); cross-entropy, here the default, is what
    its authors found better later {cite}`hidasi2018gru4rec`.
    """

    num_layers: int = 1
    lr: float = 4e-3

    def body(self) -> nn.Module:
        return Recurrence(self.dim, self.num_layers, self.dropout)


@dataclass(eq=False, kw_only=True)
class SASRec(Attentive, Causal):
    """A causal transformer over the history {cite}`kang2018sasrec`; ``loss="bce"`` is the paper's.

    Args:
        num_heads: H of self-attention, a divisor of the width.
    """

    num_heads: int = 2

    def body(self) -> nn.Module:
        return Transformer(self.dim, self.num_layers, self.num_heads, self.max_len, self.dropout, causal=True)


@dataclass(eq=False, kw_only=True)
class BERT4Rec(Attentive):
    """A transformer that sees both sides, and learns to name masked items {cite}`sun2019bert4rec`.

    Asked for the next item, it sees the mask after the history. So some histories have only their last item masked, as
    in the paper's fine-tuning. Only what is masked teaches, so it gains from more passes than SASRec does.

    Args:
        num_heads: H of self-attention, a divisor of the width.
        masked: share of a history's items that are masked.
        last: share of the histories in which the last item alone is masked.
    """

    num_heads: int = 2
    masked: float = 0.3
    last: float = 0.1
    dropout: float = 0.2

    def body(self) -> nn.Module:
        return Transformer(self.dim, self.num_layers, self.num_heads, self.max_len, self.dropout, causal=False)

    def lesson(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        items = rows[:, 1:]
        real = items > 0
        masked = real & (torch.rand(items.shape, device=items.device) < self.masked)
        alone = (torch.rand(len(items), 1, device=items.device) < self.last) | ~masked.any(1, keepdim=True)
        masked = torch.where(alone, F.one_hot(real.sum(1) - 1, items.shape[1]).bool(), masked)
        return items.masked_fill(masked, self.token), items * masked

    def question(self, items: np.ndarray) -> np.ndarray:
        items = items[:, max(items.shape[1] - self.max_len + 1, 0) :]
        return pad_right(np.concatenate([items, np.full((len(items), 1), self.token)], axis=1))
