"""microlens.py, on files written here in its format."""

import pytest
from PIL import Image

from mmrec_helpers.data.readers.microlens import read_microlens


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Tiny_pairs.tsv").write_text("7\t30 10 30\n8\t10\n\n9\t\n")
    (tmp_path / "Tiny_titles.csv").write_text('item,title\n10,"fish, fried"\n20,nobody saw this\n')
    return tmp_path


def test_pairs_titles_and_covers_are_read(folder):
    (folder / "covers").mkdir()
    Image.new("RGB", (4, 3)).save(folder / "covers" / "10.jpg")
    dataset, report = read_microlens(folder)
    assert repr(dataset) == "RecDataset(Tiny: 2 users, 2 items, 4 interactions)"
    assert dataset.user_ids.tolist() == ["7", "8"]
    assert dataset.interactions["item"].tolist() == [1, 2, 1, 2]
    assert dataset.interactions["time"].tolist() == [0, 1, 2, 0]  # the position: there are no timestamps
    assert not dataset.timed
    assert set(dataset.interactions["rating"]) == {1}
    assert dataset.items["item_id"][:] == ["30", "10"]
    assert dataset.items["title"][:] == ["", "fish, fried"]
    assert dataset.has_image.tolist() == [False, False, True]
    assert report.count("the user's line names no item") == 1
    assert report.count("the user has one interaction") == 1
    assert report.count("the item has no row: its fields are empty") == 1
    assert report.count("nobody interacted with the item") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Tiny_pairs.tsv, line 1: the file is empty"),
        (b"7\t30\n8 10 20\n", "Tiny_pairs.tsv, line 2: no TAB between the user and the items; separate them by one"),
        (b"7\t30\n8\t1\n7\t20\n", "Tiny_pairs.tsv, line 3: user '7' has line 1 too; join the two in time order"),
        (b"7\t30\n8\t\xe9\n", "Tiny_pairs.tsv, line 2: not UTF-8"),
    ],
)
def test_a_faulty_file_is_named_with_the_line_and_the_mend(folder, content, message):
    (folder / "Tiny_pairs.tsv").write_bytes(content)
    with pytest.raises(ValueError, match="Tiny") as caught:
        read_microlens(folder)
    assert str(caught.value).startswith(f"{folder}/{message}")


@pytest.mark.parametrize(("name", "cut"), [("Tiny_pairs.tsv", 8), ("Tiny_titles.csv", 35)])
def test_a_file_that_is_cut_off_within_an_id_is_noted(folder, name, cut):
    (folder / name).write_bytes((folder / name).read_bytes()[:cut])
    _, report = read_microlens(folder)
    assert report.count(f"the last line of {name} has no line end: is the file whole?") == 1


@pytest.mark.parametrize("name", ["Tiny_pairs.tsv", "Tiny_titles.csv"])
def test_each_file_must_be_there_once(folder, name):
    (folder / f"Other_{name}").write_text("")
    with pytest.raises(ValueError, match=f"several files .*Other_{name}, {name}"):
        read_microlens(folder)
    (folder / f"Other_{name}").unlink()
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match="has no file"):
        read_microlens(folder)
