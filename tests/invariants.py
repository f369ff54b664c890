"""What holds on every machine after every tick, whatever its scenario is and whatever a policy does."""

import numpy as np

from tests.builders import assert_books_balance
from tiergym.env.actions import NVEC, OFFSETS
from tiergym.env.machines import Machines
from tiergym.sim import names as n
from tiergym.specs import Scenario

MACHINES = 4


def check_results(machines):
    """What a policy and a learner are shown: numbers in their ranges, time that adds up."""
    for obs in (machines.obs, machines.final_obs):
        assert np.isfinite(obs).all() and (obs >= 0).all() and (obs <= 1).all()
    assert (machines.masks[:, OFFSETS]).all()  # mode 0 is always possible
    lost, throughput = machines.lost, machines.throughput
    assert np.isfinite(lost).all() and (lost >= 0).all()
    assert (throughput >= 0).all() and (throughput <= 1).all()
    np.testing.assert_allclose(lost.sum(axis=1), 1 - throughput, atol=1e-9, rtol=0)
    np.testing.assert_allclose(machines.terms.sum(axis=1), 1 - throughput, atol=1e-9, rtol=0)
    assert np.isfinite(machines.reward).all() and (machines.reward <= 0).all()
    assert (machines.counters >= 0).all()


def check_state(records):
    """Bounds that follow from what the fields mean."""
    assert_books_balance(records)
    for field in ("owed_s", "slab_objects", "slab_reference", "slab_movable", "files_shrunk", "moved_bytes"):
        assert np.isfinite(records[field]).all() and (records[field] >= 0).all(), field
    assert (np.diff(records["wmark_pages"], axis=1) >= 0).all()
    for pool, cls in ((n.SLAB_POOL_UNRECLAIM, n.SLAB_UNRECLAIM), (n.SLAB_POOL_RECLAIM, n.SLAB_RECLAIM)):
        used = records["used_pages"][:, cls]
        pages = np.stack([used[:, : n.FIRST_SLOW_ZONE].sum(axis=1), used[:, n.FIRST_SLOW_ZONE :].sum(axis=1)], axis=1)
        room = pages * records["slab_objects_per_page"][:, None]
        assert (records["slab_objects"][:, pool] <= room * (1 + 1e-9) + 1e-3).all()
    assert (records["utilisation"] >= 0).all() and (records["utilisation"] <= 1).all()
    assert (records["kswapd_failures"] <= 16).all()


def check_steps(scenario: Scenario, seed: int, ticks: int = 50, machines: int = MACHINES) -> None:
    """Step a few machines of a scenario under random actions; raises where one breaks what holds on all."""
    rng = np.random.default_rng(seed)
    batch = Machines([scenario], machines, threads=1)
    batch.reset(rng.integers(0, 2**63, machines, dtype=np.uint64))
    for _ in range(ticks):
        batch.step(rng.integers(NVEC, size=(machines, len(NVEC))))
        check_state(batch.records)
        check_results(batch)
