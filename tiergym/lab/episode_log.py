"""One episode of one policy, tick by tick: what `tiergym show` draws and writes.

JSON (schema 1): `pages` by tier and class, `free_pages` and `wmark_pages` by zone, counters, lost time and reward terms
by name, each a list with one number per tick; `modes` by entry, `chosen` and `in_force`. Times are the ends of ticks.
Pages are 4 KiB. Counters are events of the tick, not per second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiergym import files
from tiergym.env import actions as act
from tiergym.env.machines import Machines
from tiergym.extras import require
from tiergym.lab.evaluate import check_horizon, evaluation_seeds
from tiergym.sim import names as n
from tiergym.specs import assignments_text

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

SCHEMA = 1
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EpisodeLog:
    """What one machine did in T ticks, its state as each tick left it.

    pages: int64 (T, N_CLASSES, N_TIERS). managed_pages, free_pages: int64 (T, N_ZONES). wmark_pages: int64
    (T, N_WMARKS, N_ZONES). counters: int64 (T, N_COUNTERS), of the tick. throughput, reward: float64 (T,). lost:
    float64 (T, N_CAUSES), adding up to 1 - throughput. terms: float64 (T, N_TERMS). chosen, in_force: int64
    (T, N_ACTIONS): what the policy chose, and mode 0 instead where the mask says that this is impossible.
    events: seconds and names of what happens to the machine in the scenario.
    """

    policy: str
    scenario: str
    seed: int
    episode: int
    machine_seed: int
    dt_s: float
    events: tuple[tuple[float, str], ...]
    pages: Ints
    managed_pages: Ints
    free_pages: Ints
    wmark_pages: Ints
    counters: Ints
    throughput: Floats
    lost: Floats
    terms: Floats
    reward: Floats
    chosen: Ints
    in_force: Ints

    @property
    def ticks(self) -> int:
        """Length of the episode."""
        return len(self.throughput)

    @property
    def time_s(self) -> Floats:
        """When each tick ended, float64 (T,)."""
        return np.arange(1, self.ticks + 1, dtype=np.float64) * self.dt_s

    def per_second(self, *counters: int) -> Floats:
        """The sum of these counters as a rate, float64 (T,)."""
        return np.asarray(self.counters[:, list(counters)].sum(axis=1) / self.dt_s)

    @property
    def kills_s(self) -> list[float]:
        """Ends of the ticks with OOM kills."""
        return [float(at) for at in self.time_s[self.counters[:, n.C_OOM_KILL] > 0]]

    @property
    def kills(self) -> int:
        """Processes killed."""
        return int(self.counters[:, n.C_OOM_KILL].sum())


def run_ticks(
    policy: Policy, scenario: Scenario, seed: int, episode: int
) -> Iterator[tuple[Machines, NDArray[np.int64], NDArray[np.int64]]]:
    """Run episode `episode` of those that `tiergym evaluate --seed` measures, alone; after each tick yield the machine
    in the state that was reached, the choice and what was in force, int64 (N_ACTIONS,).

    A policy that draws by chance draws otherwise alone than in a batch.

    Raises:
        UserError: the policy answers with actions that are none, or is a plan for an episode of another length.
    """
    # The engine leaves a finished machine as it is until the next call.
    machines = Machines([scenario], 1, threads=1, next_step=True)
    machines.reset(evaluation_seeds(seed, episode + 1)[episode:])
    check_horizon(policy, machines)
    policy.reset(1, seed)
    done = False
    while not done:
        masks = machines.masks.copy()
        actions = policy(machines.obs.copy(), masks)
        machines.step(actions)
        done = bool(machines.done[0])
        chosen = actions[0].copy()
        yield machines, chosen, np.where(masks[0, act.OFFSETS + chosen], chosen, act.DEFAULT)


def log_episode(policy: Policy, name: str, scenario: Scenario, seed: int, episode: int) -> EpisodeLog:
    """Run one episode, as `run_ticks` does, and keep all of it; `name` is what the policy is called."""
    rows: list[dict[str, Any]] = []
    for machines, chosen, in_force in run_ticks(policy, scenario, seed, episode):
        record = machines.records[0]
        used = record["used_pages"].astype(np.int64)
        row = {
            "pages": np.stack([used[:, zones].sum(axis=1) for zones in n.TIER_ZONES], axis=1),
            "chosen": chosen,
            "in_force": in_force,
            "reward": machines.reward[0],
        }
        row |= {field: record[field].astype(np.int64) for field in ("managed_pages", "free_pages", "wmark_pages")}
        row |= {field: getattr(machines, field)[0].copy() for field in ("counters", "throughput", "lost", "terms")}
        rows.append(row)
    changed = f" with {assignments_text(scenario.changes)}" if scenario.changes else ""
    return EpisodeLog(
        policy=name,
        scenario=f"{scenario.name}{changed}",
        seed=seed,
        episode=episode,
        machine_seed=int(evaluation_seeds(seed, episode + 1)[episode]),
        dt_s=float(record["dt_s"]),
        events=_events(record),
        **{field: np.stack([row[field] for row in rows]) for field in rows[0]},
    )


def _events(record: np.void) -> tuple[tuple[float, str], ...]:
    """What happens in the scenario, with the knob that is changed."""
    found = []
    for event in range(int(record["events"])):
        kind = int(record["event_kind"][event])
        if kind == n.EVENT_NONE:
            continue
        name = n.EVENTS[kind]
        if kind == n.EVENT_SYSCTL:
            name = f"{name} {n.KNOBS[int(record['event_knob'][event])]}"
        found.append((float(record["event_at_s"][event]), name))
    return tuple(sorted(found))


def document(logs: Sequence[EpisodeLog]) -> dict[str, Any]:
    """All series of the policies of one machine, in schema 1."""
    first = logs[0]
    return {
        "schema": SCHEMA,
        "scenario": first.scenario,
        "seed": first.seed,
        "episode": first.episode,
        "machine_seed": first.machine_seed,
        "dt_s": first.dt_s,
        "events": [{"at_s": at, "kind": kind} for at, kind in first.events],
        "policies": {log.policy: _series(log) for log in logs},
    }


def _series(log: EpisodeLog) -> dict[str, Any]:
    zones = np.flatnonzero(log.managed_pages.any(axis=0))

    def by_zone(pages: Ints) -> dict[str, Any]:
        return {n.ZONES[zone]: pages[:, zone].tolist() for zone in zones}

    def by_name(names: Sequence[str], values: NDArray[Any]) -> dict[str, Any]:
        return dict(zip(names, values.T.tolist(), strict=True))

    return {
        "time_s": log.time_s.tolist(),
        "throughput": log.throughput.tolist(),
        "reward": log.reward.tolist(),
        "pages": {tier: by_name(n.CLASSES, log.pages[:, :, i]) for i, tier in enumerate(n.TIERS)},
        "managed_pages": by_zone(log.managed_pages),
        "free_pages": by_zone(log.free_pages),
        "wmark_pages": {mark: by_zone(log.wmark_pages[:, i]) for i, mark in enumerate(n.WMARKS)},
        "counters": by_name(n.COUNTERS, log.counters),
        "lost": by_name(n.CAUSES, log.lost),
        "terms": by_name(n.TERMS, log.terms),
        "modes": {
            entry.name: {
                "chosen": [entry.modes[mode] for mode in log.chosen[:, i]],
                "in_force": [entry.modes[mode] for mode in log.in_force[:, i]],
            }
            for i, entry in enumerate(act.ENTRIES)
        },
    }


def write_parquet(path: Path, logs: Sequence[EpisodeLog]) -> None:
    """Write one row per policy and tick; columns are the paths of `document`, as `pages/fast/anon`.

    Raises:
        UserError: pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    tables = []
    for log in logs:
        columns = {
            "scenario": [log.scenario] * log.ticks,
            "policy": [log.policy] * log.ticks,
            "machine_seed": np.full(log.ticks, log.machine_seed, np.uint64),
            "tick": np.arange(log.ticks),
        }
        tables.append(arrow.table(columns | dict(_flat("", _series(log)))))
    table = arrow.concat_tables(tables).replace_schema_metadata({"tiergym.schema": str(SCHEMA)})
    buffer = arrow.BufferOutputStream()
    parquet.write_table(table, buffer)
    files.write_bytes(path, buffer.getvalue().to_pybytes())


def _flat(path: str, tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(f"{path}{name}/", value)
        else:
            yield f"{path}{name}", value
