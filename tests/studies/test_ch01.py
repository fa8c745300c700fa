"""ch01.py: equal to brute force on small data; what data cannot tell is None; the record is of today's code."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest

from experiments.ch01 import statistics_run
from experiments.datasets import REAL_DATA, open_data
from experiments.record import RESULTS
from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset
from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch01 import (
    DAY,
    STEPS,
    attribute_texts,
    dataset_curves,
    dataset_statistics,
    format_statistics,
    recorded_datasets,
)


@pytest.fixture(scope="module")
def tiny() -> RecDataset:
    return load_shop(size="tiny")[0]


def dataset_of(rows: list[tuple[int, int, int]], **items: list) -> RecDataset:
    """A data set of (user, item, day) rows, sorted, and of items with the columns given."""
    user, item, day = (np.array(column) for column in zip(*rows, strict=True))
    columns = {"user": user, "item": item, "time": day * DAY, "rating": 1.0, "review": ""}
    number = item.max()
    texts = {"title": "a b", "description": "", "category": "", "brand": ""}
    table = {name: items.get(name, [text] * number) for name, text in texts.items()}
    table |= {"item_id": [str(i) for i in range(number)], "price": [None] * number, "image": [None] * number}
    features = datasets.Dataset.from_dict({name: table[name] for name in ITEM_FEATURES}, features=ITEM_FEATURES)
    names = np.array([str(u) for u in range(user.max() + 1)])
    return RecDataset("rows", features, pd.DataFrame(columns), names).validate()


def test_counts_equal_brute_force(tiny):
    rows = list(tiny.interactions.itertuples())
    sales, lengths = Counter(row.item for row in rows), Counter(row.user for row in rows)
    found = dataset_statistics(tiny)
    pairs = {(row.user, row.item) for row in rows}
    assert found["density"] == len(pairs) / (tiny.num_users * tiny.num_items)
    top = sum(count for _, count in sales.most_common(tiny.num_items // 5))
    assert found["share of the top fifth"] == top / len(rows)
    assert found["items with under 5 interactions"] == pytest.approx(
        sum(sales[item] < 5 for item in range(1, tiny.num_items + 1)) / tiny.num_items
    )
    assert found["history, mean"] == pytest.approx(np.mean(list(lengths.values())))
    pairs = [(a, b) for a, b in itertools.pairwise(rows) if a.user == b.user]
    assert found["gaps under an hour"] == pytest.approx(np.mean([b.time - a.time < 3600 for a, b in pairs]))
    category = tiny.column("category")
    same = np.mean([category[a.item] == category[b.item] for a, b in pairs])
    assert found["category repeats"] == pytest.approx(same)
    first = {}
    for row in sorted(rows, key=lambda row: row.time):
        first.setdefault(row.item, row.time)
    middle = (min(row.time for row in rows) + max(row.time for row in rows)) / 2
    fresh = [row.time - first[row.item] < 90 * DAY for row in rows if row.time > middle]
    assert found["on new items, second half"] == pytest.approx(np.mean(fresh))


def test_repeated_pairs_are_one_pair_of_the_density():
    found = dataset_statistics(dataset_of([(0, 1, 0), (0, 1, 1), (0, 2, 2), (1, 2, 3)]))
    assert found["density"] == 3 / 4
    assert found["repeats of an item"] == 1 / 4


def test_an_unknown_category_neither_agrees_nor_disagrees():
    rows = [(0, 1, 0), (0, 2, 1), (0, 3, 2), (0, 4, 3), (0, 4, 4)]
    found = dataset_statistics(dataset_of(rows, category=["a", "", "b", "c"]))
    assert found["category repeats"] == 1 / 2  # only b, c and c, c are known
    assert found["brand repeats"] is None


def test_what_cannot_be_told_is_none(tiny):
    untimed = replace(tiny, timed=False)
    timed, found = dataset_statistics(tiny), dataset_statistics(untimed)
    silent = {name for name in timed if found[name] is None}
    assert silent == {name for name in timed if any(word in name for word in ("gap", "new", "training", "file"))}
    assert (dataset_curves(untimed)["gap"], dataset_curves(untimed)["fresh"]) == (None, None)
    wordless = dataset_statistics(dataset_of([(0, 1, 0), (0, 2, 1), (1, 2, 2)]))
    assert wordless["tokens of a description, median"] is wordless["tokens of the attributes"] is None


def test_curves_begin_and_end_where_they_must(tiny):
    found = dataset_curves(tiny)
    assert (found["tail"][0], found["tail"][-1]) == (0, pytest.approx(1))
    assert (np.diff(found["tail"], 2) <= 1e-9).all()  # best sellers first: ever flatter
    for name in ("history", "gap"):
        assert len(found[name]) == len(STEPS)
        assert (np.diff(found[name]) >= 0).all()
    assert found["history"][-1] == tiny.interactions["user"].value_counts().max()
    assert found["fresh"][0] == 1  # at the opening all is new


def test_a_part_of_the_time_in_which_nothing_happened_has_no_share():
    fresh = dataset_curves(dataset_of([(0, 1, 0), (1, 1, 2400)]))["fresh"]
    assert (fresh[0], fresh[-1], set(fresh[1:-1])) == (1, 0, {None})


def test_numbers_in_words_depend_on_what_they_count():
    rows = {"users": [1, 1234], "history, median": [1, 70.5], "density": [1, 0.004], "category repeats": [0.25, None]}
    words = format_statistics(pd.DataFrame(rows, index=["a", "b"]).T.rename({"category repeats": "brand by chance"}))
    assert words.index[-1] == "brand of random pairs"
    assert words.to_numpy().tolist() == [["1", "1,234"], ["1.0", "70.5"], ["100.00%", "0.40%"], ["25.0%", "-"]]


def test_a_last_interaction_that_shares_its_time_is_decided_by_the_file():
    found = dataset_statistics(dataset_of([(0, 1, 0), (0, 2, 5), (0, 3, 5), (1, 1, 2), (1, 2, 3), (2, 1, 9)]))
    assert found["last decided by file order"] == 1 / 2  # user 2 has no second to last


def test_one_item_of_few_is_the_top_fifth():
    found = dataset_statistics(dataset_of([(0, 1, 0), (1, 1, 1), (1, 2, 2)]))
    assert found["share of the top fifth"] == pytest.approx(2 / 3)
    assert found["share of the top fifth, 5-core"] is None  # nobody is left


@pytest.mark.parametrize("name", ["pocket", *REAL_DATA])
def test_the_record_is_what_the_code_finds_today(request, name):
    if name != "pocket":
        request.getfixturevalue("real")
    dataset, _, report = open_data(name, 0)
    (recorded,) = load_runs(RESULTS / "ch01.parquet", data=name, protocol="statistics")
    found = statistics_run(dataset, report)
    assert recorded.stamp["fingerprint"] == dataset.fingerprint
    assert recorded.scalars == json.loads(json.dumps(found.scalars, default=float))


def test_a_data_set_that_is_not_recorded_stands_beside_those_that_are(tiny):
    recorded = recorded_datasets(RESULTS / "ch01.parquet", load_shop()[0])
    assert next(iter(recorded)) == "Pocket Shop"
    assert len(recorded) == 1 + len(REAL_DATA)
    (own,) = set(with_tiny := recorded_datasets(RESULTS / "ch01.parquet", tiny)) - set(recorded)
    assert with_tiny[own]["statistics"]["users"] == tiny.num_users
    assert with_tiny["MovieLens"] == recorded["MovieLens"]


def test_no_item_is_new_where_the_times_span_fewer_than_90_days():
    for last, is_known in ((6, False), (89, False), (90, True)):
        week = dataset_of([(0, 1, 0), (0, 1, last // 2 + 1), (0, 2, last)])
        assert (dataset_statistics(week)["on new items, second half"] is not None) == is_known
        assert (dataset_curves(week)["fresh"] is not None) == is_known
        assert dataset_curves(week)["gap"] is not None


def test_attributes_are_texts_only_where_there_are_categories():
    rows = [(0, 1, 0), (0, 2, 1)]
    assert attribute_texts(dataset_of(rows)) == ["", ""]
    shop = dataset_of(rows, category=["mug", ""], brand=["Orla", ""])
    assert attribute_texts(shop) == ["category: mug, brand: Orla", "category: , brand: "]
