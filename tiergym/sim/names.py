"""The model's vocabulary: every enumeration as integer constants beside the tuple of its names.

Compiled code uses the integers; people, TOML files and JSON use the names. Names are Linux's where
Linux has one.
"""

# Tiers and zones. Zone order is Linux's (low to high) with the slow node's zones after DRAM's.
FAST, SLOW = 0, 1
TIERS = ("fast", "slow")
N_TIERS = 2
DMA, DMA32, NORMAL, SLOW_NORMAL, SLOW_MOVABLE = 0, 1, 2, 3, 4
ZONES = ("dma", "dma32", "normal", "slow_normal", "slow_movable")
N_ZONES = 5
FIRST_SLOW_ZONE = SLOW_NORMAL

# Classes of pages (docs/model.md section 1).
ANON, FILE, PT_LEAF, PT_UPPER, KSTACK, SLAB_UNRECLAIM, SLAB_RECLAIM, KERNEL_OTHER, MEMMAP = range(9)
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
N_CLASSES = 9
FIRST_KERNEL_CLASS = PT_LEAF

# Kinds of regions: mapped anonymous memory, read-only mapped files (NUMA balancing never promotes
# them), writable mapped files, page cache reached by read() and write() (no page tables), files of a tmpfs (page
# cache that only swap can hold), and anonymous memory that was only read (the shared zero page: page tables alone).
KIND_ANON, KIND_FILE_RO, KIND_FILE_RW, KIND_CACHE, KIND_SHMEM, KIND_ZERO = 0, 1, 2, 3, 4, 5
KINDS = ("anon", "file_ro", "file_rw", "cache", "shmem", "zero")

# Memory policies (set_mempolicy(2) and mbind(2)).
MPOL_DEFAULT, MPOL_BIND_FAST, MPOL_BIND_SLOW, MPOL_PREFER_SLOW, MPOL_INTERLEAVE, MPOL_WEIGHTED = 0, 1, 2, 3, 4, 5
MEMPOLICIES = ("default", "bind_fast", "bind_slow", "prefer_slow", "interleave", "weighted_interleave")

# Placement modes of a kernel class (docs/model.md section 5).
FALLBACK, PREFER_FAST, RESTRICT, PREFER_SLOW = 0, 1, 2, 3
PLACEMENT_MODES = ("fallback", "prefer_fast", "restrict", "prefer_slow")

# Entries of the action vector, in order.
(
    A_PT_LEAF,
    A_PT_UPPER,
    A_KSTACK,
    A_SLAB_UNRECLAIM,
    A_SLAB_RECLAIM,
    A_KERNEL_OTHER,
    A_MIGRATE_PT_LEAF,
    A_MIGRATE_SLAB,
    A_MIGRATE_KSTACK,
    A_MIGRATE_BUDGET,
    A_HEADROOM,
    A_ZONE,
    A_MEMMAP,
) = range(13)
N_ACTIONS = 13

MIGRATE_OFF, MIGRATE_WITH_DATA, MIGRATE_IDLE = 0, 1, 2
MIGRATE_WHEN_IDLE = 1  # slab and stacks: off or when idle
ZONE_NORMAL, ZONE_MOVABLE, ZONE_AUTO = 0, 1, 2
MEMMAP_DRAM, MEMMAP_ON_MEMORY = 0, 1

# Memory block states (drivers/base/memory.c). An added block has no memmap yet; one that went offline keeps its own.
BLOCK_ABSENT, BLOCK_ADDED, BLOCK_OFFLINE, BLOCK_NORMAL, BLOCK_MOVABLE = 0, 1, 2, 3, 4

# Distribution kinds of a drawn parameter.
FIXED, UNIFORM, LOG_UNIFORM, NORMAL_TRUNCATED, CHOICE = 0, 1, 2, 3, 4
DISTRIBUTIONS = ("fixed", "uniform", "log_uniform", "normal", "choice")

# Populations of kernel objects that a workload asks for.
POOL_THREADS, POOL_FILES, POOL_SOCKETS, POOL_BUFFERS = 0, 1, 2, 3
POOLS = ("threads", "files", "sockets", "buffers")
N_POOLS = 4

# How a shrinking population leaves its slabs: at random, or in the order of its birth, the oldest or the newest first.
DEATHS_RANDOM, DEATHS_OLDEST, DEATHS_NEWEST = 0, 1, 2
DEATHS = ("random", "oldest_first", "newest_first")

# Slab pools, each with its pages and objects per tier.
SLAB_POOL_UNRECLAIM, SLAB_POOL_RECLAIM = 0, 1

# Events of a scenario. Offline and online leave the blocks plugged, as writing to memory<n>/state does.
EVENT_NONE, EVENT_HOT_ADD, EVENT_HOT_REMOVE, EVENT_OFFLINE, EVENT_ONLINE = 0, 1, 2, 3, 4
EVENTS = ("none", "hot_add", "hot_remove", "offline", "online")

# Causes of lost time: the attribution (docs/model.md section 13). They add up to 1 - throughput.
(
    LOST_DATA,
    LOST_PAGE_TABLES,
    LOST_STACKS,
    LOST_SLAB,
    LOST_MEMMAP,
    LOST_CONTENTION,
    LOST_PREMATURE_RECLAIM,
    LOST_RECLAIM,
    LOST_MIGRATION,
    LOST_REFAULT,
    LOST_OOM,
) = range(11)
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
N_CAUSES = 11

# Terms of the reward (docs/model.md section 13).
TERM_ACCESS_LATENCY, TERM_PREMATURE_RECLAIM, TERM_MIGRATION, TERM_OOM = 0, 1, 2, 3
TERMS = ("access_latency", "premature_reclaim", "migration", "oom")
N_TERMS = 4

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
    "blocks_onlined",
    "blocks_offlined",
    "blocks_failed",
    "pages_evacuated",
)
(
    C_PGALLOC_FAST,
    C_PGALLOC_SLOW,
    C_PGFREE,
    C_WAKEUP_FAST,
    C_WAKEUP_SLOW,
    C_KSWAPD_EMPTY,
    C_STEAL_KSWAPD_FAST,
    C_STEAL_KSWAPD_SLOW,
    C_STEAL_DIRECT_FAST,
    C_STEAL_DIRECT_SLOW,
    C_ALLOCSTALL,
    C_DEMOTE_KSWAPD,
    C_DEMOTE_DIRECT,
    C_DEMOTE_PROACTIVE,
    C_PROMOTE,
    C_PROMOTE_CANDIDATE,
    C_HINT_FAULTS,
    C_SWAPOUT,
    C_SWAPIN,
    C_FILE_DROPPED,
    C_FILE_REFAULT,
    C_SLAB_SHRUNK,
    C_KERNEL_FALLBACK,
    C_USER_FALLBACK,
    C_PREMATURE_PAGES,
    C_OOM,
    C_OOM_PREMATURE,
    C_MIGRATE_PT,
    C_MIGRATE_SLAB,
    C_MIGRATE_KSTACK,
    C_MIGRATE_FAIL,
    C_BLOCKS_ONLINED,
    C_BLOCKS_OFFLINED,
    C_BLOCKS_FAILED,
    C_EVACUATED,
) = range(35)
N_COUNTERS = 35
