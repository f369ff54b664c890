"""A shipped rule for each configuration, chosen at the start and kept: what learned policies must beat.

The null hypothesis is that knowing the machine is enough: demotion, swap, DRAM to CXL, and CXL's zone. Ratio and zone
show once CXL is online, so the first tick is played by what is known before, and the rule is chosen in the second. The
table is measured, on the train suite alone: `python -m tiergym.lab.selecting` prints it.
"""

from dataclasses import dataclass

import numpy as np

from tiergym.policy.load import list_policies, load_policy
from tiergym.policy.rule_parameters import choice, choices
from tiergym.policy.rules import obs_index

TABLE = {
    "demotion, no swap, beyond 1:3, normal": "restrict",
    "demotion, no swap, no CXL, not yet online": "restrict",
    "demotion, no swap, to 1:1.5, normal": "adaptive",
    "demotion, no swap, to 1:3, normal": "restrict",
    "demotion, swap, beyond 1:3, normal": "adaptive",
    "demotion, swap, no CXL, not yet online": "adaptive",
    "demotion, swap, to 1:1.5, normal": "adaptive",
    "demotion, swap, to 1:3, normal": "restrict",
    "no demotion, no swap, beyond 1:3, normal": "exchange_idle",
    "no demotion, no swap, no CXL, not yet online": "adaptive",
    "no demotion, no swap, to 1:1.5, normal": "exchange_idle",
    "no demotion, no swap, to 1:3, normal": "soft",
    "no demotion, swap, beyond 1:3, normal": "exchange_idle",
    "no demotion, swap, no CXL, not yet online": "exchange_idle",
    "no demotion, swap, to 1:1.5, normal": "exchange_idle",
    "no demotion, swap, to 1:3, normal": "metadata_slow",
}
OTHERWISE = "soft"
"""For a configuration that the train suite does not have: what is best over all of it."""
CHOICES = 2  # before and after CXL comes online
RULES = [name for name in list_policies() if name not in ("guarded", "random", "selector")]


@dataclass
class Selector:
    table: dict = choices(TABLE, RULES)
    otherwise: str = choice(OTHERWISE, RULES)

    def __post_init__(self):
        self.demotion, self.swap = obs_index("config.demotion"), obs_index("swap_free")
        self.slow_share = obs_index("config.slow_share")
        self.zones = {zone: obs_index(f"blocks.{zone}") for zone in ("movable", "normal")}
        self.rules = {name: load_policy(name) for name in sorted({*self.table.values(), self.otherwise})}
        self.reset(1, 0)

    def reset(self, num_envs, seed):
        self.calls = 0
        for rule in self.rules.values():
            rule.reset(num_envs, seed)

    def configurations(self, obs):
        """Of every machine, in words: the keys of the table."""
        return [
            ", ".join(
                (
                    "demotion" if row[self.demotion] > 0.5 else "no demotion",
                    "swap" if row[self.swap] > 0 else "no swap",
                    ratio(float(row[self.slow_share])),
                    next((zone for zone, index in self.zones.items() if row[index] > 0), "not yet online"),
                )
            )
            for row in obs
        ]

    def __call__(self, obs, masks):
        if self.calls < CHOICES:
            self.calls += 1
            self.chosen = np.array([self.table.get(key, self.otherwise) for key in self.configurations(obs)])
        return sum(rule(obs, masks) * (self.chosen == name)[:, None] for name, rule in self.rules.items())


def ratio(slow_share):
    """DRAM to CXL in words."""
    if slow_share == 0:
        return "no CXL"
    return "to 1:1.5" if slow_share < 0.6 else "to 1:3" if slow_share < 0.75 else "beyond 1:3"
