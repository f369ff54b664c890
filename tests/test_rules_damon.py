"""DAMON's promotion: DAMOS_MIGRATE_HOT takes DRAM down to min, and what follows (mm/damon/paddr.c)."""

from typing import Any

import pytest

from tests.builders import MOVABLE, Lab, scenario
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

FILLER = {"kind": "anon", "mib": 1100, "access_hz": 0, "grow_s": 2}
HOT = {"kind": "anon", "mib": 300, "access_hz": 100, "start_s": 3, "grow_s": 1}
STACKS: dict[str, Any] = {"threads": {"count": 100, "start_s": 6, "grow_s": 1}}


def lab(modes=MOVABLE, **fields) -> Lab:
    fields = {"regions": [FILLER, HOT], "damon_promotion": "on"} | fields
    return Lab(scenario(**fields), modes=modes)


def test_it_fills_dram_to_min_and_numa_balancing_only_to_high():
    """A GFP_NOWAIT request passes the min mark (slow path), migrate_balanced_pgdat asks for high."""
    damon = lab({}).ticks(22)  # NORMAL, so that page tables fall back and nobody is killed
    m = damon.m
    assert m["wmark_pages"][n.WMARK_MIN, n.NORMAL] <= damon.free(n.FAST) <= m["wmark_pages"][n.WMARK_MIN, n.NORMAL] + 1
    assert damon.total("pgpromote_success") > 0
    assert damon.total("kswapd_wakeups_fast") > 0  # for nothing: no swap, no demotion
    balancing = lab({}, damon_promotion="off", numa_balancing="tiering").ticks(22)
    assert balancing.total("pgpromote_success") == 0
    assert balancing.free(n.FAST) > m["wmark_pages"][n.WMARK_MIN, n.NORMAL] + 64


@pytest.mark.parametrize(
    ("fields", "modes", "killed"),
    [
        ({}, MOVABLE, True),
        ({"demotion": "on"}, MOVABLE, False),  # kswapd demotes the filler
        ({"damon_promotion": "off"}, MOVABLE, False),  # low - min is left for stacks
        ({}, {"zone": "normal"}, False),  # stacks fall back to CXL
    ],
    ids=["promotion alone", "with demotion", "without promotion", "CXL is NORMAL"],
)
def test_the_next_kernel_page_kills_unless_kswapd_can_demote(fields, modes, killed):
    """SK hynix's OOM behind a filler of 490 GB and more [W-damon-redis]."""
    done = lab(modes, pools=STACKS, min_free_kib=16384, **fields).ticks(40)
    assert (done.total("oom_kill") > 0) == killed
    assert done.total("oom_kill_premature") == done.total("oom_kill")


def test_it_takes_hot_pages_whatever_owns_them_up_to_the_limit():
    """DAMON watches physical addresses: mempolicy and kind do not matter, heat does."""
    bound = HOT | {"mempolicy": "bind_slow"}
    cold = HOT | {"mempolicy": "bind_slow", "access_hz": 0}
    done = lab(regions=[bound, cold, HOT | {"kind": "cache", "mempolicy": "bind_slow"}]).ticks(40)
    assert done.region_on(0, n.SLOW) == 0
    assert done.region_on(1, n.FAST) == 0
    assert done.region_on(2, n.SLOW) == 0
    slow = lab(regions=[bound], promote_limit_mib_per_s=16).ticks(16)
    before = slow.total("pgpromote_success")
    assert slow.ticks(8).total("pgpromote_success") - before == 2 * 16 * PAGES_PER_MIB
