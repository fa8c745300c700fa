"""content.py, against loops that spell each formula out."""

import numpy as np
import pytest
from scipy import sparse

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random


def asked(*queries: list[int], user: int = 0) -> Queries:
    """Moments at which one user shows some histories."""
    width = max(map(len, queries))
    items = np.array([[0] * (width - len(history)) + history for history in queries])
    number = len(queries)
    return Queries(np.full(number, user), items, np.ones((number, 1), int), np.zeros(number, int))


# Content --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.array, sparse.csr_array])
def test_content_scores_are_cosines_with_the_mean_of_unit_vectors(planted, planted_features, kind):
    moments = planted.queries("test")
    scores = ContentBased(kind(planted_features)).fit(planted).score(moments)
    known = planted_features.any(axis=1)
    mean = 0 if kind is sparse.csr_array else planted_features[known].mean(axis=0)
    units = np.zeros_like(planted_features)
    for item in np.flatnonzero(known):
        units[item] = (planted_features[item] - mean) / np.linalg.norm(planted_features[item] - mean)
    for row, history in zip(scores, moments.histories, strict=True):
        profile = units[history].sum(axis=0)
        assert np.allclose(row, units @ profile / np.linalg.norm(profile), atol=1e-5)


def test_an_item_like_the_only_one_in_the_history_ranks_first(planted):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(planted.dataset.num_items + 1, 6))
    features[0], features[7] = 0, features[4]
    scores = ContentBased(features).fit(planted).score(asked([4], [7]))
    assert np.allclose(scores[:, [4, 7]], 1)
    assert (np.delete(scores, [4, 7], axis=1) < 0.999).all()


def test_items_without_features_score_nothing_and_say_nothing(planted, planted_features):
    system = ContentBased(planted_features).fit(planted)
    scores = system.score(asked([26], [3, 26], [3]))
    assert not scores[0].any()
    assert np.allclose(scores[1], scores[2])
    assert not scores[:, 26].any()


def test_features_that_are_all_alike_tell_nothing(planted):
    features = np.full((planted.dataset.num_items + 1, 3), 0.1)
    features[0] = 0
    assert not ContentBased(features).fit(planted).score(asked([4, 9])).any()


def test_features_must_have_a_row_for_each_item(planted, planted_features):
    with pytest.raises(ValueError, match="26 rows, not 27"):
        ContentBased(planted_features[1:]).fit(planted)


# Hybrid ---------------------------------------------------------------------------------------------------------------


def test_a_hybrid_is_the_weighted_mean_of_standardized_scores(planted):
    moments = planted.queries("test")
    parts = [UserKNN(), Popularity()]
    scores = Hybrid(parts, weights=[1, 3]).fit(planted).score(moments)
    expected = 0
    for part, share in zip(parts, (0.25, 0.75), strict=True):
        own = part.score(moments)[:, 1:]
        expected = expected + share * (own - own.mean(axis=1, keepdims=True)) / own.std(axis=1, keepdims=True)
    assert np.allclose(scores[:, 1:], expected, atol=1e-4)


def test_one_part_alone_keeps_its_order_and_a_constant_part_has_no_say(planted, planted_features):
    moments = asked([3, 26], [5], [26])
    content, num_neighbors = ContentBased(planted_features), ItemKNN()
    alone = Hybrid([num_neighbors]).fit(planted).score(moments)
    assert np.array_equal(np.argsort(alone[:, 1:]), np.argsort(num_neighbors.score(moments)[:, 1:]))
    both = Hybrid([content, Popularity()]).fit(planted).score(moments)
    popular = Hybrid([Popularity()]).fit(planted).score(moments)
    assert np.allclose(both[2], popular[2] / 2, atol=1e-5)
    assert not np.allclose(both[0], popular[0] / 2, atol=1e-2)


def test_weights_must_fit_the_parts():
    with pytest.raises(ValueError, match="2 parts need as many weights"):
        Hybrid([Random(), Popularity()], weights=[1])
    with pytest.raises(ValueError, match="sum above 0"):
        Hybrid([Random()], weights=[0])
