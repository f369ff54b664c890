"""The best hand-written rule: ask for DRAM softly, keep masses of files out of it, fetch back what spilled.

`prefer_fast` wakes kswapd, which demotes cold data, and never stalls or kills. Where files are so many that their
dentries and inodes would fill DRAM, most of these are never looked at again, so the slow tier gets them. Kernel
pages that spilled are moved back when memory is calm.
"""

from tiergym.policy.rules import default_actions, obs_index, set_mode

KERNEL = ("pt_leaf", "pt_upper", "kstack", "slab_unreclaim", "slab_reclaim", "kernel_other")
MOVED = ("pt_leaf", "slab", "kstack")


class Adaptive:
    def __init__(self):
        self.files = obs_index("files")
        self.spilled = [obs_index("on_slow.pt_leaf"), obs_index("on_slow.kstack")]

    def __call__(self, obs, masks):
        actions = default_actions(len(obs))
        for name in KERNEL:
            set_mode(actions, f"place.{name}", "prefer_fast")
        set_mode(actions, "place.slab_reclaim", "prefer_slow", where=obs[:, self.files] > 0.8)
        spilled = (obs[:, self.spilled] > 0.01).any(axis=1)
        for name in MOVED:
            set_mode(actions, f"migrate.{name}", "idle", where=spilled)
        return set_mode(actions, "migrate.budget", "medium", where=spilled)
