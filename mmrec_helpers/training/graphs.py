"""Sums over the edges of a graph, in time and memory of its edges: as sparse matrix products, with their gradients."""

import warnings
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

Context = Any  # what PyTorch hands from a forward to its backward


class Graph(nn.Module):
    """The E directed edges of a symmetric graph of M nodes, sorted by target; each carries a message from its source.

    They are no part of the weights that are saved.

    Args:
        adjacency: (M, M) symmetric; every stored entry is an edge.

    Attributes:
        num_nodes: M.
        offsets: (M + 1,) first edge of each target.
        targets, sources: (E,) nodes.
        reverse: (E,) number of the edge between the same nodes in the other direction.
        degree: (M,) edges of each target.
    """

    def __init__(self, adjacency: sparse.csr_array) -> None:
        super().__init__()
        adjacency = adjacency.sorted_indices()
        self.num_nodes, degree = adjacency.shape[0], np.diff(adjacency.indptr)
        numbers = np.arange(adjacency.nnz), adjacency.indices, adjacency.indptr
        reverse = sparse.csr_array(numbers, adjacency.shape).T.tocsr().data
        targets = np.repeat(np.arange(self.num_nodes), degree)

        def buffer(values: np.ndarray) -> nn.Buffer:
            return nn.Buffer(torch.from_numpy(values).long(), persistent=False)

        self.offsets, self.degree = buffer(adjacency.indptr), buffer(degree)
        self.targets, self.sources, self.reverse = buffer(targets), buffer(adjacency.indices), buffer(reverse)

    def matrix(self, weights: Tensor) -> Tensor:
        """(M, M) sparse, with (E,) weights: row = target, column = source."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch calls this layout a beta version
            size = (self.num_nodes, self.num_nodes)
            return torch.sparse_csr_tensor(self.offsets, self.sources, weights, size, check_invariants=False)

    def dots(self, x: Tensor, y: Tensor) -> Tensor:
        """(E,) inner products of the target's row of (M, D) x with the source's row of (M, D) y, without a gradient."""
        zeros = self.matrix(x.new_zeros(len(self.sources)))
        return torch.sparse.sampled_addmm(zeros, x, y.T).values()


def propagate(graph: Graph, weights: Tensor, x: Tensor) -> Tensor:
    """(M, D) for each node the sum over its edges of (E,) weights times the source's row of (M, D) x."""
    return _Propagate.apply(graph, weights, x)


def edge_dots(graph: Graph, x: Tensor, y: Tensor) -> Tensor:
    """(E,) inner products of the target's row of (M, D) x with the source's row of (M, D) y."""
    return _EdgeDots.apply(graph, x, y)


def edge_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """(E,) softmax of (E,) scores over the edges of each target."""
    nodes, targets = scores.new_zeros(graph.num_nodes), graph.targets
    largest = nodes.scatter_reduce(0, targets, scores.detach(), "amax", include_self=False)
    exponentials = (scores - largest[targets]).exp()
    return exponentials / nodes.index_add(0, targets, exponentials)[targets]


class _Propagate(torch.autograd.Function):
    """Several times faster than PyTorch's own gradients of a sparse product, which order all edges anew."""

    @staticmethod
    def forward(ctx: Context, graph: Graph, weights: Tensor, x: Tensor) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(weights, x)
        return graph.matrix(weights) @ x

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[None, Tensor | None, Tensor]:
        graph, (weights, x), gradient = ctx.graph, ctx.saved_tensors, gradient.contiguous()
        of_weights = graph.dots(gradient, x) if ctx.needs_input_grad[1] else None
        return None, of_weights, graph.matrix(weights[graph.reverse]) @ gradient


class _EdgeDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, graph: Graph, x: Tensor, y: Tensor) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(x, y)
        return graph.dots(x, y)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        graph, (x, y) = ctx.graph, ctx.saved_tensors
        return None, graph.matrix(gradient) @ y, graph.matrix(gradient[graph.reverse]) @ x
