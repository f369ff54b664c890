"""Settings of the kernel that change while it runs: sysctls, files of /sys, swapon and swapoff, and what follows."""

from tiergym.sim import names as n
from tiergym.sim.allocate import allocate_user
from tiergym.sim.compile import jit
from tiergym.sim.interleave import set_interleave_weights
from tiergym.sim.kswapd import revive_all
from tiergym.sim.regions import region_class, swap_backed
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.sim.watermarks import calculate_min_free_kbytes, set_recommended_min_free_kbytes, set_watermarks


@jit
def read_all_back(m, r):
    """swapoff brings region r's swapped pages back to memory (mm/swapfile.c: try_to_unuse); returns how many found
    room. Where memory ends, the OOM killer takes swapoff itself, nobody else (set_current_oom_origin)."""
    region = m.region[r]
    got = allocate_user(m, region_class(m, r), region.out_pages, int(region.mempolicy), False)
    for z in range(n.N_ZONES):
        region.pages[z] += m.grant_pages[z]
    region.out_premature -= region.out_premature * got // max(region.out_pages, 1)
    region.out_pages -= got
    region.refault = min(region.refault, region.out_pages)
    m.counters[n.C_PSWPIN] += got
    return got


@jit
def swap_off(m):
    """Take the swap space away, which nothing is written to meanwhile (mm/swapfile.c: del_from_avail_list); where its
    pages find no room, it stays (-ENOMEM). Whether it went."""
    free = m.swap_free_pages
    m.swap_free_pages = 0
    for r in range(m.regions):
        if swap_backed(m, r) and m.region[r].out_pages > 0:
            free += read_all_back(m, r)
            if m.region[r].out_pages > 0:
                m.swap_free_pages = free
                return False
    for r in range(m.regions):
        for tier in range(n.N_TIERS):
            m.region[r].swap_cached[tier] = 0
    m.swap_mib = 0.0
    return True


@jit
def resize_swap(m, mib):
    """swapoff, and swapon of another size; 0 leaves none."""
    if swap_off(m):
        m.swap_mib = mib
        m.swap_free_pages = int(mib * PAGES_PER_MIB)


@jit
def set_demotion(m, value):
    """numa/demotion_enabled. Since 6.18 switching it on makes every kswapd that gave up work again (mm/memory-tiers.c:
    demotion_enabled_store) [K-hopeless]."""
    if value == n.ON and m.demotion == n.OFF and m.hopeless_reset != n.HOPELESS_PROGRESS:
        revive_all(m)
    m.demotion = value


@jit
def set_watermark_knob(m, knob, value):
    """vm.min_free_kbytes as it is written, vm.watermark_scale_factor, or huge pages, off which min_free_kbytes is
    computed anew and on which khugepaged may raise it; the marks follow (mm/page_alloc.c:
    min_free_kbytes_sysctl_handler, setup_per_zone_wmarks; mm/khugepaged.c: set_recommended_min_free_kbytes)."""
    if knob == n.KNOB_WATERMARK_SCALE_FACTOR:
        m.watermark_scale_factor = value
    elif knob == n.KNOB_MIN_FREE_KIB:
        m.min_free_kib = value
        m.min_free_kbytes = int(value)
    else:
        m.thp = value
        if value == n.OFF:
            calculate_min_free_kbytes(m)
    set_watermarks(m)
    if knob == n.KNOB_THP:
        set_recommended_min_free_kbytes(m)


@jit
def set_interleave(m, knob, value):
    """mempolicy/weighted_interleave/node<n>; 0 gives a node the weight of its bandwidth back."""
    if knob == n.KNOB_INTERLEAVE_FAST:
        m.interleave_fast = value
    else:
        m.interleave_slow = value
    set_interleave_weights(m)


@jit
def set_dirty_knob(m, knob, value):
    """vm.dirty_ratio, vm.dirty_background_ratio, vm.dirty_expire_centisecs."""
    if knob == n.KNOB_DIRTY_RATIO:
        m.dirty_ratio = value
    elif knob == n.KNOB_DIRTY_BACKGROUND_RATIO:
        m.dirty_background_ratio = value
    else:
        m.dirty_expire_s = value


@jit
def set_balancing_knob(m, knob, value):
    """What NUMA balancing scans, calls hot and promotes, and its mode (kernel.numa_balancing, debugfs sched/)."""
    if knob == n.KNOB_NUMA_BALANCING:
        m.numa_balancing = value
    elif knob == n.KNOB_HOT_THRESHOLD_MS:
        m.hot_threshold_ms = value
        for r in range(m.regions):
            m.region[r].heat_from = -1  # what follows from the threshold is worked out anew
    elif knob == n.KNOB_SCAN_MIB_PER_S:
        m.scan_mib_per_s = value
    else:
        m.promote_limit_mib_per_s = value


@jit
def write_setting(m, knob, value):
    """A person sets `knob` of `names.KNOBS` to `value`."""
    if knob == n.KNOB_DEMOTION:
        set_demotion(m, value)
    elif knob == n.KNOB_SWAP_MIB:
        resize_swap(m, value)
    elif knob == n.KNOB_WATERMARK_SCALE_FACTOR or knob == n.KNOB_MIN_FREE_KIB or knob == n.KNOB_THP:
        set_watermark_knob(m, knob, value)
    elif knob == n.KNOB_INTERLEAVE_FAST or knob == n.KNOB_INTERLEAVE_SLOW:
        set_interleave(m, knob, value)
    elif knob == n.KNOB_DIRTY_RATIO or knob == n.KNOB_DIRTY_BACKGROUND_RATIO or knob == n.KNOB_DIRTY_EXPIRE_S:
        set_dirty_knob(m, knob, value)
    elif knob == n.KNOB_BOOST_FACTOR:
        m.boost_factor = value
    elif knob == n.KNOB_DAMON_PROMOTION:
        m.damon_promotion = value
    elif knob == n.KNOB_AUTO_MOVABLE_RATIO:
        m.auto_movable_ratio = value
    elif knob == n.KNOB_AUTO_MOVABLE_NUMA_AWARE:
        m.auto_movable_numa_aware = value
    else:
        set_balancing_knob(m, knob, value)
