"""No class of kernel pages has more in DRAM than DRAM's share of memory, as tier-aware limits for data [K-tier-limits].

A class above its share asks for CXL first; one below falls back as in stock Linux. What lies in DRAM already stays: no
entry of the action demotes kernel pages.
"""

from tiergym.policy.rules import default_actions, obs_index, set_mode

KERNEL = ("pt_leaf", "pt_upper", "kstack", "slab_unreclaim", "slab_reclaim", "kernel_other")


class Proportional:
    def __init__(self):
        self.slow_share = obs_index("config.slow_share")
        self.on_slow = {name: obs_index(f"on_slow.{name}") for name in KERNEL}

    def __call__(self, obs, masks):
        actions = default_actions(len(obs))
        for name, index in self.on_slow.items():
            set_mode(actions, f"place.{name}", "prefer_slow", where=obs[:, index] < obs[:, self.slow_share])
        return actions
