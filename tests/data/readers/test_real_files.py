"""The readers on the published files (``MMREC_DATA_HOME``): counts as published, each difference in the report."""

import pytest

from mmrec_helpers.data.readers.amazon import read_amazon
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.data.readers.microlens import read_microlens


def changes(report) -> dict[tuple[str, str], int]:
    """Everything that was dropped or repaired."""
    rows = report.table().query("action in ('dropped', 'repaired')")
    return {(row.of, row.reason): row.count for row in rows.itertuples(index=False, name="Row")}


def size(dataset) -> tuple[int, int, int]:
    return dataset.num_users, dataset.num_items, dataset.num_interactions


def test_movielens_with_posters(real):
    dataset, report = read_folder(real / "movielens-posters")
    assert size(dataset) == (610, 9_742 - 18, 100_836)
    assert changes(report) == {("item rows", "nobody interacted with the item"): 18}
    assert dataset.has_image.sum() == report.total("read", "images") == 3_548
    assert report.count("the description is empty") == 117
    toys = dataset.item(1)
    assert (toys["item_id"], toys["image"].size) == ("1", (112, 168))
    assert toys["title"] == "Toy Story (1995)"


@pytest.mark.parametrize(
    ("category", "published", "expected", "with_address"),
    [
        (
            "Gift_Cards",
            (458, 148, 2_972),
            {
                ("interactions", "the same user, item and second stands before"): 3,
                ("item rows", "nobody interacted with the item"): 1_547 - 148,
            },
            116,
        ),
        (
            "Magazine_Subscriptions",
            (348, 157, 2_375),
            {
                ("interactions", "the same user, item and second stands before"): 47,
                ("item rows", "the whole row stands before"): 1_065,
                ("item rows", "nobody interacted with the item"): 3_385 - 1_065 - 151,
                ("items", "the item has no row: its fields are empty"): 6,
                ("items", "the price is no amount: left empty"): 1,
            },
            130,
        ),
    ],
)
def test_amazon_2018(real, category, published, expected, with_address):
    dataset, report = read_amazon(real / "amazon-2018-raw" / f"{category}_5.json.gz")
    users, items, interactions = published
    assert report.total("read") == interactions
    assert changes(report) == expected
    assert size(dataset) == (users, items, interactions - report.total("dropped"))
    assert sum(address != "" for address in dataset.items["image_url"]) == with_address
    assert not dataset.has_image.any()


def test_amazon_2018_joined(real):
    folder = real / "amazon-2018-raw"
    joined, report = read_amazon(folder)
    alone = [read_amazon(folder / f"{name}_5.json.gz") for name in ("Gift_Cards", "Magazine_Subscriptions")]
    assert size(joined) == (458 + 348 - 2, 148 + 157, 5_297)  # two users are in both
    assert report.total("dropped") == sum(one.total("dropped") for _, one in alone) == 50
    assert set(joined.user_ids) == {user for dataset, _ in alone for user in dataset.user_ids}


def test_hm_week_has_further_columns_and_next_days(real):
    dataset, report = read_folder(real / "hm-week")
    assert size(dataset) == (16_597, 5_876, 102_933)
    assert changes(report) == {}
    assert dataset.has_image.sum() == 5_876
    columns = ("category", "department", "colour", "pattern", "product_code")
    assert [len(set(dataset.column(name)[1:])) for name in columns] == [83, 136, 46, 27, 3_223]
    split = dataset.next_day_split()
    assert split.counts() == {"train": 92_875, "valid": 1_143, "test": 8_915}
    assert [len(split.queries(part)) for part in ("valid", "test")] == [488, 3_320]


def test_microlens_50k(real):
    dataset, report = read_microlens(real / "microlens-50k")
    assert size(dataset) == (50_000, 19_220, 359_708)
    assert changes(report) == {}
    assert report.count("the title is empty") == report.count("the user has one interaction") == 0
