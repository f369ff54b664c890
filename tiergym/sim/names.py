"""The model's vocabulary: every enumeration as a tuple of its names, and integer constants that index it.

Compiled code uses the integers; people, TOML files and JSON use the names. Names are Linux's where
Linux has one. A constant is its family's prefix and the name in capitals (`C_OOM_KILL` is where "oom_kill" stands in
`COUNTERS`), a count is `N_` and the family; a test holds each family together. Tiers, zones, classes of pages,
placement modes and switches have no prefix.
"""

# A parameter that is off or on.
SWITCH = ("off", "on")
OFF, ON = range(len(SWITCH))

# Tiers and zones. Zone order is Linux's (low to high) with the slow node's zones after DRAM's.
TIERS = ("fast", "slow")
N_TIERS = len(TIERS)
FAST, SLOW = range(N_TIERS)
ZONES = ("dma", "dma32", "normal", "movable", "slow_normal", "slow_movable")
N_ZONES = len(ZONES)
DMA, DMA32, NORMAL, MOVABLE, SLOW_NORMAL, SLOW_MOVABLE = range(N_ZONES)
FIRST_SLOW_ZONE = SLOW_NORMAL
FIRST_ZONE, LAST_ZONE = (DMA, SLOW_NORMAL), (MOVABLE, SLOW_MOVABLE)
"""Each tier's lowest and highest zone; the highest is its ZONE_MOVABLE."""
TIER_ZONES = tuple(slice(first, last + 1) for first, last in zip(FIRST_ZONE, LAST_ZONE, strict=True))
"""The same as parts of an array over zones."""

# Watermarks of a zone (include/linux/mmzone.h: enum zone_watermarks).
WMARKS = ("min", "low", "high", "promo")
N_WMARKS = len(WMARKS)
WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO = range(N_WMARKS)

# Classes of pages (docs/model.md section 1).
CLASSES = (
    "anon",
    "file",
    "pt_leaf",
    "pt_upper",
    "kstack",
    "slab_unreclaim",
    "slab_reclaim",
    "kernel_other",
    "memmap",
)
N_CLASSES = len(CLASSES)
ANON, FILE, PT_LEAF, PT_UPPER, KSTACK, SLAB_UNRECLAIM, SLAB_RECLAIM, KERNEL_OTHER, MEMMAP = range(N_CLASSES)
FIRST_KERNEL_CLASS = PT_LEAF

# Kinds of regions: mapped anonymous memory, read-only mapped files (NUMA balancing never promotes
# them), writable mapped files, page cache reached by read() and write() (no page tables), files of a tmpfs (page
# cache that only swap can hold), and two that take page tables alone: anonymous memory that was only read (the shared
# zero page), and the mapping of a file whose pages are another region's.
KINDS = ("anon", "file_ro", "file_rw", "cache", "shmem", "zero", "mapping")
KIND_ANON, KIND_FILE_RO, KIND_FILE_RW, KIND_CACHE, KIND_SHMEM, KIND_ZERO, KIND_MAPPING = range(len(KINDS))

# What files are read from, what keeps swapped pages, and the order in which a region reads what was evicted.
DISKS = ("nvme", "nvme_pcie3", "sata")
DISK_NVME, DISK_NVME_PCIE3, DISK_SATA = range(len(DISKS))
SWAPS = ("disk", "zswap_lz4", "zswap_zstd")
SWAP_DISK, SWAP_ZSWAP_LZ4, SWAP_ZSWAP_ZSTD = range(len(SWAPS))
READS = ("random", "stream", "around")
READS_RANDOM, READS_STREAM, READS_AROUND = range(len(READS))

# How a region gives memory back: the range goes, or its pages alone.
RELEASED_BY = ("munmap", "madv_dontneed")
RELEASED_BY_MUNMAP, RELEASED_BY_MADV_DONTNEED = range(len(RELEASED_BY))

# Memory policies (set_mempolicy(2) and mbind(2)).
MEMPOLICIES = ("default", "bind_fast", "bind_slow", "prefer_slow", "interleave", "weighted_interleave")
(
    MPOL_DEFAULT,
    MPOL_BIND_FAST,
    MPOL_BIND_SLOW,
    MPOL_PREFER_SLOW,
    MPOL_INTERLEAVE,
    MPOL_WEIGHTED_INTERLEAVE,
) = range(len(MEMPOLICIES))

# Modes of NUMA balancing (/proc/sys/kernel/numa_balancing: 0, 1, 2).
NUMA_BALANCING = ("off", "normal", "tiering")
NUMA_BALANCING_OFF, NUMA_BALANCING_NORMAL, NUMA_BALANCING_TIERING = range(len(NUMA_BALANCING))

# What makes a kswapd that has given up try again (mm/vmscan.c: kswapd_failures): any progress in its node; that, or
# freed pages that lift a zone of DRAM above high; a node that progress leaves balanced, or such pages.
HOPELESS_RESETS = ("progress", "progress_or_free", "balance_or_free")
HOPELESS_PROGRESS, HOPELESS_PROGRESS_OR_FREE, HOPELESS_BALANCE_OR_FREE = range(len(HOPELESS_RESETS))

# Loaded-latency curves of DRAM, and of the slow tier: CXL's by knee and ceiling, or another socket's DRAM as measured.
DRAM_CURVES = ("spr", "graviton3", "skylake", "cascade_lake")
SLOW_CURVES = ("cxl", "skylake_remote", "cascade_lake_remote")
SLOW_CURVE_CXL, SLOW_CURVE_SKYLAKE_REMOTE, SLOW_CURVE_CASCADE_LAKE_REMOTE = range(len(SLOW_CURVES))

# Entries of the action vector, in order; `tiergym.env.actions` says what each does.
PLAUSIBILITIES = ("available", "proposed", "counterfactual")
"""Who could choose a mode, the most plausible first: whoever runs today's kernels (a default, a knob); somebody who
takes up an RFC or a paper; nobody yet."""
ACTIONS = (
    "place.pt_leaf",
    "place.pt_upper",
    "place.kstack",
    "place.slab_unreclaim",
    "place.slab_reclaim",
    "place.kernel_other",
    "migrate.pt_leaf",
    "migrate.slab",
    "migrate.kstack",
    "migrate.budget",
    "migrate.room",
    "reserve.pt",
    "limit.kernel",
    "reclaim.pt_empty",
    "headroom",
    "zone",
    "memmap",
)
N_ACTIONS = len(ACTIONS)
(
    A_PLACE_PT_LEAF,
    A_PLACE_PT_UPPER,
    A_PLACE_KSTACK,
    A_PLACE_SLAB_UNRECLAIM,
    A_PLACE_SLAB_RECLAIM,
    A_PLACE_KERNEL_OTHER,
    A_MIGRATE_PT_LEAF,
    A_MIGRATE_SLAB,
    A_MIGRATE_KSTACK,
    A_MIGRATE_BUDGET,
    A_MIGRATE_ROOM,
    A_RESERVE_PT,
    A_LIMIT_KERNEL,
    A_RECLAIM_PT_EMPTY,
    A_HEADROOM,
    A_ZONE,
    A_MEMMAP,
) = range(N_ACTIONS)
PLACEMENT_ENTRIES = tuple(ACTIONS.index(f"place.{cls}") if f"place.{cls}" in ACTIONS else -1 for cls in CLASSES)
"""Per class of pages, the action entry that places it; -1 where a class has none."""
N_PLACEMENTS = sum(entry >= 0 for entry in PLACEMENT_ENTRIES)
"""They are the first entries of an action."""

# Modes of the action's entries: placement of a kernel class (docs/model.md section 5), moving of page tables, of slab
# and stacks, the budget for both, the room for it, the reserve for page tables, the limit per class, what frees empty
# tables, headroom, zone of blocks that come online, and their memmap.
PLACEMENT_MODES = ("fallback", "prefer_fast", "restrict", "prefer_slow")
FALLBACK, PREFER_FAST, RESTRICT, PREFER_SLOW = range(len(PLACEMENT_MODES))
TABLE_MIGRATIONS = ("off", "with_data", "idle")
MIGRATE_TABLES_OFF, MIGRATE_TABLES_WITH_DATA, MIGRATE_TABLES_IDLE = range(len(TABLE_MIGRATIONS))
OBJECT_MIGRATIONS = ("off", "idle")
MIGRATE_OBJECTS_OFF, MIGRATE_OBJECTS_IDLE = range(len(OBJECT_MIGRATIONS))
MIGRATION_BUDGETS = ("low", "medium", "high")
BUDGET_LOW, BUDGET_MEDIUM, BUDGET_HIGH = range(len(MIGRATION_BUDGETS))
MIGRATION_ROOMS = ("free", "kswapd", "exchange")
ROOM_FREE, ROOM_KSWAPD, ROOM_EXCHANGE = range(len(MIGRATION_ROOMS))
TABLE_RESERVES = ("off", "small", "large")
RESERVE_OFF, RESERVE_SMALL, RESERVE_LARGE = range(len(TABLE_RESERVES))
KERNEL_LIMITS = ("off", "proportional")
LIMIT_OFF, LIMIT_PROPORTIONAL = range(len(KERNEL_LIMITS))
EMPTY_TABLES = ("release", "scan")
EMPTY_TABLES_RELEASE, EMPTY_TABLES_SCAN = range(len(EMPTY_TABLES))
HEADROOMS = ("off", "small", "medium", "large")
HEADROOM_OFF, HEADROOM_SMALL, HEADROOM_MEDIUM, HEADROOM_LARGE = range(len(HEADROOMS))
ONLINE_ZONES = ("normal", "movable", "auto_movable")
ZONE_NORMAL, ZONE_MOVABLE, ZONE_AUTO_MOVABLE = range(len(ONLINE_ZONES))
MEMMAPS = ("dram", "on_memory")
MEMMAP_DRAM, MEMMAP_ON_MEMORY = range(len(MEMMAPS))

# Memory block states (drivers/base/memory.c). An added block has no memmap yet; one that went offline keeps its own.
# From BLOCK_NORMAL on it is online.
BLOCK_STATES = ("absent", "added", "offline", "normal", "movable")
N_BLOCK_STATES = len(BLOCK_STATES)
BLOCK_ABSENT, BLOCK_ADDED, BLOCK_OFFLINE, BLOCK_NORMAL, BLOCK_MOVABLE = range(N_BLOCK_STATES)

# Distribution kinds of a drawn parameter.
DISTRIBUTIONS = ("fixed", "uniform", "log_uniform", "normal", "choice")
DRAW_FIXED, DRAW_UNIFORM, DRAW_LOG_UNIFORM, DRAW_NORMAL, DRAW_CHOICE = range(len(DISTRIBUTIONS))

# Populations of kernel objects that a workload asks for.
POOLS = ("threads", "files", "sockets", "buffers")
N_POOLS = len(POOLS)
POOL_THREADS, POOL_FILES, POOL_SOCKETS, POOL_BUFFERS = range(N_POOLS)

# How a shrinking population leaves its slabs: at random, or in the order of its birth, the oldest or the newest first.
DEATHS = ("random", "oldest_first", "newest_first")
DEATHS_RANDOM, DEATHS_OLDEST_FIRST, DEATHS_NEWEST_FIRST = range(len(DEATHS))

# Slab pools, each with its pages and objects per tier.
SLAB_POOLS = ("unreclaim", "reclaim")
N_SLAB_POOLS = len(SLAB_POOLS)
SLAB_POOL_UNRECLAIM, SLAB_POOL_RECLAIM = range(N_SLAB_POOLS)

# Events of a scenario. Offline and online leave the blocks plugged, as writing to memory<n>/state does.
EVENTS = ("none", "hot_add", "hot_remove", "offline", "online", "sysctl")
EVENT_NONE, EVENT_HOT_ADD, EVENT_HOT_REMOVE, EVENT_OFFLINE, EVENT_ONLINE, EVENT_SYSCTL = range(len(EVENTS))

# Fields of [kernel] that an event can change while the machine runs, as a person does with sysctl or in /sys.
KNOBS = (
    "demotion",
    "numa_balancing",
    "damon_promotion",
    "thp",
    "watermark_scale_factor",
    "min_free_kib",
    "boost_factor",
    "swap_mib",
    "dirty_ratio",
    "dirty_background_ratio",
    "dirty_expire_s",
    "hot_threshold_ms",
    "scan_mib_per_s",
    "promote_limit_mib_per_s",
    "interleave_fast",
    "interleave_slow",
    "auto_movable_ratio",
    "auto_movable_numa_aware",
)
(
    KNOB_DEMOTION,
    KNOB_NUMA_BALANCING,
    KNOB_DAMON_PROMOTION,
    KNOB_THP,
    KNOB_WATERMARK_SCALE_FACTOR,
    KNOB_MIN_FREE_KIB,
    KNOB_BOOST_FACTOR,
    KNOB_SWAP_MIB,
    KNOB_DIRTY_RATIO,
    KNOB_DIRTY_BACKGROUND_RATIO,
    KNOB_DIRTY_EXPIRE_S,
    KNOB_HOT_THRESHOLD_MS,
    KNOB_SCAN_MIB_PER_S,
    KNOB_PROMOTE_LIMIT_MIB_PER_S,
    KNOB_INTERLEAVE_FAST,
    KNOB_INTERLEAVE_SLOW,
    KNOB_AUTO_MOVABLE_RATIO,
    KNOB_AUTO_MOVABLE_NUMA_AWARE,
) = range(len(KNOBS))

# Causes of lost time: the attribution (docs/model.md section 13). They add up to 1 - throughput.
CAUSES = (
    "data_on_slow",
    "page_tables",
    "stacks",
    "slab",
    "memmap",
    "contention",
    "premature_reclaim",
    "other_reclaim",
    "migration",
    "refault",
    "oom",
)
N_CAUSES = len(CAUSES)
(
    LOST_DATA_ON_SLOW,
    LOST_PAGE_TABLES,
    LOST_STACKS,
    LOST_SLAB,
    LOST_MEMMAP,
    LOST_CONTENTION,
    LOST_PREMATURE_RECLAIM,
    LOST_OTHER_RECLAIM,
    LOST_MIGRATION,
    LOST_REFAULT,
    LOST_OOM,
) = range(N_CAUSES)

# Terms of the reward (docs/model.md section 13).
TERMS = ("access_latency", "premature_reclaim", "migration", "oom")
N_TERMS = len(TERMS)
TERM_ACCESS_LATENCY, TERM_PREMATURE_RECLAIM, TERM_MIGRATION, TERM_OOM = range(N_TERMS)

# Counters of one tick, in the manner of /proc/vmstat.
COUNTERS = (
    "pgalloc_fast",
    "pgalloc_slow",
    "pgfree",
    "kswapd_wakeups_fast",
    "kswapd_wakeups_slow",
    "kswapd_runs_empty",
    "pgsteal_kswapd_fast",
    "pgsteal_kswapd_slow",
    "pgsteal_direct_fast",
    "pgsteal_direct_slow",
    "allocstall",
    "pgdemote_kswapd",
    "pgdemote_direct",
    "pgdemote_proactive",
    "pgpromote_success",
    "pgpromote_candidate",
    "numa_hint_faults",
    "pswpout",
    "pswpin",
    "file_dropped",
    "file_refault",
    "slab_shrunk",
    "kernel_fallback_slow",
    "user_fallback_slow",
    "premature_reclaim_pages",
    "oom_kill",
    "oom_kill_premature",
    "pgmigrate_pt",
    "pgmigrate_slab",
    "pgmigrate_kstack",
    "pgmigrate_fail",
    "pgexchange",
    "pgreserve",
    "pgtable_reclaim",
    "blocks_onlined",
    "blocks_offlined",
    "blocks_failed",
    "pages_evacuated",
)
N_COUNTERS = len(COUNTERS)
(
    C_PGALLOC_FAST,
    C_PGALLOC_SLOW,
    C_PGFREE,
    C_KSWAPD_WAKEUPS_FAST,
    C_KSWAPD_WAKEUPS_SLOW,
    C_KSWAPD_RUNS_EMPTY,
    C_PGSTEAL_KSWAPD_FAST,
    C_PGSTEAL_KSWAPD_SLOW,
    C_PGSTEAL_DIRECT_FAST,
    C_PGSTEAL_DIRECT_SLOW,
    C_ALLOCSTALL,
    C_PGDEMOTE_KSWAPD,
    C_PGDEMOTE_DIRECT,
    C_PGDEMOTE_PROACTIVE,
    C_PGPROMOTE_SUCCESS,
    C_PGPROMOTE_CANDIDATE,
    C_NUMA_HINT_FAULTS,
    C_PSWPOUT,
    C_PSWPIN,
    C_FILE_DROPPED,
    C_FILE_REFAULT,
    C_SLAB_SHRUNK,
    C_KERNEL_FALLBACK_SLOW,
    C_USER_FALLBACK_SLOW,
    C_PREMATURE_RECLAIM_PAGES,
    C_OOM_KILL,
    C_OOM_KILL_PREMATURE,
    C_PGMIGRATE_PT,
    C_PGMIGRATE_SLAB,
    C_PGMIGRATE_KSTACK,
    C_PGMIGRATE_FAIL,
    C_PGEXCHANGE,
    C_PGRESERVE,
    C_PGTABLE_RECLAIM,
    C_BLOCKS_ONLINED,
    C_BLOCKS_OFFLINED,
    C_BLOCKS_FAILED,
    C_PAGES_EVACUATED,
) = range(N_COUNTERS)
