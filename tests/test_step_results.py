"""The results of a step: one table over two buffers, and what its columns are over the ticks of a step."""

import numpy as np
import pytest

from tests.builders import random_scenario
from tiergym.env.actions import NVEC
from tiergym.env.machines import Machines
from tiergym.env.step_results import N_COUNTS, N_FLOATS, STEP_RESULTS, views

HOLD = 5
MACHINES = 20


def test_every_column_of_the_buffers_belongs_to_one_result() -> None:
    floats, counts = np.zeros((2, N_FLOATS)), np.zeros((2, N_COUNTS), np.int64)
    for view in views(floats, counts).values():
        view += 1
    assert (floats == 1).all()
    assert (counts == 1).all()


@pytest.mark.parametrize("name", [result.name for result in STEP_RESULTS])
def test_a_machine_shows_each_result_in_its_width_and_dtype(name: str) -> None:
    result = next(result for result in STEP_RESULTS if result.name == name)
    machines = Machines([random_scenario(128, 700.0, [3, 8], 0.25)], 2)
    shown = getattr(machines, name)
    assert shown.dtype == result.dtype
    assert shown.shape == ((2,) if result.width == 1 else (2, result.width))


def test_results_of_a_held_action_are_what_the_table_says_of_its_ticks() -> None:
    held, single = (Machines([random_scenario(128, 700.0, [3, 8], 0.25)], MACHINES) for _ in range(2))
    for machines in (held, single):
        machines.reset(np.arange(MACHINES, dtype=np.uint64))
    rng = np.random.default_rng(0)
    for _ in range(4):
        actions = rng.integers(0, NVEC, (MACHINES, len(NVEC)))
        held.step(actions, HOLD)
        ticks: dict[str, list[np.ndarray]] = {result.name: [] for result in STEP_RESULTS}
        for _ in range(HOLD):
            single.step(actions)
            for name, seen in ticks.items():
                seen.append(getattr(single, name).copy())
        for result in STEP_RESULTS:
            seen = ticks[result.name]
            expected = {"mean": sum(seen[1:], seen[0]) / HOLD, "sum": sum(seen), "last": seen[-1]}[result.over]
            np.testing.assert_array_equal(getattr(held, result.name), expected, result.name)
            if result.over == "last":
                assert (seen[0] != seen[-1]).any(), "nothing changed, so this could not fail"
