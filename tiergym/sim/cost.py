"""Phase 8a: from placement to lost time, as one monotone equation in the throughput x, solved afresh each tick.

    x * (1 + stall + sum over tiers of weight_t * (multiplier_t(load_t(x)) - 1)) + overhead = 1

stall: extra time of one second of work because things lie on the slow tier, at idle latency. weight: its stalled
time per tier at idle latency, which loaded latency multiplies. load_t = (x * demand_t + fixed_t) / peak_t. All loads
<= 1 bounds x from above: past saturation bandwidth limits progress, not latency. The left side rises with x, so
there is one root; nothing is carried from the last tick (damped iterations were seen to be chaotic).
"""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.curves import curve_piece, peak_bytes_per_s
from tiergym.sim.memmap import in_use_with_slow_memmap, pages_in_use
from tiergym.sim.pages import class_on_tier, on_tier
from tiergym.sim.regions import fast_pages, mapped_whole, slow_pages
from tiergym.sim.units import LINE_BYTES

UPPER_WALK_MISS = 0.03  # upper levels mostly hit the paging-structure caches [K-page-walks]
KERNEL_WRITE_SHARE = 0.3  # of the misses on kernel objects and struct pages, those that dirty the line
MAX_OVERHEAD = 0.95  # what is owed beyond this share of a tick is paid in later ticks
TOLERANCE = 1e-13


@jit
def add_accesses(m, tier, cause, per_s, mlp, write_share):
    """Book `per_s` cache misses on a tier at full speed: stalled time, traffic and, on CXL, the extra time.

    Stall per second of work = misses * latency / (MLP * workers) [H-stall-law].
    """
    latency = m.dram_latency_ns if tier == n.FAST else m.slow_latency_ns
    scale = 1e-9 / (mlp * m.workers)
    m.stall_weight[tier] += per_s * latency * scale
    if tier == n.SLOW:
        m.stall[cause] += per_s * (m.slow_latency_ns - m.dram_latency_ns) * scale
    read = per_s * LINE_BYTES
    m.demand_bytes_per_s[tier] += read * (1.0 + write_share)
    m.write_mix[tier] += read * write_share  # written bytes; made a share later
    m.misses_per_s[tier] += per_s


@jit
def add_region(m, r):
    """Data misses and page walks of region r, split by where its pages and leaf tables lie."""
    region = m.region[r]
    fast, slow = fast_pages(m, r), slow_pages(m, r)
    if fast + slow == 0:
        return
    rate, mlp, writes = region.misses, region.mlp, region.write_share
    add_accesses(m, n.FAST, n.LOST_DATA_ON_SLOW, rate * fast, mlp, writes)
    if slow > 0:
        add_accesses(m, n.SLOW, n.LOST_DATA_ON_SLOW, rate * slow, mlp, writes)
    walks = region.tlb * (fast + slow - min(region.huge, fast))  # huge pages are not walked to the leaf
    if walks == 0.0 or mapped_whole(m, r):
        return
    leaf_fast = on_tier(region.leaf, n.FAST)
    leaf_slow = region.leaf[n.SLOW_NORMAL]
    share = leaf_slow / max(leaf_fast + leaf_slow, 1)
    misses = walks * region.walk_miss
    add_accesses(m, n.FAST, n.LOST_PAGE_TABLES, misses * (1.0 - share), 1.0, 0.0)
    add_accesses(m, n.SLOW, n.LOST_PAGE_TABLES, misses * share, 1.0, 0.0)
    m.walks_per_s[n.FAST] += walks * (1.0 - share)
    m.walks_per_s[n.SLOW] += walks * share
    upper_slow = region.upper[n.SLOW_NORMAL]
    if upper_slow > 0:
        upper = upper_slow + on_tier(region.upper, n.FAST)
        add_accesses(m, n.SLOW, n.LOST_PAGE_TABLES, walks * UPPER_WALK_MISS * upper_slow / upper, 1.0, 0.0)


@jit
def add_kernel_class(m, cls, cause, touches_per_s):
    """Misses on the objects of a kernel class, wherever its pages are."""
    fast, slow = class_on_tier(m, cls, n.FAST), class_on_tier(m, cls, n.SLOW)
    if fast + slow == 0 or touches_per_s == 0.0:
        return
    share = slow / (fast + slow)
    add_accesses(m, n.FAST, cause, touches_per_s * (1.0 - share), m.kernel_mlp, KERNEL_WRITE_SHARE)
    add_accesses(m, n.SLOW, cause, touches_per_s * share, m.kernel_mlp, KERNEL_WRITE_SHARE)


@jit
def sum_accesses(m):
    """Everything that one second of full-speed work touches, per tier and cause."""
    for tier in range(n.N_TIERS):
        m.demand_bytes_per_s[tier] = 0.0
        m.write_mix[tier] = 0.0
        m.stall_weight[tier] = 0.0
        m.misses_per_s[tier] = 0.0
        m.walks_per_s[tier] = 0.0
    for c in range(n.N_CAUSES):
        m.stall[c] = 0.0
    for r in range(m.regions):
        add_region(m, r)
    add_kernel_class(m, n.KSTACK, n.LOST_STACKS, m.stack_touches_per_s)
    add_kernel_class(m, n.SLAB_UNRECLAIM, n.LOST_SLAB, m.slab_unreclaim_touches_per_s)
    add_kernel_class(m, n.SLAB_RECLAIM, n.LOST_SLAB, m.slab_reclaim_touches_per_s)
    add_kernel_class(m, n.KERNEL_OTHER, n.LOST_SLAB, m.kernel_other_touches_per_s)
    add_memmap(m)
    for tier in range(n.N_TIERS):
        total = m.demand_bytes_per_s[tier]
        m.write_mix[tier] = min(1.0, 2.0 * m.write_mix[tier] / total) if total > 0.0 else 0.0
        m.fixed_bytes_per_s[tier] = m.moved_bytes[tier] / m.dt_s
        m.inverse_peak[tier] = 1.0 / peak_bytes_per_s(m, tier)


@jit
def add_memmap(m):
    """struct page is touched for pages in use, of both tiers alike, wherever boot and hot-plug put it."""
    share = 0.0
    if m.memmap_slow_share > 0.0 or m.boot_memmap > 0.0:
        fast = pages_in_use(m, n.FAST)
        on_slow = in_use_with_slow_memmap(m) + m.boot_memmap * fast
        share = on_slow / max(fast + pages_in_use(m, n.SLOW), 1)
    add_accesses(m, n.FAST, n.LOST_MEMMAP, m.memmap_touches_per_s * (1.0 - share), m.kernel_mlp, KERNEL_WRITE_SHARE)
    if share > 0.0:
        add_accesses(m, n.SLOW, n.LOST_MEMMAP, m.memmap_touches_per_s * share, m.kernel_mlp, KERNEL_WRITE_SHARE)


@jit
def load_at(m, tier, x):
    """Share of a tier's peak bandwidth that is used at throughput x."""
    return (x * m.demand_bytes_per_s[tier] + m.fixed_bytes_per_s[tier]) * m.inverse_peak[tier]


@jit
def contention(m, x):
    """Extra stalled time per second of work because latency rises with load, around throughput x.

    Returns (a, b): it is a + b * x on the linear pieces of both tiers' curves that x lies on.
    """
    fixed, rising = 0.0, 0.0
    for tier in range(n.N_TIERS):
        weight = m.stall_weight[tier]
        if weight > 0.0:
            start, value, slope = curve_piece(m, tier, load_at(m, tier, x))
            fixed += weight * (value - 1.0 + slope * (load_at(m, tier, 0.0) - start))
            rising += weight * slope * m.demand_bytes_per_s[tier] * m.inverse_peak[tier]
    return fixed, rising


@jit
def bandwidth_bound(m):
    """The largest throughput whose traffic both tiers can carry; migration's traffic leaves at least 5 %."""
    bound = 1.0
    for tier in range(n.N_TIERS):
        if m.demand_bytes_per_s[tier] > 0.0:
            room = max(1.0 - m.fixed_bytes_per_s[tier] * m.inverse_peak[tier], 0.05)
            bound = min(bound, room / (m.demand_bytes_per_s[tier] * m.inverse_peak[tier]))
    return bound


@jit
def solve_throughput(m, stall, overhead):
    """The root of the equation above in (0, bandwidth bound].

    Around any x it is quadratic, as latency is piecewise linear in load: the root of the piece at the upper bound, of
    the piece there, and so on, until it lies on its own piece. The bracket halves where pieces lead out of it.
    """
    room = 1.0 - overhead
    low, high = 0.0, min(bandwidth_bound(m), room / (1.0 + stall))
    x = high
    for step in range(60):
        fixed, rising = contention(m, x)
        linear = 1.0 + stall + fixed
        left = x * (linear + rising * x) - room
        if abs(left) < TOLERANCE or (step == 0 and left < 0.0):
            break
        if left > 0.0:
            high = x
        else:
            low = x
        if high - low < TOLERANCE:
            break
        x = 2.0 * room / (linear + math.sqrt(linear * linear + 4.0 * rising * room))
        if x <= low or x >= high:
            x = 0.5 * (low + high)
    return x
