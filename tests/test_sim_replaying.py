"""The one way in for replays: a recorded state becomes the machine's, to the page, and requests are what it wants."""

import numpy as np
import pytest

from tests.builders import scenario
from tiergym.env.actions import DEFAULT
from tiergym.env.machines import Machines
from tiergym.sim import names as n
from tiergym.sim.replaying import Asked, State, ask, begin, install

MANAGED = {n.DMA: 0, n.DMA32: 0, n.NORMAL: 262144, n.MOVABLE: 0, n.SLOW_NORMAL: 524288, n.SLOW_MOVABLE: 0}
FREE = MANAGED | {n.NORMAL: 200000, n.SLOW_NORMAL: 500000}
FULL_GROWN = {"mib": 0, "start_s": 0, "grow_s": 0, "hold_s": 1e6, "low_share": 1}
STOCK = np.array([DEFAULT])
"""Stock Linux; a copy that may be written, as the step would be compiled once more for a read-only array."""
PCP = dict.fromkeys(range(n.N_ZONES), 0) | {n.NORMAL: 1200}


@pytest.fixture
def machines() -> Machines:
    """One machine of two empty regions, its blocks online."""
    machines = Machines([scenario(regions=[FULL_GROWN, FULL_GROWN])], 1)
    machines.reset(np.zeros(1, np.uint64))
    begin(machines.records[0], False)
    machines.step(STOCK)
    return machines


def state() -> State:
    data = [(0, n.ANON, n.FAST, 30000), (1, n.FILE, n.FAST, 5000), (1, n.FILE, n.SLOW, 6000)]
    return State(MANAGED, FREE, PCP, {z: {} for z in MANAGED}, data, (90, 40), (16, 0), ((700, 50), (300, 0)))


def asked(**changed: object) -> Asked:
    sizes, hz = np.array([30000, 11000]), np.zeros(2)
    return Asked(0.2, sizes, hz, [None, None], 0, 0.0, 0.0, 0.0, **changed)  # type: ignore[arg-type]


def test_an_installed_state_is_the_machine_s_to_the_page(machines: Machines) -> None:
    m = machines.records[0]
    install(m, state())
    fast, slow = (
        m["used_pages"][:, : n.FIRST_SLOW_ZONE].sum(axis=1),
        m["used_pages"][:, n.FIRST_SLOW_ZONE :].sum(axis=1),
    )
    assert (fast[n.ANON], fast[n.FILE], slow[n.FILE]) == (30000, 5000, 6000)
    assert (fast[n.PT_LEAF] + fast[n.PT_UPPER], slow[n.PT_LEAF]) == (90, 40)
    assert (fast[n.KSTACK], fast[n.SLAB_UNRECLAIM], slow[n.SLAB_UNRECLAIM], fast[n.SLAB_RECLAIM]) == (16, 700, 50, 300)
    for z, managed in MANAGED.items():
        assert m["free_pages"][z] + m["pcp_pages"][z] + m["used_pages"][:, z].sum() == managed


def test_the_machine_gives_what_is_asked_and_keeps_its_books(machines: Machines) -> None:
    m = machines.records[0]
    install(m, state())
    wanted = asked()
    wanted.size_pages = np.array([36000, 11000])
    ask(m, wanted)
    machines.step(STOCK)
    assert m["region"]["pages"].sum(axis=1)[:2].tolist() == [36000, 11000]
    for z, managed in MANAGED.items():
        assert m["free_pages"][z] + m["pcp_pages"][z] + m["used_pages"][:, z].sum() == managed


def test_blocks_go_offline_when_asked(machines: Machines) -> None:
    m = machines.records[0]
    install(m, state())
    ask(m, asked(blocks={n.EVENT_OFFLINE: 3}))
    machines.step(STOCK)
    assert (m["block_state"] == n.BLOCK_OFFLINE).sum() == 3
