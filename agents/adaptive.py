"""The best hand-written rule: DRAM for kernel pages while DRAM can be made free, fallback while it cannot.

It asks for DRAM in the form that the machine can bear: `restrict` where cold data can be demoted, `prefer_fast`
where it can not, `fallback` once reclaim runs empty. Pages that spilled are fetched back when memory is calm, and
DRAM is kept free for that as long as any of them is on the slow tier. One number per condition, no state.
"""

from tiergym.policy.rules import default_actions, obs_index, set_mode

KERNEL = ("pt_leaf", "pt_upper", "kstack", "slab_unreclaim", "slab_reclaim", "kernel_other")


class Adaptive:
    def __init__(self):
        self.at = obs_index

    def __call__(self, obs, masks):
        actions = default_actions(len(obs))
        spilled = obs[:, self.at("on_slow.pt_leaf")] + obs[:, self.at("on_slow.kstack")] > 0.01
        demotion = obs[:, self.at("config.demotion")] > 0.5
        room = obs[:, self.at("free.slow_normal")] + obs[:, self.at("free.slow_movable")] > 0.05
        failing = obs[:, self.at("kswapd_failures.fast")] > 0.25
        failing |= (obs[:, self.at("rate.oom_kill")] > 0) | (obs[:, self.at("psi.full")] > 0.05)
        for name in KERNEL:
            set_mode(actions, f"place.{name}", "prefer_fast")
        for name in ("pt_leaf", "pt_upper", "kstack"):
            set_mode(actions, f"place.{name}", "restrict", where=demotion & room)
        for name in KERNEL:
            set_mode(actions, f"place.{name}", "fallback", where=failing)
        set_mode(actions, "migrate.pt_leaf", "idle", where=spilled)
        set_mode(actions, "migrate.slab", "idle")
        set_mode(actions, "migrate.kstack", "idle")
        set_mode(actions, "migrate.budget", "medium")
        set_mode(actions, "headroom", "small", where=spilled & room)
        return set_mode(actions, "zone", "movable")
