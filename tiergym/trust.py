"""What is not done on the word of a file: to run code, to write outside the folder that was named (SECURITY.md)."""

import os
from pathlib import Path

from tiergym.errors import UserError, shown

TRUST = "--trust"
"""The option by which a person answers for the Python code that a file names."""


def refuse_code(policy: str, named_in: str) -> UserError:
    """The error of a file that names code as a policy: Python, `module:Class` or a .py file, or C, a .h file."""
    language = "C" if policy.endswith(".h") else "Python"
    return UserError(
        f"{named_in}: policy {shown(policy)} is {language} code that would run here; allowed in a file: shipped rules, "
        f".toml, .json and .onnx files, run directories; with {TRUST} {language} too, where you know who wrote it"
    )


def check_inside(name: str, where: str) -> None:
    """Raise `UserError` for a name from a file that would lead out of the folder it is to be a file or folder of."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
        raise UserError(f"{where} is {shown(name)}; allowed: a name inside of that folder, without '..'")


def check_plain(folder: Path) -> None:
    """Raise `UserError` for a folder with a link, a FIFO or a device in it, however deep; it may be a link itself.

    So is what is written into a folder from elsewhere, and what is deleted there, really in that folder.
    """
    left = [str(folder)] if folder.is_dir() else []
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        kind = "a link" if entry.is_symlink() else "not a regular file"
                        raise UserError(f"{entry.path}: {kind}; allowed in this folder: files and folders alone")
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from error
