"""Recommenders on the graph of users and items: BPR with other embeddings, LightGCN, MMGCN and MGAT."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.lessons.bpr import Factors
from mmrec_helpers.lessons.graphs import (
    AttentionGraph,
    GraphPerModality,
    ModalityGraph,
    PropagatedFactors,
    user_item_graph,
)
from mmrec_helpers.recommenders.factorization import BPR
from mmrec_helpers.recommenders.matrices import check_rows, directions
from mmrec_helpers.recommenders.pairwise import Pairs
from mmrec_helpers.training.graphs import Graph


@dataclass(eq=False, kw_only=True)
class LightGCN(BPR):
    """BPR with embeddings averaged over layers of the graph of training interactions {cite}`he2020lightgcn`.

    Embeddings are propagated once a step, by a sparse matrix product. With no layer it is BPR, of which it keeps what
    the paper does not have: biases of items, and weight decay of all weights in the place of a penalty on those of a
    batch. All layers have the same weight, as the paper recommends.

    Args:
        num_layers: propagations; the paper tries 1 to 4.
        name: of the system in tables.
    """

    patience: int = 10
    num_layers: int = 2
    name: str = "LightGCN"

    def build_model(self, split: Split) -> nn.Module:
        """See ``PairwiseRecommender``."""
        return PropagatedFactors(*self.base(split), self.num_layers)

    def base(self, split: Split) -> tuple[Factors, Graph]:
        """ID embeddings, and the graph of the training part."""
        sizes, frame = (split.dataset.num_users, split.dataset.num_items), split.interactions("train")
        pairs = frame["user"].to_numpy(np.int64), frame["item"].to_numpy(np.int64)
        return Factors(*sizes, self.dim), Graph(user_item_graph(*pairs, *sizes))

    def score_differences(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """See ``PairwiseRecommender``."""
        numbers = pairs.users[rows], pairs.items[rows], pairs.negatives(pairs.users[rows], rng)
        users, items, others = map(self.tensor, numbers)
        p, q, bias = self.model.embeddings()
        return bias[items] - bias[others] + (p[users] * (q[items] - q[others])).sum(1)


@dataclass(eq=False, kw_only=True)
class MMGCN(LightGCN):
    """Multimodal graph convolution: a graph for each modality, whose embeddings are added {cite}`wei2019mmgcn`.

    In a layer, a node takes the mean of its neighbours' messages, and combines it with its own vector and its ID
    embedding. The paper offers several ways to aggregate and to combine; these are the mean and the element-wise sum.
    It leaves open how features of a modality are projected (here linearly, from ``directions``, to length 1) and their
    dimension (here that of the ID embeddings).

    Args:
        features: modality -> (I + 1, F) dense; zeros in row 0 and for items without features.
        num_layers: of each graph.
    """

    NOT_SAVED = ("features",)
    LAYERS: ClassVar[type[ModalityGraph]] = ModalityGraph
    features: Mapping[str, np.ndarray] = field(repr=False)
    num_layers: int = 1
    name: str = "MMGCN"

    def build_model(self, split: Split) -> nn.Module:
        """See ``PairwiseRecommender``."""
        graphs = []
        base, graph = self.base(split)
        for modality, values in self.features.items():
            check_rows(values, split, f"{self.name}, {modality}")
            features = torch.as_tensor(directions(values))
            graphs.append(self.LAYERS(features, split.dataset.num_users, self.dim, self.num_layers))
        return GraphPerModality(base, graph, graphs)


@dataclass(eq=False, kw_only=True)
class MGAT(MMGCN):
    """MMGCN with gated attention on the edges in the place of the mean {cite}`tao2020mgat`.

    The score of an edge is the inner product of its two nodes, one of them after a leaky ReLU; the gate is the sigmoid
    of this score over the root of the target's degree. Modalities are added with equal weights: what a modality is
    worth to a user is left to the gates. One layer by default, as in the code that the authors released.
    """

    LAYERS = AttentionGraph
    name: str = "MGAT"
