"""The best hand-written rule: kernel pages in DRAM where demotion makes room for them, asked softly where it does not.

Restricting is right as long as cold data can leave DRAM; without demotion, or with CXL full, it would end in stalls
and premature OOM kills, while `prefer_fast` wakes kswapd and then falls back. A little headroom lets bursts land in
DRAM. Masses of dentries, inodes and threads are mostly idle: their memory goes to CXL. What spilled is fetched back
when memory is calm. Thresholds were chosen on the tuning suite alone.
"""

from dataclasses import dataclass

from tiergym.policy.rule_parameters import choice, tunable
from tiergym.policy.rules import default_actions, obs_index, set_mode

KERNEL = ("pt_leaf", "pt_upper", "kstack", "slab_unreclaim", "slab_reclaim", "kernel_other")


@dataclass
class Adaptive:
    many: float = tunable(0.8, 0.3, 1.0, "of files and threads as shown: 0.8 are 4 million files, 20,000 threads")
    room: float = tunable(0.05, 0.0, 0.5, "of a zone of CXL, free")
    spilled: float = tunable(0.01, 0.001, 0.5, "of a class, on CXL", log=True)
    headroom: str = choice("medium", ("off", "small", "medium", "large"))
    budget: str = choice("medium", ("low", "medium", "high"))

    def __post_init__(self):
        self.files, self.threads = obs_index("files"), obs_index("threads")
        self.demotion = obs_index("config.demotion")
        self.zones = [obs_index("free.slow_normal"), obs_index("free.slow_movable")]
        self.on_slow = [obs_index(f"on_slow.{name}") for name in ("pt_leaf", "kstack", "slab_unreclaim")]

    def __call__(self, obs, masks):
        actions = default_actions(len(obs))
        demotes = (obs[:, self.demotion] > 0.5) & (obs[:, self.zones] > self.room).any(axis=1)
        for name in KERNEL:
            set_mode(actions, f"place.{name}", "prefer_fast")
            set_mode(actions, f"place.{name}", "restrict", where=demotes)
        set_mode(actions, "headroom", self.headroom, where=demotes)
        set_mode(actions, "place.slab_reclaim", "prefer_slow", where=obs[:, self.files] > self.many)
        set_mode(actions, "place.kstack", "prefer_slow", where=obs[:, self.threads] > self.many)
        spilled = (obs[:, self.on_slow] > self.spilled).any(axis=1)
        for name in ("pt_leaf", "slab"):
            set_mode(actions, f"migrate.{name}", "idle", where=spilled)
        return set_mode(actions, "migrate.budget", self.budget, where=spilled)
