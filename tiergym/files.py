"""Files as tiergym reads and writes them: TOML and JSON with errors for people, and writing that is all or nothing."""

import json
import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tiergym.errors import UserError


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a dict. Raises `UserError` where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not valid TOML: nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and numbers of thousands of digits
        raise UserError(f"{path}: not valid TOML: {error}") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises `UserError` that names the file where it cannot be read or is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or, where that fails, leave the old one: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).chmod(0o666 & ~_umask())  # mkstemp makes private files; results are for sharing
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
