"""reranker.py, against a loop: who is asked, for what, and in which order all items stand."""

from dataclasses import replace

import numpy as np
import pytest

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.evaluation.protocols import SampledNegatives, evaluate
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.reranker import Reranker

NUM_ITEMS = 30


class Table(BaseRecommender):
    """Scores that are known; it counts the items that it is asked for."""

    def __init__(self, scores: np.ndarray) -> None:
        self.table, self.name, self.asked = scores, "table", []

    def learn(self, split, checkpoint):
        self.fitted_to = split

    def score_all(self, queries):
        return self.table[queries.users]

    def score(self, queries, candidates=None):
        self.asked.append(candidates)
        return super().score(queries, candidates)


def table(seed: int, levels: int) -> Table:
    """Scores of 12 users, with many ties if there are few levels, of numbers that are hard to round."""
    values = 1e6 + np.random.default_rng(seed).integers(levels, size=(12, NUM_ITEMS + 1)) / 3
    return Table(values)


@pytest.fixture
def queries():
    """12 users' histories of 0 to 11 items."""
    rng = np.random.default_rng(5)
    histories = rng.integers(1, NUM_ITEMS + 1, (12, 12)) * (np.arange(12) > 11 - np.arange(12)[:, None])
    return Queries(np.arange(12), histories, np.ones((12, 1), int), np.zeros(12, int))


@pytest.mark.parametrize("levels", [3, 10**9])
@pytest.mark.parametrize("top", [1, 7, 24, 100])
def test_the_best_are_in_the_rankers_order_above_the_others_in_the_retrievers(levels, top, queries):
    retriever, ranker = table(0, levels), table(1, levels)
    scores = Reranker(retriever, ranker, top).score(queries)
    for row, history in enumerate(queries.histories):
        first, second = retriever.table[row], ranker.table[row]
        left = [item for item in range(1, NUM_ITEMS + 1) if item not in history]
        best = sorted(left, key=lambda item: (-first[item], item))[:top]
        assert set(ranker.asked[0][row]) - {0} == set(best)
        rank = {item: (item in best, second[item] if item in best else first[item]) for item in range(1, NUM_ITEMS + 1)}
        for one in rank:
            for other in rank:
                assert (scores[row, one] > scores[row, other]) == (rank[one] > rank[other])


def test_the_ranker_is_asked_once_for_no_more_than_the_top(queries):
    retriever, ranker = table(0, 5), table(1, 5)
    system = Reranker(retriever, ranker, top=7)
    system.score(queries, np.ones((12, 20), int))
    assert [candidates.shape for candidates in ranker.asked] == [(12, 7)]
    assert retriever.asked == [None]


def test_scores_of_a_query_depend_on_no_other(queries):
    system = Reranker(table(0, 5), table(1, 5), top=7)
    together = system.score(queries)
    for rows in ([3], [11, 0], []):
        assert np.array_equal(system.score(queries.take(np.array(rows, int))), together[rows])
    others = replace(queries, targets=queries.targets + 1)
    assert np.array_equal(system.score(others), together)


def test_both_are_fitted_and_it_is_evaluated_as_any_system(planted):
    system = Reranker(Popularity(), Random(), top=9).fit(planted)
    assert system.retriever.is_fitted
    assert system.ranker.is_fitted
    assert system.name == "popularity, then random"
    runs = [evaluate(system, planted), evaluate(system, planted, protocol=SampledNegatives(5))]
    assert [run.system for run in runs] == [system.name] * 2


def test_nothing_to_rank_is_refused():
    with pytest.raises(ValueError, match="popularity, then random: the ranker orders at least 1 item, not 0"):
        Reranker(Popularity(), Random(), top=0)
