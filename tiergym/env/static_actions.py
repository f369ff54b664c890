"""Fixed actions by name: the TOML files of named modes in `agents/`, and a user's own.

    description = "Page tables never leave DRAM."

    [modes]
    "place.pt_leaf" = "restrict"
    "place.pt_upper" = "restrict"

Entries that a file does not name keep Linux's default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym import paths
from tiergym.env import actions
from tiergym.errors import UserError, shown, suggest
from tiergym.files import read_toml

KEYS = ("description", "modes")


@dataclass(frozen=True, slots=True)
class StaticAction:
    """One row of modes, int64 (N_ACTIONS,), under the name of its file."""

    name: str
    description: str
    action: NDArray[np.int64]


def load(path: Path) -> StaticAction:
    """The static action in a TOML file, named after the file.

    Raises `UserError`, naming the file and what is allowed, for a file that cannot be read or is not
    TOML and for an unknown key, entry or mode.
    """
    document = read_toml(path)
    for key in document:
        if key not in KEYS:
            raise UserError(f"{path}: {suggest(key, KEYS, 'key')}")
    if not isinstance(document.get("modes"), Mapping):
        raise UserError(f"{path}: the table [modes] is missing; entries: {', '.join(actions.NAMES)}")
    description = document.get("description", "")
    if not isinstance(description, str):
        raise UserError(f"{path}: description is {shown(description)}; allowed: a text")
    return StaticAction(path.stem, description, actions.from_modes(flat(document["modes"]), source=str(path)))


def shipped() -> dict[str, StaticAction]:
    """The static actions of `agents/` by name, in alphabetical order."""
    files = sorted(paths.agents_dir().glob("*.toml"))
    return {path.stem: load(path) for path in files if "modes" in read_toml(path)}


def find(name_or_path: str | Path) -> StaticAction:
    """A shipped static action by name, or a user's TOML file by its path. Raises `UserError`."""
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml"):
        return load(Path(name_or_path))
    known = shipped()
    if name_or_path not in known:
        raise UserError(suggest(name_or_path, known, "static baseline"))
    return known[name_or_path]


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`place.pt_leaf = "x"` is a table in TOML, `"place.pt_leaf" = "x"` a key: both mean the same here."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out
