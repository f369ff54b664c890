"""Per-CPU lists: how much a refill moves, whom it helps, and what that does to the watermarks."""

import pytest

from tests.builders import Lab, assert_books_balance, scenario
from tiergym.sim import names as n
from tiergym.sim.watermarks import zone_batchsize

DATA = {"mib": 1500, "grow_s": 8}


@pytest.mark.parametrize(("managed", "batch"), [(3840, 1), (98339, 31), (149379, 31), (262144, 63), (10_000_000, 63)])
def test_a_batch_is_a_share_of_the_zone(managed, batch):
    """mm/page_alloc.c: zone_batchsize, as pcp->high grew by it in recordings of 512 MiB machines (31)."""
    assert zone_batchsize.py_func(managed) == batch


@pytest.mark.parametrize(("scale", "doubled"), [(0, 1), (5, 32)])
def test_since_6_7_a_stream_of_allocations_doubles_its_refills(scale, doubled):
    """nr_pcp_alloc, CONFIG_PCP_BATCH_SCALE_MAX = 5: up to 2,016 pages at once (recordings F1)."""
    lab = Lab(scenario(regions=[DATA], pcp_batch_pages=0, pcp_scale=scale)).ticks(40)
    assert lab.m["pcp_refill_pages"][n.NORMAL] == 63 * doubled
    low, left = lab.m["low_pages"][n.NORMAL], lab.m["free_pages"][n.NORMAL]
    assert low - 63 * doubled < left <= low  # the last refill looks at no mark
    assert_books_balance(lab.machines.records)


def test_a_list_is_at_most_an_eighth_of_its_zone_over_all_cpus():
    """zone_highsize: many CPUs of a small machine refill by less."""
    many, few = (Lab(scenario(cpus=cpus, pcp_batch_pages=0, pcp_scale=5)).ticks(1) for cpus in (256, 2))
    assert many.m["pcp_refill_pages"][n.NORMAL] < few.m["pcp_refill_pages"][n.NORMAL]


def test_idle_lists_help_nobody_until_they_are_drained():
    """Lists of other CPUs keep their pages while DRAM falls back (rmqueue_pcplist looks at its own CPU's)."""
    lab = Lab(scenario(regions=[DATA], pcp_batch_pages=63)).ticks(1)
    for field in ("pcp_pages", "pcp_idle_pages"):
        lab.m[field][n.NORMAL] += 500
    lab.m["free_pages"][n.NORMAL] -= 500
    lab.ticks(30)
    assert lab.m["pcp_pages"][n.NORMAL] >= 500
    assert lab.region_on(0, n.SLOW) > 0
    assert_books_balance(lab.machines.records)
