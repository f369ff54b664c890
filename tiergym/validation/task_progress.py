"""How far each process of a recorded workload has come, sample by sample, from the workload's common counters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tiergym.validation.tasks import Task

Series = NDArray[np.float64]

GRADUAL = ("threads", "procs", "dentry")
"""Commands that give back one by one; the others return their whole size at once."""
EARLY_S = 0.3
"""A process may count before its phase is written."""
AFTER_KILL_S = 2.0
"""How long the request of a killed process goes on: a model that would kill later must be able to ask for more."""
SLOPE_S = 1.0


def task_progress(t_s: Series, column: Series, tasks: Sequence[Task], sizes: Sequence[float]) -> list[Series]:
    """Units that each of `tasks` has at each sample, from their common counter `column`, both of shape (samples,): what
    `task_totals` says, and given back linearly between the phases `shrink` and `freed`."""
    totals = task_totals(t_s, column, tasks, sizes)
    return [total * given_back_share(t_s, task) for total, task in zip(totals, tasks, strict=True)]


def task_totals(t_s: Series, column: Series, tasks: Sequence[Task], sizes: Sequence[float]) -> list[Series]:
    """Units touched by each of `tasks` up to each sample, whatever it has given back.

    The counter's growth goes to the first process that has started and is not complete; what it loses, to the first
    that has begun to give back. A killed process goes on at its last pace for two seconds.
    """
    done = [0.0] * len(tasks)
    returned = [False] * len(tasks)
    out = [np.zeros(len(t_s)) for _ in tasks]
    previous = 0.0
    for k, now in enumerate(t_s):
        change = float(column[k]) - previous
        previous = float(column[k])
        for i, task in enumerate(tasks):
            given_back = task.shrink_s <= now and not returned[i] and task.command not in GRADUAL
            if change < 0 and given_back:
                change += done[i]
                returned[i] = True
        for i, task in enumerate(tasks):
            if change <= 0:
                break
            alive = task.start_s - EARLY_S <= now and task.exit_s > t_s[max(k - 1, 0)]
            if alive and not returned[i] and done[i] < sizes[i]:
                part = min(change, sizes[i] - done[i])
                done[i] += part
                change -= part
        for i in range(len(tasks)):
            out[i][k] = done[i]
    for i, task in enumerate(tasks):
        if task.killed and done[i] < sizes[i]:
            _go_on(t_s, out[i], task, sizes[i])
    return out


def given_back_share(t_s: Series, task: Task) -> Series:
    """Share of its memory that a process still has at each time, 1 until it begins to give back."""
    end = min(task.freed_s, task.exit_s)
    if task.killed:
        end = task.exit_s + AFTER_KILL_S
        return (t_s < end).astype(np.float64)
    if task.shrink_s >= end:
        return (t_s < end).astype(np.float64)
    if np.isinf(end):  # the recording ended in the middle of it
        end = max(float(t_s[-1]), task.shrink_s + EARLY_S)
    return np.clip((end - t_s) / (end - task.shrink_s), 0.0, 1.0)


def _go_on(t_s: Series, series: Series, task: Task, size: float) -> None:
    """Extend a killed process's growth at its last pace."""
    last = int(np.searchsorted(t_s, task.exit_s)) - 1
    while last > 0 and series[last - 1] == series[-1]:
        last -= 1  # the first sample with its final count
    first = int(np.searchsorted(t_s, t_s[last] - SLOPE_S))
    if last <= first:
        return
    pace = (series[last] - series[first]) / (t_s[last] - t_s[first])
    later = t_s > t_s[last]
    series[later] = np.minimum(series[last] + pace * (t_s[later] - t_s[last]), size)


def alive(t_s: Series, task: Task) -> NDArray[np.bool_]:
    """Whether a process exists at each time."""
    return (t_s >= task.start_s - 0.05) & (t_s < task.exit_s)
