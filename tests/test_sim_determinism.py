"""The same seed is the same trajectory, to the bit: in any batch, place, thread and process, and uncompiled."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from tests.builders import random_scenario, scenario
from tiergym.env.actions import NVEC
from tiergym.env.machines import PARALLEL_FROM, Machines
from tiergym.sim.layout import REGION_SIZES
from tiergym.specs import list_scenarios, load_scenario

TICKS = 25
SEEDS = np.arange(300, dtype=np.uint64) * 7919 + 5


def machine_actions(seed, ticks):
    """The random policy of one machine, int64 (ticks, N_ACTIONS)."""
    return np.random.default_rng(int(seed)).integers(NVEC, size=(ticks, len(NVEC)))


def trajectory(seeds, threads=1, ticks=TICKS, machines=None):
    """Everything that each machine shows, uint8 (machines, bytes): records and results of every tick."""
    machines = machines or Machines([random_scenario(128, 700.0, [3, 8], 0.25)], len(seeds), threads=threads)
    machines.reset(seeds)
    actions = np.stack([machine_actions(seed, ticks) for seed in seeds], axis=1)
    seen = [machines.obs.copy()]
    digests = [hashlib.sha256() for _ in seeds]
    for tick in range(ticks):
        machines.step(actions[tick])
        seen = [machines.obs, machines.masks, machines.reward, machines.lost, machines.counters, machines.records]
        for i, digest in enumerate(digests):
            for array in seen:
                digest.update(array[i].tobytes())
    return [digest.hexdigest() for digest in digests]


@pytest.fixture(scope="module")
def reference():
    return trajectory(SEEDS)


def test_different_seeds_differ(reference):
    assert len(set(reference)) == len(SEEDS)


def test_running_again_changes_nothing(reference):
    machines = Machines([random_scenario(128, 700.0, [3, 8], 0.25)], len(SEEDS), threads=1)
    trajectory(SEEDS[::-1].copy(), machines=machines)
    assert trajectory(SEEDS, machines=machines) == reference


@pytest.mark.parametrize("size", [1, 7])
def test_the_size_of_the_batch_does_not_matter(reference, size):
    assert trajectory(SEEDS[:size]) == reference[:size]


def test_the_place_in_the_batch_does_not_matter(reference):
    order = np.random.default_rng(0).permutation(len(SEEDS))
    shuffled = trajectory(SEEDS[order])
    assert [shuffled[i] for i in np.argsort(order)] == reference


@pytest.mark.parametrize("threads", sorted({1, min(2, numba.get_num_threads())}))
def test_the_threads_do_not_matter(reference, threads):
    """The parallel step, on one thread and on two."""
    assert len(SEEDS) >= PARALLEL_FROM
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(threads)
        assert trajectory(SEEDS, threads=2) == reference
    finally:
        numba.set_num_threads(before)


def run_here(code, **environment):
    """The last line that a fresh interpreter prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_process_does_not_matter(reference):
    """Nothing hangs on the hash seed, addresses or what ran before."""
    code = "import json, test_sim_determinism as t; print(json.dumps(t.trajectory(t.SEEDS[:20])))"
    assert run_here(code, PYTHONHASHSEED="123") == reference[:20]


TWIN_TICKS = 10
TWIN_SEEDS = SEEDS[:12]


def page_counts(as_records):
    """All whole-number fields of some machines after every tick, hashed, and their throughputs."""
    machines = Machines([random_scenario(128, 700.0, [3, 8], 0.25)], len(TWIN_SEEDS), threads=1, noiseless=True)
    if as_records:
        machines.records = machines.records.view(np.recarray)
    machines.reset(TWIN_SEEDS)
    parts = (machines.records, machines.records["region"], machines.records["process"])
    whole = [(part, name) for part in parts for name in part.dtype.names or () if part.dtype[name].base.kind in "iu"]
    actions = np.stack([machine_actions(seed, TWIN_TICKS) for seed in TWIN_SEEDS], axis=1)
    hashes, throughputs = [], []
    for tick in range(TWIN_TICKS):
        machines.step(actions[tick])
        digest = hashlib.sha256()
        for part, name in whole:
            digest.update(part[name].astype(np.int64).tobytes())  # uncompiled, counts are wide
        hashes.append(digest.hexdigest())
        throughputs.append(machines.throughput.tolist())
    return {"hashes": hashes, "throughputs": throughputs}


def test_the_uncompiled_twin_counts_the_same_pages():
    """The Python that people read is the reference: NUMBA_DISABLE_JIT runs it as it stands."""
    code = "import json, test_sim_determinism as t; print(json.dumps(t.page_counts(True)))"
    twin = run_here(code, NUMBA_DISABLE_JIT="1", PYTHONWARNINGS="ignore")
    compiled = page_counts(False)
    assert twin["hashes"] == compiled["hashes"]
    np.testing.assert_allclose(twin["throughputs"], compiled["throughputs"], rtol=1e-12)


def test_a_perturbation_does_not_grow():
    """A fixed point carried from tick to tick amplifies rounding. Here 1e-12 of DRAM's latency
    stays below 1e-9 of throughput over 200 ticks of every shipped scenario."""
    scenarios = [s for s in map(load_scenario, list_scenarios()) if s.regions == REGION_SIZES[0]]
    assert len(scenarios) >= 10
    seen = []
    for factor in (1.0, 1.0 + 1e-12):
        machines = Machines(scenarios, 4 * len(scenarios), threads=1)
        machines.reset(np.arange(machines.num_envs, dtype=np.uint64))
        machines.records["dram_latency_ns"] *= factor
        actions = np.stack([machine_actions(seed, 1)[0] for seed in range(machines.num_envs)])
        throughput = []
        for _ in range(200):
            machines.step(actions)
            throughput.append(machines.throughput.copy())
        seen.append(np.array(throughput))
    assert np.abs(seen[0] - seen[1]).max() < 1e-9


def test_the_company_in_a_batch_does_not_matter():
    """A neighbour with more regions gives every record more room; a scenario with drawn regions draws the same."""
    drawn, crowded = load_scenario("llama-1to2"), scenario(regions=[{"mib": 1}] * (REGION_SIZES[0] + 1))
    alone, together = Machines([drawn], 1), Machines([drawn, crowded], 2)
    alone.reset(SEEDS[:1])
    together.reset(SEEDS[:2])
    for action in machine_actions(0, TICKS):
        alone.step(action[None])
        together.step(np.stack([action, action]))
        assert np.array_equal(alone.obs[0], together.obs[0]) and alone.reward[0] == together.reward[0]
        assert np.array_equal(alone.counters[0], together.counters[0])
