"""Blocks of a range that come online in one step leave what they would leave one by one, to the bit."""

from random import Random
from typing import Any

import numpy as np
import pytest

from tests.builders import assert_books_balance, scenario
from tiergym.env.actions import ENTRIES, from_modes
from tiergym.env.machines import Machines
from tiergym.sim import hotplug
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.sim.zonelist import NODE_BOTH, NODE_FAST

GIB = 1024
SERVERS = ((16, 128), (96, 768), (1024, 8192))
"""DRAM and CXL, GiB."""


def machines(modes: dict[str, str], **sections: Any) -> Machines:
    """One machine just built, whose blocks are plugged in and not yet online."""
    built = Machines([scenario(**sections)], 1, threads=1)
    built.reset(np.zeros(1, np.uint64))
    built.records["action"] = from_modes(modes)
    return built


def one_by_one(record: Any) -> None:
    """What `online_arrived` did before it knew steps."""
    nodes = NODE_BOTH if record["managed_pages"][n.SLOW_NORMAL] > 0 else NODE_FAST
    for b in range(int(record["blocks"])):
        plugged = record["block_state"][b] in (n.BLOCK_ADDED, n.BLOCK_OFFLINE)
        if plugged and not hotplug.online_blocks(record, b, 1, nodes):
            record["counters"][n.C_BLOCKS_FAILED] += 1
    hotplug.note_memmap(record)


def plug_the_rest(record: Any) -> None:
    """The blocks that are absent at boot arrive."""
    states = record["block_state"][: record["blocks"]]
    absent = states == n.BLOCK_ABSENT
    states[absent] = n.BLOCK_ADDED
    record["blocks_in_state"][[n.BLOCK_ABSENT, n.BLOCK_ADDED]] += [-absent.sum(), absent.sum()]


def drawn_server(seed: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Modes and sections of a server: any size, block, zone, release's list or mark, memory to spare or not."""
    draw = Random(seed)
    block_mib = draw.choice([128, 512, 777.5, 2048])
    blocks = draw.randint(2, 1100)
    later = draw.randrange(blocks)
    sections: dict[str, Any] = {
        "dram_mib": blocks * block_mib / draw.choice([1, 8, 30, 50]) + 1600,
        "dma_mib": 15,
        "dma32_mib": draw.choice([0, 600]),
        "slow_mib": blocks * block_mib,
        "block_mib": block_mib,
        "cpus": draw.choice([1, 32, 448]),
        "watermark_scale_factor": draw.choice([10, 500]),
        "min_free_kib": draw.choice([0, 300000]),
        "pcp_batch_pages": draw.choice([0, 1]),
        "pcp_scale": draw.choice([0, 5]),
        "events": [{"kind": "hot_add", "at_s": 3000, "mib": later * block_mib}] if later else [],
    }
    switches = ("thp", "movable_shares_min", "pcp_by_type", "skip_busy_node", "auto_movable_numa_aware")
    sections |= {switch: draw.choice(n.SWITCH) for switch in switches}
    return {entry.name: draw.choice(entry.modes) for entry in ENTRIES if entry.name in ("zone", "memmap")}, sections


@pytest.mark.parametrize("seed", range(24))
def test_together_is_as_one_by_one(seed: int) -> None:
    """At boot, and again when the rest arrives, which may take its struct pages from CXL."""
    modes, sections = drawn_server(seed)
    together, single = machines(modes, **sections), machines(modes, **sections)
    for _ in range(2):
        hotplug.online_arrived(together.records[0])
        one_by_one(single.records[0])
        assert together.records.tobytes() == single.records.tobytes()
        assert_books_balance(together.records)
        for record in (together.records[0], single.records[0]):
            plug_the_rest(record)


def steps_of_boot(monkeypatch: pytest.MonkeyPatch, modes: dict[str, str], dram_gib: int, slow_gib: int) -> list[int]:
    """Blocks that come online in each step."""
    steps = []

    def noted(m: Any, b: int, count: int, nodes: int) -> bool:
        steps.append(count)
        return bool(online_blocks(m, b, count, nodes))

    online_blocks = hotplug.online_blocks
    sizes = {"dram_mib": dram_gib * GIB, "slow_mib": slow_gib * GIB, "block_mib": 2048, "pcp_batch_pages": 0}
    record = machines(modes, **sizes, auto_movable_numa_aware="off").records.view(np.recarray)[0]
    with monkeypatch.context() as patch:
        patch.setattr(hotplug, "online_blocks", noted)
        patch.setattr(hotplug, "online_range", hotplug.online_range.py_func)  # type: ignore[attr-defined]
        hotplug.online_arrived.py_func(record)  # type: ignore[attr-defined]
    assert sum(steps) * 2048 == slow_gib * GIB
    managed = record["managed_pages"][n.FIRST_SLOW_ZONE :].astype(np.int64).sum()
    assert modes.get("memmap") == "on_memory" or managed == slow_gib * GIB * PAGES_PER_MIB
    return steps


@pytest.mark.parametrize("modes", [{}, {"zone": "movable"}, {"zone": "auto_movable"}, {"memmap": "on_memory"}])
def test_thousands_of_blocks_take_no_more_steps_than_few(
    monkeypatch: pytest.MonkeyPatch, modes: dict[str, str]
) -> None:
    assert all(len(steps_of_boot(monkeypatch, modes, *server)) <= 12 for server in SERVERS)
