"""Files as tiergym reads and writes them: TOML and JSON with errors for people, and writing that is all or nothing."""

import json
import os
import re
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO

from tiergym.errors import UserError, shown

STDOUT = Path("-")
"""In place of a file: the process's own output."""
MAX_TEXT_BYTES = 1 << 20
"""Of a TOML file; the largest that is shipped has 10 KiB."""
MAX_JSON_BYTES = 256 << 20
_PIECE = 1 << 20
MAX_NESTING = 32
"""Tables and lists within one another; a scenario has four, results in JSON have seven. What reads them may recurse."""
_LONG_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % MAX_NESTING  # noqa: UP031
)
"""A dotted key of more parts than may be nested: tomllib's time and memory grow with the square of their number."""


def read_bytes(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes.

    Raises `UserError` where it is none or longer. What is no regular file is never read, so that a FIFO does not wait
    for a writer and a device does not go on forever.
    """
    try:
        str(path).encode()
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL, or bytes that are not UTF-8
        raise UserError(f"{shown(str(path))}: not a file's name: {error}") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise UserError(f"{path}: {'a folder' if stat.S_ISDIR(kind) else 'not a regular file'}; allowed: a file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = read_up_to(file, most + 1)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
    if len(data) > most:
        raise UserError(f"{path}: more than {most} bytes; allowed: at most {most}")
    return data


def read_up_to(file: BinaryIO | BufferedIOBase, most: int) -> bytes:
    """The first `most` bytes of what there is, in pieces: `file.read(most)` takes as much memory before it reads."""
    pieces, left = [], most
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def is_file(path: Path) -> bool:
    """Whether there is a regular file; no where the name cannot be one, for which `Path.is_file` raises."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_dir(path: Path) -> bool:
    """Whether there is a folder; no where the name cannot be one."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a dict. Raises `UserError` where it cannot be read, is not TOML, or is out of all proportion."""
    data = read_bytes(path, MAX_TEXT_BYTES)
    try:
        return parse_toml(data.decode())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error


def parse_toml(text: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """A TOML document.

    Raises `ValueError` for what is none, and for what TOML leaves open: integers beyond 64 bits, NUL in texts, and
    nesting beyond `MAX_NESTING`.
    """
    if (found := _LONG_KEY.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"a key of more than {MAX_NESTING} parts (at line {line})")
    try:
        document = tomllib.loads(text, parse_float=parse_float)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _check_values(document)
    return document


def _check_values(document: Any) -> None:
    """Raise `ValueError` for values that no field can have, wherever they stand."""
    left: list[tuple[str, Any, int]] = [("", document, 0)]
    while left:
        where, value, depth = left.pop()
        if depth > MAX_NESTING:
            raise ValueError(f"{where[:80]}: nested too deeply; allowed: {MAX_NESTING} levels")
        if isinstance(value, dict):
            for key in value:
                if "\0" in key:
                    raise ValueError(f"the key {shown(key)} has a NUL")
            left += [(f"{where}.{key}".lstrip(".")[:200], entry, depth + 1) for key, entry in value.items()]
        elif isinstance(value, list):
            left += [(where, entry, depth + 1) for entry in value]
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise ValueError(f"{where} is {shown(value)}; allowed: integers of 64 bits")
        elif isinstance(value, str) and "\0" in value:
            raise ValueError(f"{where} is {shown(value)}; allowed: texts without NUL")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises `UserError` that names the file where it cannot be read or is none."""
    data = read_bytes(path, MAX_JSON_BYTES)
    try:
        document = json.loads(data.decode())
    except RecursionError as error:
        raise UserError(f"{path}: not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if _depth(document) > MAX_NESTING:
        raise UserError(f"{path}: not valid JSON: nested too deeply; allowed: {MAX_NESTING} levels")
    return document


def _depth(document: Any) -> int:
    """Objects and lists within one another."""
    depth, level = 0, [document] if isinstance(document, dict | list) else []
    while level:
        entries = (entry for each in level for entry in (each.values() if isinstance(each, dict) else each))
        depth, level = depth + 1, [entry for entry in entries if isinstance(entry, dict | list)]
    return depth


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those it lies in; those that there were not, the innermost first.

    One by one: `pathlib` calls itself for each of them, and Python ends that after a thousand. Raises `OSError`, and
    leaves none.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    made: list[Path] = []
    try:
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            made.insert(0, place)
        folder.mkdir(exist_ok=True)  # raises where a file is there
    except OSError:
        remove_empty(made)
        raise
    return made


def check_place(path: Path) -> None:
    """Raise `UserError` where no file can be written later: a folder is in its place, or no folder in a folder's."""
    if path.is_dir():
        raise UserError(f"{path}: a folder; allowed: a file, or nothing")
    nearest = next(place for place in path.parents if os.path.lexists(place) or place == place.parent)
    if not nearest.is_dir():
        raise UserError(f"{nearest}: not a folder; allowed: a folder, or nothing")


def remove_empty(made: Iterable[Path]) -> None:
    """Remove folders that `make_folder` made, as far as nothing is in them."""
    for folder in made:
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone
            return


def same(said: object, expected: object) -> bool:
    """Whether a document says just this. Python alone counts `true` as 1 and 8.0 as 8.

    >>> same({"schema": True}, {"schema": 1})
    False
    """
    if isinstance(expected, dict):
        return (
            isinstance(said, dict)
            and said.keys() == expected.keys()
            and all(same(said[key], value) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(said, list)
            and len(said) == len(expected)
            and all(same(each, value) for each, value in zip(said, expected, strict=True))
        )
    kinds = (bool, int)
    return said == expected and all(isinstance(said, kind) == isinstance(expected, kind) for kind in kinds)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or, where that fails, leave the old one: a reader never sees half of it.

    Raises `UserError` where the disk is full, the folder is read-only, has vanished, or has a folder of that name.
    """
    try:
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).chmod(0o666 & ~_umask())  # mkstemp makes private files; results are for sharing
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document to `path`, all or nothing; `STDOUT` is this process's own output."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    else:
        write_text(path, text)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
