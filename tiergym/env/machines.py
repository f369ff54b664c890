"""A batch of simulated machines as arrays: reset with seeds, step with actions, read the results."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numba
import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import N_MASK, NVEC
from tiergym.env.engine import reset_batch, step_batch
from tiergym.env.observations import N_OBS
from tiergym.env.step_results import N_COUNTS, N_FLOATS, STEP_RESULTS, views
from tiergym.env.threads import on_threads
from tiergym.memory import check_bytes
from tiergym.sim.layout import (
    WORD_BYTES,
    draw_numbers,
    machine_dtype,
    new_machines,
    parameter_names,
    parameter_words,
    tick_bytes,
)
from tiergym.sim.parameters import REPEATED_SECTIONS, SCALAR_SECTIONS
from tiergym.specs import Scenario, scenario_table

PARALLEL_FROM = 256
"""Ticks of machines in one call; fewer run serially, since threads cost more than they give."""

SNAPSHOT = ("records", "obs", "masks", "done")
"""The arrays of a batch's state."""


def _integer_parameters(regions: int) -> NDArray[np.int64]:
    """1 for parameters that are whole numbers, in the order of `parameter_names`."""
    whole = {f.name for _, fields in SCALAR_SECTIONS for f in fields if f.integer}
    whole |= {prefix + f.name for _, prefix, fields in REPEATED_SECTIONS for f in fields if f.integer}
    return np.array([name.split("[")[0] in whole for name in parameter_names(regions)], np.int64)


class Machines:
    """N machines, each with its own scenario, seed and random numbers.

    Every result is a buffer that the next call overwrites: copy what you keep.

    obs, final_obs: float32 (N, N_OBS); `final_obs` rows are those of machines that have just finished.
    reward: float64 (N,). done: bool (N,), always a truncation at the horizon. masks: bool (N, N_MASK).
    throughput, terms, lost, counters, kernel_slow, premature_by_class, ticks: of the last step, as the table of
    `step_results` says; `ticks` (N,) is how many it made. Of a machine that was only reset: that nothing happened yet.
    records: the structured array (N,) of `tiergym.sim.layout`, already reset where done. Its page counts are int32:
    convert them before you multiply.
    """

    throughput: NDArray[np.float64]
    terms: NDArray[np.float64]
    lost: NDArray[np.float64]
    counters: NDArray[np.int64]
    kernel_slow: NDArray[np.int64]
    premature_by_class: NDArray[np.int64]
    ticks: NDArray[np.int64]

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        num_envs: int,
        *,
        threads: int | None = None,
        noiseless: bool = False,
        next_step: bool = False,
        max_episode_steps: int | None = None,
        drawn: bool = False,
    ) -> None:
        """`next_step`, `max_episode_steps` and `drawn`: NEXT_STEP, LIMIT and DRAWN of `tiergym.env.engine`."""
        self.scenarios = tuple(scenarios)
        self.num_envs = num_envs
        regions, blocks = max(s.regions for s in self.scenarios), max(s.blocks for s in self.scenarios)
        check_bytes(num_envs * machine_dtype(regions, blocks).itemsize, f"{num_envs} machines")
        self._tables = np.stack([scenario_table(s, regions) for s in self.scenarios])
        words = parameter_words(regions, blocks)
        self._places = np.stack([words, _integer_parameters(regions), draw_numbers(regions)], axis=1)
        self._counts = np.array([s.counts for s in self.scenarios], dtype=np.int64)
        ahead = tick_bytes(regions, int(self._counts[:, 0].max()), blocks)
        self._options = np.array([noiseless, next_step, ahead, max_episode_steps or 0, drawn], dtype=np.int64)
        self.threads = numba.get_num_threads() if threads is None else threads
        self._turn = np.zeros(1, np.int64)
        self.records = new_machines(num_envs, regions, blocks)
        self.scenario_index = np.arange(num_envs, dtype=np.int64) % len(self.scenarios)
        self.obs = np.zeros((num_envs, N_OBS), np.float32)
        self.final_obs = np.zeros((num_envs, N_OBS), np.float32)
        self.reward = np.zeros(num_envs)
        self.done = np.zeros(num_envs, np.bool_)
        self.masks = np.zeros((num_envs, N_MASK), np.bool_)
        self._floats = np.zeros((num_envs, N_FLOATS))
        self._ints = np.zeros((num_envs, N_COUNTS), np.int64)
        self._make_views()

    def _make_views(self) -> None:
        """Named views of the buffers; a copy or a pickle makes its own."""
        self._raw = self.records.view(np.float64).reshape(self.num_envs, self.records.dtype.itemsize // WORD_BYTES)
        self.__dict__.update(views(self._floats, self._ints))

    def __getstate__(self) -> dict[str, Any]:
        shown = {"_raw", *(result.name for result in STEP_RESULTS)}
        return {name: value for name, value in self.__dict__.items() if name not in shown}

    def __copy__(self) -> Self:
        """A copy has machines of its own: two batches over one buffer would be of no use."""
        return copy.deepcopy(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_views()

    def reset(
        self,
        seeds: NDArray[np.uint64],
        mask: NDArray[np.bool_] | None = None,
        scenario_index: NDArray[np.int64] | None = None,
    ) -> None:
        """Start episodes: `seeds` (N,) uint64; `mask` (N,) restarts only these; `scenario_index` (N,) chooses."""
        if scenario_index is not None:
            self.scenario_index = np.array(scenario_index, dtype=np.int64)
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        arrays = (
            self.records,
            self._raw,
            self._places,
            self._tables,
            self._counts,
            self._options,
            np.asarray(seeds, np.uint64),
            self.scenario_index,
            chosen,
            self.obs,
            self.done,
            self.masks,
            self._floats,
            self._ints,
        )
        self._share(lambda: reset_batch(self._turn, *arrays))

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Everything that the next steps depend on, and what the last one showed; copies."""
        return {name: getattr(self, name).copy() for name in SNAPSHOT}

    def restore(self, snapshot: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a snapshot of a batch of the same size and scenarios; it can be used again.

        Raises `ValueError` where it is of another shape.
        """
        for name in SNAPSHOT:
            array, saved = getattr(self, name), snapshot[name]
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(f"snapshot: {name} is {saved.shape}; allowed: {array.shape} of the same tiergym")
            array[...] = saved

    def step(self, actions: NDArray[np.int64], ticks: int = 1) -> None:
        """Advance every machine under `actions`, int64 (N, N_ACTIONS), by `ticks` ticks or to its episode's end."""
        # Writable as well: for a read-only array numba would compile all of it once more.
        actions = np.require(actions, np.int64, ("C", "W"))
        if actions.shape != (self.num_envs, len(NVEC)):
            raise ValueError(f"actions have shape {actions.shape}; allowed: {(self.num_envs, len(NVEC))}")
        arrays = (
            self.records,
            self._raw,
            self._places,
            self._tables,
            self._counts,
            self._options,
            actions,
            self.obs,
            self.final_obs,
            self.reward,
            self.done,
            self.masks,
            self._floats,
            self._ints,
        )
        self._share(lambda: step_batch(self._turn, ticks, *arrays), ticks)

    def _share(self, work: Callable[[], object], ticks: int = 1) -> None:
        """Call `work`, which takes machines off `self._turn`, on all threads that so many ticks of all are worth."""
        self._turn[0] = 0
        on_threads(work, self.threads if self.num_envs * ticks >= PARALLEL_FROM else 1)
