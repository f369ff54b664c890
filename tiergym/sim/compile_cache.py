"""Where compiled code is kept: on disk, in a folder of this version's own.

numba notices a change of the compiled function's own file, not of a function it calls in another file. So the
folder's name contains a hash of every source of `tiergym.sim` and `tiergym.env`: any edit starts a fresh one.
It lies in the package's `__pycache__`, else in the user's cache folder, else in a private one below the
temporary folder; `NUMBA_CACHE_DIR` overrides all three.
"""

import functools
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba

_config: Any = numba.config  # its names are made at import, where mypy cannot see them
_PACKAGE = Path(__file__).resolve().parents[1]
_CACHES_KEPT = 4
_decorating = threading.RLock()


def source_hash(package: Path = _PACKAGE) -> str:
    """Sixteen hexadecimal digits over all sources that compiled code comes from, and numba's version."""
    paths = [path for floor in ("sim", "env") for path in sorted((package / floor).rglob("*.py"))]
    return hash_of(paths, package, numba.__version__)


def hash_of(paths: Iterable[Path], package: Path, version: str = "") -> str:
    """Sixteen hexadecimal digits over names and contents of files below `package`."""
    digest = hashlib.sha256(version.encode())
    for path in paths:
        source = path.read_bytes()
        digest.update(f"\0{path.relative_to(package).as_posix()}\0{len(source)}\0".encode())
        digest.update(source)
    return digest.hexdigest()[:16]


def _usable(folder: Path, private: bool) -> bool:
    """Make `folder` if need be; whether files can be made in it and, if `private`, only this user can."""
    try:
        folder.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
        status = folder.lstat()
        if private and (status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022):
            return False
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _drop_old_caches(base: Path) -> None:
    """Keep the newest few: every edit of a source leaves a cache behind. A cache in use is rebuilt."""
    caches = []
    for path in base.glob("tiergym-*"):
        try:
            caches.append((path.stat().st_mtime, path))
        except FileNotFoundError:
            continue  # another process drops the same ones
    for _, path in sorted(caches, reverse=True)[_CACHES_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


@functools.cache
def cache_dir() -> Path | None:
    """Folder of this version's compiled code, made if need be; None if no place is writable.

    numba loads native code from it, so a shared temporary folder is used only through a subfolder
    that belongs to this user alone.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    places = [
        (Path(chosen) if chosen else _PACKAGE / "__pycache__", False),
        (user_cache / "tiergym", False),
        (Path(tempfile.gettempdir()) / f"tiergym-{os.getuid()}", True),
    ]
    for base, private in places:
        folder = base / f"tiergym-{source_hash()}"
        if _usable(base, private) and _usable(folder, private):
            _drop_old_caches(base)
            return folder
    return None


@contextmanager
def numba_cache_at(folder: Path) -> Iterator[None]:
    """numba asks for the folder while it decorates; other packages' functions keep their own."""
    with _decorating:
        before = _config.CACHE_DIR
        _config.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            _config.CACHE_DIR = before
