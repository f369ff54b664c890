"""The machine of a recording, from meta.json and the first sample: sizes, zones, kernel settings, memory at the start.

Only what a person could know before the workload starts is used: the sizes of the zones, the kernel and its command
line, the switches printed before the run, and the pages that were in use in the first sample.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiergym.errors import UserError, shown
from tiergym.recordings.format import META, Recording
from tiergym.recordings.kernel_release import Version, is_known, known_release, parse_version, spelled
from tiergym.recordings.marks import MARKS, without_boost
from tiergym.sim import names as n
from tiergym.sim.layout import BLOCK_SIZES
from tiergym.sim.parameters import EPISODE, N_EVENTS
from tiergym.sim.releases import RELEASES, defaults
from tiergym.sim.units import KIB_PER_MIB, LEAST_BLOCK_MIB, PAGE_BYTES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.specs.kernel import RELEASE
from tiergym.validation.recorded_cache import folio_pages

ZONE_OF = {
    (0, "DMA"): n.DMA,
    (0, "DMA32"): n.DMA32,
    (0, "Normal"): n.NORMAL,
    (0, "Movable"): n.MOVABLE,
    (1, "DMA"): n.SLOW_NORMAL,
    (1, "DMA32"): n.SLOW_NORMAL,
    (1, "Normal"): n.SLOW_NORMAL,
    (1, "Movable"): n.SLOW_MOVABLE,
}
"""(node, name in /proc/zoneinfo) -> zone of the model. Of node 1 all zones that kernel pages may be in are one: a node
that is there at boot can lie below 4 GiB."""

COUNTERS: Mapping[str, tuple[str, float]] = {
    "page_tables": ("nr_page_table_pages", 1.0),
    "kernel_stacks": ("nr_kernel_stack", 0.25),
    "slab_unreclaim": ("nr_slab_unreclaimable", 1.0),
    "slab_reclaim": ("nr_slab_reclaimable", 1.0),
    "anon": ("nr_anon_pages", 1.0),
    "file": ("nr_file_pages", 1.0),
}
"""The node counter of each class, and pages per unit."""

RCU_CACHED_PAGES_PER_CPU = 5
"""kernel/rcu/tree.c: rcu_min_cached_objs. In recordings of two CPUs the first run of kswapd that scans frees ten pages,
the others none."""

EMULATED_KSWAPD_PAGES_PER_S = 17000
"""Pages kswapd drops per second under QEMU's software emulation, where a workload touches 25,000 a second. The speed of
the machine, as a clock rate is, and the same for all recordings: beside a file stream it dropped 16 to 18 thousand."""
EMULATED_DEMOTE_US = 141
"""A demoted page is copied besides: kswapd demotes 3 to 6 thousand pages a second in the recordings."""
EMULATED_SWAP_OUT_US = 3000
"""One page to swap on the emulated disk: 8,097 in the 24.2 s from the first to the last, in the recording with the most
swap."""
EMULATED_SWAP_IN_US = 1200
"""A thread's wait for a page from there, readahead included: two threads had 6,700 back in 4.0 s, in the same one."""

AS_FAST_AS_READ = {
    "disk_latency_us": 0.01,
    "disk_read_mb_per_s": 1e6,
    "disk_write_mb_per_s": 1e6,
    "disk_reads_per_s": 1e9,
}
"""A recording says when its files were read, so the disk of a replay is never what holds a reader up."""

TICK_S = next(field.default for field in EPISODE if field.name == "dt_s")
"""A tick before the recorded times begin."""

EMULATED_LOOK_US = 21
"""A page that stays, looked at before a kill: with 285,000 of them two kernels took 128 and 188 s to the verdict, with
the rounds that a page of progress starts anew."""

EMULATED_REFERENCES_PER_S = 1_000_000
EMULATED_TOUCHES_PER_S = 45_000
EMULATED_FILE_TOUCHES_PER_S = 250_000
"""What a thread does in a second of CPU time, if nothing else: NUMA balancing's first pass comes after 100,000 touched
pages or more, and one pass after 2.1 million references by two threads that slept between them."""

LEAST_MANAGED = 0.65
"""Below this share of managed pages the size in meta.json is not the size that the kernel works with."""

_WHOLE = ("[0-9]{1,9}", "a whole number of at most nine digits")
SWITCHES = {
    **dict.fromkeys(("numa_balancing", "wsf", "wbf"), _WHOLE),
    "lru_gen": ("(0x)?[0-9a-f]{1,8}", "a hexadecimal number"),
}
"""By switch that is a number: a pattern of it, and what it says."""

TIERING_VALUE = {0: "off", 1: "normal", 2: "tiering", 3: "tiering"}


@dataclass(frozen=True, slots=True)
class Start:
    """Pages in the first sample. Arrays over nodes (0: DRAM, 1: slow): `classes` by name of a class of the model.

    `free` and `pcp` are per zone of the model. `shmem`: of `file`, what only swap can hold (tmpfs). `unevictable` pages
    are on no list that reclaim looks at (mlock); `mapped` counts file pages that some process maps. `generations`: the
    multi-generational LRU is on; `balancing`: NUMA balancing is.
    """

    managed: Mapping[int, int]
    free: Mapping[int, int]
    pcp: Mapping[int, int]
    marks: Mapping[int, Mapping[str, int]]
    anon: tuple[int, int]
    file: tuple[int, int]
    tables: tuple[int, int]
    stacks: tuple[int, int]
    slab_unreclaim: tuple[int, int]
    slab_reclaim: tuple[int, int]
    shmem: int
    unevictable: int
    mapped: int
    active_anon: int
    generations: bool
    balancing: bool


def kernel_version(recording: Recording) -> Version:
    """(6, 12) of "6.12.95+deb12-amd64"."""
    release = recording.meta["kernel_release"]
    version = parse_version(release)
    if version is None:
        raise UserError(f"{recording.path}/meta.json: kernel_release is {release!r}; expected as 6.12.95")
    return version


def machine_notes(recording: Recording) -> list[str]:
    """What is said of a machine whose kernel is not known: as which it is read, and which counters it lacks."""
    version, notes = kernel_version(recording), []
    if not is_known(version):
        notes.append(f"Linux {spelled(version)} is not known, it is read as {spelled(known_release(version))}")
    if recording.absent:
        notes.append(f"no counter {', '.join(recording.absent)}: what it counts is not judged")
    return notes


def release_of(recording: Recording) -> dict[str, Any]:
    """The kernel's release as [kernel] says it; of one that the table of releases does not name, its fields."""
    at = kernel_version(recording)
    name = f"{at[0]}.{at[1]}"
    fields = {RELEASE: name} if name in RELEASES else dict(defaults(at))
    if "lru_gen" in switches(recording):
        fields["lru_gen"] = "on" if has_generations(recording) else "off"
    return fields | {"file_folio_pages": folio_pages(recording, at)}


def has_generations(recording: Recording) -> bool:
    """Whether the multi-gen LRU was on: bit 0 of /sys/kernel/mm/lru_gen/enabled. Where nobody says, it was not."""
    return int(switches(recording).get("lru_gen", "0x0000"), 16) & 1 == 1


def command_line(recording: Recording) -> dict[str, str]:
    """The kernel's command line, as option -> value."""
    words = str(recording.meta.get("kernel_cmdline", "")).split()
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


def switches(recording: Recording) -> dict[str, str]:
    """What the guest printed before the run: `demotion`, `numa_balancing`, `thp`, `wsf`, `wbf`, `lru_gen`, ..."""
    for line in recording.meta.get("guest_report", []):
        if line.startswith("demotion "):
            pairs = re.findall(r"(\w+) ((?:\[?\w+\]? ?)+?)(?= \w+ |$)", line)
            found = {name: value.strip() for name, value in pairs}
            found["thp"] = match[1] if (match := re.search(r"thp .*?\[(\w+)\]", line)) else "never"
            for name in ("demotion", "numa_balancing", "lru_gen", "min_free_kbytes", "wsf", "wbf"):
                if match := re.search(rf"\b{name} (\w+)", line):
                    found[name] = match[1]
            _check_switches(found, recording)
            return found
    return {}


def _check_switches(found: Mapping[str, str], recording: Recording) -> None:
    """Raise `UserError` for a switch that is printed as no kernel prints it."""
    for name, (form, allowed) in SWITCHES.items():
        if name in found and not re.fullmatch(form, found[name]):
            raise UserError(
                f"{recording.path}/{META}: guest_report: {name} is {shown(found[name])}; allowed: {allowed}"
            )


def _auto_movable_ratio(recording: Recording) -> float:
    """memory_hotplug.auto_movable_ratio of the kernel's command line, in percent, or Linux's default."""
    text = command_line(recording).get("memory_hotplug.auto_movable_ratio", "301")
    if not re.fullmatch(_WHOLE[0], text):
        raise UserError(
            f"{recording.path}/{META}: kernel_cmdline: memory_hotplug.auto_movable_ratio is {shown(text)}; "
            f"allowed: {_WHOLE[1]}"
        )
    return float(text)


def thp_came_late(recording: Recording) -> bool:
    """Whether huge pages were off while the blocks came online, and were switched on before the run."""
    off_at_boot = command_line(recording).get("transparent_hugepage") == "never"
    return off_at_boot and switches(recording).get("thp", "never") != "never"


def slow_is_lower_tier(recording: Recording) -> bool:
    """Whether the memory tiers printed before the run put node 1 below node 0 (a demotion target)."""
    tiers = [line.split() for line in recording.meta.get("guest_report", []) if line.startswith("tier ")]
    return bool(tiers) and not any("-" in words[-1] or "," in words[-1] for words in tiers)


def memmap_on_node_1(recording: Recording) -> bool:
    """Whether node 1's struct pages are its own memory, which its zones then do not manage."""
    if command_line(recording).get("memory_hotplug.memmap_on_memory", "0") in ("1", "Y", "y"):
        return True
    present, managed = (
        sum(_first(recording, f"z1.{zone}.{pages}") for zone in recording.zones(1)) for pages in ("present", "managed")
    )
    return present - managed > present // STRUCT_PAGES_PER_PAGE // 2


def there_at_boot(recording: Recording) -> bool:
    """Whether node 1 was there when the kernel booted: then no block came online, and its memmap was set up first."""
    if recording.meta.get("cxl_attach") == "boot" or {"DMA", "DMA32"}.intersection(recording.zones(1)):
        return True
    on_memory = command_line(recording).get("memory_hotplug.memmap_on_memory", "0") in ("1", "Y", "y")
    return memmap_on_node_1(recording) and not on_memory


def zone_mode(recording: Recording) -> str:
    """Mode of the action `zone`: what memhp_default_state and online_policy make of hot-added memory; memory that was
    there at boot is in the zones that it is in."""
    if there_at_boot(recording):
        return "movable" if recording.zones(1) == ("Movable",) else "normal"
    state = str(recording.meta["memhp_default_state"])
    if state == "online_movable":
        return "movable"
    if state in ("online", "online_kernel"):
        auto = command_line(recording).get("memory_hotplug.online_policy") == "auto-movable" and state == "online"
        return "auto_movable" if auto else "normal"
    raise UserError(
        f"{recording.path}/meta.json: memhp_default_state is {state!r}; allowed: online, online_kernel, online_movable"
    )


def action_modes(recording: Recording) -> dict[str, str]:
    """The action in force: an untouched Linux with this command line."""
    return {"zone": zone_mode(recording), "memmap": "on_memory" if memmap_on_node_1(recording) else "dram"}


def arrivals(recording: Recording) -> list[dict[str, Any]]:
    """Events of a scenario: the DIMMs of node 1 behind the first, as they arrive one by one, a tick each.

    Each finds what those before it have brought: where they are ZONE_NORMAL, its memmap can be theirs.
    """
    dimms = int(recording.meta.get("cxl_dimms") or 1)
    size_mib = block_mib(recording)
    blocks = int(float(recording.meta["cxl_mib"]) / size_mib)
    later = min(max(dimms - 1, 0), N_EVENTS)
    if there_at_boot(recording) or blocks < dimms or later == 0:
        return []
    each = blocks // dimms
    sizes = [each] * (later - 1) + [each * (dimms - later)]
    return [{"kind": "hot_add", "at_s": i * TICK_S, "mib": size * size_mib} for i, size in enumerate(sizes, start=1)]


def swap_mib(recording: Recording) -> float:
    """Swap that is on at any time; scripts turn it on right at the start."""
    total = recording.column("mi.SwapTotal")
    return float(np.nanmax(total, initial=0.0)) / KIB_PER_MIB


def sections(recording: Recording) -> dict[str, Any]:
    """`machine`, `kernel`, `costs` and `events` of a scenario in TOML's names.

    Raises `UserError` for a machine that the model lacks.
    """
    start = first_sample(recording)
    fast = sum(start.managed[zone] for zone in range(n.FIRST_SLOW_ZONE))
    settings, command = switches(recording), command_line(recording)
    present = float(recording.meta["dram_mib"]) * PAGES_PER_MIB
    # Present pages count for auto_movable only; a guest that most of its memory was taken from has no use for them.
    fast_mib = (max(present, fast) if fast > LEAST_MANAGED * present else fast) / PAGES_PER_MIB
    machine = {
        "dram_mib": fast_mib,
        "dma_mib": start.managed[n.DMA] / PAGES_PER_MIB,
        "dma32_mib": start.managed[n.DMA32] / PAGES_PER_MIB,
        "movable_mib": start.managed[n.MOVABLE] / PAGES_PER_MIB,
        "slow_mib": float(recording.meta["cxl_mib"]),
        "block_mib": block_mib(recording),
        # Half a page more than managed, so that rounding down gives it back.
        "boot_reserved_share": max(0.0, 1 - (fast + 0.5) / (fast_mib * PAGES_PER_MIB)),
        "boot_kernel_mib": 0,
        "cpus": int(recording.meta["smp"]),
    }
    kernel: dict[str, Any] = release_of(recording) | {
        "pcp_batch_pages": 0,
        "pcp_by_type": "on",
        "slab_steal_wakes": "off",
        "rcu_cached_pages_per_cpu": RCU_CACHED_PAGES_PER_CPU,
        "thp": "off" if settings.get("thp", "never") == "never" else "on",
        "demotion": "on" if settings.get("demotion") in ("true", "1") else "off",
        "numa_balancing": TIERING_VALUE.get(int(settings.get("numa_balancing", "0")), "off"),
        "swap_mib": swap_mib(recording),
        "watermark_scale_factor": float(settings.get("wsf", "10")),
        "boost_factor": float(settings.get("wbf", "15000")),
        "slow_in_lower_tier": "on" if slow_is_lower_tier(recording) else "off",
        "auto_movable_numa_aware": "off" if command.get("memory_hotplug.auto_movable_numa_aware") == "0" else "on",
        "auto_movable_ratio": _auto_movable_ratio(recording),
    }
    costs: dict[str, float] = {}
    storage: dict[str, float] = dict(AS_FAST_AS_READ)
    if "tcg" in str(recording.meta.get("accel", "")):
        costs["kswapd_pages_per_s"] = EMULATED_KSWAPD_PAGES_PER_S
        costs["look_us"] = EMULATED_LOOK_US
        storage |= {"swap_out_us": EMULATED_SWAP_OUT_US, "swap_latency_us": EMULATED_SWAP_IN_US}
        kernel["demote_wait_us"] = EMULATED_DEMOTE_US
    return {"machine": machine, "kernel": kernel, "storage": storage, "costs": costs, "events": arrivals(recording)}


def check_tiers(recording: Recording) -> None:
    """Raise `UserError` for a recording of more than two nodes with memory, or of other pages than 4 KiB."""
    size = recording.meta.get("page_size", PAGE_BYTES)
    if size != PAGE_BYTES:
        raise UserError(f"{recording.path}/{META}: page_size is {size}; allowed: {PAGE_BYTES}")
    nodes = [node for node in recording.nodes if recording.zones(node)]
    if not set(nodes) <= {0, 1}:
        listed = ", ".join(map(str, nodes))
        raise UserError(
            f"{recording.path}: nodes {listed} have memory (columns z<node>.<zone>.managed); allowed: node 0 and "
            "node 1, two tiers: `tiergym record --fast 0,1 --slow 2` folds more nodes into them"
        )


def block_mib(recording: Recording) -> int:
    """Size of a memory block, and of those that the simulated machine has: meta.json's, or Linux's least."""
    size = recording.meta.get("block_mib") or LEAST_BLOCK_MIB
    slow_mib = float(recording.meta["cxl_mib"])
    if not isinstance(size, int) or isinstance(size, bool) or size < LEAST_BLOCK_MIB:
        raise UserError(f"{recording.path}/{META}: block_mib is {size!r}; allowed: from {LEAST_BLOCK_MIB}")
    if slow_mib % size and "block_mib" in recording.meta and not there_at_boot(recording):
        raise UserError(
            f"{recording.path}/{META}: block_mib is {size} and cxl_mib {slow_mib:g}; allowed: whole blocks, since they "
            "come online one by one"
        )
    if slow_mib / size > max(BLOCK_SIZES):
        raise UserError(
            f"{recording.path}/{META}: cxl_mib {slow_mib:g} is {slow_mib / size:.0f} blocks of block_mib {size}; "
            f"allowed: at most {max(BLOCK_SIZES)}"
        )
    return size


def min_free_set_by_hand(recording: Recording, computed_kib: int) -> int | None:
    """vm.min_free_kbytes, where it is so far from what Linux computes that somebody wrote it; what lies within a
    twentieth was computed at boot, before the last memory was free."""
    text = switches(recording).get("min_free_kbytes", "")
    if not text.isdecimal() or abs(int(text) - computed_kib) <= 0.05 * computed_kib:
        return None
    return int(text)


def first_sample(recording: Recording) -> Start:
    """The pages of the first sample. Raises `UserError` if it has zones that the model lacks."""
    managed, free, pcp = (dict.fromkeys(range(n.N_ZONES), 0) for _ in range(3))
    marks: dict[int, dict[str, int]] = {zone: {} for zone in range(n.N_ZONES)}
    check_tiers(recording)
    scale = float(switches(recording).get("wsf", "10"))
    for node in recording.nodes:
        for name in recording.zones(node):
            zone = ZONE_OF.get((node, name))
            if zone is None:
                raise UserError(f"{recording.path}: zone {name} of node {node} is not in the model")
            here = _first(recording, f"z{node}.{name}.managed")
            managed[zone] += here
            free[zone] += _first(recording, f"z{node}.{name}.free")
            pcp[zone] += _first(recording, f"z{node}.{name}.pcp_count")
            columns = {of: f"z{node}.{name}.{of}" for of in (*MARKS, "boost")}
            printed = {of: _first(recording, column) for of, column in columns.items() if column in recording.columns}
            for mark, pages in without_boost(printed, here, scale).items():
                marks[zone][mark] = marks[zone].get(mark, 0) + pages

    def nodes(counter: str, scale: float = 1.0) -> tuple[int, int]:
        low, high = (int(_first(recording, f"n{node}.{counter}") * scale) for node in (0, 1))
        return low, high

    return Start(
        managed,
        free,
        pcp,
        marks,
        anon=nodes("nr_anon_pages"),
        file=nodes("nr_file_pages"),
        tables=nodes("nr_page_table_pages"),
        stacks=nodes("nr_kernel_stack", 0.25),
        slab_unreclaim=nodes("nr_slab_unreclaimable"),
        slab_reclaim=nodes("nr_slab_reclaimable"),
        shmem=min(sum(nodes("nr_shmem")), sum(nodes("nr_file_pages"))),
        unevictable=nodes("nr_unevictable")[0],
        mapped=sum(nodes("nr_mapped")),
        active_anon=sum(nodes("nr_active_anon")),
        balancing=switches(recording).get("numa_balancing", "0") != "0",
        generations=has_generations(recording),
    )


def _first(recording: Recording, name: str) -> int:
    value = float(recording.column(name)[0])
    return 0 if math.isnan(value) else int(value)
