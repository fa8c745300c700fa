"""Thirty odd shops: each is read as it was written, and what it cannot have is said in a sentence."""

import pytest
from odd_shops import SHOPS, write_shop

from mmrec_helpers.data.dataset import NotAvailable
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.display.cards import item_card
from mmrec_helpers.studies.ch01 import dataset_statistics

SPLITS = ("leave_one_out", "temporal_split", "next_day_split")
LACKS = {
    "one moment": {"temporal_split", "next_day_split"},
    "one day": {"next_day_split"},
    "one interaction a user": {"next_day_split"},
}
"""Shop -> the splits that it cannot have."""


def test_there_are_thirty_of_different_names():
    assert len(set(SHOPS)) == len(SHOPS) == 30


@pytest.mark.parametrize("name", SHOPS)
def test_an_odd_shop_is_read_as_it_was_written_or_what_it_lacks_is_said(name, tmp_path):
    log, goods = write_shop(name, tmp_path / "shop")
    dataset, report = read_folder(tmp_path / "shop")
    assert (report.total("read"), report.total("dropped"), report.total("repaired")) == (len(log), 0, 0)
    goods = goods[goods["item"].isin(log["item"])]
    titles = dict(zip(goods["item"].astype(str), goods["title"], strict=True))
    assert dict(zip(dataset.items["item_id"], dataset.items["title"], strict=True)) == titles
    for split in SPLITS:
        if split in LACKS.get(name, ()):
            with pytest.raises(NotAvailable, match="shop has no"):
                getattr(dataset, split)()
        else:
            assert sum(getattr(dataset, split)().counts().values()) == len(log)
    assert dataset_statistics(dataset)["interactions"] == len(log)
    assert "<script" not in "".join(item_card(dataset, item) for item in range(1, dataset.num_items + 1))
