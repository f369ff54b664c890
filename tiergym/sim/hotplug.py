"""Phase 7: memory blocks of the slow tier come online and go offline (mm/memory_hotplug.c)."""

from tiergym.sim import names as n
from tiergym.sim.allocate import hand_out, request
from tiergym.sim.compile import jit
from tiergym.sim.pages import charge_class, drain_pcp, free_class, on_tier
from tiergym.sim.regions import leave_swap_cache, region_class
from tiergym.sim.units import PAGE_BYTES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.sim.watermarks import init_per_zone_wmark_min
from tiergym.sim.zonelist import NODE_BOTH, NODE_FAST, clear_grant


@jit
def choose_zone(m):
    """NORMAL, MOVABLE, or the auto-movable rule (auto_movable_can_online_movable).

    auto-movable takes MOVABLE while movable <= ratio % of the kernel's early pages, which are DRAM's present ones;
    with numa_aware that also holds per node, and a node without CPUs has no early pages: always NORMAL.
    """
    mode = m.action[n.A_ZONE]
    if mode != n.ZONE_AUTO_MOVABLE:
        return n.SLOW_MOVABLE if mode == n.ZONE_MOVABLE else n.SLOW_NORMAL
    if m.auto_movable_numa_aware == n.ON:
        return n.SLOW_NORMAL
    movable = m.managed_pages[n.MOVABLE] + m.managed_pages[n.SLOW_MOVABLE] + m.block_pages
    kernel_early = m.dram_mib * PAGES_PER_MIB - m.managed_pages[n.MOVABLE]
    return n.SLOW_MOVABLE if movable * 100.0 <= m.auto_movable_ratio * kernel_early else n.SLOW_NORMAL


@jit
def free_memmap(m, pages):
    """The memmap of a removed block goes back, DRAM's first."""
    for z in range(n.NORMAL, -1, -1):
        out = min(pages, m.used_pages[n.MEMMAP, z])
        free_class(m, n.MEMMAP, z, out)
        pages -= out
    if pages > 0:
        free_class(m, n.MEMMAP, n.SLOW_NORMAL, min(pages, m.used_pages[n.MEMMAP, n.SLOW_NORMAL]))


@jit
def online_block(m, b, nodes):
    """Bring one block online; False if its memmap finds no room (GFP_KERNEL|RETRY_MAYFAIL: no OOM).

    A block that was online before has its memmap still, whether it is its own or in DRAM.
    """
    memmap = m.block_pages // STRUCT_PAGES_PER_PAGE
    added = m.block_state[b] == n.BLOCK_ADDED
    on_memory = m.action[n.A_MEMMAP] == n.MEMMAP_ON_MEMORY if added else m.block_memmap[b] > 0
    if added and not on_memory:
        clear_grant(m)
        got = request(m, memmap, n.MEMMAP, nodes, True, False, True, False, False)
        hand_out(m, n.MEMMAP)
        if got < memmap:
            free_memmap(m, got)
            return False
    zone = choose_zone(m)
    usable = m.block_pages - (memmap if on_memory else 0)
    m.managed_pages[zone] += usable
    m.free_pages[zone] += usable
    m.block_memmap[b] = memmap if on_memory else 0
    m.block_unmovable[b] = 0
    m.blocks_changed = 1
    m.block_state[b] = n.BLOCK_NORMAL if zone == n.SLOW_NORMAL else n.BLOCK_MOVABLE
    m.counters[n.C_BLOCKS_ONLINED] += 1
    init_per_zone_wmark_min(m)  # block by block, as each sum is over the marks before it
    return True


@jit
def note_memmap(m):
    """Share of the slow tier's struct pages that lie in its own blocks."""
    online, own = 0, 0
    for b in range(m.blocks):
        if m.block_state[b] >= n.BLOCK_NORMAL:
            online += 1
            own += 1 if m.block_memmap[b] > 0 else 0
    spilled = m.used_pages[n.MEMMAP, n.SLOW_NORMAL] * STRUCT_PAGES_PER_PAGE / max(m.block_pages, 1)
    m.memmap_slow_share = min(1.0, (own + spilled) / online) if online > 0 else 0.0


@jit
def online_arrived(m):
    """Online every block that is plugged but not online. The whole range's memmap comes before its first block is
    usable, so the first range takes it from DRAM; a later one may take it from CXL already online as NORMAL."""
    nodes = NODE_BOTH if m.managed_pages[n.SLOW_NORMAL] > 0 else NODE_FAST
    for b in range(m.blocks):
        plugged = m.block_state[b] == n.BLOCK_ADDED or m.block_state[b] == n.BLOCK_OFFLINE
        if plugged and not online_block(m, b, nodes):
            m.counters[n.C_BLOCKS_FAILED] += 1
    note_memmap(m)


@jit
def boot_slow_node(m):
    """A node of the firmware's memory map is there from boot: all of it in kernel zones, whatever memhp_default_state
    says, and its struct pages in its own lowest blocks, which they pin (mm/sparse.c: sparse_init_nid;
    mm/page_isolation.c: has_unmovable_pages). Those are managed here, and in Linux are not."""
    for b in range(m.blocks):
        if m.block_state[b] == n.BLOCK_ADDED:
            m.block_state[b] = n.BLOCK_NORMAL
            m.managed_pages[n.SLOW_NORMAL] += m.block_pages
            m.free_pages[n.SLOW_NORMAL] += m.block_pages
    memmap = m.managed_pages[n.SLOW_NORMAL] // STRUCT_PAGES_PER_PAGE
    m.free_pages[n.SLOW_NORMAL] -= memmap
    charge_class(m, n.MEMMAP, n.SLOW_NORMAL, memmap)
    m.blocks_changed = 1
    init_per_zone_wmark_min(m)
    note_memmap(m)


@jit
def boot(m):
    """Memory of the slow tier that is there when an episode begins."""
    if m.slow_at_boot == n.ON:
        boot_slow_node(m)
    online_arrived(m)


@jit
def movable_used(m, z):
    """User pages in a zone."""
    return m.used_pages[n.ANON, z] + m.used_pages[n.FILE, z]


@jit
def evacuate(m, z, pages):
    """Migrate user pages from zone z to DRAM (do_migrate_range: any other node); True if all of them fitted."""
    if pages <= 0:
        return True
    total = movable_used(m, z)
    if pages > total:
        return False
    moved = 0
    for step in range(2):
        for r in range(m.regions):
            region = m.region[r]
            have = region.pages[z]
            share = have * pages // total if step == 0 else min(have, pages - moved)
            share = min(share, pages - moved)
            if share <= 0:
                continue
            cls = region_class(m, r)
            clear_grant(m)
            got = request(m, share, cls, NODE_FAST, False, True, True, False, False)
            got = min(got, region.pages[z])  # reclaim for it may itself have moved this region's pages
            hand_out(m, cls)
            for y in range(n.FIRST_SLOW_ZONE):
                region.pages[y] += m.grant_pages[y]
            surplus = on_tier(m.grant_pages, n.FAST) - got
            for y in range(n.FIRST_SLOW_ZONE):
                back = min(surplus, m.grant_pages[y])
                region.pages[y] -= back
                free_class(m, cls, y, back)
                surplus -= back
            region.swap_cached[n.FAST] += leave_swap_cache(m, r, z, got)
            region.pages[z] -= got
            free_class(m, cls, z, got)
            moved += got
    m.counters[n.C_PAGES_EVACUATED] += moved
    m.moved_bytes[n.FAST] += moved * PAGE_BYTES
    m.moved_bytes[n.SLOW] += moved * PAGE_BYTES
    m.owed_s[n.LOST_MIGRATION] += moved * m.migrate_batched_us * 1e-6
    return moved >= pages


@jit
def movable_inside(m, b, z):
    """User pages in a block: they fill the zone's blocks from the lowest up, beside the kernel pages
    there [F-pinned-blocks]."""
    below = 0
    for lower in range(b):
        if m.block_state[lower] == m.block_state[b]:
            below += m.block_pages - m.block_memmap[lower] - m.block_unmovable[lower]
    usable = m.block_pages - m.block_memmap[b] - m.block_unmovable[b]
    return min(max(movable_used(m, z) - below, 0), usable)


@jit
def offline_block(m, b):
    """Take one block offline: not with an unmovable page in it, nor if its pages fit nowhere else."""
    if m.block_unmovable[b] > 0:
        return False
    z = n.SLOW_NORMAL if m.block_state[b] == n.BLOCK_NORMAL else n.SLOW_MOVABLE
    usable = m.block_pages - m.block_memmap[b]
    drain_pcp(m)  # zone_pcp_disable
    inside = movable_inside(m, b, z)
    if not evacuate(m, z, max(inside, usable - m.free_pages[z])) or m.free_pages[z] < usable:
        return False
    m.free_pages[z] -= usable
    m.managed_pages[z] -= usable
    m.block_state[b] = n.BLOCK_OFFLINE
    m.blocks_changed = 1
    init_per_zone_wmark_min(m)
    return True


@jit
def remove_block(m, b):
    """Unplug a block that is offline: its memmap goes with it (arch_remove_memory)."""
    if m.block_memmap[b] == 0:
        free_memmap(m, m.block_pages // STRUCT_PAGES_PER_PAGE)
    m.block_memmap[b] = 0
    m.block_state[b] = n.BLOCK_ABSENT
    m.blocks_changed = 1


@jit
def take_offline(m, blocks, remove):
    """Offline `blocks` blocks, from the highest down; to unplug them, every block that is online is tried until so many
    are gone, in place only so many are tried at all."""
    done, tried = 0, 0
    for b in range(m.blocks - 1, -1, -1):
        if done == blocks or (tried == blocks and not remove):
            break
        if m.block_state[b] >= n.BLOCK_NORMAL:
            tried += 1
            if offline_block(m, b):
                done += 1
                m.counters[n.C_BLOCKS_OFFLINED] += 1
                if remove:
                    remove_block(m, b)
            else:
                m.counters[n.C_BLOCKS_FAILED] += 1
    note_memmap(m)


@jit
def hot_add(m, blocks):
    """`blocks` absent blocks arrive, the lowest first, and come online as the action says."""
    for b in range(m.blocks):
        if blocks > 0 and m.block_state[b] == n.BLOCK_ABSENT:
            m.block_state[b] = n.BLOCK_ADDED
            m.blocks_changed = 1
            blocks -= 1
    online_arrived(m)


@jit
def event_blocks(m, e):
    """An event's size in whole blocks."""
    return int(m.event_mib[e] * PAGES_PER_MIB + 0.5) // max(m.block_pages, 1)
