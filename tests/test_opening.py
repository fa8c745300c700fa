"""opening.py: the data that MMREC_DATA names."""

import pytest

from mmrec_helpers.opening import READERS, open_data
from mmrec_helpers.pocket_shop.shop import open_shop
from mmrec_helpers.settings import SOURCES, load_settings


def test_the_pocket_shop_has_its_truth_and_no_clean_up():
    dataset, truth, cleanup = open_data(load_settings())
    shop, known = open_shop()
    assert dataset.fingerprint == shop.fingerprint
    assert truth.seed == known.seed
    assert cleanup is None


def test_real_data_have_a_clean_up_and_no_truth(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item,time\nann,mug,5\nann,mug,5\n")
    (tmp_path / "items.csv").write_text("item,title\nmug,Mug\n")
    dataset, truth, cleanup = open_data(load_settings({"MMREC_DATA": f"folder:{tmp_path}"}))
    assert (dataset.name, dataset.num_interactions) == (tmp_path.name, 1)
    assert truth is None
    assert cleanup.total("dropped") == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_path_that_is_not_there_is_named(tmp_path, source):
    with pytest.raises(FileNotFoundError, match="gone"):
        open_data(load_settings({"MMREC_DATA": f"{source}:{tmp_path / 'gone'}"}))


def test_every_source_that_settings_name_has_a_reader():
    assert tuple(READERS) == SOURCES
