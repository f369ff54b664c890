"""The kernels that the lab boots, by release: Debian packages, fetched by name with apt's own client and unpacked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tiergym.errors import UserError, suggest

SUITES = {"6.1": "bookworm", "6.12": "bookworm-backports", "6.18": "trixie-backports", "7.2": "trixie-backports"}
"""Releases, and the suite of Debian's archive that has each."""
RELEASE = "6.12"
"""What a run boots that names no release."""
PARTS = ("linux-image-", "linux-binary-", "linux-modules-")
"""Packages of one kernel: the image's own has all of it, or only depends on the other two."""
KEY = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class UnavailableError(Exception):
    """This machine cannot have something that the lab needs; the message says what and why."""


def check_release(release: str) -> str:
    """The release as it is. Raises `UserError` for one that the lab does not know."""
    if release not in SUITES:
        raise UserError(suggest(release, SUITES, "release"))
    return release


def newest(versions: Iterable[str], release: str) -> str | None:
    """The newest version of a release among names like 6.12.95+deb12-amd64; flavours (cloud, rt) do not count."""
    fits = [version for version in versions if re.fullmatch(rf"{re.escape(release)}\.\d[^-]*(-\d+)?-amd64", version)]
    return max(fits, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], default=None)


def find(lab: Path, release: str) -> Path | None:
    """The newest unpacked kernel of a release in `lab/kernel`."""
    folder = lab / "kernel"
    version = newest((path.name for path in folder.glob("*")), release)
    return folder / version if version else None


def image(kernel: Path) -> Path:
    """The bootable image of an unpacked kernel: in /boot, or from 7.0 on beside its modules."""
    return next(path for pattern in ("boot/vmlinuz-*", "**/lib/modules/*/vmlinuz") for path in kernel.glob(pattern))


def fetch(lab: Path, release: str) -> Path:
    """The kernel in `lab/kernel`, from Debian's archive where it is not there yet. Raises `UnavailableError`."""
    if (there := find(lab, release)) is not None:
        return there
    apt = Apt(lab / "apt" / release, SUITES[release])
    version = newest((name.removeprefix(PARTS[0]) for name in apt.names(f"{PARTS[0]}{release}.")), release)
    if version is None:
        raise UnavailableError(f"no kernel {release} in Debian's suite {SUITES[release]}")
    names = set(apt.names("linux-"))
    unpacked = apt.folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    for part in PARTS:
        if f"{part}{version}" in names:
            apt.unpack(f"{part}{version}", unpacked)
    kernel = lab / "kernel" / version
    kernel.parent.mkdir(parents=True, exist_ok=True)
    unpacked.rename(kernel)
    return kernel


def archive() -> str:
    """The address of Debian's archive, which apt uses on this machine. Raises `UnavailableError`."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)"]
    if not (targets := _run(command)):  # a fresh machine has no lists yet
        _run(["apt-get", "update", "-qq"])
        targets = _run(command)
    found = {line.removesuffix(" Debian") for line in targets.splitlines() if line.endswith(" Debian")}
    if not found or not KEY.exists():
        raise UnavailableError("no Debian archive among apt's sources")
    return min(found)


class Apt:
    """One suite of the archive, with lists and cache of its own in `folder`: nothing of the machine's apt changes."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder.absolute()
        for below in ("lists/partial", "cache/archives/partial"):
            (folder / below).mkdir(parents=True, exist_ok=True)
        (folder / "sources.list").write_text(f"deb [signed-by={KEY}] {archive()} {suite} main\n")
        settings = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.folder / "cache",
            "APT::Sandbox::User": "root",
        }
        self.options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        _run(["apt-get", *self.options, "update", "-qq"])

    def names(self, prefix: str) -> list[str]:
        """Packages of the suite whose names begin so."""
        return _run(["apt-cache", *self.options, "pkgnames", prefix]).split()

    def unpack(self, package: str, into: Path) -> None:
        """Download a package and unpack it; none of its scripts runs."""
        _run(["apt-get", *self.options, "download", "-qq", package], self.folder)
        for file in self.folder.glob(f"{package}_*.deb"):
            _run(["dpkg-deb", "-x", str(file), str(into)])
            file.unlink()


def _run(command: list[str], folder: Path | None = None) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError(f"no {command[0]}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UnavailableError(f"{command[0]}: {said[-1]}")
    return done.stdout
