"""A small graph of users and items that several tests build."""

import numpy as np
import torch

from mmrec_helpers.lessons.graphs import user_item_graph
from mmrec_helpers.training.graphs import Graph

USERS, ITEMS, DIM = 4, 6, 3
PAIRS = np.array([[0, 0, 1, 2, 2, 2, 0], [1, 2, 2, 2, 5, 3, 1]])
"""Users, items: user 3 and items 4 and 6 have none, one pair is twice."""


def small_graph() -> Graph:
    return Graph(user_item_graph(*PAIRS, USERS, ITEMS))


def neighbours(node: int) -> list[int]:
    """Nodes of the users or items that have interacted with those of a node."""
    users, items = PAIRS[0].tolist(), (USERS + PAIRS[1]).tolist()
    pairs = list(zip(users + items, items + users, strict=True))
    return sorted({source for target, source in pairs if target == node})


def edges(graph: Graph, weights: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    """(target, source) -> weight."""
    return dict(zip(zip(graph.targets.tolist(), graph.sources.tolist(), strict=True), weights, strict=True))
