"""counting.py, held against loops that spell each formula out."""

from dataclasses import replace
from math import sqrt

import datasets
import numpy as np
import pytest
from scipy import sparse

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.features import joined, tfidf
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import DAY, Popularity, Random


def baskets(split: Split) -> dict[int, set[int]]:
    """User -> training items."""
    frame = split.interactions("train")
    return frame.groupby("user")["item"].agg(set).to_dict()


def asked(*queries: list[int], user: int = 0) -> Queries:
    """Moments at which one user shows some histories."""
    width = max(map(len, queries))
    items = np.array([[0] * (width - len(history)) + history for history in queries])
    number = len(queries)
    return Queries(np.full(number, user), items, np.ones((number, 1), int), np.zeros(number, int))


# Random and popular ---------------------------------------------------------------------------------------------------


def test_random_numbers_depend_on_seed_user_and_item(planted):
    moments = planted.queries("test")
    first, again, other = (Random(seed).fit(planted).score(moments) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other]))) > 0.99 * 2 * first.size
    assert 0.45 < first.mean() < 0.55
    assert first.min() >= 0


def test_popularity_is_the_training_count(planted):
    scores = Popularity().fit(planted).score(planted.queries("test"))
    counts = np.bincount(planted.interactions("train")["item"], minlength=planted.dataset.num_items + 1)
    assert np.array_equal(scores, np.tile(counts, (len(scores), 1)))


@pytest.mark.parametrize("days", [0.5, 10, 1_000])
def test_recent_popularity_counts_the_days_before_the_moment_and_nothing_later(planted, days):
    moments, frame = planted.queries("test"), planted.interactions("train")
    scores = Popularity(days).fit(planted).score(moments)
    for row, moment in zip(scores, moments.times, strict=True):
        past = frame[(frame["time"] < moment) & (frame["time"] >= moment - days * DAY)]
        assert np.array_equal(row, np.bincount(past["item"], minlength=planted.dataset.num_items + 1))


def test_recent_popularity_does_not_see_the_very_second(planted):
    frame = planted.interactions("train")
    times = frame["time"].to_numpy()[:1]
    moments = replace(planted.queries("test").take([0]), times=times)
    before = Popularity(1e4).fit(planted).score(moments)
    after = Popularity(1e4).fit(planted).score(replace(moments, times=times + 1))
    assert (after - before).sum() == (frame["time"] == times[0]).sum()


def test_recent_popularity_wants_times_and_a_span(planted):
    with pytest.raises(ValueError, match="orders, not times"):
        Popularity(30).fit(replace(planted, dataset=replace(planted.dataset, timed=False)))
    with pytest.raises(ValueError, match="positive number of days"):
        Popularity(0)


# Neighbours -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_neighbors", "shrinkage"), [(3, 0.0), (5, 4.0), (100, 20.0)])
def test_item_knn_is_the_formula(planted, num_neighbors, shrinkage):
    moments, num_items = planted.queries("test"), planted.dataset.num_items
    buyers = planted.interactions("train").groupby("item")["user"].agg(set).to_dict()
    expected = np.zeros((len(moments), num_items + 1))
    for row, history in zip(expected, moments.histories, strict=True):
        for item in history[history > 0]:
            alike = {}
            for other in range(1, num_items + 1):
                both = buyers.get(item, set()) & buyers.get(other, set())
                if other != item and both:
                    alike[other] = len(both) / (sqrt(len(buyers[item]) * len(buyers[other])) + shrinkage)
            for other in sorted(alike, key=lambda other: (-round(alike[other], 6), other))[:num_neighbors]:
                row[other] += alike[other]
    assert np.allclose(ItemKNN(num_neighbors, shrinkage).fit(planted).score(moments), expected, atol=1e-5)


@pytest.mark.parametrize(("num_neighbors", "shrinkage"), [(1, 0.0), (6, 3.0), (100, 10.0)])
def test_user_knn_is_the_formula(planted, num_neighbors, shrinkage):
    moments, taken = planted.queries("test"), baskets(planted)
    expected = np.zeros((len(moments), planted.dataset.num_items + 1))
    for row, user, history in zip(expected, moments.users, moments.histories, strict=True):
        own, alike = set(history[history > 0]), {}
        for other, items in taken.items():
            if other != user and own & items:
                alike[other] = len(own & items) / (sqrt(len(own) * len(items)) + shrinkage)
        for other in sorted(alike, key=lambda other: (-round(alike[other], 6), other))[:num_neighbors]:
            row[list(taken[other])] += alike[other]
    assert np.allclose(UserKNN(num_neighbors, shrinkage).fit(planted).score(moments), expected, atol=1e-5)


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


@pytest.mark.parametrize("kinds", [(np.array, np.array), (np.array, sparse.csr_array)])
def test_joined_blocks_weigh_the_same_whatever_their_scale_and_width(planted, kinds):
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(27, width)) * scale for width, scale in ((3, 1), (50, 1e3))]
    rows = joined(*(kind(block) for kind, block in zip(kinds, blocks, strict=True)))
    rows = rows.toarray() if sparse.issparse(rows) else rows
    means = [block.mean(axis=0) if kind is np.array else 0 for kind, block in zip(kinds, blocks, strict=True)]
    centred = [block - mean for block, mean in zip(blocks, means, strict=True)]
    units = [block / np.linalg.norm(block, axis=1, keepdims=True) for block in centred]
    assert np.allclose(rows @ rows.T, sum(block @ block.T for block in units), atol=1e-5)


def test_tfidf_reads_title_and_description_and_leaves_padding_blank(planted, planted_group):
    features = tfidf(planted.dataset)
    assert features.shape[0] == planted.dataset.num_items + 1
    known = np.asarray(features.sum(axis=1)).ravel() > 0
    assert np.array_equal(known, planted_group >= 0)
    alike = (features @ features.T).toarray()[1:26, 1:26]
    same = planted_group[1:26, None] == planted_group[1:26]
    assert alike[same].mean() > 2 * alike[~same].mean()


def test_tfidf_without_common_words_is_refused(planted):
    dataset = planted.dataset
    texts = [f"word{row}" for row in range(dataset.num_items)]
    columns = {name: dataset.items[name][:] for name in dataset.items.column_names}
    items = datasets.Dataset.from_dict(columns | {"title": texts, "description": texts}, dataset.items.features)
    with pytest.raises(ValueError, match="no two items share a word"):
        tfidf(replace(dataset, items=items))


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
