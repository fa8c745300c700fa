"""Chapter 7's layers on graphs: each equals a loop over nodes and neighbours."""

import numpy as np
import pytest
import torch
from small_graphs import DIM, ITEMS, PAIRS, USERS, edges, neighbours, small_graph
from torch.nn.functional import leaky_relu, normalize

from mmrec_helpers.lessons.bpr import Factors
from mmrec_helpers.lessons.graphs import (
    AttentionGraph,
    GraphPerModality,
    ModalityGraph,
    PropagatedFactors,
    mean_weights,
    modality_embeddings,
    symmetric_weights,
    user_item_graph,
)
from mmrec_helpers.training.graphs import Graph

LAYERS = [ModalityGraph, AttentionGraph]


@pytest.fixture(scope="module")
def graph():
    return small_graph()


def test_weights_are_those_of_their_formulas(graph):
    for (target, source), weight in edges(graph, mean_weights(graph)).items():
        assert weight == pytest.approx(1 / len(neighbours(target)))
        both = len(neighbours(target)) * len(neighbours(source))
        assert edges(graph, symmetric_weights(graph))[target, source] == pytest.approx(both**-0.5)


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
    x = normalize(torch.cat([model.users.weight, model.projection(model.features)]))
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
