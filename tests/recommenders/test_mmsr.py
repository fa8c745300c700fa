"""mmsr.py: the graph of a history by hand, node updates against a loop, orders, and what is left without modalities."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmrec_helpers.recommenders.mmsr import MMSR, RELATIONS, SLOPE, DualAttention, HistoryGraphs, modality_codes

DIM = 6
SLOTS = np.array([[0, 0], [1, 6], [2, 6], [3, 7], [4, 0], [5, 0]])
"""Items 1 to 4, the BOS token 5, codes 6 and 7 of one modality; item 4 has no code."""
TYPES = np.array([0, 1])
HISTORIES = np.array([[1, 2, 1, 3], [5, 4, 2, 0]])
SMALL = {"dim": 16, "max_len": 10, "batch_size": 20, "epochs": 60, "lr": 1e-2, "num_codes": 2}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def graphs() -> HistoryGraphs:
    return HistoryGraphs(SLOTS[HISTORIES], TYPES)


def named(graphs: HistoryGraphs, graph, values) -> dict:
    """(target, source) of nodes that say their history, -> value of the edge."""
    owner = names(graphs)
    pairs = zip(graph.targets.tolist(), graph.sources.tolist(), strict=True)
    return {(owner[t], owner[s]): value for (t, s), value in zip(pairs, values, strict=True)}


def names(graphs: HistoryGraphs) -> list[str]:
    """Of the nodes, from what is known of the example: item 2 and code 6 are in both histories."""
    texts = ["1a", "2a", "2b", "3a", "4b", "5b", "6a", "6b", "7a"]
    assert [int(text[0]) for text in texts] == graphs.nodes.tolist()
    return texts


def test_nodes_are_shared_within_a_history_and_sorted_by_type(graphs):
    owner = names(graphs)
    assert graphs.num_of_type == [6, 3]
    assert [owner[row] for row in graphs.last] == ["3a", "2b"]
    positions = dict(zip(owner, graphs.positions.tolist(), strict=True))
    assert positions["1a"] == [0, 0.5, 0, 0.5]  # at two positions, counted from the end
    assert np.allclose(positions["6a"], [0, 1 / 3, 1 / 3, 1 / 3])
    assert positions["5b"] == [0, 0, 1, 0]


def test_edges_within_a_type_have_the_relation_of_neighbouring_positions(graphs):
    found = named(graphs, graphs.homogeneous, [RELATIONS[number] for number in graphs.relations])
    expected = {(name, name): "itself" for name in names(graphs)}
    expected |= {("2a", "1a"): "both", ("1a", "2a"): "both", ("3a", "1a"): "after", ("1a", "3a"): "before"}
    expected |= {("7a", "6a"): "after", ("6a", "7a"): "before"}
    expected |= {("4b", "5b"): "after", ("5b", "4b"): "before", ("2b", "4b"): "after", ("4b", "2b"): "before"}
    assert found == expected


def test_edges_between_types_join_an_item_and_its_code(graphs):
    found = named(graphs, graphs.heterogeneous, graphs.heterogeneous.targets)
    pairs = {("1a", "6a"), ("2a", "6a"), ("3a", "7a"), ("2b", "6b")}
    assert set(found) == pairs | {pair[::-1] for pair in pairs} | {(name, name) for name in names(graphs)}


def loop(layer: DualAttention, graphs: HistoryGraphs, x: torch.Tensor) -> torch.Tensor:
    """The layer, node by node and edge by edge."""
    kind = [0] * graphs.num_of_type[0] + [1] * sum(graphs.num_of_type[1:])

    def by_type(maps, vectors):
        return [maps[own](vector) for own, vector in zip(kind, vectors, strict=True)]

    def attend(graph, score, values):
        rows, edges = [], list(zip(graph.targets.tolist(), graph.sources.tolist(), strict=True))
        for node in range(len(x)):
            own = [(edge, source) for edge, (target, source) in enumerate(edges) if target == node]
            scores = torch.stack([F.leaky_relu(score(edge, node, source), SLOPE) for edge, source in own])
            pairs = zip(scores.softmax(0), own, strict=True)
            rows.append(sum(weight * values[source] for weight, (_, source) in pairs))
        return torch.stack(rows)

    def within(vectors, values):
        relation = layer.relations[torch.from_numpy(graphs.relations)]
        score = lambda edge, target, source: (relation[edge] * vectors[target] * vectors[source]).sum()  # noqa: E731
        return attend(graphs.homogeneous, score, values)

    def between(vectors, values):
        query, key = by_type(layer.query, vectors), by_type(layer.key, vectors)
        score = lambda edge, target, source: query[target] @ key[source] / DIM**0.5  # noqa: E731
        return attend(graphs.heterogeneous, score, values)

    values = by_type(layer.value, x)
    by_time, by_kind = within(values, values), between(x, values)
    if layer.synchronous:
        pair = by_time, by_kind
    elif layer.invasive:
        pair = between(by_time, by_time), within(by_kind, by_kind)
    else:
        pair = between(by_time, values), within(by_kind, values)
    share = torch.cat([layer.gate(own) for own in pair], 1).softmax(1)
    return share[:, :1] * pair[0] + share[:, 1:] * pair[1]


OPTIONS = [{}, {"invasive": True}, {"synchronous": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_layer_is_the_loop_over_nodes_and_edges(graphs, options):
    layer, x = DualAttention(DIM, 2, **options), torch.randn(9, DIM)
    assert torch.allclose(layer(graphs, x), loop(layer, graphs, x), atol=1e-5)


def test_orders_and_fusions_differ(graphs):
    layer, x, outputs = DualAttention(DIM, 2), torch.randn(9, DIM), []
    for options in OPTIONS:
        layer.synchronous, layer.invasive = options.get("synchronous", False), options.get("invasive", False)
        outputs.append(layer(graphs, x))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(outputs[one], outputs[other], atol=1e-3)


def test_without_codes_it_is_attention_on_the_graph_of_items_and_the_node_itself():
    graphs = HistoryGraphs(SLOTS[HISTORIES][:, :, :1], TYPES[:1])
    layer, x = DualAttention(DIM, 1), torch.randn(6, DIM)
    values = layer.value[0](x)
    weights, attended = layer.within(graphs, values), torch.zeros(6, DIM)
    for edge, (target, source) in enumerate(zip(graphs.homogeneous.targets, graphs.homogeneous.sources, strict=True)):
        attended[target] += weights[edge] * values[source]
    share = torch.cat([layer.gate(values), layer.gate(attended)], 1).softmax(1)
    expected = share[:, :1] * values + share[:, 1:] * attended
    assert torch.allclose(layer(graphs, x), expected, atol=1e-5)


def test_histories_do_not_reach_each_other(graphs):
    layer, x = DualAttention(DIM, 2), torch.randn(9, DIM)
    is_first = torch.tensor([name.endswith("a") for name in names(graphs)])
    changed = layer(graphs, x + is_first[:, None])
    assert torch.allclose(changed[~is_first], layer(graphs, x)[~is_first])
    assert not torch.allclose(changed[is_first], layer(graphs, x)[is_first])


def test_codes_are_the_nearest_clusters_and_items_without_features_have_none(planted_features, planted_group):
    codes, centres = modality_codes(planted_features, 2, 1)
    known = planted_group[1:] >= 0
    assert (codes[~known] == 0).all()
    assert len(np.unique(np.stack([codes[known, 0], planted_group[1:][known]], 1), axis=0)) == 2
    assert centres.shape == (2, 4)
    both, _ = modality_codes(planted_features, 2, 2)
    assert (np.sort(both[known], 1) == [1, 2]).all()
    assert modality_codes(np.eye(4), 20, 1)[1].shape == (3, 4)  # not more clusters than items


def test_a_random_prefix_of_each_history_predicts_the_item_after_it():
    rows = torch.tensor([[9, 1, 2, 3], [2, 4, 0, 0]])
    system, ends = MMSR(features={}), set()
    for _ in range(30):
        inputs, targets = system.inputs_and_targets(rows)
        assert ((targets > 0).sum(1) == 1).all()
        end = targets.argmax(1)
        ends.add(int(end[0]))
        assert torch.equal(inputs[0], rows[0, :3] * (torch.arange(3) <= end[0]))
        assert targets[0, end[0]] == rows[0, end[0] + 1]
        assert (inputs[1].tolist(), targets[1].tolist()) == ([2, 0, 0], [4, 0, 0])
    assert ends == {0, 1, 2}


def test_it_learns_with_modalities_and_without(planted, planted_features):
    queries, shown = planted.queries("test"), {"image": planted_features, "text": planted_features[:, :2]}
    for options in ({"features": shown, "num_links": 2}, {"features": {}}):
        scores = MMSR(**SMALL, **options).fit(planted).score(queries)
        targets = np.take_along_axis(scores, queries.targets[:, :1], 1)
        assert (scores[:, 1:] > targets).sum(1).mean() < 3


def test_features_of_each_modality_must_have_a_row_for_each_item(planted, planted_features):
    with pytest.raises(ValueError, match="image: the features have 26 rows, not 27"):
        MMSR(features={"text": planted_features, "image": planted_features[1:]}).fit(planted)
