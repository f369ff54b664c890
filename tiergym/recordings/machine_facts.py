"""What a recording's meta.json says about the machine: sizes, zones, kernel and its settings."""

from __future__ import annotations

import os
import re
from typing import Any

from tiergym.recordings import proc_files
from tiergym.recordings.proc_files import Values, number
from tiergym.recordings.process_tree import PAGE_KB
from tiergym.recordings.sampling import NODES, Machine
from tiergym.recordings.tiers import Fold, parse_nodes
from tiergym.sim.units import KIB_PER_MIB

BLOCKS = "sys/devices/system/memory"
TIERS = "sys/devices/virtual/memory_tiering"
SETTINGS = {
    "demotion": "sys/kernel/mm/numa/demotion_enabled",
    "numa_balancing": "proc/sys/kernel/numa_balancing",
    "lru_gen": "sys/kernel/mm/lru_gen/enabled",
    "thp": "sys/kernel/mm/transparent_hugepage/enabled",
    "min_free_kbytes": "proc/sys/vm/min_free_kbytes",
    "zone_reclaim": "proc/sys/vm/zone_reclaim_mode",
    "overcommit": "proc/sys/vm/overcommit_memory",
    "wsf": "proc/sys/vm/watermark_scale_factor",
    "wbf": "proc/sys/vm/watermark_boost_factor",
    "lowmem_reserve_ratio": "proc/sys/vm/lowmem_reserve_ratio",
    "swappiness": "proc/sys/vm/swappiness",
    "vfs_cache_pressure": "proc/sys/vm/vfs_cache_pressure",
}
"""Names in the settings line of `guest_report`, and where the kernel has them; absent ones are left out of the line."""


def machine_facts(machine: Machine, values: Values) -> dict[str, Any]:
    """The fields of meta.json that describe the machine, with `values` its first sample.

    `guest_report` has one line per fact: kernel, cmdline, online_nodes, node distances, auto_online, memory tiers, one
    line of settings, and all memory blocks as name:state:node:zones.
    """
    nodes, fold = machine.nodes(), machine.fold or Fold((0,), (1,))
    tiers = _tiers(machine, fold)
    auto_online = machine.read(f"{BLOCKS}/auto_online_blocks").strip()
    distances = {node: machine.read(f"{NODES}/node{node}/distance").split() for node in nodes}
    release = machine.read("proc/sys/kernel/osrelease").strip()
    cmdline = machine.read("proc/cmdline").strip()
    if len(nodes) > 2 and machine.fold is None:
        machine.notes["nodes"] = f"{len(nodes)} memory nodes; a simulated machine has two, node 0 and node 1"
    for node in sorted(set(fold.slow) & set(nodes)):
        if machine.read(f"{NODES}/node{node}/cpulist").strip():
            machine.notes[f"node {node}"] = "it has CPUs; a simulated slow node has none"
    states = ("online", "has_cpu", "has_memory", "has_normal_memory")
    report = [
        f"kernel {release}",
        f"cmdline {cmdline}",
        "online_nodes {} has_cpu {} has_memory {} normal {}".format(
            *(machine.read(f"{NODES}/{state}").strip() for state in states)
        ),
        *(f"node{node} distance {' '.join(distances[node])}" for node in nodes),
        f"auto_online {auto_online}",
        *(f"tier {name} nodes {of}" for name, of in tiers.items()),
        _settings(machine),
        f"memblocks {' '.join(_memory_blocks(machine, fold))}",
    ]
    return {
        "kernel_release": release,
        "kernel_cmdline": cmdline,
        "accel": "none: recorded where it ran",
        "smp": os.cpu_count() or 1,
        "dram_mib": _present_mib(values, 0),
        "cxl_mib": _present_mib(values, 1),
        "cxl_attach": "as found" if set(fold.slow) & set(nodes) else "none",
        "memhp_default_state": _policy(values, auto_online),
        "hmat": len(tiers) > 1,
        "numa_distance": _distance(nodes, distances, fold),
        **({"folded_nodes": {"fast": list(fold.fast), "slow": list(fold.slow)}} if machine.fold else {}),
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "block_mib": _block_mib(machine),
        "guest_report": report,
        "zone_report": proc_files.zone_report(machine.read("proc/zoneinfo")),
    }


def _distance(nodes: list[int], distances: dict[int, list[str]], fold: Fold) -> int | None:
    """From the first fast node to the first slow one, by the nodes' places in the list of those that are there."""
    if not fold.slow or fold.slow[0] not in nodes or fold.fast[0] not in nodes:
        return None
    return number(distances[fold.fast[0]], nodes.index(fold.slow[0]))


def _tiers(machine: Machine, fold: Fold) -> dict[str, str]:
    """Memory tiers and their nodes, as a recording numbers them."""
    names = sorted(path.name for path in (machine.root / TIERS).glob("memory_tier*"))
    lists = {name: machine.read(f"{TIERS}/{name}/nodelist").strip() for name in names}
    if machine.fold is None:
        return lists
    return {name: ",".join(str(tier) for tier in _tiers_of(nodes, fold)) for name, nodes in lists.items()}


def _tiers_of(nodes: str, fold: Fold) -> list[int]:
    found = {fold.tier(node) for node in parse_nodes(nodes, "nodelist")} if nodes else set()
    return sorted(tier for tier in found if tier is not None)


def _settings(machine: Machine) -> str:
    found = {name: machine.read(path).strip() for name, path in SETTINGS.items()}
    return " ".join(f"{name} {value}" for name, value in found.items() if value)


def _memory_blocks(machine: Machine, fold: Fold) -> list[str]:
    blocks = []
    for name in machine.numbered(BLOCKS, "memory"):
        folder = machine.root / BLOCKS / name
        state = machine.read(f"{BLOCKS}/{name}/state").strip()
        zones = machine.read(f"{BLOCKS}/{name}/valid_zones").strip().replace(" ", "/")
        node = ",".join(path.name.removeprefix("node") for path in sorted(folder.glob("node[0-9]*")))
        if machine.fold is not None and node.isdecimal():
            node = ",".join(str(tier) for tier in _tiers_of(node, fold))
        blocks.append(f"{name}:{state}:{node}:{zones}")
    return blocks


def _block_mib(machine: Machine) -> int | None:
    text = machine.read(f"{BLOCKS}/block_size_bytes").strip()
    return int(text, 16) >> 20 if re.fullmatch(r"[0-9a-f]{1,16}", text) else None


def _present_mib(values: Values, node: int) -> float:
    pages = sum(value for name, value in values.items() if re.match(rf"z{node}\.\w+\.present$", name))
    return round(pages * PAGE_KB / KIB_PER_MIB, 2)


def _policy(values: Values, auto_online: str) -> str:
    """How the memory of node 1 was put online, by the zones that it is in: a tool (daxctl) has a setting of its own.

    Where it is in both kinds, the kernel's setting decides; a machine without node 1 has put nothing online.
    """
    movable = values.get("z1.Movable.present", 0) > 0
    kernel = any(values.get(f"z1.{zone}.present", 0) > 0 for zone in ("DMA", "DMA32", "Normal"))
    return "online_movable" if movable and (not kernel or auto_online == "online_movable") else "online"
