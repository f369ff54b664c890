"""The guest's first root file system: a cpio archive with busybox, the guest program, and a few kernel modules."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Mapping
from pathlib import Path

MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
"""What a run with a disk or swap needs; where one is built into the kernel, no module of it exists."""
FILE, FOLDER = 0o100755, 0o040755


def archive(files: Mapping[str, bytes]) -> bytes:
    """A gzipped cpio archive (newc, Documentation/driver-api/early-userspace/buffer-format.rst) of files by path."""
    folders = sorted({str(parent) for path in files for parent in Path(path).parents if str(parent) != "."})
    entries = [*((folder, FOLDER, b"") for folder in folders), *((path, FILE, data) for path, data in files.items())]
    out = bytearray()
    for number, (path, mode, data) in enumerate(entries, start=1):
        out += _entry(number, path, mode, data)
    out += _entry(0, "TRAILER!!!", 0, b"")
    return gzip.compress(bytes(out), 1, mtime=0)


def _entry(number: int, path: str, mode: int, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    # magic, then inode, mode, uid, gid, links, mtime, size, device x 2, special device x 2, length of the name, check
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def modules(kernel: Path) -> dict[str, bytes]:
    """The modules of an unpacked kernel package by file name, each behind those that it depends on."""
    there = {
        path.name.partition(".ko")[0].replace("-", "_"): path for path in sorted(kernel.glob("**/lib/modules/**/*.ko*"))
    }
    loaded: dict[str, bytes] = {}

    def load(name: str) -> None:
        if name in there and f"{name}.ko" not in loaded:
            data = _read_module(there[name])
            for needed in dependencies(data):
                load(needed)
            loaded[f"{name}.ko"] = data

    for name in MODULES:
        load(name)
    return loaded


def dependencies(module: bytes) -> list[str]:
    """Names in a module's `depends=`, as modinfo prints them."""
    match = re.search(rb"\0depends=([\w,-]*)\0", b"\0" + module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []


def _read_module(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
