"""Page tables come back to DRAM where the measured latency of a walk says that they are far [W-auto-ptm].

A walk's latency is that of the tier its leaf lies on, at that tier's present load: idle latency, up to twice as much
towards saturation [H-dram-curves]. Tables move while walks are slower than they would be in DRAM, and stay where they
are while DRAM is so busy that it is no nearer than CXL. Placement stays Linux's.
"""

from dataclasses import dataclass

import numpy as np

from tiergym.policy.rule_parameters import tunable
from tiergym.policy.rules import default_actions, obs_index, raw, set_mode


@dataclass
class WalkLatency:
    worth: float = tunable(1.05, 1.0, 2.0, "of the latency in DRAM; less is noise of the sampled counters")

    plausibility = "proposed"

    def __post_init__(self):
        self.walks = [obs_index("pmu.walks.fast"), obs_index("pmu.walks.slow")]
        self.load = [obs_index("pmu.load.fast"), obs_index("pmu.load.slow")]
        self.extra = obs_index("config.latency")

    def latency(self, obs):
        """Latency of a walk now, and of one whose leaf is in DRAM, over DRAM's at idle."""
        fast, slow = (raw(obs, index) for index in self.walks)
        near = 1.0 + obs[:, self.load[0]] ** 2
        far = (1.0 + raw(obs, self.extra)) * (1.0 + obs[:, self.load[1]] ** 2)
        return near + (far - near) * slow / np.maximum(fast + slow, 1.0), near

    def __call__(self, obs, masks):
        now, near = self.latency(obs)
        far = now > self.worth * near
        actions = set_mode(default_actions(len(obs)), "migrate.pt_leaf", "idle", where=far)
        return set_mode(actions, "migrate.budget", "medium", where=far)
