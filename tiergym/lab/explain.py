"""What a policy looks at, and what it does when: read off one recorded run and runs in which it is misled.

An observation matters as far as decisions change (`changed`) and the score falls (`lost`) where its values are those of
other machines and moments: permutation importance (Breiman 2001). For `changed` the policy is shown the recorded run
again; for `lost` it acts, and lives with what comes of it. Observations that stand for each other share what they
matter: each may be missed less than both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env import observations
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.metrics import Array
from tiergym.lab.tuning_score import Arena, arena, mean_saved, steps_of_one
from tiergym.memory import check_bytes
from tiergym.policy.rules import obs_index

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

SHUFFLED = 0x73687566
"""Key of the stream by which values are taken from other machines and moments."""
EVERYTHING = "everything"
"""All observations at once: what is lost then is what reacting is worth."""
NEAR = 0.2
"""Of `above_low.fast`: 1 % of DRAM is free above low."""
PRESSURES = ("DRAM at or below low", "DRAM up to 1 % above low", "DRAM more than 1 % above low")
CONFIGURATIONS = ("no demotion", "demotion")

OnStep = Callable[[str, int, int], None]
"""Called with what is being measured, how much of it is done, and all of it."""


@dataclass(frozen=True)
class Recorded:
    """A run, tick by tick: obs float32 (T, N, N_OBS), masks bool (T, N, N_MASK), the modes in force int64
    (T, N, N_ACTIONS); `running` bool (T, N). `saved` of stock Linux's loss, float64 (scenarios, episodes)."""

    obs: NDArray[np.float32]
    masks: NDArray[np.bool_]
    in_force: NDArray[np.int64]
    running: NDArray[np.bool_]
    saved: Array


@dataclass(frozen=True)
class Importance:
    """Of one observation or of `EVERYTHING`, where it is another's: the share of decisions that change, and the score
    that is lost; None where that was not measured."""

    observation: str
    changed: float
    lost: float | None


@dataclass(frozen=True)
class Regime:
    """What a policy does under one pressure and configuration: the share of time that it holds, and of that time the
    share of each mode, float64 (N_MASK,)."""

    pressure: str
    configuration: str
    share: float
    modes: Array


@dataclass(frozen=True)
class Explained:
    """All of it. changes: per 100 ticks of a machine, by entry; `score` is the mean share of lost time saved."""

    policy: str
    scenarios: tuple[str, ...]
    episodes: int
    seed: int
    score: float
    importances: list[Importance]
    regimes: list[Regime]
    changes: dict[str, float]


class _Recorder:
    """A policy that remembers what it was shown and what it said."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.name, self.plausibility = policy, policy.name, policy.plausibility
        self.rows: list[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]] = []

    def reset(self, num_envs: int, seed: int) -> None:
        self.rows.clear()
        self.policy.reset(num_envs, seed)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        actions = self.policy(obs.copy(), masks)
        self.rows.append((obs, masks, actions))
        return actions


class _Misled:
    """A policy that is shown what other machines saw at other moments: `columns` of the rows `draws`, int64 (T, N), of
    all that was recorded."""

    def __init__(self, policy: Policy, columns: NDArray[np.int64], draws: NDArray[np.int64], seen: Recorded) -> None:
        self.policy, self.name, self.plausibility = policy, policy.name, policy.plausibility
        self.columns, self.draws = columns, draws
        self.rows = seen.obs.reshape(-1, observations.N_OBS)

    def reset(self, num_envs: int, seed: int) -> None:
        self.tick = 0
        self.policy.reset(num_envs, seed)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        shown = obs.copy()
        shown[:, self.columns] = self.rows[self.draws[self.tick]][:, self.columns]
        self.tick += 1
        return self.policy(shown, masks)


def machines_of(scenarios: Sequence[Scenario], episodes: int, seed: int) -> Arena:
    """Machines of the evaluation's seeds. Raises `UserError` where a record of them would not fit into memory."""
    row = observations.N_OBS * 4 + act.N_MASK + len(act.ENTRIES) * 16
    check_bytes(
        steps_of_one(scenarios) * episodes * row, f"a record of {episodes} episodes of {len(scenarios)} scenarios"
    )
    return arena(scenarios, seed, evaluation_seeds(seed, episodes * len(scenarios)))


def record(policy: Policy, machines: Arena) -> Recorded:
    """Let the policy act, and keep everything."""
    recorder = _Recorder(policy)
    saved = machines.saved(recorder)
    obs, masks, actions = (np.stack(each) for each in zip(*recorder.rows, strict=True))
    ticks = np.tile(machines.ticks, machines.episodes)
    running = np.arange(len(obs))[:, None] < ticks
    return Recorded(obs, masks, in_force(actions, masks), running, saved)


def in_force(actions: NDArray[np.int64], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The modes in force, int64 (..., N_ACTIONS): Linux's default where a choice is impossible."""
    possible = np.take_along_axis(masks, act.OFFSETS + actions, axis=-1)
    return np.where(possible, actions, act.DEFAULT)


def importances(
    policy: Policy, machines: Arena, seen: Recorded, most: int, on_step: OnStep = lambda what, done, total: None
) -> list[Importance]:
    """`EVERYTHING`, that is all observations at once, of one other machine and moment; then every observation that
    changes a decision, those that change most first, with the score lost of the first `most`."""
    moments = np.flatnonzero(seen.running)
    draws = np.random.default_rng([machines.seed, SHUFFLED]).choice(moments, size=seen.running.shape)
    columns = {EVERYTHING: np.arange(observations.N_OBS)}
    columns |= {name: np.array([index]) for index, name in enumerate(observations.NAMES)}
    misled = {name: _Misled(policy, each, draws, seen) for name, each in columns.items()}
    changed = {}
    for done, name in enumerate(columns):
        changed[name] = _changed(misled[name], machines.seed, seen)
        on_step("decisions that change", done + 1, len(columns))
    ordered = [name for name in sorted(changed, key=lambda name: -changed[name]) if changed[name] > 0]
    ordered = [EVERYTHING, *(name for name in ordered if name != EVERYTHING)] if ordered else []
    out, score = [], mean_saved(list(seen.saved))
    for rank, name in enumerate(ordered):
        lost = None
        if rank <= most:
            lost = score - mean_saved(list(machines.saved(misled[name])))
            on_step("score that is lost", rank + 1, min(most + 1, len(ordered)))
        out.append(Importance(name, changed[name], lost))
    return out


def regimes(seen: Recorded) -> list[Regime]:
    """What was in force under each pressure and configuration that occurred."""
    above, demotion = (seen.obs[..., obs_index(name)] for name in ("above_low.fast", "config.demotion"))
    pressure = np.where(above <= 0, 0, np.where(above <= NEAR, 1, 2))
    configuration = (demotion > 0.5).astype(np.int64)
    out = []
    for which, words in enumerate(CONFIGURATIONS):
        for level, pressed in enumerate(PRESSURES):
            here = seen.running & (pressure == level) & (configuration == which)
            if here.any():
                modes = (act.OFFSETS + seen.in_force[here]).ravel()
                shares = np.bincount(modes, minlength=act.N_MASK) / here.sum()
                out.append(Regime(pressed, words, float(here.sum() / seen.running.sum()), shares))
    return out


def changes_of_mind(seen: Recorded) -> dict[str, float]:
    """By entry, how often another mode is in force than the tick before, per 100 ticks of a machine."""
    both = seen.running[1:, :, None]
    changed = ((seen.in_force[1:] != seen.in_force[:-1]) & both).sum(axis=(0, 1))
    per_100 = 100.0 * changed / max(1, int(both.sum()))
    return dict(zip(act.NAMES, per_100.tolist(), strict=True))


def explain(
    name: str,
    policy: Policy,
    machines: Arena,
    seen: Recorded,
    most: int,
    on_step: OnStep = lambda what, done, total: None,
) -> Explained:
    """All about a policy called `name`, from its record; `most` observations are tried with the simulator."""
    return Explained(
        name,
        tuple(each.name for each in machines.scenarios),
        machines.episodes,
        machines.seed,
        mean_saved(list(seen.saved)),
        importances(policy, machines, seen, most, on_step),
        regimes(seen),
        changes_of_mind(seen),
    )


def _changed(misled: _Misled, seed: int, seen: Recorded) -> float:
    """The share of decisions of the recorded run in which another mode would be in force."""
    misled.reset(seen.running.shape[1], seed)
    differing = 0
    for obs, masks, before, running in zip(seen.obs, seen.masks, seen.in_force, seen.running, strict=True):
        now = in_force(misled(obs, masks), masks)
        differing += int(((now != before).any(axis=1) & running).sum())
    return differing / int(seen.running.sum())
