"""MMSR: message passing on the graph of a history, whose nodes are items and the clusters of their modalities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from sklearn.cluster import KMeans
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.lessons.decoder import ItemEmbedding
from mmrec_helpers.recommenders.matrices import check_rows, directions
from mmrec_helpers.recommenders.sequential import INIT_STD, CausalRecommender, SequenceModel
from mmrec_helpers.training.graphs import Graph, edge_dots, edge_softmax, propagate

RELATIONS = ("after", "before", "both", "itself")
"""How a node's neighbour of its own type lies to it: it occurs right before it, right after it, ..."""
SLOPE = 0.1
"""Of the leaky ReLU of both attentions."""


class HistoryGraphs:
    """The graphs of B histories, as one graph of M nodes without edges between histories.

    A node is an item of a history, or a modality code of its items, however often it occurs. Nodes of one type are
    joined where they occur at neighbouring positions, nodes of two types where they occur at the same position.

    Args:
        slots: (B, T, S) nodes at each position: the item, and the codes of each modality; 0 is none.
        types: (S,) 0 for items, 1, 2, ... for modalities; nodes of a type have larger numbers than those before.

    Attributes:
        nodes: (M,) sorted, and so by type; num_of_type: nodes of each type.
        positions: (M, T) shares of a node's occurrences at each position, counted from the end.
        last: (B,) rows of ``nodes``: the last item of each history.
        homogeneous, heterogeneous: with edges within a type and between types; each node has one to itself.
        relations: (E,) of the homogeneous edges, see RELATIONS.
    """

    def __init__(self, slots: np.ndarray, types: np.ndarray) -> None:
        known, (num_histories, length, _) = slots > 0, slots.shape
        rows, _, slot = np.nonzero(known)
        keys, first, owner = np.unique(slots[known] * num_histories + rows, return_index=True, return_inverse=True)
        self.nodes, size = keys // num_histories, len(keys)
        self.num_of_type = np.bincount(types[slot[first]], minlength=types.max() + 1).tolist()
        number = np.full(slots.shape, -1)
        number[known] = owner
        lengths = known[:, :, 0].sum(1)
        self.last = number[np.arange(num_histories), lengths - 1, 0]
        from_end = np.broadcast_to((lengths[:, None] - 1 - np.arange(length))[:, :, None], slots.shape)[known]
        counts = np.bincount(owner * length + from_end, minlength=size * length).reshape(size, length)
        self.positions = counts / counts.sum(1, keepdims=True)

        def edges(targets: np.ndarray, sources: np.ndarray, is_edge: np.ndarray) -> sparse.csr_array:
            target, source = np.broadcast_arrays(targets[..., None], sources[..., None, :])
            kept = (target >= 0) & (source >= 0) & (target != source) & is_edge
            pairs = sparse.csr_array((np.ones(kept.sum()), (target[kept], source[kept])), shape=(size, size))
            return (pairs > 0).astype(np.int64)

        same, itself = np.equal.outer(types, types), sparse.eye_array(size, dtype=np.int64, format="csr")
        after = edges(number[:, 1:], number[:, :-1], same)  # from the position before
        relations = sparse.csr_array(after + 2 * after.T + 4 * itself).sorted_indices()
        self.homogeneous, self.relations = Graph(relations), relations.data - 1
        self.heterogeneous = Graph(sparse.csr_array(edges(number, number, ~same) + itself))


class DualAttention(nn.Module):
    """Attention within types and between them, one after the other in both orders, which a gate weighs for each node.

    In each order the second attention has the results of the first in its scores. Its values are those of the nodes
    themselves (non-invasive), or with ``invasive`` the results of the first. ``synchronous`` has one attention of each
    kind in the place of the two orders.
    """

    def __init__(self, dim: int, num_types: int, synchronous: bool = False, invasive: bool = False) -> None:
        super().__init__()
        self.synchronous, self.invasive = synchronous, invasive
        self.query, self.key, self.value = (
            nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_types)) for _ in range(3)
        )
        self.relations = nn.Parameter(torch.randn(len(RELATIONS), dim) / sqrt(dim))
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def within(self, graphs: HistoryGraphs, x: Tensor) -> Tensor:
        """(E,) weights of the homogeneous edges, from (M, D) vectors of nodes."""
        graph, relations = graphs.homogeneous, torch.from_numpy(graphs.relations).to(x.device)
        scores = torch.stack([edge_dots(graph, x * own, x) for own in self.relations])
        return edge_softmax(graph, F.leaky_relu(scores.gather(0, relations[None])[0], SLOPE))

    def between(self, graphs: HistoryGraphs, x: Tensor) -> Tensor:
        """(E,) weights of the heterogeneous edges, from (M, D) vectors of nodes."""
        query, key = (per_type(maps, x, graphs.num_of_type) for maps in (self.query, self.key))
        scores = edge_dots(graphs.heterogeneous, query, key) / sqrt(x.shape[1])
        return edge_softmax(graphs.heterogeneous, F.leaky_relu(scores, SLOPE))

    def forward(self, graphs: HistoryGraphs, x: Tensor) -> Tensor:
        """(M, D) -> (M, D)."""
        values, within, between = per_type(self.value, x, graphs.num_of_type), graphs.homogeneous, graphs.heterogeneous
        orders = [propagate(within, self.within(graphs, values), values)]
        orders.append(propagate(between, self.between(graphs, x), values))
        if not self.synchronous:
            by_time, by_type = orders
            orders = [propagate(between, self.between(graphs, by_time), by_time if self.invasive else values)]
            orders.append(propagate(within, self.within(graphs, by_type), by_type if self.invasive else values))
        both = torch.stack(orders)
        return (self.gate(both).softmax(0) * both).sum(0)


def per_type(maps: nn.ModuleList, x: Tensor, num_of_type: list[int]) -> Tensor:
    """(M, D) nodes sorted by type, each by the linear map of its type."""
    return torch.cat([own(part) for own, part in zip(maps, x.split(num_of_type), strict=True)])


def modality_codes(features: np.ndarray, num_codes: int, num_links: int) -> tuple[np.ndarray, np.ndarray]:
    """(I, num_links) nearest clusters of each item, from 1, or 0 without features; and (K, F) their centres."""
    rows = np.asarray(directions(features), float)[1:]
    known = np.any(rows, axis=1)
    num_codes = min(num_codes, len(np.unique(rows[known], axis=0)))
    clusters = KMeans(num_codes, n_init=1, random_state=0).fit(rows[known])
    nearest = np.argsort(clusters.transform(rows), axis=1, kind="stable")[:, :num_links] + 1
    return nearest * known[:, None], clusters.cluster_centers_


class GraphModel(SequenceModel):
    """Message passing on the graphs of histories, of which the vector of the last item is the hidden state.

    ``slots`` (I + 2, S) and ``types`` (S,) are those of ``HistoryGraphs`` for each item and the BOS token, a node of
    type 0; ``codes`` (K, D) are the initial vectors of all modality codes.
    """

    def __init__(
        self,
        backbone: nn.ModuleList,
        item_embedding: ItemEmbedding,
        slots: np.ndarray,
        types: np.ndarray,
        codes: Tensor,
        max_len: int,
        dropout: float,
    ) -> None:
        super().__init__(backbone, item_embedding)
        self.slots, self.types, dim = slots, types, codes.shape[1]
        self.codes, self.dropout, self.norm = nn.Parameter(codes), nn.Dropout(dropout), nn.LayerNorm(dim)
        self.positions = nn.Parameter(INIT_STD * torch.randn(max_len, dim))
        self.type_embeddings = nn.Parameter(INIT_STD * torch.randn(int(types.max()) + 1, dim))

    def hidden_states(self, inputs: Tensor, positions: Tensor, embeddings: Tensor) -> Tensor:
        """See ``SequenceModel``; ``positions`` are the last ones."""
        graphs = HistoryGraphs(self.slots[inputs.cpu().numpy()], self.types)
        nodes, at, last = (
            torch.from_numpy(part).to(inputs.device) for part in (graphs.nodes, graphs.positions, graphs.last)
        )
        counts = torch.tensor(graphs.num_of_type, device=inputs.device)
        x = sqrt(embeddings.shape[1]) * F.embedding(nodes - 1, torch.cat([embeddings, self.codes]))
        x = x + at.float() @ self.positions[: at.shape[1]] + self.type_embeddings.repeat_interleave(counts, 0)
        x = self.dropout(x)
        assert isinstance(self.backbone, nn.ModuleList)
        for layer in self.backbone:
            x = self.dropout(layer(graphs, x))
        return self.norm(x[last])


@dataclass(eq=False, kw_only=True)
class MMSR(CausalRecommender):
    """Graph of a history whose modalities are fused before or after the sequence, by a gate {cite}`hu2023mmsr`.

    A modality enters by the cluster of its features. The item after a random prefix of each training history is
    predicted in each epoch; an item is scored by its ID embedding. Numbers of codes and links, one layer, and the last
    item as the state of a history are those of the released code. Our choices: three projections of the attention
    between types (in that code keys and values are overwritten by queries), its scale 1 / sqrt(D), the sum of
    embeddings of node, type and position, the norm at the end, and a BOS token as the first item.

    Args:
        features: modality -> (I + 1, F) dense; zeros in row 0 and for items without features, which have no code.
        num_codes: clusters of each modality.
        num_links: codes of an item in each modality.
        synchronous: attention within and between types at once, without an order.
        invasive: the second attention aggregates the results of the first.

    Attributes:
        slots: (I + 2, 1 + num_links x modalities) nodes of each item and of the BOS token, once fitted.
    """

    FITTED = ("slots", *CausalRecommender.FITTED)
    features: Mapping[str, np.ndarray] = field(repr=False)  # type: ignore[assignment]
    num_codes: int = 20
    num_links: int = 1
    synchronous: bool = False
    invasive: bool = False
    num_layers: int = 1
    epochs: int = 60
    validate_every: int = 4
    name: str = "MMSR"
    slots: np.ndarray = field(init=False, repr=False)

    def initial_model(self, split: Split) -> SequenceModel:
        """See ``SequentialRecommender``."""
        for modality, values in self.features.items():
            check_rows(values, split, f"{self.name}, {modality}")
        return super().initial_model(split)

    def item_features(self, num_items: int) -> Tensor:
        """(D, K) centres of the codes of all modalities, projected at random; sets ``slots``."""
        slots, centres, rng = [np.arange(num_items + 2)[:, None]], [], np.random.default_rng(self.seed)
        first = num_items + 1  # the number of the BOS token
        for values in self.features.values():
            nearest, own = modality_codes(values, self.num_codes, self.num_links)
            slots.append(np.pad(np.where(nearest, nearest + first, 0), ((1, 1), (0, 0))))
            centres.append(own @ rng.normal(size=(own.shape[1], self.dim)))
            first += len(own)
        self.slots = np.concatenate(slots, 1)
        vectors = np.concatenate([np.zeros((0, self.dim)), *centres])
        return torch.as_tensor(INIT_STD * vectors.T, dtype=torch.float32)

    def empty_network(self) -> SequenceModel:
        """See ``BaseRecommender``."""
        return self.build_model(torch.zeros(self.dim, self.num_features or 0))

    def build_model(self, features: Tensor | None) -> SequenceModel:
        """See ``SequentialRecommender``; from the codes' vectors."""
        assert features is not None
        num_items, num_slots = self.special_token_id - 1, self.slots.shape[1]
        types = np.append(0, 1 + np.arange(num_slots - 1) // self.num_links)
        options = int(types[-1]) + 1, self.synchronous, self.invasive
        layers = nn.ModuleList(DualAttention(self.dim, *options) for _ in range(self.num_layers))
        items = ItemEmbedding(self.dim, id_embeddings=INIT_STD * torch.randn(num_items, self.dim))
        return GraphModel(layers, items, self.slots, types, features.T.contiguous(), self.max_len, self.dropout)

    def inputs_and_targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See ``SequentialRecommender``; of each window a random prefix, and the item after it."""
        lengths = (rows[:, 1:] > 0).sum(1, keepdim=True)
        end = (torch.rand(len(rows), 1, device=rows.device) * lengths).long()  # the last position of the prefix
        position = torch.arange(rows.shape[1] - 1, device=rows.device)
        return rows[:, :-1] * (position <= end), rows[:, 1:] * (position == end)
