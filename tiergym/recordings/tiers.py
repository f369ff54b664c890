"""Memory nodes folded into two tiers: a server has sockets, a simulated machine has DRAM (node 0) and CXL (node 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tiergym.errors import UserError
from tiergym.recordings.proc_files import Values

FAST, SLOW = 0, 1
_COLUMN = re.compile(r"([nmzb])(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Fold:
    """Nodes of the machine by tier, as numbers in /sys/devices/system/node."""

    fast: tuple[int, ...]
    slow: tuple[int, ...]

    def tier(self, node: int) -> int | None:
        """The tier of a node, as the node's number in the recording; None for a node of neither."""
        return FAST if node in self.fast else SLOW if node in self.slow else None


def parse_nodes(text: str, option: str) -> tuple[int, ...]:
    """Nodes of `0,2-3`. Raises `UserError` that names the option."""
    nodes: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"{option} = {text!r}; allowed: numbers of memory nodes, as 0,1 or 0-1")
        nodes += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(nodes))


def nodes_with_memory(values: Values) -> tuple[int, ...]:
    """Nodes of which some zone manages pages, ascending; `values` as `Machine.values` has them, not folded."""
    found = {int(match[1]) for name, pages in values.items() if pages > 0 and (match := _managed(name))}
    return tuple(sorted(found))


def _managed(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"z(\d+)\.\w+\.managed", name)


def check_fold(fold: Fold, memory: Iterable[int]) -> None:
    """Raise `UserError` where a node is in both tiers, in neither, or has no memory."""
    there = set(memory)
    if both := sorted(set(fold.fast) & set(fold.slow)):
        raise UserError(f"--fast and --slow: node {both[0]} is in both; allowed: each node in one of them")
    for option, nodes in (("--fast", fold.fast), ("--slow", fold.slow)):
        if unknown := sorted(set(nodes) - there):
            raise UserError(f"{option}: node {unknown[0]} has no memory; nodes with memory: {_listed(there)}")
    if missing := sorted(there - set(fold.fast) - set(fold.slow)):
        raise UserError(
            f"--fast and --slow: node {missing[0]} has memory and is in neither; allowed: all of {_listed(there)}"
        )


def _listed(nodes: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(nodes)))


def folded(values: Values, fold: Fold | None) -> Values:
    """Counters of nodes, zones and free lists added up by tier; the others as they are."""
    if fold is None:
        return values
    out: Values = {}
    for name, value in values.items():
        match = _COLUMN.fullmatch(name)
        if match is None:
            out[name] = value
        elif (tier := fold.tier(int(match[2]))) is not None:
            column = f"{match[1]}{tier}.{match[3]}"
            out[column] = out.get(column, 0) + value
    return out
