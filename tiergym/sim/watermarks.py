"""Watermarks and reserves of every zone, by Linux's own formulas, recomputed at every hot-plug event."""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import is_movable
from tiergym.sim.units import PAGE_KIB, PAGEBLOCK_PAGES, PAGES_PER_MIB

LEAST_MIN_FREE_KIB, MOST_MIN_FREE_KIB = 128, 262144
"""Bounds of what calculate_min_free_kbytes chooses."""
RESERVE_RATIO_DMA, RESERVE_RATIO_NORMAL = 256, 32  # sysctl_lowmem_reserve_ratio
PCPTYPES = 3  # MIGRATE_PCPTYPES
PAGEBLOCKS_PER_ZONE = 2 + PCPTYPES * PCPTYPES
"""What set_recommended_min_free_kbytes (khugepaged.c) keeps free in every zone."""


@jit
def lowmem_pages(m):
    """Pages of all kernel zones above their high mark (mm/page_alloc.c: nr_free_zone_pages)."""
    total = 0
    for z in range(n.N_ZONES):
        if not is_movable(z):
            high = m.wmark_pages[n.WMARK_HIGH, z] + m.boost_pages[z]
            if m.managed_pages[z] > high:
                total += m.managed_pages[z] - high
    return total


@jit
def calculate_min_free_kbytes(m):
    """vm.min_free_kbytes by the size of the machine, or what a person wrote where that is more."""
    lowmem_kib = lowmem_pages(m) * PAGE_KIB
    root = int(math.sqrt(float(lowmem_kib * 16)))
    while root * root > lowmem_kib * 16:
        root -= 1
    while (root + 1) * (root + 1) <= lowmem_kib * 16:
        root += 1
    kib = min(max(root, LEAST_MIN_FREE_KIB), MOST_MIN_FREE_KIB)
    m.min_free_kbytes = max(kib, int(m.min_free_kib))


@jit
def set_watermarks(m):
    """min, low, high and promo of every zone (mm/page_alloc.c: __setup_per_zone_wmarks)."""
    pages_min = m.min_free_kbytes // PAGE_KIB
    kernel_managed = 0
    shares = m.movable_shares_min == n.ON
    for z in range(n.N_ZONES):
        if not is_movable(z) or shares:
            kernel_managed += m.managed_pages[z]
    scale = m.watermark_scale_factor
    for z in range(n.N_ZONES):
        managed = m.managed_pages[z]
        share = pages_min * managed // max(kernel_managed, 1)
        if managed == 0:
            floor = 0
        elif is_movable(z) and not shares:
            floor = min(max(managed // 1024, 32), 128)
        else:
            floor = share
        gap = max(share // 4, int(managed * scale / 10000.0))
        m.wmark_pages[n.WMARK_MIN, z] = floor
        m.wmark_pages[n.WMARK_LOW, z] = floor + gap
        m.wmark_pages[n.WMARK_HIGH, z] = floor + 2 * gap
        m.wmark_pages[n.WMARK_PROMO, z] = floor + 3 * gap


@jit
def set_recommended_min_free_kbytes(m):
    """What khugepaged wants free where huge pages are on, at most a twentieth of lowmem above the marks as they are;
    the marks follow (mm/khugepaged.c)."""
    if m.thp != n.ON:
        return
    zones = 0
    for z in range(n.N_ZONES):
        if not is_movable(z) and m.managed_pages[z] > 0:
            zones += 1
    pages = min(PAGEBLOCK_PAGES * zones * PAGEBLOCKS_PER_ZONE, lowmem_pages(m) // 20)
    if pages * PAGE_KIB > m.min_free_kbytes:
        m.min_free_kbytes = pages * PAGE_KIB
        set_watermarks(m)


@jit
def reserve_slow_dma32(m):
    """The zone DMA32 of a slow node that lies partly below 4 GiB is part of its NORMAL zone here: what it keeps from
    requests that may use NORMAL too, the whole of them keeps."""
    dma32 = min(int(m.slow_dma32_mib * PAGES_PER_MIB), m.managed_pages[n.SLOW_NORMAL])
    kept = min((m.managed_pages[n.SLOW_NORMAL] - dma32) // RESERVE_RATIO_DMA, dma32)
    m.reserve_kernel_pages[n.SLOW_NORMAL] = kept
    m.reserve_movable_pages[n.SLOW_NORMAL] += kept


@jit
def set_reserves(m):
    """lowmem_reserve of every zone (setup_per_zone_lowmem_reserve): per node."""
    dma32, normal = m.managed_pages[n.DMA32], m.managed_pages[n.NORMAL]
    m.reserve_kernel_pages[n.DMA] = (dma32 + normal) // RESERVE_RATIO_DMA
    m.reserve_kernel_pages[n.DMA32] = normal // RESERVE_RATIO_DMA
    movable = m.managed_pages[n.MOVABLE]
    m.reserve_movable_pages[n.DMA] = (dma32 + normal + movable) // RESERVE_RATIO_DMA
    m.reserve_movable_pages[n.DMA32] = (normal + movable) // RESERVE_RATIO_DMA
    m.reserve_movable_pages[n.NORMAL] = movable // RESERVE_RATIO_NORMAL
    m.reserve_movable_pages[n.SLOW_NORMAL] = m.managed_pages[n.SLOW_MOVABLE] // RESERVE_RATIO_NORMAL
    if m.slow_dma32_mib > 0.0:
        reserve_slow_dma32(m)


@jit
def zone_batchsize(managed):
    """Pages that a per-CPU list takes from its zone at once: 1/4096 of it, from 1 to 63 (mm/page_alloc.c)."""
    batch = max(min(managed >> 10, PAGES_PER_MIB) // 4, 1)
    batch += batch // 2
    power = 1
    while power * 2 <= batch:
        power *= 2
    return max(power - 1, 1)


@jit
def refill_of(m, managed):
    """The refill of a per-CPU list by a stream of allocations: its batch, doubled `pcp_scale` times since 6.7
    (nr_pcp_alloc, CONFIG_PCP_BATCH_SCALE_MAX), within the list's largest size, an eighth of the zone's `managed` pages
    over all CPUs (zone_highsize)."""
    batch = int(m.pcp_batch_pages)
    if batch == 0:
        batch = zone_batchsize(managed)
    most = max(managed // 8 // int(m.cpus) - batch, batch)
    return min(batch << int(m.pcp_scale), most)


@jit
def set_refills(m):
    """The refills of all zones' per-CPU lists."""
    for z in range(n.N_ZONES):
        m.pcp_refill_pages[z] = refill_of(m, m.managed_pages[z])


@jit
def most_marked(m, z, managed):
    """No low mark of a kernel zone z of `managed` pages, with boost and reserve against the kernel, is above this,
    whatever the other zones have."""
    pages_min = max(MOST_MIN_FREE_KIB, int(m.min_free_kib), m.min_free_kbytes) // PAGE_KIB
    gap = max(pages_min // 4, int(managed * m.watermark_scale_factor / 10000.0))
    return pages_min + gap + m.boost_pages[z] + managed // RESERVE_RATIO_DMA


@jit
def init_per_zone_wmark_min(m):
    """What onlining and offlining call (mm/page_alloc.c: init_per_zone_wmark_min, zone_pcp_update)."""
    calculate_min_free_kbytes(m)
    set_watermarks(m)
    set_reserves(m)
    set_refills(m)
    set_recommended_min_free_kbytes(m)  # khugepaged_min_free_kbytes_update
