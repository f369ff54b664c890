"""What ppo_suite learned, while memory is at ease; the selector's rule, while tasks wait for memory or one was killed.

A learned policy is worth most on what it has learned; under pressure that it does not know, it restricts what should
not be. Nothing but /proc/pressure/memory and /proc/vmstat is asked for that, so it does not see slab that is in use on
CXL, where nobody waits. The tree of 32 leaves stands for the network and keeps its score (docs/export.md). The
threshold was chosen on the suite train.
"""

from dataclasses import dataclass

import numpy as np

from tiergym.paths import agents_dir
from tiergym.policy.load import load_policy
from tiergym.policy.rule_parameters import tunable
from tiergym.policy.rules import obs_index, raw


@dataclass
class Guarded:
    stalls: float = tunable(0.02, 0.01, 1.0, "of the time in which some task waits for memory")
    forget: float = tunable(1 / 8, 1 / 256, 1.0, "weight of the newest tick: an eighth is two seconds", log=True)
    hold: int = tunable(80, 1, 4000, "ticks that the rule decides after the last alarm: 20 s", log=True)

    def __post_init__(self):
        self.learned = load_policy(agents_dir() / "weights" / "ppo_suite" / "tree.json")
        self.rule = load_policy("selector")
        self.waiting, self.kills = obs_index("psi.some"), obs_index("rate.oom_kill")
        self.reset(1, 0)

    def reset(self, num_envs, seed):
        self.pressure, self.alarm = np.zeros(num_envs), np.zeros(num_envs)
        self.learned.reset(num_envs, seed)
        self.rule.reset(num_envs, seed)

    def __call__(self, obs, masks):
        self.pressure += self.forget * (raw(obs, self.waiting) - self.pressure)
        alarmed = (self.pressure > self.stalls) | (raw(obs, self.kills) > 0)
        self.alarm = np.where(alarmed, self.hold, np.maximum(self.alarm - 1, 0))
        return np.where((self.alarm > 0)[:, None], self.rule(obs, masks), self.learned(obs, masks))
