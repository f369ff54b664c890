"""The requests of any recording: of a lab's script by its commands, of any other program by its process tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tiergym.recordings.format import Recording
from tiergym.recordings.machine_totals import from_process_tree
from tiergym.sim.layout import REGION_SIZES
from tiergym.sim.parameters import N_PROCESSES
from tiergym.validation.program_requests import program_requests
from tiergym.validation.request_series import SYSTEM, RegionRequest, Requests, Series
from tiergym.validation.script_requests import script_requests
from tiergym.validation.tasks import read_tasks

NOT_THE_PROGRAM = ("pgsteal_kswapd", "pgsteal_direct", "pgmigrate_success")
"""Counters of pages that the kernel freed by itself."""
ALL_THE_TIME_SAMPLES = 2
"""What is freed in so many samples before and after, too, is freed all the time."""


def is_program(recording: Recording) -> bool:
    """Whether a run is read by its process tree and totals: its `w.*` are a tree's, or no command of the lab ran."""
    return from_process_tree(recording) or not read_tasks(recording)


def read_requests(recording: Recording) -> Requests:
    """The requests of a run, resampled at its sample times, in as many processes and regions as the model has."""
    if is_program(recording):
        requests = program_requests(recording)
    else:
        requests = fold(script_requests(recording, read_tasks(recording)))
    return replace(requests, freed=_freed(recording))


def _freed(recording: Recording) -> Series | None:
    """Pages that are freed all the time, otherwise than by reclaim and migration, over all nodes: what a program gives
    back and asks for again, sockets' buffers above all, is in no total. None without counters.

    A process that ends frees much at once, between samples in which nothing is freed.
    """
    if "vm.pgfree" not in recording.columns:
        return None
    freed = np.zeros(len(recording.t_s))
    for counter, sign in (("pgfree", 1), *((name, -1) for name in NOT_THE_PROGRAM)):
        freed += sign * np.nan_to_num(recording.column(f"vm.{counter}").astype(np.float64))
    per_sample = np.pad(np.maximum(np.diff(freed), 0.0), ALL_THE_TIME_SAMPLES, mode="edge")
    least = np.lib.stride_tricks.sliding_window_view(per_sample, 2 * ALL_THE_TIME_SAMPLES + 1).min(axis=1)
    return np.concatenate(([0.0], np.cumsum(least)))


def fold(requests: Requests) -> Requests:
    """The smallest processes become one where there are more than the model has, and a note says so.

    The largest decide who is killed and when; what the small ones ask for together stays as it is.
    """
    names = [name for name in requests.processes if name != SYSTEM]
    surplus = len(names) - (N_PROCESSES - 1)
    if surplus <= 0:
        return requests
    held = {name: _peak([region for region in requests.regions if region.process == name]) for name in names}
    small = sorted(names, key=lambda name: held[name])[: surplus + 1]
    one = small[-1]
    inside = [replace(region, process=one) for region in requests.regions if region.process in small]
    regions = [region for region in requests.regions if region.process not in small]
    if len(inside) + len(regions) > max(REGION_SIZES):
        inside = _joined(inside)
    threads = {name: series for name, series in requests.threads.items() if name not in small}
    threads[one] = sum(
        (requests.threads[name] for name in small if name in requests.threads), np.zeros(len(requests.t_s))
    )
    return replace(
        requests,
        processes={name: values for name, values in requests.processes.items() if name not in small[:-1]},
        regions=[*regions, *inside],
        threads=threads,
        killed=frozenset(one if name in small else name for name in requests.killed),
        notes=[*requests.notes, f"{len(names)} processes, the model has {N_PROCESSES - 1}: the {len(small)} smallest "
               "are one"],
    )  # fmt: skip


def _peak(regions: list[RegionRequest]) -> float:
    return float(np.sum([region.target for region in regions], axis=0).max()) if regions else 0.0


def _joined(regions: list[RegionRequest]) -> list[RegionRequest]:
    """Regions that differ in size alone, as one; those that are referenced stay apart."""
    alike: dict[tuple[object, ...], RegionRequest] = {}
    for i, region in enumerate(regions):
        apart = None if region.access_hz is None else i
        key = (region.process, region.kind, region.density, region.mempolicy, region.mlocked, apart)
        first = alike.get(key)
        alike[key] = region if first is None else replace(first, target=first.target + region.target, left=None)
    return list(alike.values())
