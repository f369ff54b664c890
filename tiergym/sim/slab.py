"""Slab pools: objects fill holes before new pages, and a page returns only when all its objects are gone.

Objects that die at random leave a page empty with probability (1 - s)^n, s being the share that still
lives of those that once filled it: hence pages = reference * (1 - (1 - s)^n), with objects = reference * n * s.
"""

import math

from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.pages import class_on_tier, free_class

REMOTE_PARTIAL_SHARE = 1000.0 / 1024.0
"""SLUB takes a remote partial slab before a new page this often (mm/slub.c: get_any_partial)."""


@jit
def slab_class(pool):
    """Class of a slab pool's pages."""
    return n.SLAB_UNRECLAIM if pool == n.SLAB_POOL_UNRECLAIM else n.SLAB_RECLAIM


@jit
def power(base, exponent):
    """base ** exponent for a small whole exponent, by squaring: the same bits everywhere."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@jit
def occupied_pages(reference, objects, per_page):
    """Slab pages with at least one live object, of `reference` pages that were once full."""
    if reference <= 0.0 or objects <= 0.0:
        return 0
    alive = min(objects / (reference * per_page), 1.0)
    return int(math.ceil(reference * (1.0 - power(1.0 - alive, per_page)) - 1e-9))


@jit
def remember_occupancy(m, pool, tier):
    """After pages were added or moved: the reference at which the present pages and objects lie on the law."""
    per_page = int(m.slab_objects_per_page)
    pages = float(class_on_tier(m, slab_class(pool), tier))
    objects = m.slab_objects[pool, tier]
    if pages <= 0.0 or objects <= 0.0:
        m.slab_reference[pool, tier] = pages
        return
    full = objects / (pages * per_page)
    if full >= 0.999:
        m.slab_reference[pool, tier] = pages
        return
    alive = full
    for _ in range(6):
        alive = full * (1.0 - power(1.0 - alive, per_page))
    m.slab_reference[pool, tier] = pages if alive <= 1e-9 else max(pages, objects / (per_page * alive))


@jit
def once_full(m, pool, tier):
    """`slab_reference`, made anew where pages or objects were added since it was last asked for."""
    if m.slab_changed[pool, tier] == 1:
        m.slab_changed[pool, tier] = 0
        remember_occupancy(m, pool, tier)
    return m.slab_reference[pool, tier]


@jit
def fill_holes(m, pool, objects, slow_first, use_slow):
    """Place new objects in partial slabs; returns the objects that still need new pages."""
    per_page = int(m.slab_objects_per_page)
    cls = slab_class(pool)
    for step in range(2):
        tier = n.SLOW if (step == 1) != slow_first else n.FAST
        if tier == n.SLOW and not use_slow:
            continue
        holes = class_on_tier(m, cls, tier) * per_page - m.slab_objects[pool, tier]
        if tier == n.SLOW and not slow_first:
            holes *= REMOTE_PARTIAL_SHARE
        put = min(objects, max(holes, 0.0))
        if put > 0.0:
            m.slab_objects[pool, tier] += put
            objects -= put
            m.slab_changed[pool, tier] = 1
    return objects


@jit
def add_slab_pages(m, pool, tier, pages, objects):
    """New slab pages on a tier with their first objects."""
    m.slab_objects[pool, tier] += objects
    if tier == n.SLOW:
        m.slab_movable[pool] += pages * m.slab_movable_share
    m.slab_changed[pool, tier] = 1


@jit
def free_objects(m, pool, tier, objects):
    """Objects of a tier die at random; the pages they leave empty return. Gives the pages freed."""
    cls = slab_class(pool)
    objects = min(objects, m.slab_objects[pool, tier])
    if objects <= 0.0:
        return 0
    reference = once_full(m, pool, tier)
    m.slab_objects[pool, tier] = max(m.slab_objects[pool, tier] - objects, 0.0)
    if m.slab_objects[pool, tier] < 1e-6:
        m.slab_objects[pool, tier] = 0.0
    keep = occupied_pages(reference, m.slab_objects[pool, tier], int(m.slab_objects_per_page))
    return free_slab_pages(m, pool, tier, max(class_on_tier(m, cls, tier) - keep, 0))


@jit
def free_in_order(m, pool, tier, objects):
    """Objects of a tier die in the order of their birth: neighbours go together, so their pages come back."""
    live = m.slab_objects[pool, tier]
    objects = min(objects, live)
    if objects <= 0.0:
        return 0
    share = objects / live
    m.slab_objects[pool, tier] = live - objects if live - objects > 1e-6 else 0.0
    m.slab_reference[pool, tier] = once_full(m, pool, tier) * (1.0 - share)
    pages = class_on_tier(m, slab_class(pool), tier)
    return free_slab_pages(m, pool, tier, pages if share >= 1.0 else int(pages * share))


@jit
def free_slab_pages(m, pool, tier, left):
    """Give back `left` pages of a pool on a tier, which hold no object any more."""
    cls = slab_class(pool)
    pages = class_on_tier(m, cls, tier)
    freed = left
    if left == 0:
        return 0
    if tier == n.SLOW and pages > 0:
        m.slab_movable[pool] *= 1.0 - left / pages
    for z in range(n.LAST_ZONE[tier], n.FIRST_ZONE[tier] - 1, -1):
        out = min(left, m.used_pages[cls, z])
        if out > 0:
            free_class(m, cls, z, out)
            left -= out
    return freed
