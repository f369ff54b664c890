"""Phase 7: memory blocks of the slow tier come online and go offline (mm/memory_hotplug.c)."""

from tiergym.sim import names as n
from tiergym.sim.allocate import hand_out, request
from tiergym.sim.blocks import end_of_state, set_block_states
from tiergym.sim.compile import jit
from tiergym.sim.memmap import blocks_with_memmap_in_dram
from tiergym.sim.onlining import blocks_at_once, choose_zone, memmap_pages, usable_pages
from tiergym.sim.pages import charge_class, drain_pcp, free_class, movable_used, on_tier
from tiergym.sim.regions import leave_swap_cache, region_class
from tiergym.sim.units import PAGE_BYTES, PAGES_PER_MIB, STRUCT_PAGES_PER_PAGE
from tiergym.sim.watermarks import init_per_zone_wmark_min
from tiergym.sim.zonelist import NODE_BOTH, NODE_FAST, clear_grant


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
def brings_own_memmap(m, b):
    """Whether block b's memmap lies in itself once it is online: one that was online before has it still, whether it is
    its own or in DRAM."""
    if m.block_state[b] == n.BLOCK_ADDED:
        return m.action[n.A_MEMMAP] == n.MEMMAP_ON_MEMORY
    return m.block_own_memmap[b] == 1


@jit
def online_blocks(m, b, count, nodes):
    """Bring `count` blocks from b on online, all in one state; False if the memmap of a single one finds no room
    (GFP_KERNEL|RETRY_MAYFAIL: no OOM)."""
    memmap, on_memory = count * memmap_pages(m), brings_own_memmap(m, b)
    if m.block_state[b] == n.BLOCK_ADDED and not on_memory:
        clear_grant(m)
        got = request(m, memmap, n.MEMMAP, nodes, True, False, True, False, False)
        hand_out(m, n.MEMMAP)
        if got < memmap:
            free_memmap(m, got)
            return False
    zone = choose_zone(m, 0)
    usable = count * m.block_pages - (memmap if on_memory else 0)
    m.managed_pages[zone] += usable
    m.free_pages[zone] += usable
    if on_memory:
        m.blocks_own_memmap += count
        for own in range(b, b + count):
            m.block_own_memmap[own] = 1
    set_block_states(m, b, b + count, n.BLOCK_NORMAL if zone == n.SLOW_NORMAL else n.BLOCK_MOVABLE)
    m.counters[n.C_BLOCKS_ONLINED] += count
    init_per_zone_wmark_min(m)  # block by block, as each sum is over the marks before it: see `onlining`
    return True


@jit
def note_memmap(m):
    """Share of the slow tier's struct pages that lie in its own blocks."""
    online = m.blocks_in_state[n.BLOCK_NORMAL] + m.blocks_in_state[n.BLOCK_MOVABLE]
    m.memmap_slow_share = 1.0 - blocks_with_memmap_in_dram(m) / online if online > 0 else 0.0


@jit
def online_range(m, b, end, nodes):
    """Online the blocks from b to before `end`, all plugged in and in one state."""
    together = 1
    while b < end:
        if m.block_state[b] == n.BLOCK_ADDED:
            together = blocks_at_once(m, b, end - b, nodes, brings_own_memmap(m, b))
        if not online_blocks(m, b, together, nodes):
            m.counters[n.C_BLOCKS_FAILED] += 1
        b += together


@jit
def online_arrived(m):
    """Online every block that is plugged but not online. The whole range's memmap comes before its first block is
    usable, so the first range takes it from DRAM; a later one may take it from CXL already online as NORMAL."""
    nodes = NODE_BOTH if m.managed_pages[n.SLOW_NORMAL] > 0 else NODE_FAST
    waiting, b = m.blocks_in_state[n.BLOCK_ADDED] + m.blocks_in_state[n.BLOCK_OFFLINE], 0
    while waiting > 0:
        state, end = m.block_state[b], end_of_state(m, b)
        if state == n.BLOCK_ADDED or state == n.BLOCK_OFFLINE:
            waiting -= end - b
            online_range(m, b, end, nodes)
        b = end
    note_memmap(m)


@jit
def boot_slow_node(m):
    """A node of the firmware's memory map is there from boot: all of it in kernel zones, whatever memhp_default_state
    says, and its struct pages in its own lowest blocks, which they pin (mm/sparse.c: sparse_init_nid;
    mm/page_isolation.c: has_unmovable_pages). Those are managed here, and in Linux are not."""
    arrived = m.blocks_in_state[n.BLOCK_ADDED]  # the lowest ones
    set_block_states(m, 0, arrived, n.BLOCK_NORMAL)
    m.managed_pages[n.SLOW_NORMAL] += arrived * m.block_pages
    m.free_pages[n.SLOW_NORMAL] += arrived * m.block_pages
    memmap = m.managed_pages[n.SLOW_NORMAL] // STRUCT_PAGES_PER_PAGE
    m.free_pages[n.SLOW_NORMAL] -= memmap
    charge_class(m, n.MEMMAP, n.SLOW_NORMAL, memmap)
    init_per_zone_wmark_min(m)
    note_memmap(m)


@jit
def boot(m):
    """Memory of the slow tier that is there when an episode begins."""
    if m.slow_at_boot == n.ON:
        boot_slow_node(m)
    online_arrived(m)


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
def movable_inside(m, b, z, above):
    """User pages in a block: they fill the zone's blocks from the lowest up, beside the kernel pages
    there [F-pinned-blocks]. `above`: usable pages of the zone's blocks above b."""
    below = m.managed_pages[z] - above - usable_pages(m, b)
    if z == n.SLOW_NORMAL:
        for lower in range(m.pinned_from, min(m.pinned_end, b)):
            below -= m.block_unmovable[lower]
    return min(max(movable_used(m, z) - below, 0), usable_pages(m, b) - m.block_unmovable[b])


@jit
def offline_block(m, b, z, above):
    """Take one block of zone z offline: not with an unmovable page in it, nor if its pages fit nowhere else. For
    `above` see `movable_inside`."""
    if m.block_unmovable[b] > 0:
        return False
    usable = usable_pages(m, b)
    drain_pcp(m)  # zone_pcp_disable
    inside = movable_inside(m, b, z, above)
    if not evacuate(m, z, max(inside, usable - m.free_pages[z])) or m.free_pages[z] < usable:
        return False
    m.free_pages[z] -= usable
    m.managed_pages[z] -= usable
    m.blocks_own_memmap -= m.block_own_memmap[b]
    set_block_states(m, b, b + 1, n.BLOCK_OFFLINE)
    init_per_zone_wmark_min(m)
    return True


@jit
def remove_block(m, b):
    """Unplug a block that is offline: its memmap goes with it (arch_remove_memory)."""
    if m.block_own_memmap[b] == 0:
        free_memmap(m, memmap_pages(m))
    m.block_own_memmap[b] = 0
    set_block_states(m, b, b + 1, n.BLOCK_ABSENT)


@jit
def take_offline(m, blocks, remove):
    """Offline `blocks` blocks, from the highest down; to unplug them, every block that is online is tried until so many
    are gone, in place only so many are tried at all."""
    done, tried, normal_above, movable_above = 0, 0, 0, 0
    for b in range(m.blocks - 1, -1, -1):
        if done == blocks or (tried == blocks and not remove):
            break
        if m.block_state[b] < n.BLOCK_NORMAL:
            continue
        tried += 1
        normal = m.block_state[b] == n.BLOCK_NORMAL
        z, above = (n.SLOW_NORMAL, normal_above) if normal else (n.SLOW_MOVABLE, movable_above)
        if offline_block(m, b, z, above):
            done += 1
            m.counters[n.C_BLOCKS_OFFLINED] += 1
            if remove:
                remove_block(m, b)
        else:
            m.counters[n.C_BLOCKS_FAILED] += 1
            normal_above += usable_pages(m, b) if normal else 0
            movable_above += 0 if normal else usable_pages(m, b)
    note_memmap(m)


@jit
def hot_add(m, blocks):
    """`blocks` absent blocks arrive, the lowest first, and come online as the action says."""
    for b in range(m.blocks):
        if blocks > 0 and m.block_state[b] == n.BLOCK_ABSENT:
            set_block_states(m, b, b + 1, n.BLOCK_ADDED)
            blocks -= 1
    online_arrived(m)


@jit
def event_blocks(m, e):
    """An event's size in whole blocks."""
    return int(m.event_mib[e] * PAGES_PER_MIB + 0.5) // max(m.block_pages, 1)
