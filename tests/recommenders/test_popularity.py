"""popularity.py: random scores and popularity, against counts."""

from dataclasses import replace

import numpy as np
import pytest

from mmrec_helpers.recommenders.factorization import BPR
from mmrec_helpers.recommenders.popularity import DAY, Popularity, PopularityAdjusted, Random


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


def test_an_adjustment_subtracts_the_log_popularity(planted):
    moments = planted.queries("test")
    system = BPR(dim=8, epochs=2).fit(planted)
    own, adjusted = system.score(moments), PopularityAdjusted(system, 0.5)
    adjusted.count(planted)
    counts = Popularity().fit(planted).score(moments)
    np.testing.assert_allclose(own - adjusted.score(moments), 0.5 * np.log(1 + counts), atol=1e-5)
    nothing = PopularityAdjusted(BPR(dim=8, epochs=2), 0).fit(planted)
    np.testing.assert_allclose(nothing.score(moments), own)


def test_an_adjustment_does_not_favour_popular_items(planted):
    with pytest.raises(ValueError, match="0 or positive, not -1"):
        PopularityAdjusted(Random(), -1)
