"""What the kernel tells in /proc and /sys, as numbers under the names that a recording's columns have.

Every function takes the text of one file, so that a test needs no kernel. Lines that are not understood are left
out: kernels add new ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Values = dict[str, int]

_ZONE = re.compile(r"Node ([0-9]{1,4}), zone +(\w+)")
_PROTECTION = re.compile(r"protection: \(([\d, ]*)\)")
_NUMBER = re.compile(r"-?[0-9]{1,20}")
"""As the kernel prints one, of 64 bits: what a damaged file has in its place is left out with its line."""


def _are_numbers(words: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(word) for word in words)


def number(words: Sequence[str], place: int = 0) -> int | None:
    """The number that stands at a place of a line; None where there is none."""
    word = words[place : place + 1]
    return int(word[0]) if word and _are_numbers(word) else None


def _pairs(text: str) -> Iterator[tuple[str, int]]:
    """(name, number) of every line `name number ...`, with or without a colon."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and _are_numbers(words[1:2]):
            yield words[0].rstrip(":"), int(words[1])


def counters(text: str, prefix: str) -> Values:
    """/proc/vmstat or a node's vmstat: `prefix` + name -> value. A counter is read as the kernel's unsigned text."""
    return {prefix + name: value for name, value in _pairs(text)}


def meminfo(text: str, prefix: str) -> Values:
    """/proc/meminfo, or a node's (whose lines start with `Node N`): kB, as the file says."""
    return counters(re.sub(r"(?m)^Node \d+ ", "", text), prefix)


def zoneinfo(text: str) -> Values:
    """/proc/zoneinfo: `z<node>.<zone>.<name>`; pcp_count and pcp_high are sums over the CPUs, prot0 ... the reserves.

    A zone without memory has no per-CPU lists: its pcp_count is absent.
    """
    values: Values = {}
    prefix, part = "", ""
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if (header := _ZONE.match(line)) is not None:
            prefix, part = f"z{header[1]}.{header[2]}.", "zone"
        elif line.strip() == "per-node stats":
            part = "node"
        elif words[:2] == ["pages", "free"]:
            part = "zone"
            if len(words) == 3 and _are_numbers(words[2:]):
                values[f"{prefix}free"] = int(words[2])
        elif words[:1] == ["pagesets"]:
            part = "lists"
            values |= {f"{prefix}pcp_count": 0, f"{prefix}pcp_high": 0}
        elif (protection := _PROTECTION.search(line)) is not None:
            reserves = [pages.strip() for pages in protection[1].split(",")]
            if _are_numbers(reserves):
                values |= {f"{prefix}prot{i}": int(pages) for i, pages in enumerate(reserves)}
        elif part == "node" or len(words) != 2 or not _are_numbers(words[1:]):
            continue
        elif part == "zone" or words[0] == "node_unreclaimable":
            values[f"{prefix}{words[0]}"] = int(words[1])
        elif words[0] in ("count", "high"):
            name = f"{prefix}pcp_{words[0]}"
            values[name] = values.get(name, 0) + int(words[1])
    return values


def zone_report(text: str) -> list[str]:
    """The lines of /proc/zoneinfo on how zones were set up, each behind its zone: `zone_report` of meta.json."""
    zone, lines = "", []
    for line in text.splitlines():
        if line.startswith("Node"):
            zone = line
        elif re.search(r"pages free|min |low |high |promo|spanned|present|managed|protection", line):
            lines.append(f"{zone} | {line}")
    return lines


def buddyinfo(text: str) -> Values:
    """/proc/buddyinfo: `b<node>.<zone>.o<order>`, free blocks of 2^order pages."""
    values: Values = {}
    for line in text.splitlines():
        if (header := _ZONE.match(line)) is not None:
            counts = line[header.end() :].split()
            if _are_numbers(counts):
                values |= {f"b{header[1]}.{header[2]}.o{order}": int(count) for order, count in enumerate(counts)}
    return values


def pressure(text: str, prefix: str) -> Values:
    """/proc/pressure/<resource>: `prefix` + some_us and full_us, time stalled since boot in microseconds."""
    return {
        f"{prefix}{kind}_us": int(total) for kind, total in re.findall(r"(?m)^(some|full) .*total=([0-9]{1,20})$", text)
    }


def slabinfo(text: str) -> Values:
    """/proc/slabinfo (root only): `slab.<cache>.objs` in use and `slab.<cache>.pages`."""
    values = {}
    for line in text.splitlines()[2:]:
        # name active_objs num_objs objsize objperslab pagesperslab : tunables ... : slabdata active num shared
        objects, _, slabs = line.partition(": slabdata")
        words, counts = objects.split(), slabs.split()
        if len(words) >= 6 and len(counts) >= 2 and _are_numbers((words[1], words[5], counts[1])):
            values[f"slab.{words[0]}.objs"] = int(words[1])
            values[f"slab.{words[0]}.pages"] = int(counts[1]) * int(words[5])
    return values
