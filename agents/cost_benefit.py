"""Page tables move to DRAM while the expected gain exceeds the cost, at the highest rate that pays [W-arms].

Heat is what two moving averages of walks to CXL agree on: the short one forgets what was hot, the long one is not taken
in by a burst. The gain is what those walks would save within ten seconds, the cost what a second of moves takes at
5 us a page [H-migration]. Slab and stacks have no counter of their own, so nothing is expected of them.
"""

import numpy as np

from tiergym.policy.rules import default_actions, obs_index, raw, set_mode
from tiergym.sim.migrate import BUDGET_PAGES_PER_S

SHORT, LONG = 1 / 4, 1 / 32  # weight of the newest tick: a second and eight, at four ticks a second
PAYBACK_S = 10.0
MOVE_S = 5e-6  # an unbatched move [H-migration]
DRAM_S = 100e-9  # DRAM's idle latency, about [H-presets]
WALK_MISSES = 0.5  # of the walks, those whose leaf is in no cache: 0.3 to 0.8 in the workloads [K-page-walks]


class CostBenefit:
    plausibility = "proposed"

    def __init__(self):
        self.walks, self.extra = obs_index("pmu.walks.slow"), obs_index("config.latency")
        self.reset(1, 0)

    def reset(self, num_envs, seed):
        self.short, self.long = np.zeros(num_envs), np.zeros(num_envs)

    def gain_s(self, obs):
        """Seconds that the walks to CXL would save within the time of payback, were they to DRAM."""
        walks = raw(obs, self.walks)
        self.short += SHORT * (walks - self.short)
        self.long += LONG * (walks - self.long)
        return np.minimum(self.short, self.long) * WALK_MISSES * raw(obs, self.extra) * DRAM_S * PAYBACK_S

    def __call__(self, obs, masks):
        gain_s = self.gain_s(obs)
        actions = default_actions(len(obs))
        for budget, pages_per_s in zip(("low", "medium", "high"), BUDGET_PAGES_PER_S, strict=True):
            pays = gain_s > pages_per_s * MOVE_S
            set_mode(actions, "migrate.pt_leaf", "idle", where=pays)
            set_mode(actions, "migrate.budget", budget, where=pays)
        return actions
