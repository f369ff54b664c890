"""Every number a scenario can set: name, unit, range, default and meaning, in one table.

The table is the single source for the TOML reader (`tiergym.specs`), for the layout of a machine's
record (`tiergym.sim.layout`) and for the documentation. Names end in their unit. Each number may be a
fixed value or a distribution; either way one row of `ROW` float64 describes it and
`tiergym.sim.draw` turns rows into values, per machine and episode.
"""

from dataclasses import dataclass

from tiergym.sim.names import (
    DEATHS,
    DISKS,
    DRAM_CURVES,
    EVENTS,
    HOPELESS_RESETS,
    KINDS,
    KNOBS,
    MEMPOLICIES,
    NUMA_BALANCING,
    READS,
    RELEASED_BY,
    SLOW_CURVES,
    SWAPS,
    SWITCH,
    TERMS,
)
from tiergym.sim.units import LEAF_SPAN_PAGES, LEAST_BLOCK_MIB

N_PROCESSES = 8
N_EVENTS = 8
N_CURVE_POINTS = 12
ROW = 8
"""float64 per row: distribution kind, then up to seven numbers (see `tiergym.sim.draw`)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One number of a scenario: `low <= value <= high`; `choices` names the integers 0, 1, ..."""

    name: str
    default: float
    low: float
    high: float
    doc: str
    integer: bool = False
    choices: tuple[str, ...] = ()


def _f(name: str, default: float, low: float, high: float, doc: str) -> Field:
    return Field(name, default, low, high, doc)


def _i(name: str, default: float, low: float, high: float, doc: str) -> Field:
    return Field(name, default, low, high, doc, integer=True)


def _e(name: str, default: int, choices: tuple[str, ...], doc: str) -> Field:
    return Field(name, default, 0, len(choices) - 1, doc, integer=True, choices=choices)


MACHINE: tuple[Field, ...] = (
    _f("dram_mib", 65536, 64, 1e7, "DRAM on node 0"),
    _f("dma_mib", 15, 0, 16, "managed part of ZONE_DMA"),
    _f("dma32_mib", 1900, 0, 4096, "managed part of ZONE_DMA32; 0 folds it into NORMAL"),
    _f("movable_mib", 0, 0, 1e7, "of NORMAL's end, ZONE_MOVABLE (boot parameters movablecore=, kernelcore=)"),
    _f("slow_mib", 131072, 0, 1e7, "CXL on node 1, without CPUs; 0 is a single-tier machine"),
    _f("block_mib", 2048, LEAST_BLOCK_MIB, 2048, "memory block (probe_memory_block_size): 2048 on metal from 64 GiB"),
    _e(
        "slow_at_boot", 0, SWITCH, "firmware shows CXL as memory from the start: all NORMAL, its struct pages in itself"
    ),
    _f("slow_dma32_mib", 0, 0, 4096, "of a slow node at boot, what lies below 4 GiB (its ZONE_DMA32)"),
    _f("boot_reserved_share", 0.0161, 0, 0.4, "DRAM never managed: kernel image and its own memmap (1/64)"),
    _f("boot_kernel_mib", 256, 0, 1e6, "kernel_other allocated before the workload starts"),
    _i("cpus", 32, 1, 1024, "CPUs of node 0: per-CPU page lists, kswapd share"),
    _f("dram_latency_ns", 114, 20, 2000, "idle load-to-use latency of DRAM [H-spr-6430]"),
    _f("dram_read_gbps", 218, 0.1, 20000, "peak DRAM bandwidth, reads only"),
    _f("dram_mixed_gbps", 203, 0.1, 20000, "peak DRAM bandwidth at 50 % writes"),
    _e("dram_curve", 0, DRAM_CURVES, "loaded-latency curve of DRAM [H-dram-curves]"),
    _f("slow_latency_ns", 250, 20, 10000, "idle load-to-use latency of CXL"),
    _f("slow_read_gbps", 18, 0.1, 20000, "peak CXL bandwidth, reads only"),
    _f("slow_mixed_gbps", 27, 0.1, 20000, "peak CXL bandwidth at 50 % writes (duplex link)"),
    _e(
        "slow_curve",
        0,
        SLOW_CURVES,
        "loaded-latency curve of the slow tier: CXL's by knee and ceiling, or another socket's DRAM [H-dram-curves]",
    ),
    _f("slow_knee", 0.6, 0.05, 0.99, "utilisation at which CXL latency starts to rise [H-cxl-curves]"),
    _f("slow_ceiling", 4.0, 1.0, 20, "CXL latency at saturation over idle [H-cxl-curves]"),
)

KERNEL: tuple[Field, ...] = (
    _f("watermark_scale_factor", 10, 1, 3000, "vm.watermark_scale_factor, in 1/10000 of a zone"),
    _f("min_free_kib", 0, 0, 4e6, "vm.min_free_kbytes set by the administrator; 0 keeps the formula"),
    _e(
        "movable_shares_min",
        0,
        SWITCH,
        "MOVABLE takes its share of min_free_kbytes, as in 6.1 (6.12: at most 128 pages) [K-movable-min]",
    ),
    _e("thp", 1, SWITCH, "transparent huge pages enabled: raises min_free_kbytes (khugepaged.c)"),
    _e("demotion", 0, SWITCH, "/sys/kernel/mm/numa/demotion_enabled"),
    _e("numa_balancing", 0, NUMA_BALANCING, "normal: promote what fits; tiering: hot pages, wake kswapd"),
    _e("damon_promotion", 0, SWITCH, "DAMON's DAMOS_MIGRATE_HOT on the slow node: hot pages into DRAM, down to min"),
    _f("swap_mib", 0, 0, 8e6, "swap space"),
    _f("demote_wait_us", 0, 0, 1e6, "what demoting a page takes kswapd beyond kswapd_pages_per_s; 0: no more"),
    _f("dirty_ratio", 20, 0, 100, "vm.dirty_ratio: a node takes written cache up to so many percent of what could be"),
    _f(
        "dirty_background_ratio",
        10,
        0,
        100,
        "vm.dirty_background_ratio: more, of both nodes, is written at once",
    ),
    _f("dirty_expire_s", 30, 0.1, 3600, "vm.dirty_expire_centisecs: age at which dirty cache is written out"),
    _i("pcp_batch_pages", 63, 0, 4096, "one refill of a per-CPU list; 0: by the zone's size (zone_batchsize)"),
    _i("pcp_scale", 5, 0, 6, "doublings of a refill under a stream: 5 since Linux 6.7, 0 before [K-per-cpu-lists]"),
    _e("pcp_by_type", 0, SWITCH, "kernel pages come off per-CPU lists of their own (migrate types: rmqueue_pcplist)"),
    _e("slab_steal_wakes", 1, SWITCH, "slab that steals a pageblock wakes kswapd; off: slabs of a high order do not"),
    _i("rcu_cached_pages_per_cpu", 0, 0, 64, "what kvfree_rcu() keeps ready till the first reclaim; Linux: 5"),
    _e(
        "claims_half_blocks",
        1,
        SWITCH,
        "kernel pages claim a pageblock that is half free, else single pages; off: any chunk, and user pages boost too",
    ),
    _f("boost_factor", 15000, 0, 50000, "vm.watermark_boost_factor, in 1/10000 of high"),
    _f("boost_hz", 0.0, 0, 10, "pageblocks stolen per second while kernel pages are placed: each boosts DRAM"),
    _e("lru_gen", 1, SWITCH, "multi-gen LRU (/sys/kernel/mm/lru_gen/enabled): how much a run of kswapd reclaims"),
    _f("lru_window_s", 4.0, 0.01, 3600, "age of a page when reclaim looks at it again (LRU rotation)"),
    _f("hot_threshold_ms", 1000, 1, 100000, "numa_balancing hint-fault latency below which a page is hot"),
    _i("promote_accesses", 1, 1, 2, "hint faults that make a page hot; 1: by hot_threshold_ms, 2: as pghot [K-pghot]"),
    _f("promote_window_s", 4, 0.01, 16, "of two hint faults: the second counts if it comes within this [K-pghot]"),
    _f("scan_mib_per_s", 256, 0, 1e6, "numa_balancing_scan_size_mb per scan_period_min of 1 s"),
    _f("scan_period_s", 1.0, 0.01, 3600, "CPU time of a process from one pass of numa_balancing's scan to the next"),
    _f("promote_limit_mib_per_s", 65536, 0, 1e7, "numa_balancing_promote_rate_limit_MBps"),
    _e("auto_movable_numa_aware", 1, SWITCH, "memory_hotplug.auto_movable_numa_aware"),
    _f("auto_movable_ratio", 301, 0, 10000, "memory_hotplug.auto_movable_ratio, percent"),
    _e("slow_in_lower_tier", 1, SWITCH, "HMAT puts CXL in a lower memory tier: a demotion target exists"),
    _i("interleave_fast", 1, 0, 255, "mempolicy/weighted_interleave/node0: pages per turn on DRAM; 0: by bandwidth"),
    _i("interleave_slow", 1, 0, 255, "the same of node1: pages per turn on the slow tier"),
    _e(
        "boot_memmap",
        0,
        ("dram", "slow"),
        "where DRAM's own struct pages are; slow: an experiment [W-mac], no mainline kernel",
    ),
    _e("stack_migration", 0, SWITCH, "kernel stacks can be moved (needs a kernel that can; else masked)"),
    _f("slab_movable_share", 0.3, 0, 1, "slab pages whose caches can migrate (xarray, maple, vma; not inodes)"),
    _e("skip_busy_node", 0, SWITCH, "a request first passes over nodes whose kswapd works (get_page_from_freelist)"),
    _i("file_folio_pages", 1, 1, 512, "page cache in folios of so many pages, by readahead; 512 are mapped as a whole"),
    _e("boosted_runs_fail", 1, SWITCH, "a run of kswapd for a boost counts towards the 16 after which it gives up"),
    _e("dontneed_frees_tables", 0, SWITCH, "MADV_DONTNEED frees the leaf tables that it empties (PT_RECLAIM)"),
    _e(
        "damon_falls_back",
        0,
        SWITCH,
        "DAMON's promotion asks for DRAM above low and else stays on CXL; off: down to min",
    ),
    _e(
        "swap_table_pages",
        0,
        SWITCH,
        "512 swap slots in use take a kernel page (mm/swapfile.c: swap_cluster_alloc_table)",
    ),
    _e("slab_follows_policy", 1, SWITCH, "new slab pages follow the task's mempolicy; off: the CPU's node first"),
    _i("slab_burst_objects", 1, 1, 60, "objects that a cache fetches at once: a sheaf; 1: what it needs"),
    _e("hopeless_reset", 0, HOPELESS_RESETS, "what makes a kswapd that gave up try again (kswapd_failures)"),
    _f("slab_objects_per_page", 14, 1, 64, "objects that must all be free before a slab page returns (f^n)"),
)

STORAGE: tuple[Field, ...] = (
    _e("disk", 0, DISKS, "what files lie on, and swap unless it is compressed: gives the fields below that are 0"),
    _e("swap", 0, SWAPS, "where swapped pages go: to the disk, or compressed into memory (zswap)"),
    _f("disk_latency_us", 0, 0, 100000, "one random read of 4 KiB, alone; 0: the disk's"),
    _f("disk_read_mb_per_s", 0, 0, 1e6, "what all reads together get of it (1e6 B/s); 0: the disk's"),
    _f("disk_write_mb_per_s", 0, 0, 1e6, "the same of writes; 0: the disk's"),
    _f("disk_reads_per_s", 0, 0, 1e9, "random reads per second that it serves at most; 0: the disk's"),
    _i("readahead_kib", 128, 4, 16384, "window of a stream (/sys/block/<dev>/queue/read_ahead_kb)"),
    _i("page_cluster", 3, 0, 10, "vm.page-cluster: a sweep over swapped memory reads 2^this slots at once"),
    _f("swap_latency_us", 0, 0, 100000, "one page read back from swap, alone; 0: as the disk, or decompression"),
    _f("swap_out_us", 0, 0, 1e6, "wait of kswapd for one page to be written to swap; 0: where the disk is slower"),
    _f("swap_store_us", 0, 0, 10000, "time of who reclaims to compress a page; 0: the compressor's"),
    _f("swap_ratio", 0, 0, 64, "swapped pages that take a page of memory, compressed; 0: the compressor's"),
)

COSTS: tuple[Field, ...] = (
    _f("fault_us", 1.0, 0.01, 1000, "4 KiB minor fault, median [H-fault]"),
    _f("migrate_batched_us", 1.2, 0.01, 1000, "migrate one page in a batch: 1.15 to 1.24 [H-migration]"),
    _f("migrate_unbatched_us", 5.0, 0.01, 1000, "migrate one page alone, with its shootdown [H-migration]"),
    _f("hint_fault_us", 1.0, 0, 1000, "NUMA hint fault without migration"),
    _f("reclaim_us", 1.0, 0.01, 1000, "reclaim one clean page: scan, unmap, free (30 to 100 us per 32 [H-reclaim])"),
    _f("look_us", 0.1, 0, 1000, "one look of a futile round of reclaim at a page that stays where it is"),
    _f("reclaim_metadata_touches", 3.0, 0, 100, "struct page and xarray cache misses per reclaimed page [W-mac]"),
    _f("throttle_per_batch", 0.002, 0, 1, "chance that a direct-reclaim batch of 32 is throttled"),
    _f("kswapd_pages_per_s", 400000, 100, 1e8, "pages one kswapd reclaims per second of its CPU"),
)

EPISODE: tuple[Field, ...] = (
    _f("dt_s", 0.25, 0.01, 2.0, "length of a tick"),
    _f("horizon_s", 60, 0.25, 86400, "length of an episode; then it is truncated"),
    _f("pmu_noise", 0.02, 0, 1, "relative noise of sampled PMU counters in the observation"),
    _f("decision_us", 0.0, 0, 1e6, "latency of one policy decision, charged to every tick"),
)

WEIGHTS: tuple[Field, ...] = tuple(_f(f"weight_{t}", 1.0, 0, 1000, f"weight of the reward term {t}") for t in TERMS)

WORKLOAD: tuple[Field, ...] = (
    _f("workers", 32, 1, 4096, "threads that do the work in parallel: a stall of one loses 1/workers"),
    _f("stack_touches_per_s", 2e5, 0, 1e10, "cache-missing touches of kernel stacks (context switches)"),
    _f("slab_unreclaim_touches_per_s", 2e5, 0, 1e10, "cache-missing touches of unreclaimable slab"),
    _f("slab_reclaim_touches_per_s", 2e5, 0, 1e10, "cache-missing touches of dentries, inodes, xarray"),
    _f("memmap_touches_per_s", 5e4, 0, 1e10, "cache-missing touches of struct page outside reclaim"),
    _f("kernel_other_touches_per_s", 5e4, 0, 1e10, "cache-missing touches of percpu and network buffers"),
    _f("kernel_mlp", 1.5, 1, 64, "memory-level parallelism of kernel accesses"),
)

PROCESS: tuple[Field, ...] = (
    _f("oom_score_adj", 0, -1000, 1000, "/proc/<pid>/oom_score_adj; -1000 is never killed"),
    _f("work_share", 1.0, 0, 1, "share of the machine's work; shares are normalised to 1"),
    _f("restart_s", 5.0, 0, 3600, "time from a kill to the restart"),
    _f("lost_s", 5.0, 0, 3600, "seconds of its work that a kill throws away"),
    _e("mempolicy", 0, MEMPOLICIES, "task policy: where its page tables go"),
    _i("vmas", 64, 1, 1e6, "mappings: slab for vm_area_struct"),
    _f("cpu_share", 1.0, 0, 1, "CPU time of its busiest thread per second: numa_balancing scans by it"),
)

REGION: tuple[Field, ...] = (
    _i("process", 0, 0, N_PROCESSES - 1, "owner, an index into the workload's processes"),
    _e("kind", 0, KINDS, "what the pages are"),
    _f("mib", 0, 0, 1e7, "size when fully grown"),
    _f("density", 1.0, 1 / LEAF_SPAN_PAGES, 1, "touched share of each 2 MiB of address space"),
    _f("thp_share", 0.0, 0, 1, "share of its faults that ask for a huge page: local DRAM down to min, or 4 KiB pages"),
    _e("mempolicy", 0, MEMPOLICIES, "its data's mempolicy (mbind)"),
    _f("write_share", 0.2, 0, 1, "share of its misses' traffic that is written back"),
    _f("dirty_share", 0.0, 0, 1, "file pages that reclaim must write first"),
    _f("written_share", 0.0, 0, 1, "share of a file region's new pages that write(2) fills: dirty, with a buffer head"),
    _e("mlocked", 0, SWITCH, "mlock(2): reclaim leaves its pages where they are (the unevictable list)"),
    _f("misses_per_page_s", 0, 0, 1e7, "last-level cache misses per touched page and second at full speed"),
    _f("tlb_misses_per_page_s", 0, 0, 1e7, "TLB misses per touched page and second at full speed"),
    _f("mlp", 4, 1, 256, "memory-level parallelism: misses served at once"),
    _f("walk_miss", 0.5, 0, 1, "share of walks whose leaf entry comes from memory (m of [W-mitosis-walks])"),
    _f("access_hz", 0.1, 0, 1e6, "references per page and second, as the accessed bit sees them"),
    _f("start_s", 0, 0, 86400, "when it starts to grow"),
    _f("grow_s", 1, 0, 86400, "time to touch it all"),
    _f("hold_s", 1e6, 0, 1e6, "time at full size"),
    _f("shrink_s", 1, 0, 86400, "time to give it back, down to low_share"),
    _f("low_share", 0, 0, 1, "size after shrinking"),
    _f("period_s", 0, 0, 86400, "grow again every so often; 0: once"),
    _f("turnover_hz", 0, 0, 100, "share unmapped and touched anew per second (fork and exec churn)"),
    _e(
        "reads",
        0,
        READS,
        "how it reads evicted pages back: page by page, in order and so with readahead, or around "
        "what a mapping misses",
    ),
    _e("released_by", 0, RELEASED_BY, "how it gives memory back: with its page tables, or the pages alone"),
    _i("drift_group", 0, 0, 16, "regions of one group exchange heat; 0: none"),
    _f("drift_s", 0, 0, 86400, "time between exchanges; 0: never"),
)

POOL: tuple[Field, ...] = (
    _f("count", 0, 0, 1e10, "objects when fully grown (threads, files, sockets; buffers in pages)"),
    _f("start_s", 0, 0, 86400, "when it starts to grow"),
    _f("grow_s", 1, 0, 86400, "time to create them"),
    _f("hold_s", 1e6, 0, 1e6, "time at full size"),
    _f("shrink_s", 1, 0, 86400, "time to delete them, down to low_share"),
    _f("low_share", 0, 0, 1, "count after shrinking"),
    _f("period_s", 0, 0, 86400, "grow again every so often; 0: once"),
    _f("turnover_hz", 0, 0, 100, "share deleted and created anew per second"),
    _e("deaths", 0, DEATHS, "of threads and files: which of them a shrinking population gives up"),
    _f("lookup_hz", 0.05, 0, 10, "of files: share of those that a shrinker took that are looked up again per second"),
    _f("pinned_share", 0, 0, 1, "of files: share that no shrinker can free (open, or on tmpfs)"),
)

EVENT: tuple[Field, ...] = (
    _e("kind", 0, EVENTS, "what happens"),
    _f("at_s", 0, 0, 86400, "when"),
    _f("mib", 0, 0, 1e7, "of blocks: how much of the slow tier, in whole blocks"),
    _e("knob", 0, KNOBS, "of sysctl: which field of [kernel] changes"),
    _f("value", 0, 0, 1e7, "of sysctl: its new value, as the field spells it"),
)

SCALAR_SECTIONS: tuple[tuple[str, tuple[Field, ...]], ...] = (
    ("machine", MACHINE),
    ("kernel", KERNEL),
    ("storage", STORAGE),
    ("costs", COSTS),
    ("episode", EPISODE),
    ("weights", WEIGHTS),
    ("workload", WORKLOAD),
)
REPEATED_SECTIONS: tuple[tuple[str, str, tuple[Field, ...]], ...] = (
    ("processes", "process_", PROCESS),
    ("regions", "region_", REGION),
    ("pools", "pool_", POOL),
    ("events", "event_", EVENT),
)
"""(section, prefix of the record's field, fields); the record holds one array per field."""
