"""What fits into this machine's memory: asked before anything large is allocated."""

import os

from tiergym.errors import UserError, shown

MAX_EPISODES = 65536
"""All episodes are one batch: this many machines take about 1 GiB."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def physical_bytes() -> int:
    """The machine's memory. A container's limit may be lower, and is then enforced by the kernel."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_bytes(needed: int, what: str) -> None:
    """Raise `UserError` where `what` needs more bytes than this machine has."""
    most = physical_bytes()
    if needed > most:
        raise UserError(
            f"{what} would take {size_text(needed)} of memory; allowed: at most this machine's {size_text(most)}"
        )


def size_text(size: int) -> str:
    """A size in the largest unit of which it has one.

    >>> size_text(3 << 29)
    '1.5 GiB'
    """
    if size.bit_length() > 80:
        return f"{shown(size)} of bytes" if size.bit_length() > 256 else f"{size} bytes"
    unit = 0
    while size >> 10 * (unit + 1) and unit < len(_UNITS) - 1:
        unit += 1
    return f"{size / (1 << 10 * unit):.1f} {_UNITS[unit]}"
