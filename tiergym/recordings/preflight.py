"""What must be true of a machine before it is recorded: asked of /proc and /sys, so that nobody waits for nothing."""

from __future__ import annotations

import os

from tiergym.errors import UserError
from tiergym.recordings.format import MACHINE_COUNTERS, ZONE_COUNTERS
from tiergym.recordings.process_tree import PAGE_KB
from tiergym.recordings.sampling import Machine
from tiergym.recordings.tiers import Fold, check_fold, nodes_with_memory
from tiergym.sim.units import PAGE_BYTES

LATER = {"oom_kill": "Linux 4.13"}
"""Counters that old kernels lack, and the first that has them."""


def check_machine(machine: Machine, fold: Fold | None = None, page_bytes: int | None = None) -> list[str]:
    """What a person should know before this machine is recorded, one sentence each.

    `page_bytes`: of the machine; None asks it. Raises `UserError` where a recording would be of no use.
    """
    size = os.sysconf("SC_PAGE_SIZE") if page_bytes is None else page_bytes
    if size != PAGE_BYTES:
        raise UserError(
            f"pages of {size // (PAGE_BYTES // PAGE_KB)} KiB; allowed: {PAGE_KB} KiB, which all counts of a recording "
            "are in"
        )
    values = machine.values(fold=False)
    root = machine.root
    for counter in MACHINE_COUNTERS:
        if f"vm.{counter}" not in values:
            since = f" ({LATER[counter]} and later have it)" if counter in LATER else ""
            raise UserError(
                f"{root / 'proc/vmstat'}: no counter '{counter}'{since}; allowed: {', '.join(MACHINE_COUNTERS)}"
            )
    nodes = nodes_with_memory(values)
    if not nodes:
        raise UserError(
            f"{root / 'proc/zoneinfo'}: no zone with managed pages; allowed: zones with {', '.join(ZONE_COUNTERS)} "
            "(a container may hide them)"
        )
    if fold is not None:
        check_fold(fold, nodes)
        return []
    if nodes not in ((0,), (0, 1)):
        listed = ", ".join(map(str, nodes))
        return [
            f"nodes {listed} have memory, and a simulated machine has two tiers: this recording cannot be replayed or "
            "judged; fold them, as with --fast 0,1 --slow 2"
        ]
    return []
