"""CSV files from strangers, plain or gzipped: every fault is a message that names file, line and column."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiergym.errors import UserError, shown
from tiergym.files import read_bytes, read_up_to
from tiergym.memory import check_bytes

MAX_BYTES = 1 << 30
"""Text of one file: far above an hour at 5 Hz, below what a small gzip can swell to."""
_BYTES_PER_CELL = 80
"""Of memory, a short text in a list."""
_LONGEST = 40
"""Characters of a number that anything writes; NumPy gives every text of an array as much room as the longest has."""
_PLAIN = re.compile(r"[ ]*[0-9+\-.eE]*[ ]*")
"""What numbers are spelled with; Python also reads 1_000, and digits of other scripts."""


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file; every row has as many fields as the header.

    Raises `UserError` where the file cannot be read, ends early, or has a row that is too short or long.
    """
    text = _text(path)
    if not text:
        raise UserError(f"{path}: empty; expected a line of column names")
    if not text.endswith("\n"):
        raise UserError(f"{path}: truncated: line {text.count(chr(10)) + 1} does not end in a newline")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader)
        rows = []
        for row in reader:
            if len(row) != len(header):
                raise UserError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the header has {len(header)}"
                    f"{'; is the file truncated?' if len(row) < len(header) else ''}"
                )
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not valid CSV: {error}") from error
    seen: set[str] = set()
    for name in header:
        if not name or name in seen:
            raise UserError(f"{path}: line 1: column '{name}' {'occurs twice' if name else 'has no name'}")
        seen.add(name)
    return header, rows


def _text(path: Path) -> str:
    """The file's text. Raises `UserError` for more of it than a recording has, or than fits into this machine."""
    data = read_bytes(path, MAX_BYTES)
    if path.suffix == ".gz":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = read_up_to(file, MAX_BYTES + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}: truncated or damaged gzip: {error}") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES >> 20} MiB of text")
    cells = data.count(b",") + data.count(b"\n")
    check_bytes(6 * len(data) + _BYTES_PER_CELL * cells, f"{path}: {cells} cells")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: not UTF-8 text") from error


def to_numbers(path: Path, name: str, cells: list[str]) -> NDArray[np.int64] | NDArray[np.float64]:
    """A column as int64, or as float64 if it has fractions or blanks (NaN: not there at that time).

    Raises `UserError` at the first cell that is neither blank nor a finite number.
    """
    column: NDArray[np.int64] | NDArray[np.float64] | None = _whole(cells)
    if column is None:
        column = np.array([_number(path, name, line, cell) for line, cell in enumerate(cells, start=2)])
    column.flags.writeable = False
    return column


def _whole(cells: list[str]) -> NDArray[np.int64] | None:
    """The column where all of it is plain whole numbers of 64 bits, at NumPy's speed."""
    text = "".join(cells)
    if "_" in text or not text.isascii() or max(map(len, cells), default=0) > _LONGEST:
        return None
    try:
        return np.array(cells, dtype=np.str_).astype(np.int64)
    except (ValueError, OverflowError):
        return None


def _number(path: Path, name: str, line: int, cell: str) -> float:
    if not cell.strip():
        return np.nan
    try:
        value = float(cell) if len(cell) <= _LONGEST and _PLAIN.fullmatch(cell) else np.nan
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{path}: line {line}, column '{name}': {shown(cell)} is not a number")
    return value
