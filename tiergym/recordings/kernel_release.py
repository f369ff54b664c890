"""Which Linux a recording is of, and which release that is known it is read as."""

from __future__ import annotations

import re

KNOWN = ((6, 1), (6, 12), (6, 18), (7, 2))
"""Releases whose recordings were looked at: their counters and rules are known."""

Version = tuple[int, int]


def parse_version(release: str) -> Version | None:
    """(6, 12) of "6.12.95+deb12-amd64"; None for what is no version."""
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    return (int(match[1]), int(match[2])) if match else None


def known_release(version: Version) -> Version:
    """The newest known release that is not newer than `version`; the oldest for one before them all."""
    return max((known for known in KNOWN if known <= version), default=KNOWN[0])


def is_known(version: Version) -> bool:
    """Whether a release lies between those that are known."""
    return KNOWN[0] <= version <= KNOWN[-1]


def spelled(version: Version) -> str:
    """6.12 of (6, 12)."""
    return ".".join(map(str, version))
