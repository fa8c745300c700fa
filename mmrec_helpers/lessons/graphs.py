import numpy as np
from scipy import sparse


def user_item_graph(
    users: np.ndarray, items: np.ndarray, num_users: int, num_items: int
) -> sparse.csr_array:
    """(M, M) edges between users (P,) and items (P,) that interacted, both ways.

    Node u is user u and node U + i is item i, so M = U + I + 1: item 0 is padding.
    """
    size, pairs = num_users + num_items + 1, (users, num_users + items)
    half = sparse.csr_array((np.ones(len(users)), pairs), shape=(size, size))
    return sparse.csr_array((half + half.T) > 0)

import torch
from torch import Tensor, nn


class Graph(nn.Module):
    """The E directed edges of a symmetric graph of M nodes, sorted by target.

    An edge carries a message from its source to its target.
    """

    def __init__(self, adjacency: sparse.csr_array) -> None:
        super().__init__()
        A = adjacency.sorted_indices()
        self.num_nodes, degree = A.shape[0], np.diff(A.indptr)  # M, (M,)
        number = sparse.csr_array((np.arange(A.nnz), A.indices, A.indptr), A.shape)
        arrays = {
            "offsets": A.indptr,  # (M + 1,) first edge of each target
            "targets": np.repeat(np.arange(self.num_nodes), degree),  # (E,)
            "sources": A.indices,  # (E,)
            "reverse": number.T.tocsr().data,  # (E,) the edge the other way
            "degree": degree,
        }
        for name, values in arrays.items():
            self.register_buffer(name, torch.from_numpy(values).long(), False)

import warnings


def sparse_matrix(graph: Graph, weights: Tensor) -> Tensor:
    """(M, M) with the weights (E,) of the edges: row = target, column = source."""
    parts = graph.offsets, graph.sources, weights, (graph.num_nodes,) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls this layout a beta version
        return torch.sparse_csr_tensor(*parts, check_invariants=False)


def edge_dots(graph: Graph, x: Tensor, y: Tensor) -> Tensor:
    """(E,) products of x (M, D) at the target with y (M, D) at the source, no gradient."""
    zeros = sparse_matrix(graph, x.new_zeros(len(graph.sources)))
    return torch.sparse.sampled_addmm(zeros, x, y.T).values()

from typing import Any

Context = Any  # what PyTorch hands from forward to backward


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, graph: Graph, weights: Tensor, x: Tensor) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(weights, x)
        return sparse_matrix(graph, weights) @ x

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> tuple[None, Tensor | None, Tensor]:
        graph, (weights, x), g = ctx.graph, ctx.saved_tensors, g.contiguous()
        of_weights = edge_dots(graph, g, x) if ctx.needs_input_grad[1] else None
        return None, of_weights, sparse_matrix(graph, weights[graph.reverse]) @ g


def propagate(graph: Graph, weights: Tensor, x: Tensor) -> Tensor:
    """(M, D) each node's sum over its edges of weights (E,) times x (M, D)."""
    return _Propagate.apply(graph, weights, x)

def mean_weights(graph: Graph) -> Tensor:
    """(E,) 1 / degree of the target: the sum over the edges of a node is 1."""
    return 1 / graph.degree[graph.targets].float()


def symmetric_weights(graph: Graph) -> Tensor:
    """(E,) 1 / sqrt(degree of the target times degree of the source)."""
    return (graph.degree[graph.targets] * graph.degree[graph.sources]).float().rsqrt()

from mmrec_helpers.lessons.bpr import Factors


class PropagatedFactors(nn.Module):
    """LightGCN: b_i + p_u . q_i, where p and q are means over layers of a graph."""

    def __init__(self, base: Factors, graph: Graph, num_layers: int) -> None:
        super().__init__()
        self.base, self.graph, self.num_layers = base, graph, num_layers

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        """(U, D) users, (I + 1, D) items, (I + 1,) biases."""
        users, items, bias = self.base.embeddings()
        weights, layers = symmetric_weights(self.graph), [torch.cat([users, items])]
        for _ in range(self.num_layers):
            layers.append(propagate(self.graph, weights, layers[-1]))
        p, q = torch.stack(layers).mean(dim=0).split([len(users), len(items)])
        return p, q, bias

from torch.nn.functional import leaky_relu, normalize


class ModalityGraph(nn.Module):
    """Layers of MMGCN on the graph of one modality, with (I + 1, F) item features."""

    def __init__(
        self, features: Tensor, num_users: int, dim: int, num_layers: int
    ) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.users = nn.Parameter(0.1 * torch.randn(num_users, dim))
        self.projection = nn.Linear(features.shape[1], dim)
        layers = [[nn.Linear(dim, dim) for _ in range(3)] for _ in range(num_layers)]
        self.layers = nn.ModuleList(map(nn.ModuleList, layers))

    def aggregate(self, graph: Graph, x: Tensor) -> Tensor:
        """(M, D) mean over the neighbours of each node."""
        return propagate(graph, mean_weights(graph), x)

def modality_layer(
    model: ModalityGraph, layer: nn.ModuleList, graph: Graph, x: Tensor, ids: Tensor
) -> Tensor:
    """(M, D) one layer: the neighbours' messages combined with the node's own x."""
    message, own, combine = layer
    h = leaky_relu(model.aggregate(graph, message(x)))
    return leaky_relu(combine(h) + leaky_relu(own(x)) + ids)


def modality_embeddings(model: ModalityGraph, graph: Graph, ids: Tensor) -> Tensor:
    """(M, D) users and items in one modality, from (M, D) ID embeddings."""
    x = normalize(torch.cat([model.users, model.projection(model.features)]))
    for layer in model.layers:
        x = modality_layer(model, layer, graph, x, ids)
    return x

from collections.abc import Sequence


class GraphPerModality(nn.Module):
    """MMGCN: b_i + p_u . q_i, where p and q are sums over the modalities' graphs."""

    def __init__(
        self, base: Factors, graph: Graph, modalities: Sequence[ModalityGraph]
    ) -> None:
        super().__init__()
        self.base, self.graph = base, graph
        self.modalities = nn.ModuleList(modalities)

    def embeddings(self) -> tuple[Tensor, Tensor, Tensor]:
        """(U, D) users, (I + 1, D) items, (I + 1,) biases."""
        users, items, bias = self.base.embeddings()
        ids = torch.cat([users, items])  # (M, D)
        parts = [modality_embeddings(m, self.graph, ids) for m in self.modalities]
        p, q = torch.stack(parts).sum(dim=0).split([len(users), len(items)])
        return p, q, bias

class _EdgeDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, graph: Graph, x: Tensor, y: Tensor) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(x, y)
        return edge_dots(graph, x, y)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> tuple[None, Tensor, Tensor]:
        graph, (x, y) = ctx.graph, ctx.saved_tensors
        of_x = sparse_matrix(graph, g) @ y
        return None, of_x, sparse_matrix(graph, g[graph.reverse]) @ x

def edge_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """(E,) softmax of the scores (E,) over the edges of each target."""
    nodes, targets = scores.new_zeros(graph.num_nodes), graph.targets
    largest = nodes.scatter_reduce(0, targets, scores.detach(), "amax", include_self=False)
    exponentials = (scores - largest[targets]).exp()  # no overflow
    return exponentials / nodes.index_add(0, targets, exponentials)[targets]


class AttentionGraph(ModalityGraph):
    """Layers of MGAT: weights by gated attention in the place of the mean."""

    def attention(self, graph: Graph, x: Tensor) -> Tensor:
        """(E,) weight of each edge; those of one target sum to 1."""
        scores = _EdgeDots.apply(graph, x, leaky_relu(x))
        gate = torch.sigmoid(scores / graph.degree[graph.targets].sqrt())
        return edge_softmax(graph, gate * scores)

    def aggregate(self, graph: Graph, x: Tensor) -> Tensor:
        """(M, D) weighted sum over the neighbours of each node, at length 1."""
        return normalize(propagate(graph, self.attention(graph, x), x))
