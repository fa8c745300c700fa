"""ceilings.py: the oracle is above popularity, and is not saved."""

import pytest

from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.ceilings import Oracle
from mmrec_helpers.recommenders.popularity import Popularity


def test_the_oracle_is_above_popularity():
    dataset, truth = load_shop(0, "tiny")
    split = dataset.leave_one_out()
    some = split.queries("test").take(slice(60))
    reached = {}
    for system in (Oracle(truth), Popularity()):
        scores = system.fit(split).score(some)
        assert scores.shape == (60, dataset.num_items + 1)
        reached[system.name] = ndcg(TargetRanks.of(scores, some.targets[:, :1], some.histories), 10).mean()
    assert reached["omniscient oracle"] > 2 * reached["popularity"]


def test_the_oracle_is_not_saved(tmp_path):
    dataset, truth = load_shop(0, "tiny")
    with pytest.raises(ValueError, match="omniscient oracle knows the shop's truth: it is a ceiling"):
        Oracle(truth).fit(dataset.leave_one_out()).save(tmp_path / "ceiling")
    assert not list(tmp_path.iterdir())
