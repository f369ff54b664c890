"""The best hand-written rule: kernel pages in DRAM where demotion makes room for them, asked softly where it does not.

Restricting is right as long as cold data can leave DRAM; without demotion, or with CXL full, it would end in stalls
and premature OOM kills, while `prefer_fast` wakes kswapd and then falls back. A little headroom lets bursts land in
DRAM. Masses of dentries, inodes and threads are mostly idle: their memory goes to CXL. What spilled is fetched back
when memory is calm. Thresholds were chosen on the tuning suite alone.
"""

from tiergym.policy.rules import default_actions, obs_index, set_mode

KERNEL = ("pt_leaf", "pt_upper", "kstack", "slab_unreclaim", "slab_reclaim", "kernel_other")
MANY = 0.8  # of the observation's scale: over 4 million files, over 20,000 threads


class Adaptive:
    def __init__(self):
        self.files, self.threads = obs_index("files"), obs_index("threads")
        self.demotion = obs_index("config.demotion")
        self.room = [obs_index("free.slow_normal"), obs_index("free.slow_movable")]
        self.spilled = [obs_index(f"on_slow.{name}") for name in ("pt_leaf", "kstack", "slab_unreclaim")]

    def __call__(self, obs, masks):
        actions = default_actions(len(obs))
        demotes = (obs[:, self.demotion] > 0.5) & (obs[:, self.room] > 0.05).any(axis=1)
        for name in KERNEL:
            set_mode(actions, f"place.{name}", "prefer_fast")
            set_mode(actions, f"place.{name}", "restrict", where=demotes)
        set_mode(actions, "headroom", "medium", where=demotes)
        set_mode(actions, "place.slab_reclaim", "prefer_slow", where=obs[:, self.files] > MANY)
        set_mode(actions, "place.kstack", "prefer_slow", where=obs[:, self.threads] > MANY)
        spilled = (obs[:, self.spilled] > 0.01).any(axis=1)
        for name in ("pt_leaf", "slab"):
            set_mode(actions, f"migrate.{name}", "idle", where=spilled)
        return set_mode(actions, "migrate.budget", "medium", where=spilled)
