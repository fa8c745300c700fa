"""Raw files read strictly: every fault names the file, the 1-based line and the fix."""

import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import IO, ParamSpec, TypeVar, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmrec_helpers.data.report import CleaningReport

P = ParamSpec("P")
T = TypeVar("T")
csv.field_size_limit(sys.maxsize)  # the library's own, 131,072 characters, is below that of a long review
MAX_RECORD = 8 << 20
"""Bytes of a CSV record that can always be read."""
ESCAPED = re.compile("[\ud800-\udfff]")
"""What stands for a byte that is not UTF-8."""
MISSING = ("", "NA", "N/A", "NULL", "NaN", "None", "nan", "null")
"""How files write a missing number. An id is missing only where its field is empty: NA may be a name."""


def names_faults(read: Callable[P, T]) -> Callable[P, T]:
    """Let the operating system's errors name a fix, and the path that was given where they name none."""

    @wraps(read)
    def reader(*args: P.args, **options: P.kwargs) -> T:
        try:
            return read(*args, **options)
        except OSError as error:
            if error.errno is None:  # one of ours
                raise
            name = str(error.filename or args[0])
            raise type(error)(f"{name:.500}: {error.strerror}; correct the path, or its permissions") from error

    return reader


def existing(path: Path) -> Path:
    """The path, if it is one of a file.

    Raises:
        FileNotFoundError: it is not.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; put it there, or correct the path")
    return path


def _open(path: Path) -> IO[bytes]:
    """The bytes of a file, plain or gzip whatever its name ends in."""
    with existing(path).open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path) if is_gzip else path.open("rb"))


def text_lines(path: Path, report: CleaningReport | None = None) -> Iterator[tuple[int, str]]:
    """(1-based line, its text with the line end) of a UTF-8 file, plain or gzip; lines end in LF, CR LF or CR.

    A last line without an end is noted in the report: the file may have been cut off there.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty, truncated, damaged or not UTF-8.
    """
    number, line = 0, ""
    with io.TextIOWrapper(_open(path), "utf-8-sig", "surrogateescape", newline="") as file:
        try:
            for number, line in enumerate(file, 1):
                if "\0" in line or not (line.isascii() or ESCAPED.search(line) is None):
                    fault = "not UTF-8" if ESCAPED.search(line) else "a NUL character"
                    raise ValueError(f"{path}, line {number}: {fault}; fetch the file again, or save it as UTF-8")
                yield number, line
        except (EOFError, OSError, zlib.error) as error:
            fault = f"the file is cut off or damaged ({error})"
            raise ValueError(f"{path}, after line {number}: {fault}; fetch it again") from error
    if number == 0:
        raise ValueError(f"{path}, line 1: the file is empty; fetch or export it again")
    if report and not line.endswith(("\n", "\r")):
        _note_open_end(path, report)


def _note_open_end(path: Path, report: CleaningReport) -> None:
    report.add(f"the last line of {path.name} has no line end: is the file whole?", 1, of="files", action="noted")


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, refused where a key is there twice: of two values, one would be lost."""
    if len(row := dict(pairs)) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {key!r:.80} is there twice")
    return row


def json_lines(path: Path, report: CleaningReport) -> Iterator[tuple[int, dict]]:
    """(1-based line, object) of a file with one JSON object a line; blank lines are skipped.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: as of ``text_lines``, or a line is no JSON object.
    """
    for number, line in text_lines(path, report):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: no whole JSON object ({error}); fetch the file again, or delete the line"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: {type(row).__name__} instead of an object; delete the line")
        yield number, row


def to_number(value: object, path: Path, line: int, field: str) -> float:
    """A JSON field as a number, NaN where it is missing.

    Raises:
        ValueError: the field holds something else.
    """
    if value is None or (isinstance(value, str) and value.strip() in MISSING):
        return math.nan
    try:
        if isinstance(value, bool) or (isinstance(value, str) and ("_" in value or not value.isascii())):
            raise ValueError("Python takes true, 1_0 and digits of any script for numbers")
        return float(value)  # type: ignore[arg-type]  # what float refuses is the error below
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}, line {line}: {field} is {value!r:.80}, not a number; correct it or leave it empty"
        ) from error


def csv_header(path: Path) -> list[str]:
    """The names of a CSV file's columns; raises the errors of ``read_csv``."""
    return next(_records(path), (1, []))[1]


def read_csv(
    path: Path,
    columns: dict[str, str],
    report: CleaningReport,
    numbers: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Columns of a UTF-8 CSV file with a header, plain or gzip; blank lines are skipped.

    Args:
        path: the file.
        columns: our name of each column -> the file's.
        report: where a last line without an end is noted.
        numbers: our names of the columns to read as float64, NaN where a field is one of MISSING; the rest is text.
        optional: our names of the columns that the file may lack.

    Returns:
        One row a record, with our names of the columns that the file has.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty or not UTF-8, a column is missing, a record has a field too few or too many or
            a quote that never ends, or a field is no number.
    """
    header = csv_header(path)
    columns = {name: column for name, column in columns.items() if name not in optional or column in header}
    for column in columns.values():
        if header.count(column) != 1:
            hint = "; are the columns separated by commas?" if len(header) == 1 else ""
            raise ValueError(
                f"{path}, line 1: {header.count(column)} columns {column!r} among {', '.join(header)}; "
                f"there must be one: rename it in the file, or map it in columns.json{hint}"
            )
    try:
        with _open(path) as file:
            table = arrow_csv.read_csv(
                file,
                read_options=arrow_csv.ReadOptions(block_size=MAX_RECORD),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=list(dict.fromkeys(columns.values())),
                    column_types={name: pa.large_string() for name in columns.values()},
                    strings_can_be_null=False,
                ),
            )
        is_sound, is_ended = _scan(path)
    except (pa.ArrowException, EOFError, gzip.BadGzipFile, zlib.error) as error:
        _find_fault(path, len(header))  # Arrow is fast, but its errors do not name the line
        line, _ = max(_records(path), key=lambda record: sum(map(len, record[1])))
        raise ValueError(
            f"{path}, line {line}: the longest record begins here, and the file cannot be read ({error}); "
            f"shorten the record below {MAX_RECORD >> 20} MB, or export the file again"
        ) from error
    if not is_sound:  # Arrow accepts quotes that never end, and loses the records after them
        _find_fault(path, len(header))
    if not is_ended:
        _note_open_end(path, report)
    arrays = {name: table.column(column) for name, column in columns.items()}
    for name in numbers:
        if name in arrays:
            fix = "write Unix seconds" if name == "time" else "correct it or leave it empty"
            arrays[name] = _as_numbers(arrays[name], path, columns[name], fix)
    return pd.DataFrame({name: array.to_pandas() for name, array in arrays.items()})


def _as_numbers(column: pa.ChunkedArray, path: Path, name: str, fix: str) -> pa.ChunkedArray:
    """A column of texts as float64; an error names its line and how to fix it."""
    try:
        return pc.cast(column, pa.float64())
    except pa.ArrowInvalid:  # some are missing, or padded with spaces
        text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.is_in(text, value_set=pa.array(MISSING, pa.large_string())), None, text)
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid as error:
        for row, value in enumerate(text.to_pylist()):
            try:
                pc.cast(pa.scalar(value, pa.large_string()), pa.float64())
            except pa.ArrowInvalid:
                line = next(line for number, (line, _) in enumerate(_records(path)) if number == row + 1)
                raise ValueError(f"{path}, line {line}: {name} is {value!r:.80}, not a number; {fix}") from error
        raise


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(1-based line where it begins, fields) of every CSV record, the header too; slow, only to locate a fault."""
    lines = (line for _, line in text_lines(path))
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {line}: a CSV record begins here that cannot be read ({error}); "
                f"close its quotes, double the quotes within"
            ) from error
        if fields is None:
            return
        if fields:
            yield line, fields


def _scan(path: Path) -> tuple[bool, bool]:
    """Whether each quote clearly opens a field, closes one, or is half of a doubled one; whether the last line ends.

    A lone CR or a NUL counts as an unclear quote: a fault must be looked for.
    """
    before, after = np.zeros((2, 256), bool)  # characters that may come before an opening and after a closing quote
    before[list(b',\n"')] = after[list(b',\r\n"')] = True
    inside, sound, block = 0, True, b""
    with _open(path) as file:
        while lines := file.read(1 << 20) + file.readline():  # whole lines: no quote is first or last in its block
            block = lines
            characters = np.frombuffer(b"\n" + block + b"\n", np.uint8)
            quotes = np.flatnonzero(characters == ord('"'))
            opening, closing = quotes[inside::2], quotes[1 - inside :: 2]
            sound &= bool(before[characters[opening - 1]].all() and after[characters[closing + 1]].all())
            sound &= b"\0" not in block and block.count(b"\r") == block.count(b"\r\n")
            inside ^= len(quotes) % 2
    return sound and not inside, block.endswith((b"\n", b"\r"))


def _find_fault(path: Path, num_fields: int) -> None:
    """Raise ValueError with the line of the first record that is faulty, if one is."""
    for line, fields in _records(path):
        if len(fields) != num_fields:
            raise ValueError(
                f"{path}, line {line}: {len(fields)} fields, but the header names {num_fields}; "
                f"complete the record, or put text that holds commas between double quotes"
            )
