"""loading.py: the data that MMREC_DATA names."""

import pandas as pd
import pytest

from mmrec_helpers.data.dataset import NotAvailable
from mmrec_helpers.loading import MIN_SIZE, READERS, if_available, load_data, load_data_for_training, require_truth
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.settings import SOURCES, load_settings


def test_the_pocket_shop_has_its_truth_and_no_cleaning_report():
    dataset, truth, report = load_data(load_settings())
    shop, shop_truth = load_shop()
    assert dataset.fingerprint == shop.fingerprint
    assert truth.seed == shop_truth.seed
    assert report is None


def test_real_data_have_a_cleaning_report_and_no_truth(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item,time\nann,mug,5\nann,mug,5\n")
    (tmp_path / "items.csv").write_text("item,title\nmug,Mug\n")
    dataset, truth, report = load_data(load_settings({"MMREC_DATA": f"folder:{tmp_path}"}))
    assert (dataset.name, dataset.num_interactions) == (tmp_path.name, 1)
    assert truth is None
    assert report.total("dropped") == 1


def test_tables_of_real_data_show_prices_and_no_formulas(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item,time\n1,2,900000000\n")
    (tmp_path / "items.csv").write_text("item,title,category\n2,$5 to $9,$$\n")
    with pd.option_context("display.html.use_mathjax", True):
        dataset, _, _ = load_data(load_settings({"MMREC_DATA": f"folder:{tmp_path}"}))
        assert "mathjax_ignore" in dataset.items.select_columns(["title", "category"]).to_pandas()._repr_html_()


@pytest.mark.parametrize("source", SOURCES)
def test_a_path_that_is_not_there_is_named(tmp_path, source):
    with pytest.raises(FileNotFoundError, match="gone"):
        load_data(load_settings({"MMREC_DATA": f"{source}:{tmp_path / 'gone'}"}))


def test_every_source_that_settings_name_has_a_reader():
    assert tuple(READERS) == SOURCES


# What a data set may lack ---------------------------------------------------------------------------------------------


def test_if_available_returns_what_is_made_and_prints_nothing(capsys):
    assert if_available(lambda: [7]) == [7]
    assert not capsys.readouterr().out


def test_if_available_prints_the_sentence_in_place_of_what_cannot_be(capsys):
    def make():
        raise NotAvailable("shop has no temporal split.")

    assert if_available(make) is None
    assert capsys.readouterr().out == "shop has no temporal split.\n"


def test_what_needs_the_truth_is_not_available_without_it():
    truth = load_shop(size="tiny")[1]
    assert require_truth(truth) is truth
    with pytest.raises(NotAvailable, match="Only the Pocket Shop"):
        require_truth(None)


def test_if_available_hides_no_other_error():
    with pytest.raises(ValueError, match="invalid literal"):
        if_available(lambda: int("one"))


@pytest.mark.parametrize(
    ("users", "items", "enough"),
    [(MIN_SIZE, MIN_SIZE + 2, True), (MIN_SIZE - 1, MIN_SIZE + 2, False), (MIN_SIZE, MIN_SIZE, False)],
)
def test_where_data_are_too_few_the_pocket_shop_takes_their_place(tmp_path, capsys, users, items, enough):
    rows = [f"u{row % users},i{row % items},5" for row in range(max(users, items))]
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,time", *rows]))
    (tmp_path / "items.csv").write_text("\n".join(["item,title", *(f"i{item},Mug {item}" for item in range(items))]))
    dataset, truth = load_data_for_training(load_settings({"MMREC_DATA": f"folder:{tmp_path}"}))
    printed = capsys.readouterr().out
    assert "interactions kept" in printed  # the cleaning report
    assert (dataset.num_users == users) == (truth is None) == ("has no images" in printed) == enough
    assert ("goes on with the Pocket Shop" in printed) != enough


def test_where_items_lack_what_a_chapter_needs_the_pocket_shop_takes_their_place(tmp_path, capsys):
    rows = [f"u{row},i{row},5" for row in range(MIN_SIZE + 2)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,time", *rows]))
    items = [f"i{row},Mug {row},{'mug' if row else ''}" for row in range(MIN_SIZE + 2)]
    (tmp_path / "items.csv").write_text("\n".join(["item,title,category", *items]))
    settings = load_settings({"MMREC_DATA": f"folder:{tmp_path}"})
    whole, truth = load_data_for_training(settings, ["title", "category"])
    assert truth is None
    assert "Pocket Shop" not in capsys.readouterr().out
    sample, _ = load_data_for_training(settings, max_users=50)
    assert "a sample of 50 users, and their 50 items" in capsys.readouterr().out
    assert set(sample.user_ids) < set(whole.user_ids)
    assert load_data_for_training(settings, ["category", "image"])[1] is not None
    assert f"Fewer than {MIN_SIZE} items have category and image" in capsys.readouterr().out
