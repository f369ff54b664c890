"""Small machines made for one test, spelled as in a scenario's TOML, run through the public engine.

The default machine has round numbers and nothing that a test did not ask for: 1 GiB of DRAM in ZONE_NORMAL alone,
2 GiB of CXL in blocks of 128 MiB, no swap, no demotion, no THP, per-CPU lists of one page (so that marks are exact),
no kernel memory at boot but the struct pages of CXL.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tiergym.env.actions import from_modes
from tiergym.env.machines import Machines
from tiergym.sim import names as n
from tiergym.sim.layout import REGION_SIZES
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.specs import Scenario
from tiergym.specs.reading import SCALARS, complete_sections
from tiergym.specs.scenario import size_of_blocks
from tiergym.specs.table import build_table

DEFAULTS: dict[str, Any] = {
    "dram_mib": 1024,
    "dma_mib": 0,
    "dma32_mib": 0,
    "slow_mib": 2048,
    "block_mib": 128,
    "boot_reserved_share": 0,
    "boot_kernel_mib": 0,
    "cpus": 4,
    "workers": 4,
    "thp": "off",
    "pcp_batch_pages": 1,
    "pcp_scale": 0,
    "throttle_per_batch": 0,
    "dt_s": 0.25,
    "horizon_s": 3600,
}

MOVABLE = {"zone": "movable"}
"""Modes that online CXL as ZONE_MOVABLE and leave the rest to Linux."""
PASSING_HOG = {"kind": "anon", "mib": 1000, "access_hz": 0.01, "grow_s": 2, "hold_s": 4, "shrink_s": 0.25}
"""A region that fills DRAM and leaves at 6.25 s."""
KERNEL_PLACES = n.ACTIONS[: n.N_PLACEMENTS]


def everywhere(mode: str) -> dict[str, str]:
    """A placement mode for every kernel class."""
    return dict.fromkeys(KERNEL_PLACES, mode)


def threads(count, start_s=4, grow_s=25):
    """A pool of threads that are born one by one from `start_s` on, for `grow_s` seconds."""
    return {"threads": {"count": count, "start_s": start_s, "grow_s": grow_s}}


def scenario(
    *,
    regions: Sequence[Mapping[str, Any]] = (),
    processes: Sequence[Mapping[str, Any]] = (),
    pools: Mapping[str, Mapping[str, Any]] | None = None,
    events: Sequence[Mapping[str, Any]] = (),
    **scalars: Any,
) -> Scenario:
    """The default machine with other values: scalars by field name, repeated sections as tables.

    Values are TOML's, so distributions work too. Regions and processes are named by their place: a region's
    `process` is "p0", "p1", ... The feasibility checks between fields are left out on purpose.
    """
    document: dict[str, Any] = {section: {} for section in SCALARS}
    for name, value in (DEFAULTS | scalars).items():
        section = next(section for section, fields in SCALARS.items() if name.removeprefix("weight_") in fields)
        document[section][name.removeprefix("weight_")] = value
    owners = [dict(process) for process in processes] or [{}]
    document["workload"] |= {
        "processes": [{"name": f"p{i}", "vmas": 1} | process for i, process in enumerate(owners)],
        "regions": [{"name": f"r{i}", "process": "p0"} | dict(region) for i, region in enumerate(regions)],
        "pools": {name: dict(pool) for name, pool in (pools or {}).items()},
    }
    document["events"] = [dict(event) for event in events]
    sections = complete_sections(document, "test", Path())
    size = next(size for size in REGION_SIZES if size >= len(regions))
    return Scenario(
        name="test",
        description="",
        sections=sections,
        regions=size,
        table=build_table(sections, size),
        counts=(len(regions), len(owners)),
        slow_pages_max=0,
        blocks=size_of_blocks(sections),
    )


class Lab:
    """Machines of one scenario each, stepped under named modes, with the counters of all ticks added up.

    `ticks(k, modes)` steps k times; modes stay in force until others are given. Zone arrays are indexed as in
    `tiergym.sim.names`.
    """

    def __init__(self, *scenarios: Scenario, modes: Mapping[str, str] | None = None, seed: int = 0) -> None:
        self.machines = Machines(scenarios, len(scenarios))
        self.action = from_modes(modes or {})
        self.totals = np.zeros((len(scenarios), n.N_COUNTERS), np.int64)
        self.premature = np.zeros((len(scenarios), n.N_CLASSES), np.int64)
        self.lost_s = np.zeros((len(scenarios), n.N_CAUSES))
        self.throughputs: list[NDArray[np.float64]] = []
        self.machines.reset(np.full(len(scenarios), seed, np.uint64))

    def ticks(self, count: int, modes: Mapping[str, str] | None = None) -> "Lab":
        """Step `count` times under `modes`."""
        if modes is not None:
            self.action = from_modes(modes)
        actions = np.tile(self.action, (self.machines.num_envs, 1))
        for _ in range(count):
            self.machines.step(actions)
            self.totals += self.machines.counters
            self.premature += self.machines.premature_by_class
            self.lost_s += self.machines.lost * self.m["dt_s"]
            self.throughputs.append(self.machines.throughput.copy())
        return self

    @property
    def m(self) -> np.void:
        """The first machine's record."""
        record = self.machines.records[0]
        assert isinstance(record, np.void)
        return record

    def total(self, counter: str, machine: int = 0) -> int:
        """A counter of `names.COUNTERS` since the start."""
        return int(self.totals[machine, n.COUNTERS.index(counter)])

    def seconds_lost(self, cause: str, machine: int = 0) -> float:
        """Seconds of work lost to a cause of `names.CAUSES` since the start."""
        return float(self.lost_s[machine, n.CAUSES.index(cause)])

    def on(self, cls: int, tier: int, machine: int = 0) -> int:
        """Pages of a class on a tier."""
        return int(self.machines.records["used_pages"][machine, cls, n.TIER_ZONES[tier]].sum())

    def region_on(self, region: int, tier: int) -> int:
        """Resident pages of a region on a tier."""
        return int(self.m["region"]["pages"][region, n.TIER_ZONES[tier]].sum())

    def leaf_on(self, region: int, tier: int) -> int:
        """Leaf page tables of a region on a tier."""
        return int(self.m["region"]["leaf"][region, n.TIER_ZONES[tier]].sum())

    def free(self, tier: int) -> int:
        """Free pages of a tier."""
        return int(self.m["free_pages"][n.TIER_ZONES[tier]].sum())


def assert_books_balance(records: NDArray[np.void]) -> None:
    """Every page of every zone is free, on a per-CPU list, reserved, or in exactly one class; nothing is negative."""
    for field in ("managed_pages", "free_pages", "pcp_pages", "reserved_pages", "used_pages", "swap_free_pages",
                  "block_unmovable", "wmark_pages", "boost_pages", "writeback_pages"):  # fmt: skip
        assert (records[field] >= 0).all(), field
    for field in ("pages", "leaf", "upper", "out_pages", "out_premature", "swap_cached"):
        assert (records["region"][field] >= 0).all(), field
    used = records["used_pages"]
    total = records["free_pages"] + records["pcp_pages"] + records["reserved_pages"] + used.sum(axis=1)
    np.testing.assert_array_equal(total, records["managed_pages"])
    anon = (records["region"]["kind"] == n.KIND_ANON)[..., None]
    pages = records["region"]["pages"]
    np.testing.assert_array_equal((pages * anon).sum(axis=1), used[:, n.ANON])
    np.testing.assert_array_equal((pages * ~anon).sum(axis=1) + records["writeback_pages"], used[:, n.FILE])
    assert (records["region"]["swap_cached"].sum(axis=2) <= pages.sum(axis=2)).all()
    np.testing.assert_array_equal(records["region"]["leaf"].sum(axis=1), used[:, n.PT_LEAF])
    np.testing.assert_array_equal(records["region"]["upper"].sum(axis=1), used[:, n.PT_UPPER])
    np.testing.assert_array_equal(used[:, n.FIRST_KERNEL_CLASS :, [n.MOVABLE, n.SLOW_MOVABLE]], 0)
    unmovable = used[:, n.FIRST_KERNEL_CLASS :, n.SLOW_NORMAL].sum(axis=1)
    np.testing.assert_array_equal(records["block_unmovable"].sum(axis=1), unmovable)
    assert (records["block_unmovable"] <= records["block_pages"][:, None]).all()
    swap_backed = anon[..., 0] | (records["region"]["kind"] == n.KIND_SHMEM)
    swapped = (records["region"]["out_pages"] * swap_backed).sum(axis=1)
    swap = (records["swap_mib"] * PAGES_PER_MIB).astype(np.int64)
    np.testing.assert_array_equal(records["swap_free_pages"] + swapped, swap)
    assert (records["region"]["out_premature"] <= records["region"]["out_pages"]).all()
    online, own = records["block_state"] >= n.BLOCK_NORMAL, records["block_own_memmap"] == 1
    for state in range(1, n.N_BLOCK_STATES):
        there = (records["block_state"] == state).sum(axis=1)
        np.testing.assert_array_equal(records["blocks_in_state"][:, state], there, n.BLOCK_STATES[state])
    np.testing.assert_array_equal(records["blocks_in_state"].sum(axis=1), records["blocks"])
    np.testing.assert_array_equal(records["blocks_pinned"], (records["block_unmovable"] > 0).sum(axis=1))
    np.testing.assert_array_equal(records["blocks_own_memmap"], (online & own).sum(axis=1))
    block_pages, each = records["block_pages"][:, None], np.arange(records["block_state"].shape[1])
    has_room = (records["block_state"] == n.BLOCK_NORMAL) & (records["block_unmovable"] < block_pages)
    assert not (has_room & (each < records["pin_from"][:, None])).any()
    pinned = (each >= records["pinned_from"][:, None]) & (each < records["pinned_end"][:, None])
    assert not (~pinned & (records["block_unmovable"] > 0)).any()
    usable = np.where(online, block_pages - own * (block_pages // STRUCT_PAGES_PER_PAGE), 0)
    for zone, state in ((n.SLOW_NORMAL, n.BLOCK_NORMAL), (n.SLOW_MOVABLE, n.BLOCK_MOVABLE)):
        in_zone = (usable * (records["block_state"] == state)).sum(axis=1)
        np.testing.assert_array_equal(in_zone, records["managed_pages"][:, zone])


def either(*values):
    return {"choice": list(values)}


def between(low, high):
    return {"uniform": [low, high]}


def orders(low, high):
    return {"log_uniform": [low, high]}


POLICIES = either(*n.MEMPOLICIES)
KINDS_WITHOUT = [[kind for kind in n.KINDS if kind != other] for other in ("mapping", "zero")]
"""A choice has six values at most."""


def random_region(process, kinds, largest_mib):
    return {
        "process": f"p{process}",
        "kind": either(*kinds),
        "mib": orders(0.01, largest_mib),
        "density": orders(1 / LEAF_SPAN_PAGES, 1),
        "thp_share": either(0, 0.3, 1),
        "mempolicy": POLICIES,
        "write_share": between(0, 1),
        "dirty_share": between(0, 1),
        "misses_per_page_s": orders(0.1, 1000),
        "tlb_misses_per_page_s": orders(0.1, 1000),
        "mlp": between(1, 64),
        "walk_miss": between(0, 1),
        "access_hz": orders(0.001, 100),
        "start_s": between(0, 4),
        "grow_s": either(0, 0.5, 3),
        "hold_s": either(0, 1, 1000),
        "shrink_s": either(0, 0.5, 3),
        "low_share": between(0, 1),
        "period_s": either(0, 1.5, 5),
        "turnover_hz": either(0, 0.1, 20),
        "released_by": either(*n.RELEASED_BY),
        "drift_group": either(0, 1, 2),
        "drift_s": either(0, 0.7),
    }


def random_pool(count):
    return {
        "count": orders(1, count),
        "start_s": between(0, 4),
        "grow_s": either(0, 2),
        "hold_s": either(0, 1, 1000),
        "shrink_s": either(0, 2),
        "low_share": between(0, 1),
        "period_s": either(0, 4),
        "turnover_hz": either(0, 1, 50),
    }


RANDOM_MACHINES: dict[str, Any] = {
    "block_mib": st.sampled_from([128, 256]),
    "dram_mib": st.sampled_from([256.0, 700.0, 3000.0]),
    "slow_blocks": st.sampled_from([[0, 1, 2], [3, 8], [1, 20], [0]]),
    "dt_s": st.sampled_from([0.05, 0.25, 1.0]),
}
"""Strategies for the arguments of `random_scenario`."""


def random_scenario(block_mib: int, dram_mib: float, slow_blocks: list[int], dt_s: float):
    """A distribution over machines that are small enough to run short of everything within 40 ticks."""
    largest = dram_mib + max(slow_blocks) * block_mib
    owners = range(4)
    return scenario(
        dram_mib=between(dram_mib / 2, dram_mib),
        dma_mib=either(0, 15),
        dma32_mib=either(0, dram_mib / 4),
        movable_mib=either(0, 0, dram_mib / 16),
        slow_mib=either(*(blocks * block_mib for blocks in slow_blocks)),
        block_mib=block_mib,
        boot_reserved_share=between(0, 0.3),
        boot_kernel_mib=between(0, dram_mib / 20),
        cpus=either(1, 4, 64),
        workers=either(1, 4, 64),
        dram_latency_ns=between(60, 200),
        slow_latency_ns=between(200, 1000),
        slow_read_gbps=orders(0.5, 100),
        dram_curve=either(*n.DRAM_CURVES),
        slow_curve=either(*n.SLOW_CURVES),
        slow_knee=between(0.1, 0.95),
        slow_ceiling=between(1, 10),
        watermark_scale_factor=either(10, 100, 500),
        min_free_kib=either(0, 1024, 8192),
        thp=either("off", "on"),
        demotion=either("off", "on"),
        numa_balancing=either(*n.NUMA_BALANCING),
        damon_promotion=either("off", "off", "on"),
        interleave_fast=either(0, 1, 9),
        skip_busy_node=either("off", "on"),
        file_folio_pages=either(1, 32, 64, 512),
        lru_gen=either("off", "on"),
        hopeless_reset=either(*n.HOPELESS_RESETS),
        boosted_runs_fail=either("off", "on"),
        claims_half_blocks=either("off", "on"),
        dontneed_frees_tables=either("off", "on"),
        damon_falls_back=either("off", "on"),
        swap_table_pages=either("off", "on"),
        slab_follows_policy=either("off", "on"),
        slab_burst_objects=either(1, 28),
        boot_memmap=either("dram", "slow"),
        swap_mib=either(0, 0, 64, 1024),
        pcp_batch_pages=either(1, 63, 512),
        boost_hz=either(0, 5),
        lru_window_s=orders(0.1, 100),
        scan_mib_per_s=either(0, 256, 10000),
        promote_limit_mib_per_s=either(0, 50, 65536),
        auto_movable_numa_aware=either("off", "on"),
        slow_in_lower_tier=either("off", "on"),
        stack_migration=either("off", "on"),
        slab_movable_share=between(0, 1),
        slab_objects_per_page=either(1, 8, 14, 21, 64),
        throttle_per_batch=either(0, 0.01, 1),
        kswapd_pages_per_s=orders(1000, 1e6),
        decision_us=either(0, 100, 1e6),
        stack_touches_per_s=orders(1, 1e8),
        kernel_mlp=between(1, 8),
        dt_s=dt_s,
        processes=[
            {
                "oom_score_adj": either(-1000, 0, 500),
                "work_share": between(0, 1),
                "restart_s": either(0, 0.1, 2),
                "lost_s": either(0, 3),
                "mempolicy": POLICIES,
                "vmas": either(1, 100, 10000),
            }
            for _ in owners
        ],
        regions=[random_region(i % len(owners), KINDS_WITHOUT[i % 2], largest / 3) for i in range(11)],
        pools={"threads": random_pool(5000), "files": random_pool(1e6), "sockets": random_pool(1e5),
               "buffers": random_pool(dram_mib * PAGES_PER_MIB / 4)},
        events=[
            {"kind": either(*n.EVENTS), "at_s": between(0, 10), "mib": block_mib * int(k), "knob": knob, "value": value}
            for k, knob, value in (
                (1, "swap_mib", either(0, 64, 512)),
                (2, "watermark_scale_factor", between(10, 300)),
                (1, "demotion", either("off", "on")),
                (3, "thp", either("off", "on")),
            )
        ],
    )  # fmt: skip
