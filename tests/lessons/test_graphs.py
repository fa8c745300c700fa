"""Chapter 7's layers on graphs: each equals a loop over nodes and neighbours, and its gradients are those of the loop."""

import numpy as np
import pytest
import torch
from torch.nn.functional import leaky_relu, normalize

from mmrec_helpers.lessons.bpr import Factors
from mmrec_helpers.lessons.graphs import (
    AttentionGraph,
    Graph,
    GraphPerModality,
    ModalityGraph,
    PropagatedFactors,
    _EdgeDots,
    edge_softmax,
    mean_weights,
    modality_embeddings,
    propagate,
    symmetric_weights,
    user_item_graph,
)

USERS, ITEMS, DIM = 4, 6, 3
PAIRS = np.array([[0, 0, 1, 2, 2, 2, 0], [1, 2, 2, 2, 5, 3, 1]])  # user 3 and items 4 and 6 have none; one pair is twice
LAYERS = [ModalityGraph, AttentionGraph]


@pytest.fixture(scope="module")
def graph():
    return Graph(user_item_graph(*PAIRS, USERS, ITEMS))


def neighbours(node: int) -> list[int]:
    """Nodes of the users or items that have interacted with those of a node."""
    users, items = PAIRS[0].tolist(), (USERS + PAIRS[1]).tolist()
    pairs = list(zip(users + items, items + users, strict=True))
    return sorted({source for target, source in pairs if target == node})


def looped(weights: dict[tuple[int, int], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """(M, D) weighted sums of the neighbours' rows, edge by edge."""
    rows = [torch.zeros_like(x[0]) for _ in x]
    for (target, source), weight in weights.items():
        rows[target] = rows[target] + weight * x[source]
    return torch.stack(rows)


def edges(graph: Graph, weights: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """(target, source) -> weight."""
    return dict(zip(zip(graph.targets.tolist(), graph.sources.tolist(), strict=True), weights, strict=True))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(sum(shape)))


def test_each_pair_is_two_edges_once(graph):
    wanted = {(node, other) for node in range(USERS + ITEMS + 1) for other in neighbours(node)}
    found = list(edges(graph, graph.reverse))
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert [found[number] for number in graph.reverse] == [(source, target) for target, source in found]
    assert graph.degree.tolist() == [len(neighbours(node)) for node in range(graph.num_nodes)]


def test_weights_are_those_of_their_formulas(graph):
    for (target, source), weight in edges(graph, mean_weights(graph)).items():
        assert weight == pytest.approx(1 / len(neighbours(target)))
        both = len(neighbours(target)) * len(neighbours(source))
        assert edges(graph, symmetric_weights(graph))[target, source] == pytest.approx(both**-0.5)


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
    for (target, source), product in edges(graph, _EdgeDots.apply(graph, x, y)).items():
        assert torch.allclose(product, x[target] @ y[source])
    assert torch.autograd.gradcheck(lambda x, y: _EdgeDots.apply(graph, x, y), (x, y))


def test_softmax_is_over_the_neighbours_of_each_node(graph):
    scores = 500 * random(len(graph.sources))  # no overflow
    weights = edges(graph, edge_softmax(graph, scores))
    for node in range(graph.num_nodes):
        own = torch.stack([edges(graph, scores)[node, other] for other in neighbours(node)] or [torch.zeros(0)])
        found = [weights[node, other].item() for other in neighbours(node)]
        assert np.allclose(found, own.softmax(0)[: len(found)])


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_lightgcn_is_the_mean_over_powers_of_the_matrix(graph, num_layers):
    torch.manual_seed(0)
    base = Factors(USERS, ITEMS, DIM)
    matrix = torch.zeros(graph.num_nodes, graph.num_nodes)
    matrix[graph.targets, graph.sources] = symmetric_weights(graph)
    users, items, bias = PropagatedFactors(base, graph, num_layers).embeddings()
    x = torch.cat([base.users.weight, base.items.weight])
    expected = sum(torch.matrix_power(matrix, power) @ x for power in range(num_layers + 1)) / (num_layers + 1)
    assert torch.allclose(torch.cat([users, items]), expected, atol=1e-6)
    assert bias is base.bias
    if not num_layers:
        assert torch.equal(users, base.users.weight)
        assert torch.equal(items, base.items.weight)


def by_hand(model: ModalityGraph, ids: torch.Tensor) -> torch.Tensor:
    """(M, D) one modality's embeddings, node by node."""
    x = normalize(torch.cat([model.users, model.projection(model.features)]))
    for message, own, combine in model.layers:
        m, rows = message(x), []
        for node in range(len(x)):
            others = neighbours(node)
            h = torch.zeros(DIM)
            if others and isinstance(model, AttentionGraph):
                scores = torch.stack([m[node] @ leaky_relu(m[other]) for other in others])
                weights = (torch.sigmoid(scores / len(others) ** 0.5) * scores).softmax(0)
                h = normalize(weights @ m[others], dim=0)
            elif others:
                h = m[others].mean(dim=0)
            rows.append(leaky_relu(combine(leaky_relu(h)) + leaky_relu(own(x[node])) + ids[node]))
        x = torch.stack(rows)
    return x


@pytest.mark.parametrize("kind", LAYERS)
def test_a_graph_of_a_modality_is_the_loop(graph, kind):
    torch.manual_seed(0)
    model, ids = kind(torch.randn(ITEMS + 1, 5), USERS, DIM, 2), torch.randn(graph.num_nodes, DIM)
    assert torch.allclose(modality_embeddings(model, graph, ids), by_hand(model, ids), atol=1e-5)


def test_attention_of_a_node_sums_to_1(graph):
    model = AttentionGraph(torch.randn(ITEMS + 1, 5), USERS, DIM, 1)
    weights = model.attention(graph, torch.randn(graph.num_nodes, DIM))
    sums = torch.zeros(graph.num_nodes).index_add(0, graph.targets, weights)
    assert torch.allclose(sums, (graph.degree > 0).float(), atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_features_reach_users_by_edges_alone(graph, kind):
    """One layer: a user is changed by the features of the own items; without edges by none."""
    torch.manual_seed(0)
    features, ids = torch.randn(ITEMS + 1, 5), torch.randn(graph.num_nodes, DIM)
    model = kind(features.clone(), USERS, DIM, 1)
    empty = Graph(user_item_graph(*PAIRS[:, :0], USERS, ITEMS))
    before = [modality_embeddings(model, own, ids) for own in (graph, empty)]
    model.features[5] += 1  # of user 2
    after = [modality_embeddings(model, own, ids) for own in (graph, empty)]
    changed, without = ((one != other).any(dim=1) for one, other in zip(before, after, strict=True))
    assert np.flatnonzero(changed).tolist() == [2, USERS + 5]
    assert np.flatnonzero(without).tolist() == [USERS + 5]


def test_modalities_are_added(graph):
    torch.manual_seed(0)
    base, features = Factors(USERS, ITEMS, DIM), [torch.randn(ITEMS + 1, dim) for dim in (5, 2)]
    parts = [ModalityGraph(own, USERS, DIM, 1) for own in features]
    ids = torch.cat([base.users.weight, base.items.weight])
    users, items, _ = GraphPerModality(base, graph, parts).embeddings()
    expected = sum(modality_embeddings(part, graph, ids) for part in parts)
    assert torch.allclose(torch.cat([users, items]), expected, atol=1e-6)


def test_neither_edges_nor_features_are_saved_with_the_weights(graph):
    network = GraphPerModality(Factors(USERS, ITEMS, DIM), graph, [ModalityGraph(torch.randn(7, 5), USERS, DIM, 1)])
    assert not [name for name in network.state_dict() if "features" in name or "graph" in name]
