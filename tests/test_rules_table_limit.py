"""A limit of what each class of kernel pages may have in DRAM (docs/model.md section 5)."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import KERNEL_PLACES, MOVABLE, Lab, assert_books_balance, everywhere, scenario, threads
from tiergym.env.actions import MASK_NAMES
from tiergym.sim import names as n

LIMITED = {"limit.kernel": "proportional"}
STACKS = threads(4000, start_s=0, grow_s=5)
"""16,000 pages of stacks, on an idle machine of 1:2."""
KERNEL = tuple(n.CLASSES.index(place.removeprefix("place.")) for place in KERNEL_PLACES)


def grown(modes: dict[str, str], **scalars: Any) -> Lab:
    """After all threads have come."""
    return Lab(scenario(pools=STACKS, **scalars), modes=modes).ticks(24)


def part_in_dram(lab: Lab, cls: int) -> float:
    fast = lab.on(cls, n.FAST)
    return fast / (fast + lab.on(cls, n.SLOW))


def test_a_class_gets_drams_share_of_memory() -> None:
    """A third of the stacks and of what each thread has of slab, where stock Linux leaves all in free DRAM."""
    lab = grown(LIMITED)
    managed = lab.m["managed_pages"]
    share = managed[: n.FIRST_SLOW_ZONE].sum() / managed.sum()
    assert share == pytest.approx(1 / 3, abs=0.01)
    assert part_in_dram(lab, n.KSTACK) == pytest.approx(share, abs=0.001)
    assert grown({}).on(n.KSTACK, n.SLOW) == 0
    assert_books_balance(lab.machines.records)


@given(slow_mib=st.sampled_from([256, 512, 1024, 4096]), count=st.integers(100, 6000), data_mib=st.integers(50, 1100))
def test_no_class_is_above_it_but_for_what_it_had(slow_mib: int, count: int, data_mib: int) -> None:
    """Of whatever comes after the start, while CXL has room, and however full DRAM is."""
    regions = [{"kind": "anon", "mib": data_mib, "density": 1 / 16, "grow_s": 3}] if data_mib < 0.9 * slow_mib else []
    lab = Lab(scenario(pools=threads(count, start_s=0, grow_s=4), regions=regions, slow_mib=slow_mib), modes=LIMITED)
    had = np.zeros(n.N_CLASSES, np.int64)
    for _ in range(20):
        lab.ticks(1)
        managed = lab.m["managed_pages"]
        share = managed[: n.FIRST_SLOW_ZONE].sum() / managed.sum()
        for cls in KERNEL:
            fast, slow = lab.on(cls, n.FAST), lab.on(cls, n.SLOW)
            assert fast <= max(had[cls], math.ceil(share * (fast + slow))), n.CLASSES[cls]
            had[cls] = fast
    assert_books_balance(lab.machines.records)


def test_what_lies_in_dram_already_stays() -> None:
    """A limit that is switched on later moves nothing; only what comes then goes to CXL."""
    lab = Lab(scenario(pools=STACKS)).ticks(12)
    before = lab.on(n.KSTACK, n.FAST)
    lab.ticks(12, LIMITED)
    assert lab.on(n.KSTACK, n.FAST) == before > 16_000 / 3
    assert lab.on(n.KSTACK, n.SLOW) > 1000


def test_where_cxl_is_full_a_class_gets_what_it_asks_for() -> None:
    """It limits where pages go, not how many there are: nobody is reclaimed or killed for it while DRAM is free."""
    full = [{"kind": "anon", "mib": 2040, "mempolicy": "prefer_slow", "grow_s": 0}]
    lab = Lab(scenario(regions=full, pools=threads(4000, start_s=4, grow_s=5)), modes=LIMITED).ticks(44)
    assert part_in_dram(lab, n.KSTACK) > 0.9
    assert lab.total("allocstall") == lab.total("oom_kill") == 0


@pytest.mark.parametrize("place", ["restrict", "prefer_slow"])
def test_a_placement_that_says_which_node_is_not_limited(place: str) -> None:
    """To the page as without a limit."""
    with_limit, without = grown(everywhere(place) | LIMITED), grown(everywhere(place))
    np.testing.assert_array_equal(with_limit.m["used_pages"], without.m["used_pages"])


@pytest.mark.parametrize("place", ["fallback", "prefer_fast"])
def test_a_placement_that_takes_what_there_is_is_limited(place: str) -> None:
    assert part_in_dram(grown(everywhere(place) | LIMITED), n.KSTACK) == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("mempolicy", ["bind_fast", "prefer_slow", "interleave"])
def test_a_task_s_mempolicy_is_obeyed(mempolicy: str) -> None:
    """Its page tables lie where it says, limit or not."""
    regions = [{"kind": "anon", "mib": 400, "density": 1 / 64, "process": "p0", "grow_s": 2}]
    machine = scenario(regions=regions, processes=[{"mempolicy": mempolicy}])
    with_limit, without = (Lab(machine, modes=modes).ticks(12) for modes in (LIMITED, {}))
    assert with_limit.leaf_on(0, n.SLOW) == without.leaf_on(0, n.SLOW)
    assert with_limit.leaf_on(0, n.FAST) == without.leaf_on(0, n.FAST)


def test_pages_beyond_the_limit_are_no_fallback() -> None:
    """DRAM was not short, so nothing fell back, and nobody was woken."""
    lab = grown(LIMITED)
    assert lab.on(n.KSTACK, n.SLOW) > 10_000
    assert lab.total("kernel_fallback_slow") == lab.total("kswapd_wakeups_fast") == 0


def test_without_kernel_pages_to_come_a_limit_changes_nothing() -> None:
    """No cost, no gain: the same pages in the same places, and the same speed to the bit."""
    read = [{"kind": "cache", "mib": 700, "access_hz": 5}]
    runs = [Lab(scenario(regions=read), modes=modes).ticks(40) for modes in ({}, everywhere("restrict") | LIMITED)]
    np.testing.assert_array_equal(runs[1].m["used_pages"], runs[0].m["used_pages"])
    np.testing.assert_array_equal(runs[1].throughputs, runs[0].throughputs)


@pytest.mark.parametrize("machine", [{"slow_mib": 0}, {}])
def test_there_is_nothing_to_choose_without_a_normal_zone_on_cxl(machine: dict[str, Any]) -> None:
    """With no CXL at all, or with all of it MOVABLE."""
    lab = Lab(scenario(pools=STACKS, **machine), modes=MOVABLE | LIMITED).ticks(24)
    masks = dict(zip(MASK_NAMES, lab.machines.masks[0].tolist(), strict=True))
    assert [masks[f"limit.kernel={mode}"] for mode in n.KERNEL_LIMITS] == [True, False]
    assert lab.on(n.KSTACK, n.SLOW) == 0
