"""The environment's observation of a real machine, from its /proc and /sys: what a policy would see there.

Every entry comes from the source that `tiergym.env.observations.ENTRIES` names. Where the machine has no such source,
or a coarser one, a stand-in is taken and `LiveMachine.assumed` says which. Nothing is written, not even a setting that
would make a counter finer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.observations import NAMES, SCALES
from tiergym.errors import UserError
from tiergym.recordings.preflight import check_machine
from tiergym.recordings.proc_files import Values, number
from tiergym.recordings.process_tree import PAGE_KB
from tiergym.recordings.sampling import NODES, Machine
from tiergym.recordings.tiers import Fold, nodes_with_memory, parse_nodes
from tiergym.sim import names as n

BLOCKS = "sys/devices/system/memory"
TIERING = "sys/devices/virtual/memory_tiering"
NUMA_BALANCING_TIERING = 2
"""The bit of /proc/sys/kernel/numa_balancing (include/linux/sched/sysctl.h: NUMA_BALANCING_MEMORY_TIERING)."""
TABLES_PER_UPPER_TABLE = 512
MEMMAP_SHARE = 1 / 64
"""A struct page of 64 bytes for each page of 4096."""
ABOVE_LOW_SCALE = 20.0
"""5 % of a zone above low are shown as 1."""
SLIT_LOCAL = 10.0
NEUTRAL = {
    "pmu.misses.fast": 0.44,
    "pmu.walks.fast": 0.12,
    "pmu.load.fast": 0.03,
    "pmu.misses.slow": 0.31,
    "pmu.walks.slow": 0.06,
    "pmu.load.slow": 0.17,
    "config.bandwidth": 0.08,
}
"""As shown: medians of an untouched Linux on the suite `tuning`, four machines of each scenario for 200 ticks."""
KERNEL_COUNTERS = ("nr_page_table_pages", "nr_slab_unreclaimable", "nr_slab_reclaimable")
Raw = dict[str, float]
"""Entries by name, before they are scaled."""
Rate = Callable[..., float]
"""Sum of the named counters' growth per second."""
_BLOCK_ZONES = ("normal", "movable")
_ZONE_NAMES = {"DMA": "dma", "DMA32": "dma32", "Normal": "normal", "Movable": "movable"}


def find_tiers(machine: Machine, values: Values) -> Fold:
    """Which nodes are DRAM and which are slow: those of the first memory tier and the others, where the kernel has
    several tiers; else nodes with CPUs and memory without. `values` are not folded."""
    nodes = nodes_with_memory(values)
    tiers = [machine.read(f"{TIERING}/{name}/nodelist").strip() for name in machine.numbered(TIERING, "memory_tier")]
    listed = [set(parse_nodes(text, "nodelist")) & set(nodes) for text in tiers if text]
    filled = [tier for tier in listed if tier]
    if len(filled) > 1:
        slow = tuple(node for node in nodes if node not in filled[0])
    else:
        slow = tuple(node for node in nodes if _has_no_cpu(machine, node))
    fast = tuple(node for node in nodes if node not in slow)
    return Fold(fast, slow) if fast else Fold(nodes, ())


def _has_no_cpu(machine: Machine, node: int) -> bool:
    path = f"{NODES}/node{node}/cpulist"
    return (machine.root / path).is_file() and not machine.read(path).strip()


@dataclass
class LiveMachine:
    """A machine that is read once per step of a policy. `fold`: its nodes by tier.

    `assumed`: entries of the observation that the machine does not tell, or not exactly, and what stands for them.
    """

    machine: Machine
    fold: Fold
    assumed: dict[str, str] = field(default_factory=dict)
    before: Values = field(default_factory=dict)
    before_s: float = 0.0
    squeezed_s: float = 0.0

    @classmethod
    def find(cls, machine: Machine, fold: Fold | None = None) -> LiveMachine:
        """The machine with the given tiers, or with those that it tells. Raises `UserError` where it lacks a file or a
        counter without which nothing can be said, or `fold` does not fit its nodes."""
        if fold is not None:
            check_machine(machine, fold)
        values = machine.values(fold=False)
        if not nodes_with_memory(values):
            raise UserError(f"{machine.root / 'proc/zoneinfo'}: no zone with managed pages (a container may hide them)")
        found = fold or find_tiers(machine, values)
        machine.fold = found
        return cls(machine, found)

    def observe(self, now_s: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Observation (1, N_OBS) float32 in [0, 1] and mask (1, N_MASK) bool at `now_s` seconds of any clock.

        Rates are those since the call before; the first call has none and shows 0.
        """
        values = self.machine.values()
        elapsed_s = now_s - self.before_s if self.before else 0.0
        modes = self.modes_in_force()
        raw = (
            self._zones(values)
            | self._classes(values, modes["memmap"] > 0.0)
            | self._rates(values, elapsed_s)
            | self._pmu()
        )
        raw |= self._populations() | self._blocks(values) | self._settings(values, now_s)
        raw |= {f"last.{name}": mode for name, mode in modes.items()}
        self.before, self.before_s = values, now_s
        return _shown(raw), self._mask(values)

    def slow_normal_pages(self) -> int:
        """Managed pages of the slow node that kernel pages may enter, at the last look."""
        return _zone_sums(self.before)["slow_normal"]["managed"]

    def dram_pages(self) -> int:
        """Managed pages of DRAM, at the last look."""
        return _managed(self.before, n.FAST)

    def modes_in_force(self) -> Raw:
        """What the kernel does now, each entry's mode as it is shown: the defaults, but for blocks that come online."""
        modes = dict.fromkeys(act.NAMES, 0.0)
        online = self.machine.read(f"{BLOCKS}/auto_online_blocks").strip()
        policy = self.machine.read("sys/module/memory_hotplug/parameters/online_policy").strip()
        on_memory = self.machine.read("sys/module/memory_hotplug/parameters/memmap_on_memory").strip()
        zone = "movable" if online == "online_movable" else "auto_movable" if policy == "auto-movable" else "normal"
        for name, mode in (("zone", zone), ("memmap", "on_memory" if on_memory in ("Y", "force") else "dram")):
            entry = act.ENTRIES[act.NAMES.index(name)]
            modes[name] = entry.modes.index(mode) / (len(entry.modes) - 1)
        self._assume(
            (f"last.{name}" for name in act.NAMES if name not in ("zone", "memmap")),
            "this kernel has no such mechanism in force, and what is advised is not done: the default mode",
        )
        return modes

    def _assume(self, entries: Iterable[str], what: str) -> None:
        self.assumed |= dict.fromkeys(entries, what)

    def _zones(self, values: Values) -> Raw:
        """Free shares and what is above low, of DRAM's zones and of both kinds of slow ones."""
        zones = _zone_sums(values)
        raw = {f"free.{zone}": _ratio(zones[zone]["free"], zones[zone]["managed"]) for zone in n.ZONES}
        fast = [zones[zone] for zone in n.ZONES[n.TIER_ZONES[n.FAST]]]
        total = {name: sum(zone[name] for zone in fast) for name in fast[0]}
        for name, zone in (("fast", total), *((slow, zones[slow]) for slow in n.ZONES[n.TIER_ZONES[n.SLOW]])):
            raw[f"above_low.{name}"] = _ratio(ABOVE_LOW_SCALE * (zone["free"] - zone["low"]), zone["managed"])
        dead = [value for name, value in values.items() if re.fullmatch(r"z0\.\w+\.node_unreclaimable", name)]
        raw["kswapd_failures.fast"] = float(any(dead))
        self._assume(["kswapd_failures.fast"], "the kernel tells only whether kswapd has given up: 0 or 1")
        return raw

    def _classes(self, values: Values, memmap_on_memory: bool) -> Raw:
        """Pages per class and tier, of the managed pages, and the slow share of kernel classes."""
        pages = [self._class_pages(values, node, memmap_on_memory) for node in range(n.N_TIERS)]
        raw: Raw = {}
        for node, tier in enumerate(n.TIERS):
            managed = _managed(values, node)
            raw |= {f"pages.{name}.{tier}": _ratio(pages[node][name], managed) for name in n.CLASSES}
        for name in n.CLASSES[n.FIRST_KERNEL_CLASS :]:
            raw[f"on_slow.{name}"] = _ratio(pages[n.SLOW][name], pages[n.FAST][name] + pages[n.SLOW][name])
        return raw

    def _class_pages(self, values: Values, node: int, memmap_on_memory: bool) -> Raw:
        def of(counter: str) -> float:
            return float(values.get(f"n{node}.{counter}", 0))

        tables = of("nr_page_table_pages")
        upper = float(tables // (TABLES_PER_UPPER_TABLE + 1))
        pages = {
            "anon": of("nr_anon_pages"),
            "file": max(of("nr_file_pages") - of("nr_swapcached"), 0.0),
            "pt_leaf": tables - upper,
            "pt_upper": upper,
            "kstack": of("nr_kernel_stack") / PAGE_KB,
            "slab_unreclaim": of("nr_slab_unreclaimable"),
            "slab_reclaim": of("nr_slab_reclaimable"),
            "memmap": self._memmap(values) if (node == n.SLOW) == memmap_on_memory else 0.0,
        }
        huge_kb = float(values.get(f"m{node}.HugePages_Total", 0) * values.get("mi.Hugepagesize", 0))
        elsewhere = sum(pages.values()) + huge_kb / PAGE_KB + of("nr_balloon_pages") + _listed(values, node)
        free = sum(value for name, value in values.items() if re.fullmatch(rf"z{node}\.\w+\.free", name))
        pages["kernel_other"] = max(_managed(values, node) - free - elsewhere, 0.0)
        tiers = [f"pages.{{}}.{tier}" for tier in n.TIERS] + ["on_slow.{}"]
        self._assume(
            (text.format(name) for name in ("pt_leaf", "pt_upper") for text in tiers),
            "the kernel counts page tables of all levels together: one in 513 is an upper one",
        )
        self._assume(
            (text.format("kernel_other") for text in tiers), "managed pages that no counter of the node claims"
        )
        return pages

    def _memmap(self, values: Values) -> float:
        """struct page arrays in managed memory: of arriving blocks, since those of boot were never managed."""
        names = ["pages.memmap.fast", "pages.memmap.slow", "on_slow.memmap"]
        if "vm.nr_memmap_pages" in values:
            self._assume(names, "/proc/vmstat has one nr_memmap_pages, which lies where memmap_on_memory says")
            return float(values["vm.nr_memmap_pages"])
        self._assume(names, "no nr_memmap_pages in /proc/vmstat (Linux 6.11 has it): 1/64 of the slow node's pages")
        return MEMMAP_SHARE * sum(v for k, v in values.items() if re.fullmatch(rf"z{n.SLOW}\.\w+\.present", k))

    def _rates(self, values: Values, elapsed_s: float) -> Raw:
        """Counters since the call before, per second, and pressure as a share of the time."""
        before = self.before or values
        per_s = 1.0 / elapsed_s if elapsed_s > 0 else 0.0

        def rate(*counters: str) -> float:
            return per_s * sum(max(values.get(name, 0) - before.get(name, 0), 0) for name in counters)

        def all_of(pattern: str) -> list[str]:
            return [name for name in values if re.fullmatch(pattern, name)]

        allocated = [rate(f"n{node}.numa_hit", f"n{node}.numa_miss") for node in range(n.N_TIERS)]
        pages = rate(*all_of(r"vm\.pgalloc_(dma|dma32|normal|movable)"))
        slow_share = _ratio(allocated[n.SLOW], sum(allocated))
        spilled = rate("n1.numa_miss")
        kernel = min(rate(*(f"n1.{name}" for name in KERNEL_COUNTERS)) + rate("n1.nr_kernel_stack") / PAGE_KB, spilled)
        raw = {
            "pgalloc_fast": pages * (1.0 - slow_share),
            "pgalloc_slow": pages * slow_share,
            "kernel_fallback_slow": kernel,
            "user_fallback_slow": spilled - kernel,
            "kswapd_wakeups_fast": rate("vm.pageoutrun"),
            "allocstall": rate(*all_of(r"vm\.allocstall_\w+")),
            "file_refault": rate("vm.workingset_refault_file"),
            "pgmigrate_fail": 0.0,
        }
        self._assume(("rate.pgalloc_fast", "rate.pgalloc_slow"), "pgalloc_*, shared out by each node's numa_hit + miss")
        self._assume(
            ("rate.kernel_fallback_slow", "rate.user_fallback_slow"),
            "the slow node's numa_miss; of kernel pages, as much as its kernel classes grew",
        )
        self._assume(["rate.kswapd_wakeups_fast"], "pageoutrun counts the wake-ups of all nodes' kswapd together")
        self._assume(["rate.pgmigrate_fail"], "no kernel page is moved by this kernel: 0; its counter is of user pages")
        raw |= self._steals(values, rate)
        own = {name.removeprefix("rate.") for name in NAMES if name.startswith("rate.")} - raw.keys()
        raw |= {name: rate(f"vm.{name}") for name in own}
        self._assume(
            (f"rate.{name}" for name in sorted(own) if f"vm.{name}" not in values),
            "this kernel has no such counter in /proc/vmstat: 0",
        )
        psi = {f"psi.{kind}": min(1e-6 * rate(f"psi.memory.{kind}_us"), 1.0) for kind in ("some", "full")}
        if "psi.memory.some_us" not in values:
            self._assume(psi, "no /proc/pressure/memory (CONFIG_PSI, or psi=1 at boot): 0")
        return {f"rate.{name}": value for name, value in raw.items()} | psi

    def _steals(self, values: Values, rate: Rate) -> Raw:
        """Pages reclaimed per node; kernels without counters per node tell the sum, which is taken for DRAM's."""
        names = {"pgsteal_kswapd_fast": (0, "pgsteal_kswapd"), "pgsteal_kswapd_slow": (1, "pgsteal_kswapd")}
        names["pgsteal_direct_fast"] = (0, "pgsteal_direct")
        if "n0.pgsteal_kswapd" in values:
            return {name: rate(f"n{node}.{counter}") for name, (node, counter) in names.items()}
        self._assume(
            (f"rate.{name}" for name in names),
            "no pgsteal_* in the nodes' vmstat: the machine's, as if all were DRAM's",
        )
        return {name: rate(f"vm.{counter}") if node == 0 else 0.0 for name, (node, counter) in names.items()}

    def _pmu(self) -> Raw:
        """No hardware counter is read: that needs rights, and events that differ between processors."""
        entries = [name for name in NAMES if name.startswith("pmu.")]
        self._assume(entries, "hardware counters are not read: medians of an untouched Linux on the suite 'tuning'")
        return {name: _unscaled(name, NEUTRAL[name]) for name in entries}

    def _populations(self) -> Raw:
        """Threads, files and sockets."""
        threads = re.search(r"\b[0-9]{1,20}/([0-9]{1,20})\b", self.machine.read("proc/loadavg"))
        sockets = re.search(r"sockets: used ([0-9]{1,20})\b", self.machine.read("proc/net/sockstat"))
        found = {
            "threads": None if threads is None else float(threads[1]),
            "files": self.machine.objects().get("inodes"),
            "sockets": None if sockets is None else float(sockets[1]),
        }
        sources = {"threads": "/proc/loadavg", "files": "/proc/sys/fs/inode-nr", "sockets": "/proc/net/sockstat"}
        for name, value in found.items():
            if value is None:
                self._assume([name], f"{sources[name]} cannot be read: 0")
        return {name: float(value or 0) for name, value in found.items()}

    def _blocks(self, values: Values) -> Raw:
        """Shares of the slow node's memory blocks."""
        names = [f"blocks.{state}" for state in ("offline", "normal", "movable", "pinned")]
        counts = dict.fromkeys(names, 0)
        found = 0
        for node in self.fold.slow:
            for link in (self.machine.root / BLOCKS).glob(f"memory[0-9]*/node{node}"):
                found += 1
                counts[f"blocks.{self.block_state(link.parent.name)}"] += 1
        if not found and self.fold.slow:
            zones = _zone_sums(values)
            shares = {zone: _ratio(zones[f"slow_{zone}"]["managed"], _managed(values, 1)) for zone in _BLOCK_ZONES}
            self._assume(names, "no memory blocks of the slow node in /sys: shares of its zones")
            raw = {"blocks.offline": 0.0} | {f"blocks.{zone}": share for zone, share in shares.items()}
        else:
            raw = {name: _ratio(count, found) for name, count in counts.items()}
        self._assume(["blocks.pinned"], "the kernel does not tell which blocks hold kernel pages: all NORMAL ones")
        return raw | {"blocks.pinned": raw["blocks.normal"]}

    def block_state(self, block: str) -> str:
        """Of a memory block as memory32: offline, normal or movable."""
        if self.machine.read(f"{BLOCKS}/{block}/state").strip() != "online":
            return "offline"
        zones = self.machine.read(f"{BLOCKS}/{block}/valid_zones").split()
        return "movable" if zones[:1] == ["Movable"] else "normal"

    def _settings(self, values: Values, now_s: float) -> Raw:
        """Swap, calm and the configuration."""
        if not self.before or _grew(values, self.before, r"vm\.(pageoutrun|allocstall_\w+)"):
            self.squeezed_s = now_s
        self._assume(["calm"], "since pageoutrun or allocstall_* last grew, from the first look on")
        demotion = self.machine.read("sys/kernel/mm/numa/demotion_enabled").strip()
        balancing = self.machine.read("proc/sys/kernel/numa_balancing").split()
        if not demotion:
            self._assume(["config.demotion"], "no /sys/kernel/mm/numa/demotion_enabled (Linux 6.1 has it): off")
        if not balancing:
            self._assume(["config.tiering"], "no /proc/sys/kernel/numa_balancing: off")
        fast, slow = _managed(values, n.FAST), _managed(values, n.SLOW)
        return {
            "swap_free": _ratio(values.get("mi.SwapFree", 0), values.get("mi.SwapTotal", 0)),
            "calm": now_s - self.squeezed_s,
            "config.slow_share": _ratio(slow, fast + slow),
            "config.demotion": float(demotion in ("true", "1")),
            "config.tiering": float(bool((number(balancing) or 0) & NUMA_BALANCING_TIERING)),
            **self._performance(),
        }

    def _performance(self) -> Raw:
        """Latency and bandwidth of the tiers: the HMAT's of the first node of each, where the kernel shows them."""
        names = ("config.latency", "config.bandwidth")
        if not self.fold.slow:
            self._assume(names, "no slow node: 0")
            return dict.fromkeys(names, 0.0)
        fast, slow = self.fold.fast[0], self.fold.slow[0]
        latency = [self._access(node, "read_latency") for node in (fast, slow)]
        bandwidth = [self._access(node, "read_bandwidth") for node in (fast, slow)]
        ratio = _ratio_or_none(latency[n.SLOW], latency[n.FAST])
        if ratio is None:
            distance = self._distance(fast, slow)
            ratio = distance / SLIT_LOCAL
            self._assume(["config.latency"], f"no HMAT in /sys: the distance of the nodes, {distance:g} over 10")
        share = _ratio_or_none(bandwidth[n.SLOW], None if None in bandwidth else sum(filter(None, bandwidth)))
        if share is None:
            share = NEUTRAL["config.bandwidth"]
            self._assume(["config.bandwidth"], f"no HMAT in /sys: {share:g}, the median of the suite 'tuning'")
        return {"config.latency": max(ratio - 1.0, 0.0), "config.bandwidth": share}

    def _access(self, node: int, name: str) -> float | None:
        """Nanoseconds or MB/s as the HMAT has them, seen from the CPUs next to the node."""
        for access in (1, 0):  # class 1 is that of the nearest CPUs, class 0 may be that of a device
            value = number(self.machine.read(f"{NODES}/node{node}/access{access}/initiators/{name}").split())
            if value is not None and value > 0:
                return float(value)
        return None

    def _distance(self, fast: int, slow: int) -> float:
        row = self.machine.read(f"{NODES}/node{fast}/distance").split()
        nodes = self.machine.nodes()
        distance = number(row, nodes.index(slow)) if slow in nodes else None
        return 2 * SLIT_LOCAL if distance is None else float(distance)

    def _mask(self, values: Values) -> NDArray[np.bool_]:
        """Modes that are possible, (1, N_MASK), as `tiergym.env.modes.fill_mask` has them; no kernel moves stacks."""
        slow, normal = _managed(values, n.SLOW) > 0, _zone_sums(values)["slow_normal"]["managed"] > 0
        mask = np.full(act.N_MASK, slow)
        for place, name in enumerate(act.MASK_NAMES):
            if name.endswith("=prefer_slow"):
                mask[place] = normal
            elif name.startswith("migrate.kstack="):
                mask[place] = False
        mask[act.OFFSETS] = True
        return mask[np.newaxis]


def _managed(values: Values, node: int) -> int:
    return sum(value for name, value in values.items() if re.fullmatch(rf"z{node}\.\w+\.managed", name))


def _listed(values: Values, node: int) -> int:
    """Pages in per-CPU lists."""
    return sum(value for name, value in values.items() if re.fullmatch(rf"z{node}\.\w+\.pcp_count", name))


def _zone_sums(values: Values) -> dict[str, Values]:
    """free, low and managed of the simulator's zones: the slow node's zones below MOVABLE are one."""
    zones: dict[str, Values] = {zone: dict.fromkeys(("free", "low", "managed"), 0) for zone in n.ZONES}
    for name, value in values.items():
        match = re.fullmatch(r"z([01])\.(\w+)\.(free|low|managed)", name)
        if match is None or match[2] not in _ZONE_NAMES:
            continue
        slow = "slow_movable" if match[2] == "Movable" else "slow_normal"
        zones[_ZONE_NAMES[match[2]] if match[1] == "0" else slow][match[3]] += value
    return zones


def _ratio(part: float, whole: float) -> float:
    """part / whole within [0, 1]; 0 of nothing."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


def _ratio_or_none(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _grew(values: Values, before: Values, pattern: str) -> bool:
    return any(value > before.get(name, value) for name, value in values.items() if re.fullmatch(pattern, name))


def _unscaled(name: str, shown: float) -> float:
    scale = float(SCALES[NAMES.index(name)])
    return shown * scale / (1.0 - shown) if scale > 0 else shown


def _shown(raw: Raw) -> NDArray[np.float32]:
    """(1, N_OBS) of raw values, shares as they are and the others as x / (x + scale)."""
    x = np.maximum(np.array([raw[name] for name in NAMES]), 0.0)
    return np.where(SCALES > 0, x / (x + np.where(SCALES > 0, SCALES, 1.0)), np.minimum(x, 1.0))[None].astype(
        np.float32
    )
