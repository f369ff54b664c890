"""What a policy would decide on a real machine, second by second. It looks, and never touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tiergym.env import actions as act
from tiergym.env.observations import NAMES
from tiergym.policy.base import Policy
from tiergym.recordings.live_observation import LiveMachine


@dataclass(frozen=True, slots=True)
class Advice:
    """One decision. `modes`: entries that are not the default, by name. `impossible`: what was chosen besides and
    cannot be on this machine; the environment turns it into the default."""

    t_s: float
    modes: dict[str, str]
    impossible: dict[str, str]


@dataclass
class Adviser:
    """A policy that watches a machine. Rates need two looks, so `look` once before the first `decide`."""

    live: LiveMachine
    policy: Policy

    def look(self, now_s: float) -> None:
        """A first look at `now_s` seconds of any clock, and a new episode for the policy."""
        self.live.observe(now_s)
        self.policy.reset(1, 0)

    def decide(self, now_s: float) -> Advice:
        """What the policy would do now, with the rates since the last look."""
        obs, mask = self.live.observe(now_s)
        (action,) = np.asarray(self.policy(obs, mask))
        chosen = {name: mode for name, mode in act.to_modes(action).items() if mode != _default(name)}
        allowed = {name: bool(mask[0, act.MASK_NAMES.index(f"{name}={mode}")]) for name, mode in chosen.items()}
        modes = {name: mode for name, mode in chosen.items() if allowed[name]}
        return Advice(now_s, modes, {name: mode for name, mode in chosen.items() if not allowed[name]})


def stand_ins(live: LiveMachine) -> Iterator[tuple[list[str], str]]:
    """Entries of the observation that the machine does not tell, in groups with what stands for them."""
    groups: dict[str, list[str]] = {}
    for name in NAMES:
        if name in live.assumed:
            groups.setdefault(live.assumed[name], []).append(name)
    yield from ((names, what) for what, names in groups.items())


def _default(name: str) -> str:
    return act.ENTRIES[act.NAMES.index(name)].modes[0]
