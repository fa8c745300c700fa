"""training/graphs.py: sums over edges are those of a loop over nodes and neighbours, and so are their gradients."""

import numpy as np
import pytest
import torch
from small_graphs import DIM, ITEMS, USERS, edges, neighbours, small_graph

from mmrec_helpers.training.graphs import edge_dots, edge_softmax, propagate


@pytest.fixture(scope="module")
def graph():
    return small_graph()


def looped(weights: dict[tuple[int, int], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """(M, D) weighted sums of the neighbours' rows, edge by edge."""
    rows = [torch.zeros_like(x[0]) for _ in x]
    for (target, source), weight in weights.items():
        rows[target] = rows[target] + weight * x[source]
    return torch.stack(rows)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(sum(shape)))


def test_each_pair_is_two_edges_once(graph):
    wanted = {(node, other) for node in range(USERS + ITEMS + 1) for other in neighbours(node)}
    found = list(edges(graph, graph.reverse))
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert [found[number] for number in graph.reverse] == [(source, target) for target, source in found]
    assert graph.degree.tolist() == [len(neighbours(node)) for node in range(graph.num_nodes)]


def test_propagation_is_the_loop_and_so_are_its_gradients(graph):
    weights, x = random(len(graph.sources)).requires_grad_(), random(graph.num_nodes, DIM).requires_grad_()
    own, loop = propagate(graph, weights, x), looped(edges(graph, weights), x)
    assert torch.allclose(own, loop)
    direction = random(graph.num_nodes, DIM)
    for one, other in zip(
        torch.autograd.grad((own * direction).sum(), [weights, x]),
        torch.autograd.grad((loop * direction).sum(), [weights, x]),
        strict=True,
    ):
        assert torch.allclose(one, other)


def test_products_of_edges_have_the_right_gradients(graph):
    x, y = (random(graph.num_nodes, dim).requires_grad_() for dim in (DIM, DIM))
    for (target, source), product in edges(graph, edge_dots(graph, x, y)).items():
        assert torch.allclose(product, x[target] @ y[source])
    assert torch.autograd.gradcheck(lambda x, y: edge_dots(graph, x, y), (x, y))


def test_softmax_is_over_the_neighbours_of_each_node(graph):
    scores = 500 * random(len(graph.sources))  # no overflow
    weights = edges(graph, edge_softmax(graph, scores))
    for node in range(graph.num_nodes):
        own = torch.stack([edges(graph, scores)[node, other] for other in neighbours(node)] or [torch.zeros(0)])
        found = [weights[node, other].item() for other in neighbours(node)]
        assert np.allclose(found, own.softmax(0)[: len(found)])
