"""The kernel's own words about memory while a recording was made: OOM kills, failed allocations, hot-plug."""

from __future__ import annotations

import os
import re
from pathlib import Path

_OF_MEMORY = re.compile(
    r"oom|out of memory|killed process|page allocation failure|tier|hmat|srat|demotion|offlin|failed to migrate"
    r"|free:\d+kB boost|Mem-Info|gfp_mask",
    re.IGNORECASE,
)
MAX_LINES = 150
MAX_RECORD = 8192
"""Bytes that one read of /dev/kmsg returns at most (CONSOLE_EXT_LOG_MAX)."""


def memory_lines(log: Path, since_s: float) -> list[str]:
    """Lines about memory logged after `since_s` (seconds since boot), as dmesg prints them, the last 150.

    Raises OSError where the log may not be read (kernel.dmesg_restrict, containers).
    """
    lines = []
    descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while record := _next(descriptor):
            # priority,sequence,microseconds,flags;message (Documentation/ABI/testing/dev-kmsg)
            head, _, message = record.partition(";")
            time_s = int(head.split(",")[2]) / 1e6
            if time_s >= since_s and _OF_MEMORY.search(message):
                lines.append(f"[{time_s:12.6f}] {message.splitlines()[0]}")
    finally:
        os.close(descriptor)
    return lines[-MAX_LINES:]


def _next(descriptor: int) -> str:
    while True:
        try:
            return os.read(descriptor, MAX_RECORD).decode(errors="replace")
        except BlockingIOError:  # no more
            return ""
        except BrokenPipeError:  # that record was overwritten meanwhile; the next read has the oldest left
            continue
