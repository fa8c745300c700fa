"""Chapter 4's systems that only the record has: ablations with a search of their own, readings, longer trainings."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from experiments.bayes_ceiling import BayesCeiling
from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.lessons.decoder import GPT2, Add, ItemDecoder
from mmrec_helpers.llm.tuning import LORA_RANK
from mmrec_helpers.pocket_shop.choice_model import POPULARITY_UTILITY, common_utility
from mmrec_helpers.recommenders.mmgpt2rec import DecoderNetwork, MMGPT2Config, MMGPT2Rec
from mmrec_helpers.recommenders.sequential import CatalogueEmbedding, sort_by_length
from mmrec_helpers.studies.ch04 import ABLATIONS, APPENDIX, DESIGN_CHOICES, PRINTED, Variant
from mmrec_helpers.training.loop import batch_rows

# Kinds of decoder -----------------------------------------------------------------------------------------------------


class ZeroIds(MMGPT2Rec):
    """ID embeddings are initialised with zero: training begins with the features alone."""

    def build_model(self, features: Tensor | None) -> DecoderNetwork:
        """See ``SequentialRecommender``."""
        network = super().build_model(features)
        ids = network.item_embedding.id_embeddings
        assert isinstance(ids, Tensor)
        nn.init.zeros_(ids)
        return network


class LoraAlphaOne(MMGPT2Rec):
    """LoRA with alpha 1, as in the paper's appendix A, so that the product of its matrices is divided by the rank."""

    def backbone(self) -> GPT2:
        """See ``MMGPT2Rec``."""
        gpt2 = super().backbone()
        for module in gpt2.modules():
            if hasattr(module, "lora_A"):
                module.scaling["default"] = 1 / LORA_RANK  # type: ignore[operator, index]
        return gpt2


class Bottleneck(Add):
    """Each modality is projected to 512 numbers, the results are added, and projected to D dimensions."""

    def __init__(self, dims: tuple[int, ...], dim: int) -> None:
        super().__init__(dims, 512)
        self.linear = nn.Linear(512, dim)

    def forward(self, features: list[Tensor]) -> Tensor:
        """(I, F) of each modality -> (I, D)."""
        return self.linear(super().forward(features))


class BottleneckDecoder(MMGPT2Rec):
    """The paper's addition, III-A: both modalities are projected to 512 numbers; it does not say what follows."""

    def _item_embedding(self, columns: Tensor | None) -> CatalogueEmbedding:
        embedding = super()._item_embedding(columns)
        embedding.fusion = Bottleneck(self.dims, self.dim)
        return embedding


class KnownItemsOnly(MMGPT2Rec):
    """Items without an interaction in training are no wrong answers: the softmax of the loss leaves them out."""

    def prepare(self, split: Split) -> Tensor:
        """See ``SequentialRecommender``."""
        self.known = torch.from_numpy(np.unique(split.interactions("train")["item"]) - 1)
        return super().prepare(split)

    def loss_of(self, rows: Tensor, step: int) -> Tensor:
        """See ``SequentialRecommender``; cross-entropy over the known items."""
        batch = torch.from_numpy(batch_rows(len(rows), self.batch_size, step, self.seed))
        inputs, targets = self.inputs_and_targets(sort_by_length(rows[batch])[0])
        hidden, outputs = self.network(inputs, targets > 0)
        logits = torch.addmm(self.network.bias[self.known], hidden, outputs[self.known].T)
        return F.cross_entropy(logits, torch.searchsorted(self.known, targets[targets > 0] - 1))


PERIOD, HARMONICS = 730.5, 16
"""Days of the longest of the waves that encode a date, two years, and their number; the shortest lasts 46 days."""


class DateNetwork(DecoderNetwork):
    """A decoder that is given the day of the item to predict, and the days since the one before, at each position.

    An input is an item or the BOS token, plus I + 2 times the day of the *next* item: all that a recommender knows at
    the time of prediction, when it is today.

    Args:
        decoder: over items 1..I and the BOS token, I + 1.
        in_biases: let each item's bias depend on the day, too: popularity changes.
    """

    def __init__(self, decoder: ItemDecoder, in_biases: bool) -> None:
        super().__init__(decoder)
        (num_items,), dim = self.bias.shape, decoder.item_embedding.special_token.shape[1]
        self.base, self.date = num_items + 2, nn.Linear(2 * HARMONICS + 1, dim, bias=False)
        self.trends = nn.Parameter(torch.zeros(num_items, 2 * HARMONICS)) if in_biases else None
        nn.init.zeros_(self.date.weight)  # training begins with the decoder that has no dates

    def forward(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequenceModel``; with ``in_biases`` hidden states and output embeddings end with 2 H more numbers."""
        hidden, outputs = super().forward(inputs, positions)
        if self.trends is None:
            return hidden, outputs
        return torch.cat([hidden, waves(inputs[positions] // self.base)], 1), torch.cat([outputs, self.trends], 1)

    def encode(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """See ``SequenceModel``; the date is projected and added to the item's embedding."""
        items, days = inputs % self.base, inputs // self.base
        gaps = days.diff(dim=1, prepend=days[:, :1]).clamp(min=0).log1p()  # (B, T), 0 at padding
        dates = self.date(torch.cat([waves(days), gaps[..., None]], 2))
        return self.decoder.gpt2(F.embedding((items - 1).relu(), embeddings) + dates)


def waves(days: Tensor) -> Tensor:
    """(...) days -> (..., 2 H) sines and cosines of the periods PERIOD / 1 to PERIOD / H."""
    angles = 2 * torch.pi / PERIOD * days[..., None] * torch.arange(1, HARMONICS + 1, device=days.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


class DateInput(MMGPT2Rec):
    """MM-GPT2Rec with the date as an input, see ``DateNetwork``; days are counted from the first one in training.

    The data must not have an item twice in a history: of an item's days only the first is kept.
    """

    in_biases = False

    def prepare(self, split: Split) -> Tensor:
        """See ``SequentialRecommender``."""
        frame, self.base = split.dataset.interactions, split.dataset.num_items + 2
        self.start = split.interactions("train")["time"].min() // 86_400 - 1
        first = frame.groupby(["user", "item"], as_index=False)["time"].min()
        at, shape = (first["user"], first["item"]), (split.dataset.num_users, self.base)
        self.day_of = sparse.csr_array((self.days(first["time"]), at), shape)
        return super().prepare(split)

    def days(self, times: pd.Series | np.ndarray) -> np.ndarray:
        """Times in seconds as days, 1 in training at first."""
        return np.maximum(np.asarray(times) // 86_400 - self.start, 1)

    def build_model(self, features: Tensor | None) -> DateNetwork:
        """See ``SequentialRecommender``."""
        return DateNetwork(super().build_model(features).decoder, self.in_biases)

    def windows_of(self, split: Split) -> Tensor:
        """See ``SequentialRecommender``; each item plus I + 2 times its own day."""
        frame = split.interactions("train")
        items = frame["item"].to_numpy() + self.base * self.days(frame["time"])
        return torch.from_numpy(self.training_rows(frame["user"].to_numpy(), items)).to(self.device)

    def inputs_and_targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequentialRecommender``; inputs as of ``DateNetwork``."""
        inputs, targets = super().inputs_and_targets(rows)
        return inputs % self.base + targets // self.base * self.base, targets % self.base

    def inputs_of(self, queries: Queries) -> np.ndarray:
        """See ``SequentialRecommender``; inputs as of ``DateNetwork``, the last one with the day of the query."""
        own = self.day_of[queries.users[:, None], queries.histories].toarray()  # (N, T), 0 at padding
        rows = super().inputs_of(replace(queries, histories=queries.histories + self.base * own))
        next_days = np.roll(rows // self.base, -1, axis=1)
        next_days[np.arange(len(rows)), (rows > 0).sum(1) - 1] = self.days(queries.times)
        return rows % self.base + self.base * next_days * (rows > 0)


class DateInBiases(DateInput):
    """The date as an input, and items whose biases depend on it."""

    in_biases = True


def as_kind(system: MMGPT2Rec, kind: type[MMGPT2Rec]) -> MMGPT2Rec:
    """The same system as another class."""
    return kind(**{one.name: getattr(system, one.name) for one in fields(system) if one.init})


KNOWN, RESNET = "known items in the loss", "pocket-resnet's images"
KINDS = {
    "features and zero IDs": ZeroIds,
    "random backbone, LoRA alpha 1": LoraAlphaOne,
    "512 numbers, add": BottleneckDecoder,
    KNOWN: KnownItemsOnly,
    "date as input": DateInput,
    "date as input and in item biases": DateInBiases,
}
"""System -> its class, where it is not MMGPT2Rec itself."""

# Systems --------------------------------------------------------------------------------------------------------------

_IDS = {"use_ids": True, "weight_decay": 0.1}
SEARCHED = {
    "features and IDs, own search": Variant(hyperparameters=_IDS),
    "features and zero IDs": Variant(hyperparameters=_IDS),
    "IDs only, own search": Variant(inputs="none", hyperparameters=_IDS),
    "text only, own search": ABLATIONS["text only"],
    "image only, own search": ABLATIONS["image only"],
    "random backbone, LoRA alpha 1": DESIGN_CHOICES["random backbone, LoRA"],
}
"""Systems with a search of their own; with ID embeddings they have SASRec's weight decay."""
AS_THE_DECODER = {
    "512 numbers, add": Variant(),
    "price as a third modality": Variant(inputs="with price"),
    RESNET: Variant(),
    "date as input": Variant(),
    "date as input and in item biases": Variant(),
    "dim 256, add": Variant(hyperparameters={"dim": 256}),
    "dim 256, concat": Variant(config=MMGPT2Config(fusion="concat"), hyperparameters={"dim": 256}),
}
"""Systems with the decoder's learning rate and dropout."""
LONGER = 90
"""Epochs of the longer trainings, three times as many; they may stop early."""
LONGER_TRAININGS = (
    *("MM-GPT2Rec", "pretrained backbone", "pretrained backbone, unfreezing"),
    *("pretrained backbone, LoRA", "random backbone, LoRA", "dim 32", "4 layers", "image only"),
)
"""Systems whose best validation was at the last step on some shop, and the decoder."""
NUM_TRAININGS = 3
"""Trainings of the decoder and of each ablation on a shop, each with its own random numbers."""
EXTRAS: dict[str, Variant] = {
    **SEARCHED,
    **AS_THE_DECODER,
    "appendix as printed, pretrained backbone": Variant(
        config=MMGPT2Config(backbone="gpt2", training=APPENDIX), hyperparameters=PRINTED, pretrained_sizes=True
    ),
    **{f"{name}, {LONGER} epochs": (ABLATIONS | DESIGN_CHOICES)[name] for name in LONGER_TRAININGS},
    **{f"{name}, training {number}": ABLATIONS[name] for number in range(2, NUM_TRAININGS + 1) for name in ABLATIONS},
}
"""Name -> system, on the three shops by leave-one-out."""
ON_MORE_USERS = ("MM-GPT2Rec", "text only", "dim 128")
"""Systems on a shop of eight times as many users: what more data and a larger network are worth."""


def side_by_side_with_price(inputs: dict, prices: np.ndarray) -> dict:
    """The inputs of the decoder and a column with (I,) logarithms of prices, as a third modality."""
    column = np.concatenate([[0.0], np.log(prices)])[:, None].astype(np.float32)
    features = np.concatenate([inputs["features"], column], axis=1)
    return {"features": features, "dims": (*inputs["dims"], 1)}


# Ceilings -------------------------------------------------------------------------------------------------------------


class ClockBlindCeiling(BayesCeiling):
    """Knows all of the shop's rules but no date: each item has its mean attraction over the days of training."""

    name = "Bayes ceiling, clock-blind"

    def learn(self, split: Split, checkpoint: object) -> None:
        """Replace each item's launch and fashion by its mean weight."""
        super().learn(split, None)
        catalogue, frame = self.truth.catalogue, split.interactions("train")
        days = self.truth.purchases.days[self.truth.purchases.rows >= 0]
        days = np.quantile(days, np.linspace(0.005, 0.995, 100)) if len(frame) else days
        utility = common_utility(catalogue, np.arange(catalogue.num_items), days)  # (days, I)
        mean = np.log(np.exp(utility).mean(axis=0) + 1e-9)
        always, never = np.full_like(catalogue.launch, days.min() - 1e6), np.full_like(catalogue.peak, np.inf)
        flat = replace(catalogue, popularity=mean / POPULARITY_UTILITY, peak=never, launch=always)
        self.truth = replace(self.truth, catalogue=flat)


CEILINGS: dict[str, tuple[type[BayesCeiling], int | None]] = {
    "Bayes ceiling, all users": (BayesCeiling, None),
    ClockBlindCeiling.name: (ClockBlindCeiling, 600),
}
"""Name -> ceiling, and for how many users it is computed."""
