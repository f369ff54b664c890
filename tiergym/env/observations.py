"""What a policy sees: named numbers that a Linux kernel knows at that tick, each float32 in [0, 1].

Shares are of managed pages. Rates and counts are compressed as x / (x + scale), so that no running
normalisation is needed; `scale` is the value shown as one half. Only the PMU entries are sampled, hence noisy
(`episode.pmu_noise`); nothing of the workload's future or true heat is here. `fill` puts raw values in the order of
`ENTRIES`, from which `put_scaled` takes their scales; tests/test_observations.py reads every entry by its name.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiergym.env.actions import ENTRIES as ACTION_ENTRIES
from tiergym.env.modes import MODE_COUNTS
from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.kswapd import MAX_RECLAIM_RETRIES
from tiergym.sim.pages import class_on_tier, node_free, node_managed, on_tier
from tiergym.sim.random_bits import bell
from tiergym.sim.streams import PMU_STREAMS, STREAM_PMU
from tiergym.sim.units import PAGES_PER_MIB

LAYOUT_VERSION: Final = 4
"""Raised whenever an entry changes its place or meaning; exported policies carry it."""


@dataclass(frozen=True, slots=True)
class ObservationEntry:
    """One number of the observation; `scale` is 0 for a share, else the value shown as 0.5."""

    name: str
    source: str
    scale: float
    doc: str


_RATE = 50000.0  # pages per second: 200 MB/s
_EVENTS = 100.0  # events per second
_MISSES = 1e8  # last-level cache misses or walks per second
_THREADS, _FILES, _SOCKETS = 5000.0, 1e6, 1e5


def _entries() -> tuple[ObservationEntry, ...]:
    out: list[ObservationEntry] = []

    def add(name: str, source: str, scale: float, doc: str) -> None:
        out.append(ObservationEntry(name, source, scale, doc))

    for zone in n.ZONES:
        add(f"free.{zone}", "/proc/zoneinfo: pages free", 0, f"free share of {zone}")
    for zone in ("fast", "slow_normal", "slow_movable"):
        add(f"above_low.{zone}", "/proc/zoneinfo: free - low", 0, "free pages above low, 5 % of the zone shown as 1")
    for tier in n.TIERS:
        for cls in n.CLASSES:
            add(f"pages.{cls}.{tier}", "node vmstat, node meminfo", 0, f"share of the {tier} node's pages")
    for cls in n.CLASSES[n.FIRST_KERNEL_CLASS :]:
        add(f"on_slow.{cls}", "node vmstat, node meminfo", 0, f"share of {cls} that lies on the slow node")
    for name in ("pgalloc_fast", "pgalloc_slow", "kernel_fallback_slow", "user_fallback_slow"):
        add(f"rate.{name}", "/proc/vmstat: pgalloc_*, numa_miss", _RATE, "pages per second")
    add("rate.kswapd_wakeups_fast", "/proc/vmstat: pageoutrun", _EVENTS, "wake-ups per second")
    for name in ("pgsteal_kswapd_fast", "pgsteal_kswapd_slow", "pgsteal_direct_fast"):
        add(f"rate.{name}", "node vmstat: pgsteal_*", _RATE, "pages per second")
    add("rate.allocstall", "/proc/vmstat: allocstall_*", _EVENTS, "direct reclaims per second")
    for name in ("pgdemote_kswapd", "pgdemote_direct", "pgdemote_proactive"):
        add(f"rate.{name}", "/proc/vmstat: pgdemote_*", _RATE, "pages per second")
    for name in ("pgpromote_success", "pgpromote_candidate", "numa_hint_faults"):
        add(f"rate.{name}", "/proc/vmstat: pgpromote_*, numa_hint_faults", _RATE, "pages per second")
    for name in ("pswpout", "pswpin", "file_refault"):
        add(f"rate.{name}", "/proc/vmstat: pswp*, workingset_refault_file", _RATE, "pages per second")
    add("rate.oom_kill", "/proc/vmstat: oom_kill", 1.0, "kills per second")
    add("rate.pgmigrate_fail", "/proc/vmstat: pgmigrate_fail", _RATE, "kernel pages that found no room in DRAM")
    add("kswapd_failures.fast", "zoneinfo: node_unreclaimable", 0, "empty runs of kswapd0, of 16")
    add("psi.some", "/proc/pressure/memory: some", 0, "share of time in which some task waited for memory")
    add("psi.full", "/proc/pressure/memory: full", 0, "share of time in which all tasks waited")
    for tier in n.TIERS:
        add(f"pmu.misses.{tier}", "PMU: MEM_LOAD_L3_MISS_RETIRED, offcore", _MISSES, "cache misses per second, sampled")
        add(f"pmu.walks.{tier}", "PMU: DTLB_LOAD_MISSES.WALK_COMPLETED", _MISSES, "page walks by their leaf, sampled")
        add(f"pmu.load.{tier}", "uncore PMU: CAS counts, CXL link", 0, "share of peak bandwidth, sampled")
    for entry in ACTION_ENTRIES:
        add(f"last.{entry.name}", "the policy itself", 0, "mode in force, first 0, last 1")
    add("threads", "/proc/loadavg: processes", _THREADS, "threads")
    add("files", "/proc/sys/fs/dentry-state, inode-state", _FILES, "cached dentries and inodes asked for")
    add("sockets", "/proc/net/sockstat", _SOCKETS, "sockets")
    for state in ("offline", "normal", "movable", "pinned"):
        add(f"blocks.{state}", "/sys/devices/system/memory", 0, "share of the slow node's blocks")
    add("swap_free", "/proc/meminfo: SwapFree", 0, "free share of swap; 0 without swap")
    add("calm", "/proc/vmstat: pageoutrun", 4.0, "seconds since a request found DRAM below low")
    add("config.slow_share", "node meminfo: MemTotal", 0, "slow node's share of all managed pages")
    add("config.demotion", "/sys/kernel/mm/numa/demotion_enabled", 0, "0 or 1")
    add("config.tiering", "/proc/sys/kernel/numa_balancing", 0, "1 if NUMA balancing tiers")
    add("config.latency", "HMAT, CDAT", 1.0, "slow over fast latency, less 1")
    add("config.bandwidth", "HMAT, CDAT", 0, "slow share of the peak bandwidth")
    return tuple(out)


ENTRIES: Final = _entries()
NAMES: Final = tuple(entry.name for entry in ENTRIES)
N_OBS: Final = len(ENTRIES)
SCALES: Final = np.array([entry.scale for entry in ENTRIES])
"""Of every entry, float64 (N_OBS,)."""
RATES: Final = np.array([n.COUNTERS.index(name[len("rate.") :]) for name in NAMES if name.startswith("rate.")])
"""Indices of the counters that are shown as rates, in the order of their entries."""


@jit
def ratio(part, whole):
    """part / whole within [0, 1]; 0 of nothing."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


@jit
def inverse(whole):
    """1 / whole; 0 of nothing. Parts of one whole share one division."""
    return 1.0 / whole if whole > 0 else 0.0


@jit_inline
def put_share(obs, i, x):
    """Write entry i, a share, as it is. Returns the place of the next entry."""
    obs[i] = x
    return i + 1


@jit_inline
def put_scaled(obs, i, x):
    """Write entry i as x / (x + scale). Returns the place of the next entry."""
    obs[i] = x / (x + SCALES[i]) if x > 0.0 else 0.0
    return i + 1


@jit
def sampled(m, x, stream, noiseless):
    """A PMU count with the relative error of sampling."""
    if noiseless:
        return x
    return max(0.0, x * (1.0 + m.pmu_noise * bell(m.key, m.tick, stream)))


@jit
def above_low(m, z):
    """Free pages of a slow zone above low; 5 % of the zone are 1."""
    return ratio(20.0 * (m.free_pages[z] - m.wmark_pages[n.WMARK_LOW, z]), m.managed_pages[z])


@jit_inline
def fill_pages(m, obs, i):
    """Zones and classes."""
    for z in range(n.N_ZONES):
        i = put_share(obs, i, ratio(m.free_pages[z], m.managed_pages[z]))
    low = on_tier(m.wmark_pages[n.WMARK_LOW], n.FAST)
    i = put_share(obs, i, ratio(20.0 * (node_free(m, n.FAST) - low), node_managed(m, n.FAST)))
    i = put_share(obs, i, above_low(m, n.SLOW_NORMAL))
    i = put_share(obs, i, above_low(m, n.SLOW_MOVABLE))
    for tier in range(n.N_TIERS):
        per_page = inverse(node_managed(m, tier))
        for cls in range(n.N_CLASSES):
            i = put_share(obs, i, min(class_on_tier(m, cls, tier) * per_page, 1.0))
    for cls in range(n.FIRST_KERNEL_CLASS, n.N_CLASSES):
        slow = class_on_tier(m, cls, n.SLOW)
        i = put_share(obs, i, ratio(slow, slow + class_on_tier(m, cls, n.FAST)))
    return i


@jit_inline
def fill_rates(m, obs, i):
    """Counters of this tick as rates per second, and what they have come to."""
    per_s = 1.0 / m.dt_s
    for k in range(RATES.size):
        i = put_scaled(obs, i, m.counters[RATES[k]] * per_s)
    i = put_share(obs, i, ratio(m.kswapd_failures[n.FAST], MAX_RECLAIM_RETRIES))
    i = put_share(obs, i, m.psi_some)
    return put_share(obs, i, m.psi_full)


@jit_inline
def fill_sampled(m, obs, i, noiseless):
    """PMU counters, with sampling noise unless the privileged variant is asked for."""
    for tier in range(n.N_TIERS):
        stream = STREAM_PMU + PMU_STREAMS * tier
        i = put_scaled(obs, i, sampled(m, m.misses_per_s[tier], stream, noiseless))
        i = put_scaled(obs, i, sampled(m, m.walks_per_s[tier], stream + 1, noiseless))
        i = put_share(obs, i, min(sampled(m, m.utilisation[tier], stream + 2, noiseless), 1.0))
    return i


@jit_inline
def fill_blocks(m, obs, i):
    """Block states of the slow node."""
    per_block, counts = inverse(m.blocks), m.blocks_in_state
    i = put_share(obs, i, (counts[n.BLOCK_ADDED] + counts[n.BLOCK_OFFLINE]) * per_block)
    i = put_share(obs, i, counts[n.BLOCK_NORMAL] * per_block)
    i = put_share(obs, i, counts[n.BLOCK_MOVABLE] * per_block)
    return put_share(obs, i, m.blocks_pinned * per_block)


@jit_inline
def fill_state(m, obs, i):
    """The modes in force, the populations and the configuration."""
    for k in range(n.N_ACTIONS):
        i = put_share(obs, i, m.action[k] / (MODE_COUNTS[k] - 1.0))
    for pool in (n.POOL_THREADS, n.POOL_FILES, n.POOL_SOCKETS):
        i = put_scaled(obs, i, float(m.pool_now[pool]))
    i = fill_blocks(m, obs, i)
    fast, slow = node_managed(m, n.FAST), node_managed(m, n.SLOW)
    i = put_share(obs, i, ratio(m.swap_free_pages, m.swap_mib * PAGES_PER_MIB))
    i = put_scaled(obs, i, m.calm_s)
    i = put_share(obs, i, ratio(slow, fast + slow))
    i = put_share(obs, i, m.demotion)
    i = put_share(obs, i, 1.0 if m.numa_balancing == n.NUMA_BALANCING_TIERING else 0.0)
    i = put_scaled(obs, i, m.slow_latency_ns / m.dram_latency_ns - 1.0)
    return put_share(obs, i, ratio(m.slow_read_gbps, m.slow_read_gbps + m.dram_read_gbps))


@jit_inline
def fill(m, obs, noiseless):
    """Write one machine's observation into `obs`, float32 (N_OBS,); returns the entries written."""
    i = fill_pages(m, obs, 0)
    i = fill_rates(m, obs, i)
    i = fill_sampled(m, obs, i, noiseless)
    return fill_state(m, obs, i)
