"""As migrate, but it stops where promoted pages are demoted again, and resumes when the load is another [W-ping-pong].

The paper marks pages that were promoted and demoted within a short time, stops migration when they prevail, and looks
out cheaply for a change of the access pattern. Here the counters of both directions stand for the marks, and cache
misses to CXL for the pattern. Linux's own promotion is not ours to stop: only moves of kernel pages are.
"""

from dataclasses import dataclass

import numpy as np

from tiergym.policy.rule_parameters import tunable
from tiergym.policy.rules import default_actions, obs_index, raw, set_mode


@dataclass
class PingPongStop:
    forget: float = tunable(1 / 8, 1 / 256, 1.0, "weight of the newest tick: an eighth is two seconds", log=True)
    busy: float = tunable(256.0, 1.0, 65536.0, "promoted pages per second; below, too few migrate to tell", log=True)
    returning: float = tunable(0.5, 0.0, 2.0, "of what is promoted, demoted at the same time")
    another: float = tunable(0.25, 0.01, 2.0, "change of the misses to CXL that makes another load", log=True)

    plausibility = "proposed"

    def __post_init__(self):
        self.promoted = obs_index("rate.pgpromote_success")
        self.demoted = [obs_index(f"rate.pgdemote_{how}") for how in ("kswapd", "direct", "proactive")]
        self.misses = obs_index("pmu.misses.slow")
        self.reset(1, 0)

    def reset(self, num_envs, seed):
        self.up, self.down, self.load = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs)
        self.load_when_stopped = np.zeros(num_envs)
        self.stopped = np.zeros(num_envs, dtype=bool)

    def __call__(self, obs, masks):
        self.up += self.forget * (raw(obs, self.promoted) - self.up)
        self.down += self.forget * (sum(raw(obs, index) for index in self.demoted) - self.down)
        self.load += self.forget * (raw(obs, self.misses) - self.load)
        another = np.abs(self.load - self.load_when_stopped) > self.another * self.load_when_stopped
        self.stopped &= ~another
        stops = ~self.stopped & (self.up > self.busy) & (self.down > self.returning * self.up)
        self.load_when_stopped[stops] = self.load[stops]
        self.stopped |= stops
        actions = default_actions(len(obs))
        set_mode(actions, "migrate.pt_leaf", "with_data", where=~self.stopped)
        set_mode(actions, "migrate.slab", "idle", where=~self.stopped)
        set_mode(actions, "migrate.kstack", "idle", where=~self.stopped)
        return set_mode(actions, "migrate.budget", "medium", where=~self.stopped)
