"""files.py, by properties: any table that is written is read as it was; any change of a file's bytes gives what a slow
reader gives, or an error that names the file. The readers' own tests have the rules one by one."""

import csv
import gzip
import io
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec_helpers.data.readers.amazon import read_amazon
from mmrec_helpers.data.readers.files import MISSING, json_lines, read_csv, to_number
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.data.readers.microlens import read_microlens
from mmrec_helpers.data.report import CleaningReport

COLUMNS = ("user", "title", "third")
HOSTILE = st.sampled_from(list(" ,;\t\"'\\\r\n\x0b\x1a\x1f\x85\u2028\ufeff\u200dé日😀a0"))
TEXT = st.text(HOSTILE | st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
OPEN_END = "the last line of {} has no line end: is the file whole?"
few = settings(max_examples=60, derandomize=True, database=None, deadline=None)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "table.csv"


@st.composite
def tables(draw):
    """The bytes of a CSV file, its records, and whether its last line ends."""
    rows = draw(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4))
    end, is_ended = draw(st.sampled_from(["\n", "\r\n", "\r"])), draw(st.booleans())

    def field(text: str) -> str:
        must = text.startswith('"') or not set(text).isdisjoint(",\r\n")
        return '"' + text.replace('"', '""') + '"' if must or draw(st.booleans()) else text

    lines = [",".join(map(field, row)) + end * draw(st.integers(1, 2)) for row in (COLUMNS, *rows)]
    text = draw(st.sampled_from(["", "\ufeff"])) + "".join(lines)
    content = (text if is_ended else text.rstrip(end)).encode()
    return (gzip.compress(content) if draw(st.booleans()) else content), rows, is_ended


def read(file, content: bytes) -> tuple[list[tuple[str, ...]], CleaningReport]:
    """A file of these bytes, by the reader of tables."""
    file.write_bytes(content)
    report = CleaningReport("test")
    frame = read_csv(file, {name: name for name in COLUMNS}, report)
    return list(frame.itertuples(index=False, name=None)), report


@few
@given(table=tables())
def test_any_table_is_read_as_it_was_written(file, table):
    content, rows, is_ended = table
    got, report = read(file, content)
    assert got == rows
    assert report.count(OPEN_END.format(file.name)) == (not is_ended)


def slowly(content: bytes) -> list[tuple[str, ...]]:
    """The records of a file by the standard library, one character after the other; ValueError where it is faulty."""
    text = content.decode("utf-8-sig")
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ValueError(error) from error
    if "\0" in text or {len(row) for row in rows} - {len(header)} or [*map(header.count, COLUMNS)] != [1, 1, 1]:
        raise ValueError("a NUL, a wrong number of fields, or a column that is not there once")
    if not rows and not text.endswith(("\n", "\r")):
        raise ValueError("the header alone, and even that may be cut off")
    return [tuple(row[header.index(name)] for name in COLUMNS) for row in rows]


@settings(few, max_examples=150)
@given(table=tables(), data=st.data())
def test_any_change_of_bytes_is_read_as_a_slow_reader_does_or_refused(file, table, data):
    content = gzip.decompress(table[0]) if table[0].startswith(b"\x1f\x8b") else table[0]
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, min(begin + 3, len(content))))
    new = data.draw(
        st.sampled_from([b"", b'"', b",", b"\n", b"\r", b"\0", b'""', b'",', b',"', b"\xff", b"\xef\xbb\xbf"])
    )
    content = content[:begin] + new + content[end:]
    try:
        expected = slowly(content)
    except ValueError:
        with pytest.raises(ValueError, match=r"(?s)table\.csv, line \d+: .*; "):
            read(file, content)
        return
    got, report = read(file, content)
    assert got == expected
    assert report.count(OPEN_END.format(file.name)) == (not content.endswith((b"\n", b"\r")))


@few
@given(content=st.binary(max_size=40))
def test_any_bytes_are_refused_by_name(file, content):
    with pytest.raises(ValueError, match=r"(?s)table\.csv, (after )?line \d+: .*; "):
        read(file, content)


NUMBERS = st.sampled_from([*MISSING, "true", "1_0", "inf", "1e400", "0x1", "٣"]) | st.floats().map(repr)
NUMBERS |= st.text("0123456789.,-+eE_ infatru", max_size=6)


@few
@given(text=NUMBERS)
def test_any_number_is_what_it_says_missing_or_refused(file, text):
    file.write_text(f'a,b\n"{text}",x\n', "utf-8")
    report = CleaningReport("test")
    readers = {
        "line 2: a": lambda: read_csv(file, {"a": "a", "b": "b"}, report, numbers=("a",))["a"][0],
        "line 9: b": lambda: to_number(text, file, 9, "b"),
    }
    for where, number in readers.items():
        try:
            value = number()
        except ValueError as error:
            value = str(error)
        if isinstance(value, str):
            assert value.startswith(f"{file}, {where} is ")
            assert "not a number; " in value
        else:
            expected = math.nan if text.strip() in MISSING else float(text)
            assert value == expected or (math.isnan(value) and math.isnan(expected))
            assert text.isascii()
            assert "_" not in text


@few
@given(rows=st.lists(st.dictionaries(TEXT, TEXT | st.none() | st.booleans() | st.integers(), max_size=3), min_size=1))
def test_any_json_lines_are_read_as_they_were_written(file, rows):
    report = CleaningReport("test")
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows), "utf-8", newline="")
    assert [row for _, row in json_lines(file, report)] == rows
    assert report.table().empty


# Whole data sets --------------------------------------------------------------------------------------------------

IDS = st.text(HOSTILE | st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=4)


@few
@given(lists=st.dictionaries(IDS, st.lists(IDS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_lists_of_items_are_read_as_they_were_written(tmp_path_factory, lists):
    folder = tmp_path_factory.mktemp("lists")
    kept = {
        user: [item for item in items if not set(item) & set(" \r\n")]
        for user, items in lists.items()
        if not set(user) & set("\t\r\n") and user.strip() and not user.startswith("\ufeff")
    }
    kept = {user: items for user, items in kept.items() if items}
    lines = "".join(f"{user}\t{' '.join(items)}\n" for user, items in kept.items())
    (folder / "Tiny_pairs.tsv").write_text(lines or "7\t1\n", "utf-8", newline="")
    (folder / "Tiny_titles.csv").write_text("item,title\n1,soup\n")
    dataset, _ = read_microlens(folder)
    names = dataset.column("item_id")[dataset.interactions["item"]]
    got = {user: names[dataset.interactions["user"] == row].tolist() for row, user in enumerate(dataset.user_ids)}
    assert got == (kept or {"7": ["1"]})


FILES = {
    "interactions.csv": 'user,item,time,rating,review\nann,mug,900000000,5,"a ""big"" mug"\nbob,lamp,900000001,4,dim\n',
    "items.csv": "item,title,price\nmug,Mug,4.50\nlamp,Lamp,12\n",
    "Tiny_pairs.tsv": "7\t30 10 30\n8\t10 20\n",
    "Tiny_titles.csv": 'item,title\n10,"fish, fried"\n20,soup\n',
    "Mills.jsonl": '{"user_id": "U", "asin": "P", "rating": 5, "timestamp": 900000000000}\n' * 2,
    "meta_Mills.jsonl": '{"parent_asin": "P", "title": "Mill"}\n{"parent_asin": "Q", "title": "Pan"}\n',
}
READERS = {"i": read_folder, "T": read_microlens, "M": read_amazon, "m": read_amazon}
"""By the first letter of their files."""


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_within_a_line_is_refused_by_name_or_noted(tmp_path, name):
    for own, text in FILES.items():
        (tmp_path / own).write_text(text)
    refused, noted = 0, 0
    for length in range(1, len(FILES[name])):
        (tmp_path / name).write_text(FILES[name][:length])
        try:
            _, report = READERS[name[0]](tmp_path)
        except ValueError as error:
            report = error
        is_cut = FILES[name][length - 1] != "\n"
        assert name in str(report) or not is_cut
        if isinstance(report, CleaningReport):
            assert report.count(OPEN_END.format(name)) == is_cut
            noted += is_cut
        else:
            refused += 1
    print(f"{name}: {refused} refused, {noted} noted")
    assert refused > 2
    assert noted > 0
