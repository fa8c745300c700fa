"""amazon.py: both editions, on files written here in their formats; no text of theirs is copied."""

import gzip
import json

import pytest
from PIL import Image

from mmrec_helpers.data.readers.amazon import read_amazon

REVIEWS_2018 = [
    {"reviewerID": "U1", "asin": "P2", "overall": 5.0, "unixReviewTime": 200, "reviewText": "Salt &amp; <b>pepper</b>"},
    {"reviewerID": "U2", "asin": "P1", "overall": 3.0, "unixReviewTime": 100},
    {"reviewerID": "U1", "asin": "P1", "overall": 4.0, "unixReviewTime": 150, "reviewText": "caf\u00e9 \U0001f600"},
]
METADATA_2018 = [
    {
        "asin": "P1",
        "title": "<span>Mill",
        "brand": "Kim",
        "category": ["Kitchen", "Mills &amp; more", "Salt"],
        "description": ["first", "", "second"],
        "price": "$1,012.50",
        "imageURL": ["small"],
        "imageURLHighRes": ["large", "other"],
    },
    {"asin": "P2", "title": "Pot", "category": [], "main_cat": "Home", "price": ".css{}", "imageURLHighRes": []},
    {"asin": "P3", "title": "never bought"},
]
REVIEWS_2023 = [
    {"user_id": "U1", "asin": "child", "parent_asin": "P1", "rating": 5.0, "timestamp": 1609459200999, "text": "good"},
    {"user_id": "U1", "asin": "P2", "rating": 2.0, "timestamp": 1609459100000, "text": ""},
]
METADATA_2023 = [
    {
        "parent_asin": "P1",
        "title": "Mill",
        "store": "Kim",
        "main_category": "Home",
        "categories": ["Kitchen", "Mills"],
        "description": ["d"],
        "price": 12.5,
        "images": [{"variant": "PT01", "large": "back"}, {"variant": "MAIN", "hi_res": None, "large": "front"}],
    },
    {"parent_asin": "P2", "title": "Pot", "categories": [], "main_category": "Home", "price": "from 3", "images": []},
]


def packed(rows: list) -> bytes:
    return gzip.compress(plain(rows), mtime=0)


def plain(rows: list) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Mills_5.json.gz").write_bytes(packed(REVIEWS_2018))
    (tmp_path / "meta_Mills.json.gz").write_bytes(packed(METADATA_2018))
    return tmp_path


def fault(path, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        read_amazon(path)
    return str(caught.value).replace(f"{path}/", "")


def test_the_edition_of_2018_is_read(folder):
    (folder / "images").mkdir()
    Image.new("RGB", (4, 3)).save(folder / "images" / "P1.jpg")
    dataset, report = read_amazon(folder)
    assert repr(dataset) == "RecDataset(Mills_5: 2 users, 2 items, 3 interactions)"
    assert dataset.interactions["review"].tolist() == ["café 😀", "Salt &amp; <b>pepper</b>", ""]
    assert dataset.interactions["rating"].tolist() == [4, 5, 3]
    mill = dataset.item(2)
    assert mill.pop("image").size == (4, 3)
    assert mill == {
        "item_id": "P1",
        "title": "<span>Mill",
        "description": "first\nsecond",
        "category": "Mills &amp; more",
        "brand": "Kim",
        "price": 1012.5,
        "image_url": "large",
    }
    pot = dataset.item(1)
    assert (pot["category"], pot["brand"], pot["price"], pot["image_url"], pot["image"]) == ("Home", "", None, "", None)
    assert report.count("the price is no amount: left empty") == 1
    assert report.count("nobody interacted with the item") == 1
    assert dataset.k_core(1).items["image_url"][:] == ["", "large"]


@pytest.mark.parametrize(("ending", "write"), [(".jsonl", plain), (".jsonl.gz", packed), (".jsonl.gz", plain)])
def test_the_edition_of_2023_is_read_packed_or_not(tmp_path, ending, write):
    (tmp_path / f"Mills{ending}").write_bytes(write(REVIEWS_2023))
    (tmp_path / f"meta_Mills{ending}").write_bytes(write(METADATA_2023))
    dataset, report = read_amazon(tmp_path / f"Mills{ending}")
    assert dataset.name == "Mills"
    assert dataset.interactions["time"].tolist() == [1609459100, 1609459200]
    assert dataset.interactions["rating"].tolist() == [2, 5]
    assert report.count("the time was in milliseconds") == 2
    fields = ("item_id", "title", "brand", "category", "price", "image_url")
    assert [dataset.item(1)[name] for name in fields] == ["P1", "Mill", "Kim", "Mills", 12.5, "front"]
    assert [dataset.item(2)[name] for name in fields] == ["P2", "Pot", "", "Home", None, ""]


def test_missing_fields_are_dropped_and_counted(folder):
    rows = [*REVIEWS_2018, {"asin": "P1", "overall": 1, "unixReviewTime": 1}, {"reviewerID": "U9", "asin": "P1"}]
    rows += [{**REVIEWS_2018[0], "overall": float("nan")}, REVIEWS_2018[0], {**REVIEWS_2018[0], "asin": "P9"}]
    (folder / "Mills_5.json.gz").write_bytes(packed(rows))
    dataset, report = read_amazon(folder)
    assert dataset.num_interactions == 4
    dropped = report.table().query("of == 'interactions' and action == 'dropped'").set_index("reason")["count"]
    assert dropped.to_dict() == {
        "the user id is missing": 1,
        "the time is missing": 1,
        "the rating is missing": 1,
        "the same user, item and second stands before": 1,
    }
    assert report.count("the item has no row: its fields are empty") == 1
    assert dataset.item(3)["item_id"] == "P9"


def test_half_a_character_becomes_a_question_mark(folder):
    (folder / "Mills_5.json.gz").write_bytes(packed([{**REVIEWS_2018[0], "reviewText": "\ud83d!"}]))
    assert read_amazon(folder)[0].interactions["review"].tolist() == ["?!"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Mills_5.json.gz, line 1: the file is empty; fetch or export it again"),
        (packed([]), "Mills_5.json.gz, line 1: the file is empty"),
        (plain(REVIEWS_2018)[:-20], "Mills_5.json.gz, line 3: no whole JSON object"),
        (b'{"reviewerID": \n', "Mills_5.json.gz, line 1: no whole JSON object"),
        (b"[1]\n", "Mills_5.json.gz, line 1: list instead of an object; delete the line"),
        (plain(REVIEWS_2018[:2]) + '{"a": "é"}'.encode("latin-1"), "Mills_5.json.gz, line 3: not UTF-8"),
        (
            plain([{"asin": "P1"}]),
            "Mills_5.json.gz, line 1: no field 'user_id'; is it the file of reviews as published?",
        ),
        (plain([{**REVIEWS_2018[0], "overall": "five"}]), "Mills_5.json.gz, line 1: overall is 'five', not a number"),
        (plain([{**REVIEWS_2018[0], "overall": [5]}]), "Mills_5.json.gz, line 1: overall is [5], not a number"),
        (plain([{**REVIEWS_2018[0], "overall": True}]), "Mills_5.json.gz, line 1: overall is True, not a number"),
        (plain([{**REVIEWS_2018[0], "overall": "1_0"}]), "Mills_5.json.gz, line 1: overall is '1_0', not a number"),
        (plain([{**REVIEWS_2018[0], "reviewerID": {}}]), "Mills_5.json.gz, line 1: {} where text is expected; correct"),
        (b'{"a": ' + b"[" * 100_000, "Mills_5.json.gz, line 1: no whole JSON object (maximum recursion depth"),
        (b'{"a": 1, "a": 2}\n', "Mills_5.json.gz, line 1: no whole JSON object (the key 'a' is there twice)"),
    ],
)
def test_a_faulty_file_is_named_with_the_line_and_the_mend(folder, content, message):
    (folder / "Mills_5.json.gz").write_bytes(content)
    assert fault(folder).startswith(message)


@pytest.mark.parametrize("name", ["Mills_5.json.gz", "meta_Mills.json.gz"])
def test_a_truncated_gz_is_named(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-20])
    assert fault(folder).startswith(f"{name}, after line ")
    assert "the file is cut off or damaged" in fault(folder)
    (folder / name).write_bytes(whole[:12] + bytes(30) + whole[42:])
    assert "the file is cut off or damaged" in fault(folder)


def test_metadata_must_lie_beside_the_reviews(folder):
    (folder / "meta_Mills.json.gz").unlink()
    assert fault(folder, FileNotFoundError) == "meta_Mills.json.gz is not a file; put it there, or correct the path"


@pytest.mark.parametrize("text", [b"false", b"[" * 900 + b"]" * 900])
def test_metadata_that_are_no_text_are_refused(folder, text):
    (folder / "meta_Mills.json.gz").write_bytes(b'{"asin": "P1", "description": ' + text + b"}\n")
    assert fault(folder).startswith("meta_Mills.json.gz, line 1: ")


def test_numbers_stay_finite(folder):
    (folder / "Mills_5.json.gz").write_bytes(packed([*REVIEWS_2018, {**REVIEWS_2018[0], "overall": 1e39}]))
    (folder / "meta_Mills.json.gz").write_bytes(packed([{**METADATA_2018[0], "price": int("9" * 40)}]))
    dataset, report = read_amazon(folder)
    assert dataset.num_interactions == 3
    assert report.count("the rating is negative or infinite") == report.count("the price is no amount: left empty") == 1


def test_metadata_without_ids_is_refused(folder):
    (folder / "meta_Mills.json.gz").write_bytes(packed([{"title": "Mill"}]))
    assert fault(folder).startswith("meta_Mills.json.gz, line 1: no field 'asin' or 'parent_asin'")


@pytest.fixture
def two(folder):
    """A second category beside the first: U1 and P2 are in both, and so is one review."""
    reviews = [{**REVIEWS_2018[2], "asin": "P4", "unixReviewTime": 120}, REVIEWS_2018[0]]
    (folder / "Pots_5.json.gz").write_bytes(packed([*reviews, {**REVIEWS_2018[1], "reviewerID": "U3", "asin": "P4"}]))
    metadata = [{**METADATA_2018[1], "title": "not taken"}, {"asin": "P4", "title": "Pan", "category": ["Pot", "Pans"]}]
    (folder / "meta_Pots.json.gz").write_bytes(packed(metadata))
    return folder


def test_a_folder_of_several_categories_joins_them(two):
    dataset, report = read_amazon(two)
    assert repr(dataset) == f"RecDataset({two.name}: 3 users, 3 items, 5 interactions)"
    assert report.total("read") == 6
    assert report.count("the same user, item and second stands before") == report.total("dropped") == 1
    assert dataset.user_ids.tolist() == ["U1", "U2", "U3"]
    first = dataset.interactions.query("user == 0")
    assert first["time"].tolist() == [120, 150, 200]  # one history across the categories
    assert dataset.column("item_id")[first["item"]].tolist() == ["P4", "P1", "P2"]
    assert dict(zip(dataset.items["title"], dataset.items["category"], strict=True)) == {
        "Pot": "Home",
        "<span>Mill": "Mills &amp; more",
        "Pan": "Pans",
    }


def test_a_file_is_its_category_alone_whatever_lies_beside_it(two):
    assert repr(read_amazon(two / "Pots_5.json.gz")[0]) == "RecDataset(Pots_5: 2 users, 2 items, 3 interactions)"


def test_both_editions_are_not_joined(folder):
    (folder / "Pots.jsonl").write_bytes(plain(REVIEWS_2023))
    (folder / "meta_Pots.jsonl").write_bytes(plain(METADATA_2023))
    assert fault(folder) == (
        "Pots.jsonl, line 1: no field 'reviewerID'; is it the file of reviews as published, of the same edition as "
        "Mills_5.json.gz?"
    )


def test_one_category_twice_is_refused(folder):
    (folder / "Mills.json.gz").write_bytes(packed(REVIEWS_2018))
    assert "holds one category as Mills.json.gz and as Mills_5.json.gz; name one of them" in fault(folder)


def test_metadata_are_not_reviews(folder):
    assert "not named like a file of reviews" in fault(folder / "meta_Mills.json.gz")


def test_a_folder_without_reviews_is_named(tmp_path):
    assert "has no file of reviews" in fault(tmp_path, FileNotFoundError)
