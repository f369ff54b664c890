"""Watermarks and reserves of every zone, by Linux's own formulas, recomputed at every hot-plug event."""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit

PAGEBLOCK_PAGES = 512
PCPTYPES = 3  # MIGRATE_PCPTYPES


@jit
def lowmem_pages(m):
    """Pages of all kernel zones above their high mark (mm/page_alloc.c: nr_free_zone_pages)."""
    total = 0
    for z in range(n.N_ZONES):
        if z != n.SLOW_MOVABLE:
            high = m.high_pages[z] + m.boost_pages[z]
            if m.managed_pages[z] > high:
                total += m.managed_pages[z] - high
    return total


@jit
def min_free_kib(m):
    """vm.min_free_kbytes (calculate_min_free_kbytes; khugepaged.c: set_recommended_min_free_kbytes)."""
    lowmem_kib = lowmem_pages(m) * 4
    root = int(math.sqrt(float(lowmem_kib * 16)))
    while root * root > lowmem_kib * 16:
        root -= 1
    while (root + 1) * (root + 1) <= lowmem_kib * 16:
        root += 1
    kib = min(max(root, 128), 262144)
    kib = max(kib, int(m.min_free_kib))
    if m.thp > 0.0:
        zones = 0
        for z in range(n.N_ZONES):
            if z != n.SLOW_MOVABLE and m.managed_pages[z] > 0:
                zones += 1
        recommended = PAGEBLOCK_PAGES * zones * (2 + PCPTYPES * PCPTYPES)
        recommended = min(recommended, lowmem_pages(m) // 20)
        kib = max(kib, recommended * 4)
    return kib


@jit
def set_watermarks(m):
    """min, low, high and promo of every zone (mm/page_alloc.c: __setup_per_zone_wmarks)."""
    pages_min = min_free_kib(m) // 4
    kernel_managed = 0
    for z in range(n.N_ZONES):
        if z != n.SLOW_MOVABLE:
            kernel_managed += m.managed_pages[z]
    scale = m.watermark_scale_factor
    for z in range(n.N_ZONES):
        managed = m.managed_pages[z]
        share = pages_min * managed // max(kernel_managed, 1)
        if managed == 0:
            floor = 0
        elif z == n.SLOW_MOVABLE:
            floor = min(max(managed // 1024, 32), 128)
        else:
            floor = share
        gap = max(share // 4, int(managed * scale / 10000.0))
        m.min_pages[z] = floor
        m.low_pages[z] = floor + gap
        m.high_pages[z] = floor + 2 * gap
        m.promo_pages[z] = floor + 3 * gap


@jit
def set_reserves(m):
    """lowmem_reserve of every zone (setup_per_zone_lowmem_reserve): per node, ratios 256, 256, 32, 0."""
    dma32, normal = m.managed_pages[n.DMA32], m.managed_pages[n.NORMAL]
    m.reserve_kernel_pages[n.DMA] = (dma32 + normal) // 256
    m.reserve_kernel_pages[n.DMA32] = normal // 256
    for z in range(n.N_ZONES):
        m.reserve_movable_pages[z] = m.reserve_kernel_pages[z]
    m.reserve_movable_pages[n.SLOW_NORMAL] = m.managed_pages[n.SLOW_MOVABLE] // 32


@jit
def init_per_zone_wmark_min(m):
    """What onlining and offlining call (mm/page_alloc.c: init_per_zone_wmark_min)."""
    set_watermarks(m)
    set_reserves(m)
