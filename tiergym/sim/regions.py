"""Pages and page tables of one region: how many it needs, giving them back in proportion, and their way to DRAM."""

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import (
    RELEASE_STEPS,
    charge_class,
    free_class,
    mark_pages,
    on_tier,
    release_pages,
    release_zone,
    take_from_zone,
    tier_of,
)
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGE_BYTES, TABLE_ENTRIES

XARRAY_SLOTS = 64
"""Cached pages that a leaf node of the page cache has entries for."""


@jit
def region_class(m, r):
    """ANON or FILE."""
    return n.ANON if m.region[r].kind == n.KIND_ANON else n.FILE


@jit
def swap_backed(m, r):
    """Whether evicted pages of region r go to swap (anonymous memory and tmpfs, folio_test_swapbacked)."""
    return m.region[r].kind == n.KIND_ANON or m.region[r].kind == n.KIND_SHMEM


@jit
def unmapped(m, r):
    """Whether nobody maps region r: page cache of read() and write(), which has no page tables and no owner's RSS."""
    return m.region[r].kind == n.KIND_CACHE or m.region[r].kind == n.KIND_SHMEM


@jit
def folio_pages(m, r):
    """Pages per folio of region r: page cache of a disk's files comes in folios as large as readahead makes them
    (mm/readahead.c: page_cache_ra_order, since 6.16 on ext4), tmpfs and anonymous memory in single pages
    [K-large-folios].

    Folios below 64 pages count as single pages: readahead begins with those and grows by two orders a round, orders up
    to 3 go through per-CPU lists, and each takes its own entries in page tables and xarray all the same.
    """
    if m.file_folio_pages < XARRAY_SLOTS:
        return 1
    kind = m.region[r].kind
    of_disk = kind == n.KIND_FILE_RO or kind == n.KIND_FILE_RW or kind == n.KIND_CACHE
    return int(m.file_folio_pages) if of_disk else 1


@jit
def in_folios(pages, unit):
    """`pages` of a file as readahead brings them: whole folios of `unit`, where the file has one."""
    return pages if unit == 1 or pages < unit else (pages + unit - 1) // unit * unit


@jit
def mapped_whole(m, r):
    """Whether folios of 2 MiB lie under region r's whole mapping: an entry of the level above maps each of them, and
    no leaf table is needed (mm/memory.c: do_set_pmd; mm/filemap.c: filemap_map_pmd) [K-large-folios]."""
    if m.file_folio_pages < LEAF_SPAN_PAGES:
        return False
    kind = m.region[r].kind
    of_file = kind == n.KIND_FILE_RO or kind == n.KIND_FILE_RW or kind == n.KIND_MAPPING
    return of_file and m.region[r].density >= 1.0


@jit
def tables_alone(m, r):
    """Whether region r has no pages of its own: what it touches takes table entries only."""
    return m.region[r].kind == n.KIND_ZERO or m.region[r].kind == n.KIND_MAPPING


@jit
def resident_pages(m, r):
    """Pages of region r that are in memory."""
    total = 0
    for z in range(n.N_ZONES):
        total += m.region[r].pages[z]
    return total


@jit
def fast_pages(m, r):
    """Pages of region r in DRAM."""
    return on_tier(m.region[r].pages, n.FAST)


@jit
def slow_pages(m, r):
    """Pages of region r on the slow tier."""
    return on_tier(m.region[r].pages, n.SLOW)


@jit
def spans_needed(m, r, touched):
    """Ranges of 2 MiB of address space with one of `touched` pages of region r.

    Resident, swapped and dropped pages count alike: demotion, swap and MADV_DONTNEED free no table.
    """
    if touched <= 0 or unmapped(m, r):
        return 0
    per_table = LEAF_SPAN_PAGES * m.region[r].density
    return int((touched + per_table - 1e-9) / per_table) if per_table >= 1.0 else touched


@jit
def leaf_tables_needed(m, r, touched):
    """Leaf page tables for `touched` pages of region r: one per range, where its folios are not mapped as a whole.

    Anonymous THP deposits its table all the same (mm/huge_memory.c: pgtable_trans_huge_deposit).
    """
    return 0 if mapped_whole(m, r) else spans_needed(m, r, touched)


@jit
def upper_tables_needed(spans):
    """PMD, PUD and PGD pages above so many ranges of 2 MiB: one per TABLE_ENTRIES, and two for the path."""
    if spans <= 0:
        return 0
    return (spans + TABLE_ENTRIES - 1) // TABLE_ENTRIES + 2


@jit
def has_tables(m, r):
    """Whether region r has page tables."""
    tables = 0
    for z in range(n.N_ZONES):
        tables += m.region[r].leaf[z] + m.region[r].upper[z]
    return tables > 0


@jit
def free_leaf(m, r, pages):
    """Unmap: leaf tables go with their range, from both tiers in proportion."""
    region = m.region[r]
    total = 0
    for z in range(n.N_ZONES):
        total += region.leaf[z]
    left = min(pages, total)
    if left <= 0:
        return
    want = left
    for step in range(RELEASE_STEPS):
        z = release_zone(step)
        out = release_pages(step, region.leaf[z], want, total, left)
        if out == 0:
            continue
        region.leaf[z] -= out
        free_class(m, n.PT_LEAF, z, out)
        left -= out


@jit
def free_upper(m, r, pages):
    """Upper page tables go when their range is gone."""
    left = pages
    for z in range(n.N_ZONES - 1, -1, -1):
        out = min(left, m.region[r].upper[z])
        if out > 0:
            m.region[r].upper[z] -= out
            free_class(m, n.PT_UPPER, z, out)
            left -= out


@jit
def leave_swap_cache(m, r, z, pages):
    """`pages` of region r are about to leave zone z, and with them their share of its tier's swap cache, returned."""
    tier = tier_of(z)
    cached = m.region[r].swap_cached[tier]
    if cached == 0 or pages == 0:
        return 0
    on_tier = slow_pages(m, r) if tier == n.SLOW else fast_pages(m, r)
    left = min(cached, (cached * pages + on_tier - 1) // on_tier)
    m.region[r].swap_cached[tier] -= left
    return left


@jit
def free_resident(m, r, pages):
    """Give back resident pages of region r, from all zones in proportion."""
    region = m.region[r]
    cls = region_class(m, r)
    total = resident_pages(m, r)
    left = min(pages, total)
    if left <= 0:
        return
    want = left
    for step in range(RELEASE_STEPS):
        z = release_zone(step)
        out = release_pages(step, region.pages[z], want, total, left)
        if out == 0:
            continue
        leave_swap_cache(m, r, z, out)
        region.pages[z] -= out
        free_class(m, cls, z, out)
        left -= out


@jit
def forget_evicted(m, r, pages):
    """Swapped or dropped pages of an unmapped range are forgotten; anonymous ones return their swap."""
    region = m.region[r]
    out = min(pages, region.out_pages)
    if out <= 0:
        return
    premature = region.out_premature * out // region.out_pages
    region.out_pages -= out
    region.out_premature -= premature
    if swap_backed(m, r):
        m.swap_free_pages += out


@jit
def forget_pages(m, r, pages):
    """`pages` touched pages of region r are given back, resident and evicted ones in proportion; its tables stay."""
    resident = resident_pages(m, r)
    touched = resident + m.region[r].out_pages
    pages = min(pages, touched)
    if pages <= 0:
        return
    from_memory = resident * pages // touched
    from_memory = max(from_memory, pages - m.region[r].out_pages)
    free_resident(m, r, from_memory)
    forget_evicted(m, r, pages - from_memory)


@jit
def unmap(m, r, pages):
    """munmap of `pages` touched pages of region r, and of its tables."""
    forget_pages(m, r, pages)
    trim_tables(m, r)


@jit
def trim_tables(m, r):
    """Free the tables that the remaining range of region r no longer needs."""
    region = m.region[r]
    touched = resident_pages(m, r) + region.out_pages
    have = 0
    upper = 0
    for z in range(n.N_ZONES):
        have += region.leaf[z]
        upper += region.upper[z]
    need = leaf_tables_needed(m, r, touched)
    if have > need:
        free_leaf(m, r, have - need)
        have = need
    need_upper = upper_tables_needed(spans_needed(m, r, touched) if mapped_whole(m, r) else have)
    if upper > need_upper:
        free_upper(m, r, upper - need_upper)


@jit
def promote_region(m, r, pages, level):
    """Move pages of region r from the slow tier to DRAM, above the mark `level`; returns how many moved."""
    region = m.region[r]
    cls = region_class(m, r)
    pages = min(pages, slow_pages(m, r))
    done = 0
    for z in range(n.MOVABLE, -1, -1):
        mark = mark_pages(m, z, level, True)
        got = take_from_zone(m, z, min(pages - done, max(0, m.free_pages[z] - mark)), mark)
        region.pages[z] += got
        charge_class(m, cls, z, got)
        done += got
    left = done
    for z in range(n.SLOW_MOVABLE, n.SLOW_NORMAL - 1, -1):
        out = min(left, region.pages[z])
        region.swap_cached[n.FAST] += leave_swap_cache(m, r, z, out)
        region.pages[z] -= out
        free_class(m, cls, z, out)
        left -= out
    m.moved_bytes[n.FAST] += done * PAGE_BYTES
    m.moved_bytes[n.SLOW] += done * PAGE_BYTES
    return done
