"""studies/ch05.py: baselines of the next item's category equal a count by hand."""

from collections import Counter
from itertools import pairwise

import pytest

from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch05 import category_baselines


@pytest.fixture(scope="module")
def split():
    return load_shop(0)[0].leave_one_out()


def test_baselines_are_those_of_counts_by_hand(split):
    queries, categories = split.queries("test", 3).subsample(200), split.dataset.column("category")
    pairs = Counter()
    for _, items in split.interactions("train").groupby("user")["item"]:
        pairs.update(pairwise(categories[item] for item in items))
    totals = Counter()
    for (_, following), count in pairs.items():
        totals[following] += count
    hits = {"majority": 0, "after the last item": 0}
    for history, target in zip(queries.histories, queries.targets[:, 0], strict=True):
        last, wanted = categories[history[-1]], categories[target]
        hits["majority"] += wanted == totals.most_common(1)[0][0]
        best = max(totals, key=lambda name: (pairs[last, name], -sorted(totals).index(name)))
        hits["after the last item"] += wanted == best
    assert category_baselines(split, queries) == pytest.approx({name: count / 200 for name, count in hits.items()})
