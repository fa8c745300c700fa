"""Trans2D: a transformer over positions and fields, whose attention sees single field values of earlier items."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.lessons.decoder import Add, ItemEmbedding
from mmrec_helpers.recommenders.matrices import check_rows
from mmrec_helpers.recommenders.sasrec import TransformerBackbone
from mmrec_helpers.recommenders.sequential import INIT_STD, CausalRecommender, SequenceModel, standardise


class LinearPerField(nn.Module):
    """A linear map for each of C fields, which lie side by side: (..., C D) -> (..., C E)."""

    def __init__(self, num_fields: int, dim: int, out_dim: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(dim, out_dim) for _ in range(num_fields))

    def forward(self, x: Tensor) -> Tensor:
        """Each field by its own map."""
        return torch.cat([own(part) for own, part in zip(self.maps, x.chunk(len(self.maps), -1), strict=True)], -1)


def scores_2d(query: Tensor, keys: Tensor, mix: Tensor) -> Tensor:
    """(B, H, T, C, T, C) causal scores of all pairs of field values, from (B, H, T, C, d) queries and keys.

    With s(t, c, u, e) the scaled product of the query of field c at position t and the key of field e at position u:
    mix[0] s(t, c, u, e) + mix[1] sum_f s(t, f, u, f) + mix[2] sum_{v <= t} s(v, c, v, e).
    """
    scores = torch.einsum("bhtcd,bhued->bhtcue", query, keys) / query.shape[-1] ** 0.5
    items = torch.einsum("bhtcuc->bhtu", scores)[:, :, :, None, :, None]
    fields = torch.einsum("bhtcte->bhtce", scores).cumsum(2)[:, :, :, :, None]
    future = torch.ones(scores.shape[2], scores.shape[2], dtype=torch.bool, device=scores.device).triu(1)
    mixed = mix[0] * scores + mix[1] * items + mix[2] * fields
    return mixed.masked_fill(future[:, None, :, None], -torch.inf)


class Attention2D(nn.Module):
    """Each field value attends to those of all fields at its own and earlier positions, with H heads."""

    def __init__(self, num_fields: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_fields, self.num_heads = num_fields, num_heads
        self.inputs, self.output = LinearPerField(num_fields, dim, 3 * dim), LinearPerField(num_fields, dim, dim)
        self.mix = nn.Parameter(torch.ones(3))

    def weights_and_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C D) -> (B, H, T, C, T C) attention weights, rows are queries, and (B, H, T, C, d)."""
        parts = self.inputs(hidden).unflatten(2, (self.num_fields, 3, self.num_heads, -1))
        query, keys, values = parts.permute(3, 0, 4, 1, 2, 5)  # (B, H, T, C, d) each
        return scores_2d(query, keys, self.mix).flatten(4).softmax(-1), values

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, C D) -> (B, T, C D)."""
        weights, values = self.weights_and_values(hidden)
        mixed = weights.flatten(2, 3) @ values.flatten(2, 3)  # (B, H, T C, d)
        return self.output(mixed.unflatten(2, values.shape[2:4]).permute(0, 2, 3, 1, 4).flatten(2))


class Block2D(nn.Module):
    """Attention over positions and fields, then an MLP for each field; each after a norm, with a residual."""

    def __init__(self, num_fields: int, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(num_fields * dim), nn.LayerNorm(num_fields * dim)
        self.attention = Attention2D(num_fields, dim, num_heads)
        inner, outer = LinearPerField(num_fields, dim, 2 * dim), LinearPerField(num_fields, 2 * dim, dim)
        self.mlp, self.dropout = nn.Sequential(inner, nn.GELU("tanh"), outer), nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: None = None) -> Tensor:
        """(B, T, C D) -> (B, T, C D)."""
        hidden = hidden + self.dropout(self.attention(self.before_attention(hidden)))
        return hidden + self.dropout(self.mlp(self.before_mlp(hidden)))


class FieldBackbone(TransformerBackbone):
    """SASRec's backbone with blocks for C fields side by side, and the mean over fields at the end."""

    def __init__(
        self, num_fields: int, dim: int, num_layers: int, num_heads: int, max_len: int, dropout: float
    ) -> None:
        super().__init__(num_fields * dim, 0, num_heads, max_len, dropout, causal=True)
        self.num_fields = num_fields
        self.blocks.extend(Block2D(num_fields, dim, num_heads, dropout) for _ in range(num_layers))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C D), (B, T) bool -> (B, T, D)."""
        return super().forward(embeddings, mask).unflatten(2, (self.num_fields, -1)).mean(2)


class FieldModel(SequenceModel):
    """The input of an item is its ID embedding and its projected modalities side by side, its output their sum."""

    def input_embeddings(self) -> Tensor:
        """(I + 1, C D): fields of the items, and of the BOS token, which has the same vector in each."""
        items = self.item_embedding
        assert isinstance(items.id_embeddings, Tensor)
        fields: list[Tensor] = [items.id_embeddings]
        if isinstance(items.fusion, Add):
            fields += items.fusion.project([*items.features.buffers()]).unbind()
        return torch.cat([torch.cat([own, items.special_token]) for own in fields], 1)

    def forward(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequenceModel``."""
        embeddings, dim = self.input_embeddings(), self.item_embedding.special_token.shape[1]
        return self.hidden_states(inputs, positions, embeddings), embeddings[:-1].unflatten(1, (-1, dim)).sum(1)


@dataclass(eq=False, kw_only=True)
class Trans2D(CausalRecommender):
    """A transformer with attention over positions and fields {cite}`singer2022trans2d`; ID and modalities are fields.

    The paper orders a user's watchlist, whose items are positions of the sequence, by a bidirectional network. Here the
    next item among all is predicted at each position, so attention is causal, the sum over positions of its third term
    ends at the query's, and an item's score is the inner product with the sum of its fields. Weights per field, the
    norm over all fields, the mean at the end and one layer are those of the released code; a head has D / H numbers and
    norms come first as in the other transformers of this package. A modality enters linearly.

    Args:
        features: modality -> (I + 1, F) dense; zeros in row 0 and for items without features.
        num_heads: H, a divisor of D.

    Attributes:
        dims: F of each modality, once fitted.
    """

    FITTED = ("dims", *CausalRecommender.FITTED)
    features: Mapping[str, np.ndarray] = field(repr=False)  # type: ignore[assignment]
    num_layers: int = 1
    num_heads: int = 2
    epochs: int = 12
    name: str = "Trans2D"
    dims: tuple[int, ...] = field(init=False, repr=False)

    def initial_model(self, split: Split) -> SequenceModel:
        """See ``SequentialRecommender``."""
        for modality, values in self.features.items():
            check_rows(values, split, f"{self.name}, {modality}")
        self.dims = tuple(values.shape[1] for values in self.features.values())
        return super().initial_model(split)

    def item_features(self, num_items: int) -> Tensor:
        """(I, sum of F) standardised features of all modalities side by side."""
        parts = [standardise(np.asarray(values, float)[1:]) for values in self.features.values()]
        return torch.as_tensor(np.concatenate([np.zeros((num_items, 0)), *parts], 1), dtype=torch.float32)

    def build_model(self, features: Tensor | None) -> SequenceModel:
        """See ``SequentialRecommender``."""
        assert features is not None
        backbone, ids = self.backbone(), INIT_STD * torch.randn(len(features), self.dim)
        fusion = Add(self.dims, self.dim, bias=False) if self.dims else None
        return FieldModel(backbone, ItemEmbedding(self.dim, list(features.split(self.dims, 1)), fusion, ids))

    def backbone(self) -> FieldBackbone:
        """See ``SequentialRecommender``."""
        sizes = self.dim, self.num_layers, self.num_heads, self.max_len
        return FieldBackbone(1 + len(self.dims), *sizes, self.dropout)
