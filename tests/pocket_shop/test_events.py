"""events.py: the log has the shop's purchases and no others, follows the tastes, and leaves the shop as it was."""

import hashlib
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.pocket_shop import events as events_module
from mmrec_helpers.pocket_shop.events import (
    DWELL_MAX,
    EVENTS,
    NUM_VIEWS,
    REGIONS,
    event_chunks,
    sample_events,
    write_events,
)
from mmrec_helpers.pocket_shop.shop import Truth, load_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[RecDataset, Truth]:
    return load_shop(size="tiny", cache=tmp_path_factory.mktemp("cache"), missing_images=1.0)


@pytest.fixture(scope="module")
def log(shop) -> pd.DataFrame:
    return sample_events(shop[1])


@pytest.fixture(scope="module")
def of(log):
    return {name: log[log["event"] == name] for name in EVENTS}


def gaps(log) -> tuple[np.ndarray, np.ndarray]:
    """Seconds between neighbouring events of a user: within a visit, and between two."""
    seconds, same = log["time"].diff().to_numpy(), (log["user"].diff() == 0).to_numpy()
    begins = (log["visit"].diff() != 0).to_numpy()
    return seconds[same & ~begins], seconds[same & begins]


def test_every_purchase_is_an_interaction_and_every_interaction_a_purchase(shop, of):
    columns = ["user", "item", "time"]
    assert of["purchase"][columns].to_numpy().tolist() == shop[0].interactions[columns].to_numpy().tolist()


def test_each_purchase_follows_a_view_and_a_click_on_the_item_in_its_visit(log):
    first = log[log["item"] > 0].drop_duplicates(["visit", "item", "event"])
    rows = first.assign(row=first.index).pivot_table("row", ["visit", "item"], "event", observed=True)
    bought = rows[rows["purchase"].notna()]
    assert (bought["view"] < bought["click"]).all()
    assert (bought["click"] < bought["purchase"]).all()


def test_no_item_is_clicked_that_was_not_shown(of):
    shown = set(of["view"][["visit", "item"]].itertuples(index=False, name=None))
    assert set(of["click"][["visit", "item"]].itertuples(index=False, name=None)) <= shown


def test_a_list_has_different_items_of_one_category_that_are_on_sale(shop, log, of):
    number = (log["event"] == "search").cumsum()
    views = of["view"].assign(number=number, category=shop[1].catalogue.category[of["view"]["item"] - 1])
    assert not views.duplicated(["number", "item"]).any()
    assert (views.groupby("number")["category"].nunique() == 1).all()
    assert views.groupby("number").size().between(2, NUM_VIEWS).all()
    days = (views["time"] - events_module.OPENING + 600) / events_module.DAY  # a list may be older than its purchase
    assert (shop[1].catalogue.launch[views["item"] - 1] <= days).all()


def test_items_that_match_the_taste_are_clicked_more_often_and_read_longer(shop, log, of):
    catalogue, tastes = shop[1].catalogue, shop[1].tastes
    before = (log["event"] == "purchase").groupby(log["user"]).cumsum()  # purchases of the user until then
    views = of["view"].assign(step=before)
    user, after = views["user"].to_numpy(), (views["step"] >= tastes.change[views["user"]]).to_numpy()
    taste = np.where(after[:, None], tastes.after[user], tastes.before[user])
    matches = ((taste >= 0) & (taste == catalogue.attributes[views["item"] - 1])).sum(axis=1)
    keys = ["visit", "item"]
    clicks = of["click"].drop_duplicates(keys).set_index(keys)["dwell"]
    bought = set(of["purchase"][keys].itertuples(index=False, name=None))
    views = views.assign(matches=np.minimum(matches, 3))[~views.duplicated(keys, keep=False)]
    views = views[[pair not in bought for pair in views[keys].itertuples(index=False, name=None)]]
    dwell = clicks.reindex(pd.MultiIndex.from_frame(views[keys])).to_numpy()
    share = pd.Series(~np.isnan(dwell)).groupby(views["matches"].to_numpy()).mean()
    assert share.is_monotonic_increasing
    assert share[0] < 0.15
    assert share[3] > 0.7
    seconds = pd.Series(dwell).groupby(views["matches"].to_numpy()).mean()
    assert seconds.is_monotonic_increasing


def test_phones_click_less_and_evenings_more(of):
    def share(mask_of) -> float:
        return mask_of(of["click"]).sum() / mask_of(of["view"]).sum()

    def evening(frame):
        hour = (frame["time"] // 3600 + frame["region"].map(REGIONS).astype(int)) % 24
        return (hour >= 18) & (hour < 23)

    assert share(lambda frame: frame["device"] == "phone") < share(lambda frame: frame["device"] == "computer") - 0.02
    assert share(evening) > share(lambda frame: ~evening(frame)) + 0.04


def test_gaps_between_visits_are_larger_than_within(log):
    within, between = gaps(log)
    assert within.min() >= 0
    assert np.median(within) < 60 < 3600 < np.median(between)
    assert np.quantile(within, 0.98) < np.quantile(between, 0.02)


def test_some_visits_follow_so_soon_that_no_gap_separates_all(log):
    within, between = gaps(log)
    assert (within > 15 * 60).any()
    assert (between < 60 * 60).any()


def test_a_visit_has_one_user_one_device_and_one_region(log):
    assert (log.groupby("visit")[["user", "device", "region"]].nunique() == 1).all().all()
    assert log["visit"].drop_duplicates().tolist() == list(range(log["visit"].iloc[-1] + 1))
    assert (log.groupby("user")["region"].nunique() == 1).all()


def test_dwell_fits_before_the_next_event_and_queries_are_those_of_searches(log, of):
    following = log["time"].shift(-1)
    clicks = of["click"]
    same = (log["visit"].shift(-1) == log["visit"])[clicks.index]
    assert (clicks["time"] + clicks["dwell"] <= following[clicks.index])[same].all()
    assert clicks["dwell"].between(0, DWELL_MAX).all()
    others = log[log["event"] != "click"]
    assert (others["dwell"] == 0).all()
    assert (log["query"] != "").tolist() == (log["event"] == "search").tolist()
    assert ((log["item"] == 0) == (log["event"] == "search")).all()


def test_a_query_names_the_category_of_its_list_and_only_values_of_the_taste(shop, of):
    catalogue, tastes = shop[1].catalogue, shop[1].tastes
    first = of["view"].drop_duplicates(["user", "time"]).set_index(["user", "time"])["item"]
    searches = of["search"].drop_duplicates(["user", "time"], keep=False)[:500]
    words = [query.rpartition(" ") for query in searches["query"]]
    assert 0.3 < np.mean([bool(value) for value, _, _ in words]) < 0.9
    for (value, _, category), user, time in zip(words, searches["user"], searches["time"], strict=True):
        assert catalogue.facts(int(first[user, time]) - 1)["category"] == category
        held = {int(a): (tastes.before[user, a], tastes.after[user, a]) for a in range(6)}
        names = [
            catalogue.values(events_module.TASTE_ATTRIBUTES[a])[v] for a, own in held.items() for v in own if v >= 0
        ]
        assert not value or value in names


def test_the_same_shop_has_the_same_log_and_another_seed_another(shop, log, tmp_path):
    pd.testing.assert_frame_equal(sample_events(shop[1]), log)
    other = sample_events(load_shop(seed=1, size="tiny", cache=tmp_path, missing_images=1.0)[1])
    assert len(other) != len(log)


def test_chunks_are_the_log(shop, log, monkeypatch):
    monkeypatch.setattr(events_module, "CHUNK_SIZE", 250)
    parts = list(event_chunks(shop[1]))
    assert [part["user"].iloc[[0, -1]].tolist() for part in parts] == [[0, 249], [250, 499], [500, 599]]
    together = sample_events(shop[1])
    purchases = [frame[frame["event"] == "purchase"]["time"].tolist() for frame in (together, log)]
    assert purchases[0] == purchases[1]
    assert together["visit"].diff().isin([np.nan, 0, 1]).all()


def test_the_streamed_file_is_the_log_with_a_row_group_a_chunk(shop, monkeypatch, tmp_path):
    monkeypatch.setattr(events_module, "CHUNK_SIZE", 250)
    write_events(shop[1], tmp_path / "events.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "events.parquet"), sample_events(shop[1]))
    file = pq.ParquetFile(tmp_path / "events.parquet")
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sizes == [len(part) for part in event_chunks(shop[1])]
    assert list(tmp_path.iterdir()) == [tmp_path / "events.parquet"]


def test_events_change_nothing_of_the_shop(tmp_path):
    """Neither what is loaded, nor its truth, nor its files; test_shop.py has the recorded fingerprint."""
    dataset, truth = load_shop(size="tiny", cache=tmp_path, missing_images=1.0)

    def state():
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        digests = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
        arrays = [np.asarray(own).tolist() for part in (truth.tastes, truth.purchases) for own in asdict(part).values()]
        return dataset.interactions["time"].tolist(), arrays, digests

    before = state()
    sample_events(truth)
    assert state() == before
    assert load_shop(size="tiny", cache=tmp_path, missing_images=1.0)[0].fingerprint == dataset.fingerprint


def test_only_who_asks_for_events_loads_their_code():
    code = "import sys, mmrec_helpers.loading; print('mmrec_helpers.pocket_shop.events' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
