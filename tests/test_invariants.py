"""What holds on every machine, at every tick, whatever the policy does: thousands of random machines a batch."""

import numpy as np
from builders import PAGES_PER_MIB, assert_books_balance, scenario
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tiergym.env.actions import NVEC, OFFSETS
from tiergym.env.machines import Machines
from tiergym.sim import names as n

MACHINES = 2000
TICKS = 40


def either(*values):
    return {"choice": list(values)}


def between(low, high):
    return {"uniform": [low, high]}


def orders(low, high):
    return {"log_uniform": [low, high]}


POLICIES = either(*n.MEMPOLICIES)


def random_region(process, kinds, largest_mib):
    return {
        "process": f"p{process}",
        "kind": either(*kinds),
        "mib": orders(0.01, largest_mib),
        "density": orders(1 / 512, 1),
        "thp_share": either(0, 0.3, 1),
        "mempolicy": POLICIES,
        "write_share": between(0, 1),
        "dirty_share": between(0, 1),
        "misses_per_page_s": orders(0.1, 1000),
        "tlb_misses_per_page_s": orders(0.1, 1000),
        "mlp": between(1, 64),
        "walk_miss": between(0, 1),
        "access_hz": orders(0.001, 100),
        "start_s": between(0, 4),
        "grow_s": either(0, 0.5, 3),
        "hold_s": either(0, 1, 1000),
        "shrink_s": either(0, 0.5, 3),
        "low_share": between(0, 1),
        "period_s": either(0, 1.5, 5),
        "turnover_hz": either(0, 0.1, 20),
        "drift_group": either(0, 1, 2),
        "drift_s": either(0, 0.7),
    }


def random_pool(count):
    return {
        "count": orders(1, count),
        "start_s": between(0, 4),
        "grow_s": either(0, 2),
        "hold_s": either(0, 1, 1000),
        "shrink_s": either(0, 2),
        "low_share": between(0, 1),
        "period_s": either(0, 4),
        "turnover_hz": either(0, 1, 50),
    }


def random_scenario(block_mib: int, dram_mib: float, slow_blocks: list[int], dt_s: float):
    """A distribution over machines that are small enough to run short of everything within 40 ticks."""
    largest = dram_mib + max(slow_blocks) * block_mib
    owners = range(4)
    return scenario(
        dram_mib=between(dram_mib / 2, dram_mib),
        dma_mib=either(0, 15),
        dma32_mib=either(0, dram_mib / 4),
        slow_mib=either(*(blocks * block_mib for blocks in slow_blocks)),
        block_mib=block_mib,
        boot_reserved_share=between(0, 0.3),
        boot_kernel_mib=between(0, dram_mib / 20),
        cpus=either(1, 4, 64),
        workers=either(1, 4, 64),
        dram_latency_ns=between(60, 200),
        slow_latency_ns=between(200, 1000),
        slow_read_gbps=orders(0.5, 100),
        dram_curve=either("spr", "graviton3", "skylake", "cascade_lake"),
        slow_knee=between(0.1, 0.95),
        slow_ceiling=between(1, 10),
        watermark_scale_factor=either(10, 100, 500),
        min_free_kib=either(0, 1024, 8192),
        thp=either("off", "on"),
        demotion=either("off", "on"),
        numa_balancing=either("off", "normal", "tiering"),
        swap_mib=either(0, 0, 64, 1024),
        pcp_batch_pages=either(1, 63, 512),
        boost_hz=either(0, 5),
        lru_window_s=orders(0.1, 100),
        scan_mib_per_s=either(0, 256, 10000),
        promote_limit_mib_per_s=either(0, 50, 65536),
        auto_movable_numa_aware=either("off", "on"),
        slow_in_lower_tier=either("off", "on"),
        stack_migration=either("off", "on"),
        slab_movable_share=between(0, 1),
        slab_objects_per_page=either(1, 8, 14, 21, 64),
        throttle_per_batch=either(0, 0.01, 1),
        kswapd_pages_per_s=orders(1000, 1e6),
        decision_us=either(0, 100, 1e6),
        stack_touches_per_s=orders(1, 1e8),
        kernel_mlp=between(1, 8),
        dt_s=dt_s,
        processes=[
            {
                "oom_score_adj": either(-1000, 0, 500),
                "work_share": between(0, 1),
                "restart_s": either(0, 0.1, 2),
                "lost_s": either(0, 3),
                "mempolicy": POLICIES,
                "vmas": either(1, 100, 10000),
            }
            for _ in owners
        ],
        regions=[random_region(i % len(owners), n.KINDS, largest / 3) for i in range(11)],
        pools={"threads": random_pool(5000), "files": random_pool(1e6), "sockets": random_pool(1e5),
               "buffers": random_pool(dram_mib * PAGES_PER_MIB / 4)},
        events=[
            {"kind": either(*n.EVENTS), "at_s": between(0, 10), "mib": block_mib * int(k)} for k in (1, 2, 1, 3)
        ],
    )  # fmt: skip


def check_results(machines):
    """What a policy and a learner are shown."""
    for obs in (machines.obs, machines.final_obs):
        assert np.isfinite(obs).all() and (obs >= 0).all() and (obs <= 1).all()
    assert (machines.masks[:, OFFSETS]).all()  # mode 0 is always possible
    lost, throughput = machines.lost, machines.throughput
    assert np.isfinite(lost).all() and (lost >= 0).all()
    assert (throughput >= 0).all() and (throughput <= 1).all()
    np.testing.assert_allclose(lost.sum(axis=1), 1 - throughput, atol=1e-9, rtol=0)
    np.testing.assert_allclose(machines.terms.sum(axis=1), 1 - throughput, atol=1e-9, rtol=0)
    np.testing.assert_allclose(machines.reward, throughput - 1, atol=1e-9, rtol=0)
    assert (machines.counters >= 0).all()


def check_state(records):
    """Bounds that follow from what the fields mean."""
    assert_books_balance(records)
    for field in ("owed_s", "slab_objects", "slab_reference", "slab_movable", "files_shrunk", "moved_bytes"):
        assert np.isfinite(records[field]).all() and (records[field] >= 0).all(), field
    assert (records["min_pages"] <= records["low_pages"]).all()
    assert (records["low_pages"] <= records["high_pages"]).all()
    assert (records["high_pages"] <= records["promo_pages"]).all()
    for pool, cls in ((n.SLAB_POOL_UNRECLAIM, n.SLAB_UNRECLAIM), (n.SLAB_POOL_RECLAIM, n.SLAB_RECLAIM)):
        used = records["used_pages"][:, cls]
        pages = np.stack([used[:, : n.FIRST_SLOW_ZONE].sum(axis=1), used[:, n.FIRST_SLOW_ZONE :].sum(axis=1)], axis=1)
        room = pages * records["slab_objects_per_page"][:, None]
        assert (records["slab_objects"][:, pool] <= room * (1 + 1e-9) + 1e-3).all()
    assert (records["utilisation"] >= 0).all() and (records["utilisation"] <= 1).all()
    assert (records["kswapd_failures"] <= 16).all()


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**63 - 1),
    block_mib=st.sampled_from([128, 256]),
    dram_mib=st.sampled_from([256.0, 700.0, 3000.0]),
    slow_blocks=st.sampled_from([[0, 1, 2], [3, 8], [1, 20], [0]]),
    dt_s=st.sampled_from([0.05, 0.25, 1.0]),
    stubborn=st.booleans(),
)
@example(seed=1, block_mib=128, dram_mib=256.0, slow_blocks=[3, 8], dt_s=0.25, stubborn=False)
@example(seed=2, block_mib=128, dram_mib=700.0, slow_blocks=[1, 20], dt_s=0.25, stubborn=True)
def test_pages_time_and_observations_add_up(seed, block_mib, dram_mib, slow_blocks, dt_s, stubborn):
    """Conservation per machine, zone and tick, and every number inside its range, under random actions."""
    rng = np.random.default_rng(seed)
    machines = Machines([random_scenario(block_mib, dram_mib, slow_blocks, dt_s)], MACHINES)
    machines.reset(rng.integers(0, 2**63, MACHINES, dtype=np.uint64))
    actions = rng.integers(NVEC, size=(MACHINES, len(NVEC)))
    for _ in range(TICKS):
        if not stubborn:
            actions = rng.integers(NVEC, size=(MACHINES, len(NVEC)))
        machines.step(actions)
        check_state(machines.records)
        check_results(machines)
