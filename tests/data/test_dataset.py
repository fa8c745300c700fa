"""dataset.py: what a RecDataset promises, held against slow and plain references."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from small_data import CATEGORIES, SEEDS, catalogue, picture, random_dataset, rec_dataset, rows_of

from experiments.splits import held_out_category, user_folds
from mmrec_helpers.data.dataset import (
    CONTEXT,
    ITEM_FEATURES,
    TEST,
    TRAIN,
    UNUSED,
    VALID,
    NotAvailable,
    RecDataset,
    Split,
    k_core_mask,
)
from mmrec_helpers.pocket_shop.shop import load_shop


def own_split(dataset: RecDataset) -> Split:
    """A split as a reader may make one: unused rows lie anywhere, then come one to choose by and two to test on."""
    part = np.random.default_rng(0).choice([TRAIN, CONTEXT, UNUSED], dataset.num_interactions)
    for rows in rows_of(dataset):
        for row, code in zip(rows[::-1], (TEST, TEST, VALID), strict=False):
            part[row] = code
    return Split(dataset, part, "own")


def all_splits(dataset: RecDataset) -> list[Split]:
    splits = [dataset.leave_one_out(), dataset.temporal_split(), dataset.temporal_split(0.4, 0.3), own_split(dataset)]
    return splits + user_folds(dataset, 4) + [held_out_category(dataset, name) for name in CATEGORIES]


SMALL = [(0, 2, 10), (0, 1, 20), (0, 3, 30), (1, 3, 5), (1, 4, 5), (2, 4, 40)]


@pytest.fixture
def small() -> RecDataset:
    return rec_dataset(SMALL)


# Items ----------------------------------------------------------------------------------------------------------


def test_counts_and_name_are_in_the_representation(small):
    assert (small.num_users, small.num_items, small.num_interactions) == (3, 4, 6)
    assert repr(small) == "RecDataset(test: 3 users, 4 items, 6 interactions)"
    assert repr(rec_dataset([(0, 1, 0)])).endswith(": 1 user, 1 item, 1 interaction)")


def test_an_item_is_found_by_its_number(small):
    assert [small.item(item)["title"] for item in (1, 2, 3, 4)] == ["thing 1", "thing 2", "thing 3", "thing 4"]
    assert small.item(np.int32(4))["item_id"] == "id-4"


@pytest.mark.parametrize("item", [0, -1, 5])
def test_a_number_of_no_item_is_an_index_error(small, item):
    with pytest.raises(IndexError, match=rf"item {item} does not exist in test: items are 1\.\.4"):
        small.item(item)
    with pytest.raises(IndexError, match="padding"):
        small.image(item)


def test_column_is_indexed_by_item_number_and_its_padding_is_none(small):
    for name in ITEM_FEATURES:
        column = small.column(name)
        assert column.shape == (5,)
        assert column[0] is None
        for item in range(1, 5):
            assert column[item] == small.item(item)[name]


def test_has_image_tells_which_items_have_a_picture(small):
    assert small.has_image.tolist() == [False, True, True, False, True]
    assert small.image(3) is None
    assert small.image(2).getpixel((0, 0)) == (2, 10, 200)


# Integrity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_good_data_is_valid(seed):
    dataset = random_dataset(seed)
    assert dataset.validate() is dataset


def test_data_without_interactions_is_valid():
    assert rec_dataset([]).validate().num_interactions == 0


@pytest.mark.parametrize(
    ("column", "row", "value", "fault"),
    [
        ("user", 0, -1, r"user is not in 0\.\.2"),
        ("user", 5, 3, r"user is not in 0\.\.2"),
        ("user", 2, np.nan, r"user is not in 0\.\.2"),
        ("item", 1, 0, r"item is not in 1\.\.4"),
        ("item", 4, 5, r"item is not in 1\.\.4"),
        ("item", 3, np.nan, r"item is not in 1\.\.4"),
        ("time", 0, -1, "time is not a whole number of seconds"),
        ("time", 2, np.nan, "time is not a whole number of seconds"),
        ("time", 2, 30.5, "time is not a whole number of seconds"),
        ("rating", 3, -0.5, "rating is negative or not a number"),
        ("rating", 5, np.nan, "rating is negative or not a number"),
        ("time", 1, 9, "not sorted by user and time"),
        ("user", 4, 0, "not sorted by user and time"),
    ],
)
def test_bad_data_is_named_with_row_and_fault(small, column, row, value, fault):
    frame = small.interactions.astype({column: float})
    frame.loc[row, column] = value
    with pytest.raises(ValueError, match=rf"test: interactions, row {row}: .*{fault}"):
        replace(small, interactions=frame).validate()


def test_the_row_named_is_the_first_bad_one(small):
    frame = small.interactions.assign(rating=[5, 5, -1, 5, -1, 5])
    with pytest.raises(ValueError, match="row 2: "):
        replace(small, interactions=frame).validate()


def test_a_row_is_counted_by_its_place_whatever_the_index(small):
    frame = small.interactions.assign(rating=[5, 5, -1, 5, 5, 5]).set_index(np.arange(6) + 100)
    with pytest.raises(ValueError, match="row 2: "):
        replace(small, interactions=frame).validate()


def test_missing_columns_are_named(small):
    with pytest.raises(ValueError, match="interactions lack the columns time, review"):
        replace(small, interactions=small.interactions.drop(columns=["time", "review"])).validate()
    with pytest.raises(ValueError, match="items lack the columns brand"):
        replace(small, items=small.items.remove_columns("brand")).validate()


# Fingerprint ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("item_id", "id-9"),
        ("title", "thing 9"),
        ("description", "about thing 2."),
        ("category", "desk "),
        ("brand", ""),
        ("price", 2.5),
        ("image", picture(3)),
        ("image", None),
    ],
)
def test_fingerprint_changes_with_any_field_of_an_item(small, column, value):
    values = [small.item(item)[column] for item in range(1, 5)]
    values[1] = value
    assert rec_dataset(SMALL, **{column: values}).fingerprint != small.fingerprint


def test_fingerprint_changes_with_one_byte_of_a_picture(small):
    raw = small.items.cast_column("image", datasets.Image(decode=False))["image"]
    images = [dict(image) if image else None for image in raw]
    same = rec_dataset(SMALL, image=images)
    images[3]["bytes"] = images[3]["bytes"][:-1] + bytes([images[3]["bytes"][-1] ^ 1])
    assert same.fingerprint == small.fingerprint
    assert rec_dataset(SMALL, image=images).fingerprint != small.fingerprint


def test_fingerprint_changes_with_a_picture_that_lies_in_a_file(tmp_path):
    file, prints = tmp_path / "picture.png", []
    for shade in (1, 2):
        picture(shade).save(file)
        prints.append(rec_dataset(SMALL, image=[str(file)] * 4).fingerprint)
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("column", "value"), [("user", 2), ("item", 1), ("time", 11), ("rating", 1.5), ("review", "review 0 ")]
)
def test_fingerprint_changes_with_any_field_of_an_interaction(small, column, value):
    frame = small.interactions.copy()
    frame.loc[0, column] = value
    assert replace(small, interactions=frame).fingerprint != small.fingerprint


def test_fingerprint_changes_with_a_user_name_and_with_the_order_of_a_tie(small):
    names = small.user_ids.copy()
    names[0] = "user-x"
    assert replace(small, user_ids=names).fingerprint != small.fingerprint
    swapped = small.interactions.iloc[[0, 1, 2, 4, 3, 5]].reset_index(drop=True)
    assert replace(small, interactions=swapped).fingerprint != small.fingerprint


def test_fingerprint_is_the_same_when_made_again(small):
    assert rec_dataset(SMALL).fingerprint == small.fingerprint
    assert replace(small, name="other").fingerprint == small.fingerprint
    assert small.select_interactions(np.ones(6, bool)).fingerprint == small.fingerprint


def test_fingerprint_is_the_same_when_stored_and_read_in_another_process(small, tmp_path):
    small.items.save_to_disk(tmp_path / "items")
    small.interactions.to_parquet(tmp_path / "interactions.parquet")
    np.save(tmp_path / "users.npy", small.user_ids)
    code = (
        "import sys, datasets, numpy, pandas; from mmrec_helpers.data.dataset import RecDataset; folder = sys.argv[1];"
        "items = datasets.load_from_disk(folder + '/items');"
        "frame = pandas.read_parquet(folder + '/interactions.parquet');"
        "print(RecDataset('read', items, frame, numpy.load(folder + '/users.npy')).fingerprint)"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [small.fingerprint]


# Filters --------------------------------------------------------------------------------------------------------


def peel(edges: list[tuple[int, int]], users: int, items: int) -> list[bool]:
    """The k-core by hand: drop one user or item with too few interactions after another."""
    left = set(range(len(edges)))
    while True:
        for side in (0, 1):
            degree = {}
            for edge in left:
                degree[edges[edge][side]] = degree.get(edges[edge][side], 0) + 1
            rare = [node for node, count in degree.items() if count < (users, items)[side]]
            if rare:
                left = {edge for edge in left if edges[edge][side] != rare[0]}
                break
        else:
            return [edge in left for edge in range(len(edges))]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("items", [None, 1, 3, 7])
def test_k_core_equals_peeling_by_hand(seed, items):
    rng = np.random.default_rng(seed)
    k, num = 2 + seed % 4, int(rng.integers(1, 160))
    edges = [(int(u), int(i)) for u, i in zip(rng.integers(0, 20, num), rng.integers(1, 25, num), strict=True)]
    mask = k_core_mask(*(np.array(side) for side in zip(*edges, strict=True)), k, items)
    assert mask.tolist() == peel(edges, k, items or k)


def test_peeling_by_hand_meets_full_partial_and_empty_cores():
    rng = np.random.default_rng(0)
    edges = [(int(u), int(i)) for u, i in zip(rng.integers(0, 20, 80), rng.integers(1, 25, 80), strict=True)]
    assert [sum(peel(edges, k, k)) for k in (1, 99)] == [80, 0]
    assert 0 < sum(peel(edges, 3, 3)) < sum(peel(edges, 3, 2)) < 80


@pytest.mark.parametrize("seed", SEEDS)
def test_k_core_leaves_enough_of_everything_and_is_idempotent(seed):
    core = random_dataset(seed, num_users=40).k_core(4)
    assert 0 < core.num_interactions < random_dataset(seed, num_users=40).num_interactions
    assert core.interactions["user"].value_counts().reindex(range(core.num_users)).min() >= 4
    assert core.interactions["item"].value_counts().reindex(range(1, core.num_items + 1)).min() >= 4
    assert core.k_core(4).fingerprint == core.fingerprint


def test_k_core_takes_one_limit_for_users_and_another_for_items():
    dataset = load_shop(0, "tiny")[0]
    core = dataset.k_core(users=7, items=5)
    assert np.bincount(core.interactions["user"]).min() >= 7
    assert np.bincount(core.interactions["item"])[1:].min() >= 5
    assert core.k_core(7, 5).fingerprint == core.fingerprint
    assert set(dataset.k_core(7).user_ids) <= set(core.user_ids) <= set(dataset.k_core(5).user_ids)


def test_k_core_may_be_empty(small):
    core = small.k_core(5).validate()
    assert (core.num_users, core.num_items, core.num_interactions) == (0, 0, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_selection_renumbers_without_gaps_and_every_row_keeps_what_it_was_about(seed):
    dataset = random_dataset(seed)
    rows = np.random.default_rng(seed).random(dataset.num_interactions) < 0.3
    kept = dataset.select_interactions(rows).validate()
    assert sorted(set(kept.interactions["user"])) == list(range(kept.num_users))
    assert sorted(set(kept.interactions["item"])) == list(range(1, kept.num_items + 1))
    assert kept.interactions.index.tolist() == list(range(rows.sum()))
    old = dataset.interactions[rows]
    for column in ("time", "rating", "review"):
        assert kept.interactions[column].tolist() == old[column].tolist()
    for name in ("item_id", "title", "category", "price"):
        now, then = kept.column(name)[kept.interactions["item"]], dataset.column(name)[old["item"]]
        assert now.tolist() == then.tolist()
    assert kept.user_ids[kept.interactions["user"]].tolist() == dataset.user_ids[old["user"]].tolist()
    shades = [kept.image(item) and kept.image(item).getpixel((0, 0))[0] for item in range(1, kept.num_items + 1)]
    assert shades == [int(price) if price % 3 else None for price in kept.column("price")[1:]]


# Splits ---------------------------------------------------------------------------------------------------------


def test_ties_in_time_keep_the_order_of_the_source():
    items = [5, 2, 9, 1, 7, 3]
    dataset = rec_dataset([(0, item, 50) for item in items] + [(1, item, 50) for item in reversed(items)]).validate()
    split = dataset.leave_one_out()
    queries = split.queries("test")
    assert queries.histories.tolist() == [items[:-1], items[:0:-1]]
    assert queries.targets.tolist() == [[3], [5]]
    kept = dataset.select_interactions(dataset.interactions["item"].to_numpy() > 1)
    titles = kept.column("title")[kept.interactions["item"][:5]]
    assert titles.tolist() == [f"thing {item}" for item in items if item > 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_leave_one_out_tests_on_the_last_and_chooses_on_the_one_before(seed):
    dataset = random_dataset(seed)
    part = dataset.leave_one_out().part.tolist()
    lengths = set()
    for rows in rows_of(dataset):
        lengths.add(min(len(rows), 3))
        parts = [part[row] for row in rows]
        expected = [TRAIN] * (len(rows) - 2) + [VALID, TEST] if len(rows) >= 3 else [TRAIN] * len(rows)
        assert parts == expected
    assert lengths == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shares", [(0.75, 0.15), (0.5, 0.25), (0.2, 0.5), (0.9, 0.0)])
@pytest.mark.parametrize("last_day", [10, 10**9])
def test_temporal_split_cuts_at_moments_for_everybody_and_near_the_shares(seed, shares, last_day):
    dataset = random_dataset(seed, num_users=60, last_day=last_day)
    split = dataset.temporal_split(*shares)
    time = dataset.interactions["time"].to_numpy()
    assert set(split.part) <= {TRAIN, VALID, TEST}
    parts = [time[split.part == code] for code in (TRAIN, VALID, TEST)]
    assert parts[0].size > 0
    assert parts[2].size > 0
    for earlier, later in ((0, 1), (1, 2), (0, 2)):  # never the same time on both sides
        assert parts[earlier].max(initial=-1) < parts[later].min(initial=10**10)
    tie = np.unique(time, return_counts=True)[1].max()
    assert abs(parts[0].size - shares[0] * len(time)) <= tie
    assert abs(parts[0].size + parts[1].size - sum(shares) * len(time)) <= tie


def random_days(seed: int, users: int = 30) -> RecDataset:
    """Random baskets, with hours; users 0 to 4 have 0 to 4 days, the others up to 5."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        days = np.sort(rng.choice(12, user if user < 5 else rng.integers(1, 6), replace=False))
        for day in days.tolist():
            hours = np.sort(rng.integers(0, 86_400, rng.integers(1, 6)))
            rows += [(user, int(rng.integers(1, 13)), 86_400 * day + int(hour)) for hour in hours]
    return rec_dataset([*rows, (users, 12, 0)])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_next_day_is_asked_of_all_earlier_days(seed):
    dataset = random_days(seed)
    split = dataset.next_day_split()
    assert split.dataset.validate().timed
    frame = dataset.interactions.assign(day=dataset.interactions["time"] // 86_400)
    days = {user: [own["item"].tolist() for _, own in rows.groupby("day")] for user, rows in frame.groupby("user")}
    for part, least, last in (("test", 2, -1), ("valid", 3, -2)):
        queries = split.queries(part)
        assert queries.users.tolist() == [user for user, own in days.items() if len(own) >= least]
        for user, history, targets, time in zip(*vars(queries).values(), strict=True):
            own = days[user]
            assert sorted(history[history > 0]) == sorted(item for day in own[:last] for item in day)
            assert sorted(targets[targets > 0]) == sorted(own[last])
            assert time == frame["day"][frame["user"] == user].unique()[last] * 86_400
            lengths = np.cumsum([len(day) for day in own[:last]])
            in_order = np.split(history[history > 0], lengths[:-1])  # days stay in order
            assert [sorted(some) for some in in_order] == [sorted(day) for day in own[:last]]
    train = split.interactions("train")
    for user, own in days.items():
        shown = own[: -2 if len(own) > 2 else -1 if len(own) == 2 else None]
        assert sorted(train["item"][train["user"] == user]) == sorted(item for day in shown for item in day)


def test_the_order_within_a_day_is_never_that_of_the_source():
    dataset = random_days(0)
    split, day = dataset.next_day_split(), dataset.interactions["time"] // 86_400
    flat = replace(dataset, interactions=dataset.interactions.assign(time=86_400 * day))
    turned = flat.interactions.iloc[::-1].sort_values(["user", "time"], kind="stable").reset_index(drop=True)

    def rows(split):
        return sorted(
            zip(*(split.dataset.interactions[name] for name in ("user", "time", "review")), split.part, strict=True)
        )

    for other in (
        flat.next_day_split(),
        replace(flat, interactions=turned).next_day_split(),
        dataset.next_day_split(1),
    ):
        assert rows(other) == rows(split)
    again, other = dataset.next_day_split(), dataset.next_day_split(1)
    assert split.dataset.interactions.equals(again.dataset.interactions)
    assert not split.dataset.interactions.equals(other.dataset.interactions)
    moved = (split.dataset.interactions["review"] != dataset.interactions["review"]).mean()
    assert 0.3 < moved < 1


def test_without_days_there_is_no_next_day(small):
    with pytest.raises(NotAvailable, match=r"test has no user with interactions on two days\."):
        small.next_day_split()  # seconds of one day
    with pytest.raises(NotAvailable, match="test has orders, not times, so it has no last days"):
        replace(small, timed=False).next_day_split()


@pytest.mark.parametrize("shares", [(0, 0.5), (-0.1, 0.5), (0.5, -0.1), (0.8, 0.2), (0.9, 0.3)])
def test_temporal_split_refuses_shares_that_leave_nothing(small, shares):
    with pytest.raises(ValueError, match=rf"train={shares[0]}, valid={shares[1]}"):
        small.temporal_split(*shares)


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_and_interactions_of_the_parts_make_up_the_whole(seed):
    dataset = random_dataset(seed)
    for split in all_splits(dataset):
        counts = split.counts()
        assert sum(counts.values()) == dataset.num_interactions
        for number, name in enumerate(("train", "valid", "test", "context", "unused")):
            rows = [row for row, code in enumerate(split.part) if code == number]
            assert counts.get(name, 0) == len(rows)
            assert split.interactions(name).index.tolist() == rows


# Days -----------------------------------------------------------------------------------------------------------


def test_days_are_counted_from_the_first_interaction_to_the_last():
    dataset = rec_dataset([(0, 1, 0), (0, 2, 36 * 3600), (1, 1, 12 * 3600)])
    assert dataset.days_spanned() == dataset.days_spanned(at_least=1.5) == 1.5
    with pytest.raises(NotAvailable, match="The times of test span 2 days, fewer than the 7 needed here"):
        dataset.days_spanned(at_least=7)
    with pytest.raises(NotAvailable, match="test has orders, not times"):
        replace(dataset, timed=False).days_spanned()


# Histories ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "rows"), [(1, [0]), (3, [0, 3, 6]), (6, [0, 2, 4, 6]), (7, [*range(7)]), (9, [*range(7)])]
)
def test_a_subsample_takes_every_kth_query(limit, rows):
    queries = (
        rec_dataset([(user, item, item) for user in range(7) for item in (1, 2, 3)]).leave_one_out().queries("test")
    )
    assert queries.subsample(limit).users.tolist() == rows


def test_a_subsample_of_no_query_is_not_available():
    with pytest.raises(NotAvailable, match="No user has enough interactions to be tested on"):
        rec_dataset([(0, 1, 1), (0, 2, 2)]).leave_one_out().queries("test").subsample(10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("length", [1, 3, 50])
@pytest.mark.parametrize("name", ["valid", "test"])
def test_histories_equal_the_slow_reference_on_every_split(seed, length, name):
    dataset = random_dataset(seed)
    code = {"valid": VALID, "test": TEST}[name]
    item, time = dataset.interactions["item"].tolist(), dataset.interactions["time"].tolist()
    for split in all_splits(dataset):
        expected = []
        for user, rows in enumerate(rows_of(dataset)):
            target_rows = [row for row in rows if split.part[row] == code]
            if target_rows:
                history = [row for row in rows if row < target_rows[0] and split.part[row] not in (UNUSED, code)]
                expected.append(
                    (user, [item[row] for row in history], [item[row] for row in target_rows], time[target_rows[0]])
                )
        queries = split.queries(name, length)
        assert len(queries) == len(expected) == len(queries.histories) == len(queries.targets) > 0
        assert queries.users.tolist() == [user for user, *_ in expected]
        assert queries.times.tolist() == [when for *_, when in expected]
        longest = max(1, *(min(len(history), length) for _, history, *_ in expected))
        assert queries.histories.tolist() == [
            [0] * (longest - len(history)) + history[-length:][-longest:] for _, history, *_ in expected
        ]
        longest = max(len(target_rows) for _, _, target_rows, _ in expected)
        assert queries.targets.tolist() == [
            target_rows + [0] * (longest - len(target_rows)) for *_, target_rows, _ in expected
        ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["valid", "test"])
def test_what_was_seen_is_the_whole_history_without_repeats(seed, name):
    dataset = random_dataset(seed)
    for split in (dataset.leave_one_out(), dataset.temporal_split(), *user_folds(dataset, 3)):
        rows, items = split.interacted(name)
        for row, history in enumerate(split.queries(name, dataset.num_interactions).histories):
            assert items[rows == row].tolist() == sorted(set(history) - {0})
        assert (np.diff(rows) >= 0).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["valid", "test"])
def test_a_history_is_a_user_s_past_up_to_the_next_item(seed, name):
    # every interaction is with an item of its own, so that an item tells its row
    base = random_dataset(seed)
    dataset = replace(
        base,
        items=catalogue(base.num_interactions),
        interactions=base.interactions.assign(item=np.arange(1, base.num_interactions + 1)),
    ).validate()
    user, time = dataset.interactions["user"].to_numpy(), dataset.interactions["time"].to_numpy()
    for split in all_splits(dataset):
        queries = split.queries(name)
        for query_user, items, targets, next_time in zip(
            queries.users, queries.histories, queries.targets, queries.times, strict=True
        ):
            past, future = items[items > 0] - 1, targets[targets > 0] - 1
            assert (user[past] == query_user).all()
            assert (user[future] == query_user).all()
            assert past.max(initial=-1) < future.min()
            assert (time[past] <= next_time).all()
            assert time[future[0]] == next_time
            assert future[0] == future.min()


def test_a_history_is_cut_to_the_last_items_and_padded_at_the_left():
    dataset = rec_dataset([(0, item, item) for item in (1, 2, 3, 4, 5, 6)] + [(1, item, item) for item in (6, 7, 8)])
    queries = dataset.leave_one_out().queries("test", 3)
    assert queries.histories.tolist() == [[3, 4, 5], [0, 6, 7]]
    assert dataset.leave_one_out().queries("valid", 3).histories.tolist() == [[2, 3, 4], [0, 0, 6]]


def test_the_validation_item_is_known_when_it_comes_to_the_test():
    split = rec_dataset([(0, item, item) for item in (1, 2, 3)]).leave_one_out()
    assert split.queries("test").histories.tolist() == [[1, 2]]
    assert split.queries("valid").histories.tolist() == [[1]]


def test_histories_of_a_part_that_is_not_predicted_are_refused(small):
    for part in ("train", "context", "unused"):
        with pytest.raises(ValueError, match=f"queries are of 'valid' or 'test', not of '{part}'"):
            small.leave_one_out().queries(part)


def test_histories_of_an_empty_part_are_empty():
    queries = rec_dataset([(0, 1, 1), (0, 2, 2)]).leave_one_out().queries("test")
    assert len(queries) == len(queries.histories) == len(queries.targets) == len(queries.times) == 0


def test_queries_of_users_without_any_history_have_padding(small):
    split = Split(small, np.full(small.num_interactions, TEST), "all")
    assert split.queries("test").histories.tolist() == [[0], [0], [0]]
    assert split.queries("test").targets.tolist() == [[2, 1, 3], [3, 4, 0], [4, 0, 0]]
    assert all(len(side) == 0 for side in split.interacted("test"))


def test_a_history_of_no_length_is_refused(small):
    with pytest.raises(ValueError, match="at least 1 item"):
        small.leave_one_out().queries("test", max_len=0)


def test_a_temporal_split_without_a_test_part_is_not_available(small):
    same_time = replace(small, interactions=small.interactions.assign(time=7))
    with pytest.raises(NotAvailable, match=r"test has no temporal split: .* none is left for the test part\."):
        same_time.temporal_split()


def test_no_interactions_have_no_temporal_split(small):
    with pytest.raises(NotAvailable, match=r"test has no interactions to split\."):
        small.select_interactions(np.zeros(small.num_interactions, bool)).temporal_split()


def test_wrong_shares_are_a_mistake_and_no_lack_of_the_data(small):
    with pytest.raises(ValueError, match="shares must be positive") as error:
        small.temporal_split(0.9, 0.1)
    assert not isinstance(error.value, NotAvailable)


def test_data_without_times_have_no_temporal_split_whatever_is_filtered(small):
    untimed = replace(small, timed=False).select_interactions(np.ones(small.num_interactions, bool))
    with pytest.raises(NotAvailable, match="test has orders, not times"):
        untimed.temporal_split()
    untimed.leave_one_out()
