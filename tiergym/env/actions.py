"""What a policy decides each tick: named entries, each an enum of named modes.

An action is an int64 vector of shape (N_ACTIONS,), one mode index per entry of `ENTRIES`, in the order of
`tiergym.sim.names`. Mode 0 of every entry is what an untouched Linux does, and also what a machine
uses where the chosen mode is impossible in its state. Masks are boolean vectors of shape (N_MASK,),
the entries' modes one after the other: entry `i` owns `mask[OFFSETS[i]:OFFSETS[i] + NVEC[i]]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tiergym.errors import UserError, suggest
from tiergym.sim.names import PLAUSIBILITIES

AVAILABLE, PROPOSED, COUNTERFACTUAL = PLAUSIBILITIES


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One entry of the action vector.

    `mechanisms[i]` is the kernel mechanism that `modes[i]` stands for, `plausibility[i]` one of `PLAUSIBILITIES`;
    `default` indexes all three.
    """

    name: str
    modes: tuple[str, ...]
    default: int
    doc: str
    mechanisms: tuple[str, ...]
    plausibility: tuple[str, ...]


def _entry(name: str, doc: str, *others: str, **mechanisms: str) -> ActionEntry:
    """An entry whose first mode is available, as Linux's default, and whose other modes are as plausible as `others`
    say one by one, or all as its only member says."""
    rest = others * (len(mechanisms) - 1) if len(others) == 1 else others
    return ActionEntry(name, tuple(mechanisms), 0, doc, tuple(mechanisms.values()), (AVAILABLE, *rest))


# The forms of a request differ in who is woken and who is killed: FALLBACK wakes nobody, PREFER_FAST
# wakes kswapd and then spills, RESTRICT reclaims directly and then kills.
_PLACEMENT = {
    "fallback": "GFP_KERNEL with the node-major zonelist: DRAM's zones, then the slow node's NORMAL zone, each down to "
    "its low watermark; no kswapd wakes while any of them is above it (get_page_from_freelist)",
    "prefer_fast": "the two passes of MPOL_PREFERRED_MANY: DRAM only, waking kswapd and going down to min without "
    "direct reclaim, then every node; no stall and no OOM kill (alloc_pages_preferred_many)",
    "restrict": "a nodemask of DRAM alone, as __GFP_FAST_TIER was proposed [K-fast-tier]: kswapd, then direct reclaim "
    "on that node, then the OOM killer after 16 rounds without progress (__alloc_pages_slowpath, should_reclaim_retry)",
    "prefer_slow": "a request for the slow node: its NORMAL zone first, then DRAM (alloc_pages_node); impossible while "
    "the slow node has no NORMAL zone",
}
_PLACED = (COUNTERFACTUAL, PROPOSED, COUNTERFACTUAL)  # nobody asks for kernel pages alone in two passes, or for CXL
_PLACED_CACHE = (COUNTERFACTUAL, PROPOSED, PROPOSED)  # metadata on CXL on purpose [W-mac]


ENTRIES: Final[tuple[ActionEntry, ...]] = (
    _entry("place.pt_leaf", "where new leaf page tables go (pte_alloc_one, GFP_PGTABLE_USER)", *_PLACED, **_PLACEMENT),
    _entry(
        "place.pt_upper",
        "where page tables above the leaf go (pmd_alloc_one and above): 0.2 % of all",
        *_PLACED,
        **_PLACEMENT,
    ),
    _entry(
        "place.kstack",
        "where kernel stacks go (alloc_thread_stack_node: four pages per thread)",
        *_PLACED,
        **_PLACEMENT,
    ),
    _entry("place.slab_unreclaim", "where slabs of task_struct, vma, sockets and kmalloc go", *_PLACED, **_PLACEMENT),
    _entry("place.slab_reclaim", "where slabs of dentries, inodes and xarray nodes go", *_PLACED_CACHE, **_PLACEMENT),
    _entry("place.kernel_other", "where percpu, vmalloc, driver and network buffer pages go", *_PLACED, **_PLACEMENT),
    _entry(
        "migrate.pt_leaf",
        "moving page tables from the slow tier to DRAM",
        PROPOSED,
        off="mainline: a page table stays where it was born until its range is unmapped",
        with_data="Radiant [W-radiant]: when a page is promoted, the leaf table that maps it is copied under the "
        "page-table lock, its parent entry is re-pointed and 2 MiB of the TLB are flushed",
        idle="the same, and a kernel thread moves any page table [K-fast-tier], upper levels and the most walked "
        "region first, while no request has found DRAM below low for half a second",
    ),
    _entry(
        "migrate.slab",
        "moving slab objects from the slow tier to DRAM",
        PROPOSED,
        off="mainline: slab pages never move",
        idle="Slab Movable Objects [K-slab-movable]: caches with isolate and migrate callbacks (xarray and "
        "maple nodes, vmas; not inodes, not kmalloc) are moved while no request has found DRAM "
        "below low for half a second",
    ),
    _entry(
        "migrate.kstack",
        "moving kernel stacks from the slow tier to DRAM",
        PROPOSED,
        off="mainline: a stack stays until its thread exits",
        idle="stacks of sleeping threads are remapped to DRAM pages while memory is as calm; proposed "
        "[K-fast-tier], and in no kernel, so it is possible only where the machine sets kernel.stack_migration",
    ),
    _entry(
        "migrate.budget",
        "rate at which kernel pages may be moved, all classes together",
        PROPOSED,
        low="2000 pages per second: a background trickle, for moves whose gain is uncertain",
        medium="20000 pages per second: a bounded rate, as numa_balancing_promote_rate_limit_MBps bounds promotion",
        high="200000 pages per second: one CPU of unbatched moves, copies and shootdowns charged to the workload",
    ),
    _entry(
        "migrate.room",
        "where the DRAM comes from that kernel pages move to",
        COUNTERFACTUAL,
        free="what is free above high; short of it nothing moves",
        kswapd="short of it kswapd0 is woken, as promotion does (migrate_misplaced_folio_prepare): it demotes where "
        "demotion is on, else it drops and swaps; what it frees above high is taken",
        exchange="short of it each kernel page changes places with a cold page of DRAM, whatever demotion says, as "
        "Nimble exchanges two user pages [W-nimble]: no free page is needed, so nothing waits for calm memory; both "
        "copies and shootdowns are charged",
    ),
    _entry(
        "reserve.pt",
        "pages of DRAM kept aside for page tables, which take them when DRAM has none above low",
        PROPOSED,
        off="mainline: a page table takes what any kernel page may",
        small="the cache per node of Mitosis's kernel, sized by a sysctl [W-mitosis-cache], here for tables that want "
        "DRAM: 0.2 % of DRAM, filled while DRAM is free above high, free for nobody else, given back by no shrinker",
        large="the same, 1 % of DRAM",
    ),
    _entry(
        "limit.kernel",
        "how much of each class of kernel pages may lie in DRAM",
        PROPOSED,
        off="mainline: a class has what it asks for as long as DRAM has it",
        proportional="DRAM's share of memory, as tier-aware limits of memory cgroups give it to data [K-tier-limits]: "
        "of a class that has more, new pages ask for CXL first (alloc_pages_node), where placement is fallback or "
        "prefer_fast and no mempolicy says which node; impossible while the slow node has no NORMAL zone",
    ),
    _entry(
        "reclaim.pt_empty",
        "what frees leaf page tables that MADV_DONTNEED has emptied",
        PROPOSED,
        release="what the kernel's release does: nothing but munmap, and since 6.14 MADV_DONTNEED itself, which the "
        "field kernel.dontneed_frees_tables says [K-dontneed]",
        scan="a kernel thread looks at 200000 tables per second of the address spaces that have called it and frees "
        "the empty ones, as RFCs wanted them freed whatever emptied them [K-empty-tables]",
    ),
    _entry(
        "headroom",
        "DRAM kept free above high by demoting cold pages ahead of need, where demotion is on and has a target",
        AVAILABLE,
        off="kswapd is woken by failed requests only (wakeup_kswapd)",
        small="TPP's decoupled demotion watermark [W-tpp], or a larger vm.watermark_scale_factor: 0.5 % of DRAM",
        medium="the same, 2 % of DRAM",
        large="the same, 5 % of DRAM",
    ),
    _entry(
        "zone",
        "zone of memory blocks that come online from now on",
        AVAILABLE,
        normal="memhp_default_state=online with contiguous zones: ZONE_NORMAL, open to kernel pages and then hard to "
        "unplug (default_zone_for_pfn)",
        movable="online_movable: ZONE_MOVABLE, no kernel page ever enters",
        auto_movable="online_policy=auto-movable: MOVABLE within auto_movable_ratio of kernel memory, counted per node "
        "where auto_movable_numa_aware is on: a node without CPUs is then all NORMAL (auto_movable_can_online_movable)",
    ),
    _entry(
        "memmap",
        "where the struct page array of arriving blocks goes: 1.5625 % of their size",
        AVAILABLE,
        dram="vmemmap pages come from DRAM before the block is online (vmemmap_alloc_block)",
        on_memory="memory_hotplug.memmap_on_memory: the head of each block holds its own memmap, which then has the "
        "slow tier's latency (mhp_init_memmap_on_memory)",
    ),
)


def _read_only(values: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    out = np.array(values, dtype=np.int64)
    out.setflags(write=False)
    return out


NAMES: Final[tuple[str, ...]] = tuple(entry.name for entry in ENTRIES)
NVEC: Final = _read_only([len(entry.modes) for entry in ENTRIES])
"""Modes per entry, int64 (N_ACTIONS,)."""
OFFSETS: Final = _read_only(np.cumsum(NVEC) - NVEC)
"""Where each entry's modes start in a mask, int64 (N_ACTIONS,)."""
N_MASK: Final = int(NVEC.sum())
DEFAULT: Final = _read_only([entry.default for entry in ENTRIES])
"""The action of an untouched Linux, int64 (N_ACTIONS,)."""
MASK_NAMES: Final[tuple[str, ...]] = tuple(f"{entry.name}={mode}" for entry in ENTRIES for mode in entry.modes)
"""Name of every element of a mask, such as `place.pt_leaf=restrict`."""


def from_modes(modes: Mapping[str, str], *, source: str = "modes") -> NDArray[np.int64]:
    """Action vector, int64 (N_ACTIONS,), from names such as `{"place.pt_leaf": "restrict"}`.

    Entries that are not named keep their default. Raises `UserError`, naming `source` and the entry,
    for an unknown entry or mode.
    """
    action = DEFAULT.copy()
    for name, mode in modes.items():
        if name not in NAMES:
            raise UserError(f"{source}: {suggest(name, NAMES, 'action entry')}")
        index = NAMES.index(name)
        known = ENTRIES[index].modes
        if mode not in known:
            raise UserError(f"{source}: {suggest(str(mode), known, f'mode of {name}')}")
        action[index] = known.index(mode)
    return action


def to_modes(action: Sequence[int] | NDArray[np.int64]) -> dict[str, str]:
    """Mode name of every entry of one action vector of shape (N_ACTIONS,)."""
    return {entry.name: entry.modes[int(mode)] for entry, mode in zip(ENTRIES, action, strict=True)}


def is_at_least(plausibility: str, least: str) -> bool:
    """Whether something is at least as plausible as `least`."""
    return PLAUSIBILITIES.index(plausibility) <= PLAUSIBILITIES.index(least)


def at_least(least: str) -> NDArray[np.bool_]:
    """Which modes are: booleans (N_MASK,), the modes of all entries one after the other."""
    return np.array([is_at_least(word, least) for entry in ENTRIES for word in entry.plausibility])


def plausibility(actions: NDArray[np.int64]) -> str:
    """The least plausible mode in actions, int64 (..., N_ACTIONS): one of `PLAUSIBILITIES`."""
    rows = actions.reshape(-1, len(ENTRIES)).tolist()
    found = {entry.plausibility[mode] for row in rows for entry, mode in zip(ENTRIES, row, strict=True)}
    return max(found, key=PLAUSIBILITIES.index)
