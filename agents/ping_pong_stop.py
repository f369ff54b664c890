"""As migrate, but it stops where promoted pages are demoted again, and resumes when the load is another [W-ping-pong].

The paper marks pages that were promoted and demoted within a short time, stops migration when they prevail, and looks
out cheaply for a change of the access pattern. Here the counters of both directions stand for the marks, and cache
misses to CXL for the pattern. Linux's own promotion is not ours to stop: only moves of kernel pages are.
"""

import numpy as np

from tiergym.policy.rules import default_actions, obs_index, raw, set_mode

FORGET = 1 / 8  # weight of the newest tick: two seconds, at four ticks a second
BUSY = 256.0  # promoted pages per second, 1 MiB: below, nobody migrates enough to tell
RETURNING = 0.5  # of what is promoted, demoted at the same time
ANOTHER = 0.25  # change of the misses to CXL that makes another load


class PingPongStop:
    plausibility = "proposed"

    def __init__(self):
        self.promoted = obs_index("rate.pgpromote_success")
        self.demoted = [obs_index(f"rate.pgdemote_{how}") for how in ("kswapd", "direct", "proactive")]
        self.misses = obs_index("pmu.misses.slow")
        self.reset(1, 0)

    def reset(self, num_envs, seed):
        self.up, self.down, self.load = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs)
        self.load_when_stopped = np.zeros(num_envs)
        self.stopped = np.zeros(num_envs, dtype=bool)

    def __call__(self, obs, masks):
        self.up += FORGET * (raw(obs, self.promoted) - self.up)
        self.down += FORGET * (sum(raw(obs, index) for index in self.demoted) - self.down)
        self.load += FORGET * (raw(obs, self.misses) - self.load)
        another = np.abs(self.load - self.load_when_stopped) > ANOTHER * self.load_when_stopped
        self.stopped &= ~another
        stops = ~self.stopped & (self.up > BUSY) & (self.down > RETURNING * self.up)
        self.load_when_stopped[stops] = self.load[stops]
        self.stopped |= stops
        actions = default_actions(len(obs))
        set_mode(actions, "migrate.pt_leaf", "with_data", where=~self.stopped)
        set_mode(actions, "migrate.slab", "idle", where=~self.stopped)
        set_mode(actions, "migrate.kstack", "idle", where=~self.stopped)
        return set_mode(actions, "migrate.budget", "medium", where=~self.stopped)
