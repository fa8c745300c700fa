"""folder.py and, through it, the rules of cleaning.py: bad input is counted, or an error that names the fix."""

import errno
import gzip
import json
import os
import random
import struct
import zlib
from pathlib import Path

import datasets
import pytest
from PIL import Image

from mmrec_helpers.data.dataset import ITEM_FEATURES
from mmrec_helpers.data.readers.amazon import read_amazon
from mmrec_helpers.data.readers.folder import MAX_FURTHER_COLUMNS, read_folder
from mmrec_helpers.data.readers.microlens import read_microlens

LONG = "long " * 30_000
"""More characters than csv takes for a field by itself."""
REVIEWED = "user,item,time,review"


def interactions(shop, *rows: str, header: str = "user,item,time,rating"):
    """Read the shop with these rows instead of its own; the frame of interactions and the report."""
    shop.write("interactions.csv", (header, *rows))
    dataset, report = read_folder(shop.path)
    return dataset.interactions, report


def fault(shop, kind: type[Exception] = ValueError, **options) -> str:
    with pytest.raises(kind) as caught:
        read_folder(shop.path, **options)
    return str(caught.value).replace(str(shop.path) + os.sep, "")


# A clean shop ---------------------------------------------------------------------------------------------------


def test_a_clean_shop_is_read_whole(shop):
    shop.picture("mug.png")
    shop.picture("lamp.jpeg", (5, 4))
    dataset, report = read_folder(shop.path)
    assert repr(dataset) == "RecDataset(my shop: 2 users, 2 items, 3 interactions)"
    assert dataset.user_ids.tolist() == ["ann", "bob"]  # in order of first appearance
    assert dataset.items["item_id"][:] == ["mug", "lamp"]
    rows = dataset.interactions.to_dict("list")
    assert rows == {
        "user": [0, 0, 1],
        "item": [2, 1, 2],
        "time": [90, 100, 50],
        "rating": [4, 5, 3],
        "review": ["bright", "good", ""],
    }
    mug = dataset.item(1)
    assert mug.pop("image").size == (3, 2)
    assert mug == {
        "item_id": "mug",
        "title": "Mug",
        "description": "holds tea",
        "category": "kitchen",
        "brand": "Kim",
        "price": 4.5,
    }
    assert dataset.image(2).size == (5, 4)
    assert dataset.items.features == ITEM_FEATURES
    assert report.total("dropped") == report.total("repaired") == 0
    assert report.count("the description is empty") == report.count("the brand is empty") == 1
    assert len(dataset.fingerprint) == 16


def test_what_is_optional_may_be_missing(shop):
    shop.write("interactions.csv", ("user,item,time", "ann,mug,1"))
    shop.write("items.csv", ("title,item", "Mug,mug"))
    dataset, _ = read_folder(shop.path)
    assert dataset.interactions.to_dict("records") == [{"user": 0, "item": 1, "time": 1, "rating": 1, "review": ""}]
    assert (dataset.item(1)["brand"], dataset.item(1)["price"], dataset.image(1)) == ("", None, None)


def test_a_byte_order_mark_quoted_line_ends_and_blank_lines_are_read(shop):
    shop.write("items.csv", '\ufeffitem,title\r\n\r\nmug,"a ""big""\r\nmug, blue"\r\nlamp,Lamp'.encode())
    dataset, _ = read_folder(shop.path)
    assert dataset.items["title"][:] == ['a "big"\r\nmug, blue', "Lamp"]


def test_every_interaction_equals_a_slow_reference(shop):
    rng = random.Random(0)
    rows = [(f"u{rng.randrange(30)}", f"i{rng.randrange(20)}", rng.randrange(9), rng.randrange(6)) for _ in range(900)]
    frame, report = interactions(shop, *(",".join(map(str, row)) for row in rows))
    known, expected_rows = set(), []
    for row in rows:
        if row[:3] not in known:
            known.add(row[:3])
            expected_rows.append(row)
    users, items = (list(dict.fromkeys(row[column] for row in expected_rows)) for column in (0, 1))
    expected = [(users.index(user), items.index(item) + 1, time, rating) for user, item, time, rating in expected_rows]
    expected.sort(key=lambda row: (row[0], row[2]))  # Python's sort is stable: ties keep the file's order
    assert [tuple(map(int, row)) for row in frame.drop(columns="review").itertuples(index=False)] == expected
    assert report.count("the same user, item and second stands before") == len(rows) - len(expected_rows) > 0


# Further columns ------------------------------------------------------------------------------------------------


def test_further_columns_of_items_are_kept_as_text(shop):
    fingerprint = read_folder(shop.path)[0].fingerprint
    rows = (",item,title,colour,size 1", "0,mug,Mug,blue,007", "1,lamp,Lamp,,<b>NA</b>", "2,bed,Bed,red,1")
    shop.write("items.csv", rows)  # the first column, without a name, is what pandas writes as its index
    shop.write("interactions.csv", ("user,item,time,place", "ann,lamp,1,home", "ann,mug,2,", "ann,sofa,3,"))
    dataset, report = read_folder(shop.path)
    assert report.count("not read: place") == 1
    assert set(dataset.items.column_names) - set(ITEM_FEATURES) == {"colour", "size 1"}
    assert dataset.column("colour").tolist() == [None, "", "blue", ""]
    assert dataset.column("size 1").tolist() == [None, "<b>NA</b>", "007", ""]
    assert "place" not in dataset.interactions
    kept = dataset.select_interactions(dataset.interactions["time"].to_numpy() == 2)
    assert kept.column("colour").tolist() == [None, "blue"]
    shop.write("items.csv", tuple(row.replace("blue", "cyan") for row in rows))
    assert len({fingerprint, dataset.fingerprint, read_folder(shop.path)[0].fingerprint}) == 3


def test_a_misspelt_column_of_interactions_is_noted(shop):
    """Without it all ratings are 1."""
    frame, report = interactions(shop, "ann,mug,1,5,", header="user,item,time, Rating,")
    assert frame["rating"].tolist() == [1]
    assert str(report).count("1 columns noted: not read:  Rating") == 1


def test_columns_that_are_skipped_are_not_read(shop):
    shop.write("items.csv", ("item,title,price,image,colour", "mug,Mug,4,mug.png,blue", "lamp,Lamp,5,,white"))
    items = {"file": "items.csv", "skip": ["price", "image", "not there"]}
    interactions = {"file": "interactions.csv", "skip": ["rating"]}
    dataset, report = read_folder(shop.path, {"items": items, "interactions": interactions})
    assert "not read" not in str(report)
    assert dataset.items.features == {**ITEM_FEATURES, "colour": datasets.Value("string")}
    assert dataset.items["price"][:] == [None, None]
    assert dataset.interactions["rating"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["image", "item_id"])
def test_a_further_column_named_as_one_of_the_data_set_is_refused(shop, name):
    shop.write("items.csv", (f"item,title,{name}", "mug,Mug,x"))
    assert fault(shop) == (
        f"items.csv, line 1: a further column has the name {name!r} of the data set's own; rename it in the file, or "
        "list it under skip in columns.json"
    )


def test_a_column_whose_name_another_is_mapped_to_is_refused(shop):
    shop.write("items.csv", ("item,title,name", "mug,x,Mug"))
    columns = {"items": {"file": "items.csv", "title": "name"}}
    assert "name 'title' of the data set's own" in fault(shop, columns=columns)


def test_many_further_columns_are_refused(shop):
    names = [f"tag {number}" for number in range(MAX_FURTHER_COLUMNS + 1)]
    for number in (len(names), len(names) - 1):
        header, row = ",".join(["item", "title", *names[:number]]), ",".join(["mug"] * (number + 2))
        shop.write("items.csv", (header, row))
        if number > MAX_FURTHER_COLUMNS:
            assert fault(shop).startswith("items.csv, line 1: 101 further columns, of which 100 can be kept; delete")
    assert read_folder(shop.path)[0].column(names[-2]).tolist() == [None, "mug", ""]


# Rows that are dropped or repaired ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("ann,mug,1,5", "the same user, item and second stands before"),
        ("ann,mug,1,2", "the same user, item and second stands before"),
        ("ann,mug,1.7,2", "the same user, item and second stands before"),
        (",mug,1,5", "the user id is missing"),
        ("ann,,1,5", "the item id is missing"),
        ("ann,mug,,5", "the time is missing"),
        ("ann,mug,null,5", "the time is missing"),
        ("ann,mug,-3,5", "the time is not between 1970 and 5138"),
        ("ann,mug,inf,5", "the time is not between 1970 and 5138"),
        ("ann,mug,1e21,5", "the time is not between 1970 and 5138"),
        ("ann,mug,2,", "the rating is missing"),
        ("ann,mug,2,NaN", "the rating is missing"),
        ("ann,mug,2,-1", "the rating is negative or infinite"),
        ("ann,mug,2,inf", "the rating is negative or infinite"),
        ("ann,mug,2,1e39", "the rating is negative or infinite"),  # in float32
        ("ann,mug,2," + "9" * 400, "the rating is negative or infinite"),
        (",,,", "the user id is missing"),  # the first reason counts
    ],
)
def test_a_bad_interaction_is_dropped_and_counted(shop, row, reason):
    frame, report = interactions(shop, "ann,mug,1,5", row, "bob,mug,7,4")
    assert frame["time"].tolist() == [1, 7]
    assert report.total("read") == 3
    assert report.total("kept") == 2
    assert report.count(reason) == report.total("dropped") == 1
    assert report.total("read", "users") == report.total("kept", "users") == 2  # a missing id is no user
    assert frame["rating"].tolist() == [5, 4]


@pytest.mark.parametrize(
    ("time", "seconds", "reason"),
    [
        ("99999999999", 99_999_999_999, ""),
        ("100000000000", 100_000_000, "the time was in milliseconds"),
        ("1609459200123", 1_609_459_200, "the time was in milliseconds"),
        ("1.609459200123e12", 1_609_459_200, "the time was in milliseconds"),
        ("1609459200123456", 1_609_459_200, "the time was in microseconds"),
        ("1609459200123456789", 1_609_459_200, "the time was in nanoseconds"),
        (" 12.5 ", 12, "a fraction of a second was cut off"),
    ],
)
def test_times_of_other_units_are_repaired_and_counted(shop, time, seconds, reason):
    frame, report = interactions(shop, f"ann,mug,{time},5", "bob,mug,7,4")
    assert frame["time"].tolist() == [seconds, 7]
    assert report.table().query("action == 'repaired'")["reason"].tolist() == ([reason] if reason else [])
    assert report.total("dropped") == 0


def test_users_with_one_interaction_are_kept_and_noted_and_those_with_none_are_counted(shop):
    frame, report = interactions(shop, "ann,mug,1,5", "ann,lamp,2,5", "bob,mug,3,4", "eve,mug,4,-1")
    assert frame["user"].tolist() == [0, 0, 1]
    assert report.count("the user has one interaction") == 1
    assert report.count("no interaction of the user is left") == 1
    assert (report.total("read", "users"), report.total("kept", "users")) == (3, 2)


def test_nothing_left_is_an_error_with_the_counts(shop):
    shop.write("interactions.csv", ("user,item,time,rating", "ann,mug,1,-5"))
    assert "no interaction is left" in fault(shop)
    assert "1 interactions dropped: the rating is negative or infinite" in fault(shop)
    shop.write("interactions.csv", ("user,item,time,rating",))
    assert "0 interactions read" in fault(shop)


def test_items_without_a_row_are_kept_and_rows_that_are_not_used_are_counted(shop):
    shop.write("items.csv", ("item,title,price", "mug,Mug,4", "mug,Mug,4", "mug,Cup,5", ",no id,1", "bed,Bed,9"))
    dataset, report = read_folder(shop.path)
    assert dataset.items["title"][:] == ["Mug", ""]
    assert dataset.items["price"][:] == [4, None]
    dropped = report.table().query("of == 'item rows' and action == 'dropped'").set_index("reason")["count"]
    assert dropped.to_dict() == {
        "the item id is missing": 1,
        "the whole row stands before": 1,
        "another row of the item stands before": 1,
        "nobody interacted with the item": 1,
    }
    assert report.count("the item has no row: its fields are empty") == 1


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("12", 12),
        ("$12.50", 12.5),
        ("1,200.5", 1200.5),
        ("", None),
        ("from 3", None),
        ("$1 - $2", None),
        ("-4", None),
        ("9" * 40, None),
        ("true", None),
        ("1_0", None),
        ("1e39", None),
    ],
)
def test_a_price_that_is_no_amount_is_left_empty_and_counted(shop, text, price):
    shop.write("items.csv", ("item,title,price", f'mug,Mug,"{text}"'))
    dataset, report = read_folder(shop.path)
    assert dataset.item(1)["price"] == price
    assert report.count("the price is no amount: left empty") == (price is None and text != "")


@pytest.mark.parametrize(
    ("text", "price", "is_noted"),
    [("1.200", 1.2, True), ("$12.345", 12.345, True), ("0.051", 0.051, False), ("1.20", 1.2, False)],
)
def test_a_price_that_may_be_a_thousand_is_noted(shop, text, price, is_noted):
    shop.write("items.csv", ("item,title,price", f"mug,Mug,{text}"))
    dataset, report = read_folder(shop.path)
    assert dataset.item(1)["price"] == pytest.approx(price)
    assert report.count("the price has three decimals: is 1.200 a thousand?") == is_noted


SEEMS, EQUALS = (
    "the id has a space at an end, or invisible characters",
    "another id differs only in spaces, invisible characters or the Unicode form",
)


@pytest.mark.parametrize(
    ("one", "other", "odd"),
    [
        ("mug ", "mug", 1),
        ("mug", "\xa0mug", 1),
        ("zoe\u0301", "zo\u00e9", 0),
        ("m\u200bug", "mug", 1),
        ("\ufeffmug", "mug", 1),
        ("\uff4dug", "mug", 0),
    ],
)
def test_ids_that_look_equal_are_kept_and_noted(shop, one, other, odd):
    shop.write("items.csv", ("item,title", f'"{one}",One', "lamp,Lamp"))  # the other is only in the interactions
    rows = [f'"{user}","{other}",{time},5' for time, user in enumerate((one, other, "MUG"), 1)]
    shop.write("interactions.csv", ("user,item,time,rating", *rows))
    dataset, report = read_folder(shop.path)
    assert dataset.user_ids.tolist() == [one, other, "MUG"]
    assert dataset.items["item_id"][:] == [other]
    for reason, users, items in ((SEEMS, odd, odd), (EQUALS, 1, 1)):
        assert report.count(reason) == users + items
    assert report.table().query("reason == @EQUALS")["of"].tolist() == ["users", "items"]


# Images ---------------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


TOO_LARGE, NO_IMAGE = "the image has more than 50,000,000 pixels", "the file is no whole JPEG, PNG, WEBP image"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("mug.jpg", b"this is text\n", NO_IMAGE),
        ("mug.jpg", b"", NO_IMAGE),
        ("mug.png", png_header(10, 10), NO_IMAGE),
        ("mug.png", png_header(30_000, 30_000), TOO_LARGE),  # Pillow itself refuses this one
        ("mug.png", png_header(8_000, 7_000), TOO_LARGE),
        ("mug.png", png_header(12_000, 8_000), TOO_LARGE),  # Pillow warns
        ("mug.gif", b"GIF89a", "not a file that ends in .jpg, .jpeg, .png, .webp"),
        ("bed.jpg", b"whatever", "there is no item of this name"),
    ],
)
def test_a_picture_that_cannot_be_used_is_missing_and_counted(shop, recwarn, name, content, reason):
    shop.write(f"images/{name}", content)
    dataset, report = read_folder(shop.path)
    assert dataset.image(1) is None
    assert not dataset.has_image.any()
    assert report.count(reason) == report.total("dropped", "images") == 1
    assert report.count("the image is missing") == 2
    assert not [warning for warning in recwarn if "Decompression" in str(warning.category)]


def test_a_half_jpeg_is_missing(shop):
    file = shop.picture("mug.jpg", (64, 64))
    Image.effect_noise((64, 64), 90).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    dataset, report = read_folder(shop.path)
    assert dataset.image(1) is None
    assert report.count(NO_IMAGE) == 1


def test_a_long_image_below_the_cap_is_kept(shop):
    shop.picture("mug.png", (30_000, 100))
    assert read_folder(shop.path)[0].image(1).size == (30_000, 100)


def test_of_two_images_of_an_item_the_first_that_can_be_read_is_taken(shop):
    shop.write("images/mug.jpg", b"broken")
    shop.picture("mug.png", (7, 7))
    shop.picture("mug.webp", (9, 9))
    dataset, report = read_folder(shop.path)
    assert dataset.image(1).size == (7, 7)
    assert report.count("another image of the item stands before") == 1
    assert (report.total("read", "images"), report.total("kept", "images")) == (3, 1)


HOSTILE = ["../../etc/passwd", "../secret", "a/b", "/etc/passwd", "..", ".", "C:\\x", "<script>alert(1)</script>", "NA"]


def test_ids_that_look_like_paths_or_tags_are_just_text(shop):
    shop.picture("mug.png")
    secret = shop.picture("../secret.png")
    assert secret.resolve() == (shop.path / "secret.png").resolve()
    shop.picture("a/b.png")
    rows = [f"{name},{name},1,5" for name in HOSTILE]
    shop.write("items.csv", ("item,title", *(f"{name},<b>{name}</b>" for name in HOSTILE)))
    _, report = interactions(shop, *rows)
    dataset, _ = read_folder(shop.path)
    assert dataset.items["item_id"][:] == dataset.user_ids.tolist() == HOSTILE
    assert dataset.items["title"][-2] == "<b><script>alert(1)</script></b>"
    assert not dataset.has_image.any()
    assert report.count("there is no item of this name") == 1  # mug.png
    assert report.count("not a file that ends in .jpg, .jpeg, .png, .webp") == 1  # the folder a


def test_a_link_out_of_the_images_folder_is_not_followed(shop):
    shop.picture("lamp.png")
    outside = shop.picture("../secret.png")
    (shop.path / "images" / "mug.png").symlink_to(outside)
    dataset, report = read_folder(shop.path)
    assert dataset.has_image.tolist() == [False, False, True]
    assert report.count("the file is a link that leads out of the folder") == 1


def test_a_missing_folder_of_images_and_one_that_leads_outside_are_said(shop):
    assert read_folder(shop.path)[1].count("there is no folder images") == 1
    message = fault(shop, FileNotFoundError, columns={"images": "photos"})
    assert message == "photos is not a folder; put it there, or correct images in columns.json"
    outside = shop.path.parent / "elsewhere"
    shop.picture("mug.png").parent.rename(outside)
    (shop.path / "images").symlink_to(outside)
    dataset, report = read_folder(shop.path)
    assert dataset.has_image.tolist() == [False, True, False]
    assert report.count(f"the folder images is a link that leads to {outside.resolve()}") == 1


def test_a_picture_that_links_to_itself_is_missing(shop):
    shop.picture("lamp.png")
    (shop.path / "images" / "mug.png").symlink_to("mug.png")
    dataset, report = read_folder(shop.path)
    assert dataset.has_image.tolist() == [False, False, True]
    assert report.count("not a file that ends in .jpg, .jpeg, .png, .webp") == 1


# Files that are faulty ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("interactions.csv", b"", "interactions.csv, line 1: the file is empty; fetch or export it again"),
        ("items.csv", b"", "items.csv, line 1: the file is empty"),
        ("interactions.csv", b"user,time\na,1\n", "interactions.csv, line 1: 0 columns 'item' among user, time; there"),
        (
            "interactions.csv",
            b"user;item;time\na;b;1\n",
            "interactions.csv, line 1: 0 columns 'user' among user;item;time; there must be one: rename it in the "
            "file, or map it in columns.json; are the columns separated by commas?",
        ),
        ("interactions.csv", b"user,item,time,time\na,b,1,2\n", "interactions.csv, line 1: 2 columns 'time' among"),
        ("items.csv", b"item,name\nmug,Mug\n", "items.csv, line 1: no column 'title'; rename it in the file, or map"),
        ("interactions.csv", b"user,item,time\na,b,1\n\na,b\n", "interactions.csv, line 4: 2 fields, but the header"),
        ("items.csv", b"item,title\nmug,Mug, blue\n", "items.csv, line 2: 3 fields, but the header names 2; complete"),
        ("items.csv", b'item,title\nmug,"Mug\nlamp,Lamp\n', "items.csv, line 2: a CSV record begins here that cannot"),
        ("items.csv", b'item,title\nbed,Bed\nmug,"Mug\nlamp,"Lamp"\n', "items.csv, line 3: a CSV record begins here"),
        ("items.csv", "item,title\nlamp,L\nmug,Café\n".encode("latin-1"), "items.csv, line 3: not UTF-8"),
        ("items.csv", "item,title\nmug,Mug\n".encode("utf-16"), "items.csv, line 1: not UTF-8"),
        (
            "interactions.csv",
            b'user,item,time,review\na,mug,1,"two\nlines"\nb,mug,yesterday,\n',
            "interactions.csv, line 4: time is 'yesterday', not a number; write Unix seconds",
        ),
        (
            "interactions.csv",
            b"user,item,time,review\na,mug,1," + LONG.encode() + b'\nb,mug,2,a 5" lamp\nc,mug,3\n',
            "interactions.csv, line 4: 3 fields, but the header names 4",
        ),
        ("interactions.csv", b"user,item\r,time\na,mug,1\n", "interactions.csv, line 1: 0 columns 'time' among user"),
        ("interactions.csv", b"user,item,time\na,mu\rg,1\n", "interactions.csv, line 2: 2 fields, but the header"),
        ("interactions.csv", b"user,item,time\na,mug,1\0\n", "interactions.csv, line 2: a NUL character; fetch"),
        ("items.csv", b"item,title\nmug,Mug\n" + bytes(9), "items.csv, line 3: a NUL character; fetch"),
        ("items.csv", b'item,"title\nmug,Mug\n', "items.csv, line 1: a CSV record begins here that cannot be read"),
        ("items.csv", b'item,title\nmug,"' + b"x" * (20 << 20) + b'"\n', "items.csv, line 2: the longest record beg"),
        (
            "items.csv",
            gzip.compress(b"item,title\nmug\n", mtime=0),
            "items.csv, line 2: 1 fields, but the header names 2",
        ),
        (
            "items.csv",
            gzip.compress(b"item,title\n", mtime=0)[:-5],
            "items.csv, after line 1: the file is cut off or damaged",
        ),
        ("interactions.csv", b"user,item,time,rating\na,b,1,true\n", "interactions.csv, line 2: rating is 'true', not"),
        ("interactions.csv", b"user,item,time,rating\na,b,1,1_0\n", "interactions.csv, line 2: rating is '1_0', not"),
        ("interactions.csv", b"user,item,time,rating\na,b,1,five\n", "interactions.csv, line 2: rating is 'five', not"),
    ],
)
def test_a_faulty_file_is_named_with_the_line_and_the_mend(shop, name, content, message):
    shop.write(name, content)
    assert fault(shop).startswith(message)


def test_fields_of_any_length_are_read_beside_inch_marks(shop):
    frame, _ = interactions(shop, f"ann,mug,1,{LONG}", f'bob,mug,2,"{LONG}, "', 'eve,mug,3,a 5" lamp', header=REVIEWED)
    assert frame["review"].tolist() == [LONG, f"{LONG}, ", 'a 5" lamp']


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_end_in_three_ways_and_tables_may_be_packed(shop, end, pack):
    for name in ("interactions.csv", "items.csv"):
        shop.write(name, pack((shop.path / name).read_bytes().replace(b"\n", end.encode())))
    dataset, report = read_folder(shop.path)
    assert dataset.interactions["review"].tolist() == ["bright", "good", ""]
    assert dataset.items["title"][:] == ["Mug", "Lamp"]
    assert report.table().query("of == 'files'").empty


@pytest.mark.parametrize("name", ["interactions.csv", "items.csv"])
def test_a_last_line_without_an_end_is_noted(shop, name):
    shop.write(name, (shop.path / name).read_bytes()[:-1])
    assert read_folder(shop.path)[1].count(f"the last line of {name} has no line end: is the file whole?") == 1


@pytest.mark.parametrize("name", ["interactions.csv", "columns.json", "images", ""])
def test_what_may_not_be_opened_is_named_with_the_mend(shop, monkeypatch, name):
    shop.write("columns.json", b"{}")
    shop.picture("mug.png")

    def refuse(path, *args, **options):
        if path == shop.path / name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, *args, **options)

    method = {"": "is_dir", "images": "iterdir"}.get(name, "open")
    whole = getattr(Path, method)
    monkeypatch.setattr(Path, method, refuse)  # the file system lets root open everything
    message = fault(shop, PermissionError)
    assert message.endswith(f"{name}: Permission denied; correct the path, or its permissions")


@pytest.mark.parametrize("reader", [read_folder, read_amazon, read_microlens])
@pytest.mark.parametrize("name", ["x" * 5_000, "loop", "no\0ne"])
def test_a_path_that_cannot_be_is_named(tmp_path, reader, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=name[:100]) as caught:
        reader(tmp_path / name)
    assert caught.value.errno is None  # ours
    assert "correct the path" in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("name", ["interactions.csv", "items.csv"])
def test_a_file_that_is_not_there_is_named(shop, name):
    (shop.path / name).unlink()
    assert fault(shop, FileNotFoundError) == f"{name} is not a file; put it there, or correct the path"


# Names of the reader's own --------------------------------------------------------------------------------------

OWN = {
    "interactions": {"file": "sales.csv", "user": "customer", "item": "sku", "time": "when"},
    "items": [{"file": "goods.csv", "item": "sku", "title": "name"}, {"file": "texts.csv", "item": "sku"}],
    "images": "photos",
}


@pytest.fixture
def own(shop):
    shop.write("sales.csv", ("when,customer,sku,rating", "9,ann,mug,5", "8,ann,lamp,4"))
    shop.write("goods.csv", ("sku,name", "mug,Mug", "lamp,Lamp"))
    shop.write("texts.csv", ("description,sku,title", "a desk,desk,Desk", "gives light,lamp,not taken"))
    shop.picture("../photos/lamp.jpg")
    return shop


@pytest.mark.parametrize("by", ["argument", "columns.json"])
def test_the_files_own_names_are_mapped(own, by):
    if by == "columns.json":
        own.write("columns.json", json.dumps(OWN).encode())
    dataset, report = read_folder(own.path, OWN if by == "argument" else None)
    assert dataset.items["title"][:] == ["Mug", "Lamp"]
    assert dataset.items["description"][:] == ["", "gives light"]
    assert dataset.interactions["time"].tolist() == [8, 9]
    assert dataset.has_image.tolist() == [False, False, True]
    assert report.count("nobody interacted with the item") == 1  # the desk is only in texts.csv


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([], "name only interactions, items, images"),
        ({"item": {"file": "goods.csv"}}, "name only interactions, items, images"),
        ({"items": {"title": "name"}}, "a table of items names its file, and else only item, title"),
        ({"items": {"file": "goods.csv", "titel": "name"}}, "a table of items names its file"),
        ({"items": []}, "items must name a table"),
        ({"items": {"file": "goods.csv", "skip": "price"}}, "skip is 'price', not a list of columns that are neither"),
        ({"items": {"file": "goods.csv", "skip": [["price"]]}}, "skip is [['price']], not a list of columns that are"),
        ({"items": {"file": "goods.csv", "skip": ["item"]}}, "skip is ['item'], not a list of columns that are"),
        ({"items": {"file": "goods.csv", "title": "name", "skip": ["name"]}}, "skip is ['name'], not a list of"),
        ({"items": {"file": "../goods.csv"}}, "'../goods.csv' is not the name of a file within the folder"),
        ({"images": "/etc"}, "images is '/etc', not the name of a folder within the folder"),
        ({"items": {"file": "."}}, "'.' is not the name of a file within the folder"),
        ({"items": {"file": "goods.csv", "title": ["name"]}}, "columns of items are texts, not"),
        ({"items": {"file": "goods.csv", "title": "name", "brand": "name"}}, "one column of items has two roles"),
        (
            {"interactions": {"file": "sales.csv", "user": "item"}},
            "one column of interactions has two roles",
        ),
    ],
)
def test_a_wrong_mapping_is_refused(own, columns, message):
    assert message in fault(own, columns=columns)


def test_further_columns_of_joined_tables_come_from_the_first_that_has_them(own):
    own.write("goods.csv", ("sku,name,colour", "mug,Mug,blue", "lamp,Lamp,white"))
    own.write("texts.csv", ("sku,colour,pattern", "lamp,not taken,dots"))
    dataset, _ = read_folder(own.path, OWN)
    assert dataset.items["colour"][:] == ["blue", "white"]
    assert dataset.items["pattern"][:] == ["", "dots"]


def test_a_mapped_column_must_be_there_even_where_it_is_optional(own):
    wrong = {**OWN, "items": {"file": "goods.csv", "item": "sku", "title": "name", "brand": "maker"}}
    assert fault(own, columns=wrong).startswith("goods.csv, line 1: 0 columns 'maker' among sku, name")


def test_a_joined_table_with_two_rows_of_an_item_is_refused(own):
    own.write("texts.csv", ("description,sku", "one,lamp", "two,lamp"))
    assert fault(own, columns=OWN).startswith("texts.csv: item 'lamp' has several rows")


def test_a_mapping_that_is_no_json_is_named(own):
    for text in ("{", "", '{"images": "a", "images": "b"}', '{"items": {"file": "a", "file": "b"}}', "[" * 100_000):
        own.write("columns.json", text.encode())
        assert fault(own).startswith("columns.json: not JSON in UTF-8")
    (own.path / "columns.json").unlink()
    (own.path / "columns.json").symlink_to("columns.json")
    assert fault(own, FileNotFoundError).startswith("columns.json is not a file")


def test_a_mapping_may_begin_with_a_byte_order_mark(own):
    own.write("columns.json", b"\xef\xbb\xbf" + json.dumps(OWN).encode())
    assert read_folder(own.path)[0].items["title"][:] == ["Mug", "Lamp"]


def test_a_column_that_is_mapped_has_no_second_role_by_its_name(shop):
    shop.write("items.csv", ("item,brand", "mug,Mug"))
    dataset, _ = read_folder(shop.path, {"items": {"file": "items.csv", "title": "brand"}})
    assert (dataset.item(1)["title"], dataset.item(1)["brand"]) == ("Mug", "")


def test_further_columns_named_as_numbers_of_interactions_are_text(shop):
    shop.write("items.csv", ("item,title,rating,time", "mug,Mug,4.5,old"))
    dataset, _ = read_folder(shop.path)
    assert (dataset.column("rating")[1], dataset.column("time")[1]) == ("4.5", "old")


def test_movielens_as_published_needs_no_mapping(shop):
    for name in ("interactions.csv", "items.csv"):
        (shop.path / name).unlink()
    shop.write("ratings.csv", ("userId,movieId,rating,timestamp", "1,7,4.5,900", "1,9,2,800"))
    shop.write("movies.csv", ("movieId,title,genres", "7,Alien (1979),Horror|Sci-Fi", "9,Heat (1995),Action"))
    dataset, _ = read_folder(shop.path)
    assert dataset.timed
    assert dataset.interactions["item"].tolist() == [2, 1]
    assert dataset.items["category"][:] == ["Horror|Sci-Fi", "Action"]
    shop.write("overviews.csv", ("movieId,tmdbId,overview", "9,949,A thief and a policeman."))
    dataset, _ = read_folder(shop.path)
    assert dataset.items["description"][:] == ["", "A thief and a policeman."]
    assert dataset.items.features == ITEM_FEATURES


def test_a_date_written_as_a_number_is_pointed_at(shop):
    frame, report = interactions(shop, "ann,mug,20240501,5", "ann,lamp,1714521600,5")
    assert frame["time"].tolist() == [20240501, 1714521600]
    assert report.count("the time lies before 1990: is it in seconds?") == 1
