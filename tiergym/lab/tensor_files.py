"""Arrays by name as safetensors files: a header of JSON and the bytes, so that reading one executes nothing.

A record (NumPy's structured dtype) is kept as its bytes, uint8 with one more axis; those between its fields are 0.
"""

import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tiergym.errors import UserError

_CHUNK = 1 << 20


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a new file of the arrays. Raises `UserError` where that is not possible, of a full disk for example."""
    try:
        save_file({name: _flat(array) for name, array in arrays.items()}, path)
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, which may be written to. Raises `ValueError` where it is damaged, `OSError` without one."""
    check_regular(path)
    try:
        return {name: np.array(array) for name, array in load_file(path).items()}
    except (SafetensorError, AttributeError, TypeError) as error:  # the latter of types that NumPy has not
        raise ValueError(f"{path.name}: not a file of tensors: {error}") from error


def like(name: str, array: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
    """A loaded array as what `own` is. Raises `ValueError` where it has another shape or dtype."""
    kept = _flat(own)
    if (array.shape, array.dtype) != (kept.shape, kept.dtype):
        raise ValueError(f"{name} is {array.dtype} {array.shape}; allowed: {kept.dtype} {kept.shape}")
    return array if own.dtype.names is None else array.view(own.dtype)[..., 0]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises `OSError`, and `ValueError` for what is no regular file."""
    check_regular(path)
    found = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def check_regular(path: Path) -> None:
    """Raise `ValueError` for a link, a FIFO or a device, and `OSError` where there is nothing."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name}: not a regular file")


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.names is None:
        return array
    return _without_padding(array)[..., None].view(np.uint8)


def _without_padding(array: NDArray[Any]) -> NDArray[Any]:
    """A copy with zeros between the fields, where the process's memory would otherwise go along."""
    copy = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names or ():
        field = array[name]
        copy[name] = field if field.dtype.names is None else _without_padding(field)
    return copy
