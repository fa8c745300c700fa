"""MM-GPT2Rec as a recommender: chapter 4's item decoder, trained and queried as SASRec is, and its design choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.lessons.decoder import GPT2, Add, Concat, CrossAttention, ItemDecoder, Weighted, load_gpt2
from mmrec_helpers.lessons.overlap import info_nce
from mmrec_helpers.llm.backbones import backbone_sizes, backbone_weights
from mmrec_helpers.llm.tuning import add_lora, unfreeze_gradually
from mmrec_helpers.recommenders.features import principal_components
from mmrec_helpers.recommenders.sequential import (
    INIT_STD,
    CatalogueEmbedding,
    CausalRecommender,
    SequenceModel,
    pad_right,
    standardise,
    windows,
)
from mmrec_helpers.training.loop import TrainingConfig

FUSIONS = {"concat": Concat, "add": Add, "weighted": Weighted, "attention": CrossAttention}
CHOICES = {
    "fusion": tuple(FUSIONS),
    "id_init": ("random", "features"),
    "bos": ("start", "user", "none"),
    "tuning": ("full", "lora", "unfreezing"),
}
"""Design choice -> its values."""
CONTRASTIVE_ITEMS, TEMPERATURE = 256, 0.1
"""Items in a batch of the contrastive loss, and its temperature."""


@dataclass(frozen=True, kw_only=True)
class MMGPT2Config:
    """Design choices of MM-GPT2Rec.

    The paper names most of them without a result. Where it gives no definition, these are our readings.

    Attributes:
        fusion: of the modalities: ``concat``, ``add``, ``weighted`` or ``attention``.
        tie_weights: score items with their input embeddings, not with free output embeddings.
        use_bias: give each item a bias on its score, which learns its popularity.
        id_init: how ID embeddings are initialised: ``random``, or ``features``, the features' principal components, in
            which case the features are not used otherwise.
        bos: first token of a history: ``start``, the same for all; ``user``, one for each user; or ``none``.
        eos: train on an EOS token after each user's last item. As in GPT-2, BOS and EOS are one token.
        backbone: a pretrained GPT-2, see ``llm.backbones``; its layers and heads replace those of the system.
            Randomly initialised if empty.
        tuning: of the backbone: ``full``; ``lora``; or ``unfreezing``, gradually, the last block first.
        contrastive_weight: of the InfoNCE loss between an item's text and image.
        alignment_weight: of 1 - cosine similarity between the input and output embedding of an item.
        training: fields of ``TrainingConfig`` to override.
    """

    fusion: str = "add"
    tie_weights: bool = True
    use_bias: bool = True
    id_init: str = "random"
    bos: str = "start"
    eos: bool = False
    backbone: str = ""
    tuning: str = "full"
    contrastive_weight: float = 0.0
    alignment_weight: float = 0.0
    training: Mapping[str, Any] = field(default_factory=dict)


# Parts ----------------------------------------------------------------------------------------------------------------


class DecoderNetwork(SequenceModel):
    """An item decoder that is evaluated at some positions of a batch.

    Args:
        decoder: over items 1..I and the BOS / EOS token, I + 1.
        num_users: U. The BOS token of user u is I + 2 + u, embedded as the sum of the token's and the user's embedding.
            0 if users have no token of their own.
        eos: also score the token, as the end of a history.
    """

    def __init__(self, decoder: ItemDecoder, num_users: int = 0, eos: bool = False) -> None:
        super().__init__(decoder.gpt2, decoder.item_embedding)
        self.decoder, dim = decoder, decoder.item_embedding.special_token.shape[1]
        self.users = nn.Parameter(torch.zeros(num_users, dim)) if num_users else None
        self.eos_bias = nn.Parameter(torch.zeros(1)) if eos else None

    @property
    def bias(self) -> Tensor:
        """(I,) of the items' scores, or (I + 1,) with the EOS token's."""
        bias = self.item_embedding.bias
        return bias if self.eos_bias is None else torch.cat([bias, self.eos_bias])

    def forward(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequenceModel``."""
        embeddings = self.item_embedding()
        with_users = embeddings if self.users is None else torch.cat([embeddings, embeddings[-1] + self.users])
        hidden = self.hidden_states(inputs, positions, with_users)
        outputs = self.decoder.output_embeddings(embeddings)
        return hidden, outputs if self.eos_bias is None else torch.cat([outputs, embeddings[-1:]])

    def encode(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """See ``SequenceModel``."""
        return self.decoder.hidden_states(inputs, embeddings)


def load_backbone(name: str, dropout: float = 0.1) -> GPT2:
    """A pretrained GPT-2 without its word embeddings, see ``llm.backbones``."""
    return load_gpt2(backbone_weights(name), backbone_sizes(name)["num_heads"], dropout)[0]


def contrastive_loss(texts: Tensor, images: Tensor, known: Tensor) -> Tensor:
    """InfoNCE {cite}`oord2018cpc` of (I, D) texts and images, of CONTRASTIVE_ITEMS random ones of (C,) known rows."""
    sampled = known[torch.randperm(len(known), device=known.device)[:CONTRASTIVE_ITEMS]]
    return info_nce(texts[sampled], images[sampled], TEMPERATURE)


def alignment_loss(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Mean of 1 - cosine similarity between (I, D) input and output embeddings."""
    return (1 - F.cosine_similarity(outputs, inputs)).mean()


# System ---------------------------------------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class MMGPT2Rec(CausalRecommender):
    """GPT-2 over items that are represented by their text and image {cite}`olaniyi_mmgpt2rec`.

    Without ``use_ids`` an item has no embedding beside its features, so items without interactions have one as well.

    Args:
        dims: F of each modality; ``features`` holds them side by side. By default all columns are one modality.
        num_heads: H of self-attention, a divisor of ``dim``.
        config: the design choices.

    Attributes:
        gpt2_sizes: layers, heads and positions of the backbone, once fitted.
    """

    FITTED = ("gpt2_sizes", *CausalRecommender.FITTED)
    dims: tuple[int, ...] = ()
    num_heads: int = 4
    config: MMGPT2Config = field(default_factory=MMGPT2Config)
    use_ids: bool = False
    dropout: float = 0.2
    epochs: int = 30
    lr: float = 4e-3
    weight_decay: float = 0.05
    gpt2_sizes: tuple[int, int, int] = field(init=False, repr=False)
    network: DecoderNetwork = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or "MM-GPT2Rec"
        super().__post_init__()
        self._check_config()

    def _check_config(self) -> None:
        """Refuse values that do not exist and choices that exclude each other."""
        config = self.config
        for choice, values in CHOICES.items():
            if getattr(config, choice) not in values:
                raise ValueError(f"{self.name} has no {choice} {getattr(config, choice)!r}; it has {', '.join(values)}")
        no_features, from_features = self.features is None, config.id_init == "features"
        no_pairs = no_features or len(self.dims) != 2 or config.fusion == "concat" or from_features
        exclusive = {
            "contrastive_weight needs features of two modalities, see dims, a fusion other than concat, and "
            "id_init='random'": config.contrastive_weight and no_pairs,
            f"loss {self.loss!r} compares items only; the EOS token needs 'ce' or 'ssm'": (
                config.eos and self.loss in ("bce", "gbce")
            ),
            "id_init='features' needs features and use_ids=True": from_features and (no_features or not self.use_ids),
            "alignment_weight needs tie_weights=False: tied embeddings are aligned already": (
                config.alignment_weight and config.tie_weights
            ),
        }
        for problem, occurs in exclusive.items():
            if occurs:
                raise ValueError(f"{self.name}: {problem}")

    def initial_model(self, split: Split) -> SequenceModel:
        """The model that training begins with, with the configured backbone's weights.

        Raises:
            ValueError: a pretrained backbone has another dimension or too few positions.
        """
        if not self.config.backbone:  # one position more than items, for the BOS token
            self.gpt2_sizes = (self.num_layers, self.num_heads, self.max_len + 1)
            return super().initial_model(split)
        pretrained = load_backbone(self.config.backbone)
        positions, dim = pretrained.positions.weight.shape
        if dim != self.dim or positions <= self.max_len:
            raise ValueError(
                f"{self.name}: {self.config.backbone} has dim {dim} and {positions} positions; "
                f"this system needs dim {self.dim} and more than {self.max_len} positions"
            )
        sizes = backbone_sizes(self.config.backbone)
        self.gpt2_sizes = (sizes["num_layers"], sizes["num_heads"], positions)
        network, weights = super().initial_model(split), pretrained.state_dict()
        for name, weight in network.backbone.named_parameters():
            if (name := name.replace("base_layer.", "")) in weights:  # not LoRA's own matrices
                weight.data.copy_(weights[name])
        return network

    def build_model(self, features: Tensor | None) -> DecoderNetwork:
        """See ``SequentialRecommender``; ID embeddings are initialised as configured."""
        config, item_embedding = self.config, self._item_embedding(features)
        decoder = ItemDecoder(item_embedding, self.backbone(), config.tie_weights)
        network = DecoderNetwork(decoder, self.num_users if config.bos == "user" else 0, config.eos)
        for bias in (item_embedding.bias, network.eos_bias):
            if bias is not None:
                bias.requires_grad_(config.use_bias)
        return network

    def item_features(self, num_items: int) -> Tensor | None:
        """(I, F) standardised features, or (I, D) principal components for ID embeddings, as configured."""
        features = super().item_features(num_items)
        if self.config.id_init != "features":
            return features
        components = principal_components(np.asarray(self.features), self.dim)
        return torch.as_tensor(standardise(components[1:]), dtype=torch.float32)

    def _item_embedding(self, columns: Tensor | None) -> CatalogueEmbedding:
        features, fusion, ids = None, None, None
        if columns is not None and self.config.id_init == "random":
            dims = self.dims or (columns.shape[1],)
            if sum(dims) != columns.shape[1]:
                raise ValueError(f"{self.name}: dims {dims} do not sum to the {columns.shape[1]} columns of features")
            fusion, features = FUSIONS[self.config.fusion](dims, self.dim), columns.split(dims, dim=1)
        if self.use_ids:
            ids = INIT_STD * torch.randn(self.special_token_id - 1, self.dim)
        if self.config.id_init == "features":
            ids = columns
        return CatalogueEmbedding(self.dim, features, fusion, ids)

    def backbone(self) -> GPT2:
        """A randomly initialised GPT-2 of the configured sizes, with LoRA where configured."""
        num_layers, num_heads, num_positions = self.gpt2_sizes
        gpt2 = GPT2(self.dim, num_layers, num_heads, num_positions, self.dropout)
        if self.config.tuning == "lora":
            add_lora(gpt2)
        return gpt2

    def training_rows(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(W, length + 1) windows, with BOS and EOS tokens as configured."""
        if self.config.eos:
            ends = np.flatnonzero(np.diff(users, append=-1)) + 1
            users, items = np.insert(users, ends, users[ends - 1]), np.insert(items, ends, self.special_token_id)
        owners = windows(users, users + 1, self.max_len, 0).max(1) - 1  # (W,) user of each window
        rows = self.with_bos(super().training_rows(users, items), owners)
        rows = rows[rows[:, 1] > 0]  # without BOS token, a single item has no input to be predicted from
        if not len(rows):
            raise ValueError(f"{self.name}: without a BOS token some user needs two training items; none has")
        return rows

    def with_bos(self, rows: np.ndarray, users: np.ndarray) -> np.ndarray:
        """(N, T) rows of (N,) users, with the configured BOS token in place of the start token."""
        if self.config.bos == "start":
            return rows
        is_bos = (rows == self.special_token_id) & (np.arange(rows.shape[1]) == 0)
        bos = self.special_token_id + 1 + users[:, None] if self.config.bos == "user" else 0
        return pad_right(np.where(is_bos, bos, rows))

    def inputs_of(self, queries: Queries) -> np.ndarray:
        """(N, T') inputs of queries, with BOS tokens as configured.

        Raises:
            ValueError: a history is empty, and there is no BOS token.
        """
        rows = self.with_bos(super().inputs_of(queries), queries.users)
        if not rows.any(1).all():
            raise ValueError(f"{self.name}: without a BOS token an empty history cannot be scored")
        return rows

    def training_config(self, batches: int, validated: bool) -> TrainingConfig:
        """The configuration of a training whose epochs have so many batches, with the configured overrides."""
        training = self.config.training
        batches = -(-batches // int(training.get("accumulation_steps", 1)))
        return replace(super().training_config(batches, validated), **training)

    def loss_of(self, rows: Tensor, step: int) -> Tensor:
        """The loss of a step's batch out of all windows, with the configured auxiliary losses."""
        config, decoder = self.config, self.network.decoder
        if config.tuning == "unfreezing":
            steps = self.epochs * -(-len(rows) // self.batch_size)
            unfreeze_gradually([*reversed(decoder.gpt2.blocks), decoder.gpt2.positions], step / steps)
        loss, items = super().loss_of(rows, step), decoder.item_embedding
        if config.contrastive_weight:
            assert isinstance(items.fusion, Add)  # of which all fusions but concat are kinds
            texts, images = items.fusion.project([*items.features.buffers()])
            loss = loss + config.contrastive_weight * contrastive_loss(texts, images, self._items_with_both)
        if config.alignment_weight:
            embeddings = items()
            outputs = decoder.output_embeddings(embeddings)
            loss = loss + config.alignment_weight * alignment_loss(embeddings[:-1], outputs)
        return loss

    @cached_property
    def _items_with_both(self) -> Tensor:
        """(C,) rows of the items with text and image: neither all zeros before standardisation."""
        texts, images = np.split(np.asarray(self.features)[1:], [self.dims[0]], axis=1)
        known = np.flatnonzero(texts.any(axis=1) & images.any(axis=1))
        if not len(known):
            raise ValueError(f"{self.name}: no item has both text and image, so contrastive_weight must be 0")
        return torch.from_numpy(known).to(self.device)
