"""Page tables move to DRAM while the expected gain exceeds the cost, at the highest rate that pays [W-arms].

Heat is what two moving averages of walks to CXL agree on: the short one forgets what was hot, the long one is not taken
in by a burst. The gain is what those walks would save within ten seconds, the cost what a second of moves takes at
5 us a page [H-migration]. Slab and stacks have no counter of their own, so nothing is expected of them.
"""

from dataclasses import dataclass

import numpy as np

from tiergym.policy.rule_parameters import tunable
from tiergym.policy.rules import default_actions, obs_index, raw, set_mode
from tiergym.sim.migrate import BUDGET_PAGES_PER_S

MOVE_S = 5e-6  # an unbatched move [H-migration]
DRAM_S = 100e-9  # DRAM's idle latency, about [H-presets]
WALK_MISSES = 0.5  # of the walks, those whose leaf is in no cache: 0.3 to 0.8 in the workloads [K-page-walks]


@dataclass
class CostBenefit:
    payback_s: float = tunable(10.0, 0.1, 1000.0, "seconds in which a move pays", log=True)
    short: float = tunable(
        1 / 4, 1 / 32, 1.0, "weight of the newest tick: a quarter is a second at four ticks", log=True
    )
    long: float = tunable(1 / 32, 1 / 1024, 1 / 4, "weight of the newest tick", log=True)

    plausibility = "proposed"

    def __post_init__(self):
        self.walks, self.extra = obs_index("pmu.walks.slow"), obs_index("config.latency")
        self.reset(1, 0)

    def reset(self, num_envs, seed):
        self.recent, self.lasting = np.zeros(num_envs), np.zeros(num_envs)

    def gain_s(self, obs):
        """Seconds that the walks to CXL would save within the time of payback, were they to DRAM."""
        walks = raw(obs, self.walks)
        self.recent += self.short * (walks - self.recent)
        self.lasting += self.long * (walks - self.lasting)
        return np.minimum(self.recent, self.lasting) * WALK_MISSES * raw(obs, self.extra) * DRAM_S * self.payback_s

    def __call__(self, obs, masks):
        gain_s = self.gain_s(obs)
        actions = default_actions(len(obs))
        for budget, pages_per_s in zip(("low", "medium", "high"), BUDGET_PAGES_PER_S, strict=True):
            pays = gain_s > pages_per_s * MOVE_S
            set_mode(actions, "migrate.pt_leaf", "idle", where=pays)
            set_mode(actions, "migrate.budget", budget, where=pays)
        return actions
