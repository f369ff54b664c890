"""What a step costs, counted and not timed: no allocation, no compilation, and state that fits."""

import numpy as np
import pytest
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]
from numba.core.runtime.nrt import rtsys

from tiergym.env.actions import NVEC
from tiergym.env.engine import step_batch
from tiergym.env.machines import Machines
from tiergym.sim import prefetch
from tiergym.sim import tick as ticking
from tiergym.sim.layout import BLOCK_SIZES, REGION_SIZES, machine_dtype, new_machines, tick_bytes
from tiergym.sim.prefetch import PARTS, fetch, parts_of
from tiergym.sim.units import LINE_BYTES
from tiergym.specs import list_scenarios, load_scenario


def stepped(machines: Machines, ticks: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(ticks):
        machines.step(rng.integers(0, NVEC, (machines.num_envs, len(NVEC))))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_allocates_nothing(threads: int) -> None:
    """Not even where episodes end: numba's own allocations are counted."""
    machines = Machines([load_scenario("kvstore-1to2")], 256, threads=threads)
    machines.reset(np.arange(256, dtype=np.uint64))
    machines.records["ticks"] = 6
    stepped(machines, 1)
    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        stepped(machines, 12)
        after = rtsys.get_allocation_stats()
    finally:
        if not enabled:
            _nrt_python.memsys_disable_stats()
    # Each call of compiled code wraps its 15 array arguments: one reference-counted head each, no data. Threads that
    # wake when all is done make no call.
    heads = 15 * 12
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free
    assert heads <= after.alloc - before.alloc <= heads * threads


def test_another_scenario_compiles_nothing() -> None:
    """One version of the step per size of a record, whatever runs."""
    for name in list_scenarios()[:6]:
        machines = Machines([load_scenario(name)], 2, threads=1)
        machines.reset(np.arange(2, dtype=np.uint64))
        stepped(machines, 1)
    compiled = {signature[2].dtype.size for signature in step_batch.entry.signatures}  # type: ignore[attr-defined]
    sizes = len(REGION_SIZES) * len(BLOCK_SIZES)
    assert len(compiled) == len(step_batch.entry.signatures) <= sizes  # type: ignore[attr-defined]


def test_state_of_a_machine_is_small() -> None:
    assert machine_dtype(16).itemsize <= 16384


def test_a_tick_fetches_all_of_the_next_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PARTS` parts, one where each `fetch` stands in `tick`."""
    for phase in (
        "clear_tick",
        "boot",
        "demand",
        "serve_demand",
        "migrate_kernel_pages",
        "run_events",
        "account",
    ):
        monkeypatch.setattr(ticking, phase, lambda m: None)
    lines: list[int] = []
    monkeypatch.setattr(ticking, "fetch", fetch.py_func)  # type: ignore[attr-defined]
    monkeypatch.setattr(prefetch, "prefetch_line", lines.append)
    size = tick_bytes(16, 5)
    machine = new_machines(1, 16).view(np.recarray)[0]
    ticking.tick.py_func(machine, parts_of.py_func(0, size))  # type: ignore[attr-defined]
    needed = list(range(0, size, LINE_BYTES))
    assert lines[: len(needed)] == needed
    assert len(lines) < len(needed) + PARTS
