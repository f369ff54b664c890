"""What a unit of reward is worth while training: on a suite, machines whose stock Linux loses little would not count.

With `reward = "saved"` a recipe divides each machine's reward by what stock Linux loses per tick on that scenario, so
that a return is -1 per tick of stock Linux everywhere, and 0 where nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import DEFAULT
from tiergym.env.machines import Machines
from tiergym.specs import Scenario

RETURN, SAVED = "return", "saved"
REWARDS = (RETURN, SAVED)
MACHINES = 4
"""Per scenario; their seeds are those of the first machines that a training could have."""
LEAST_LOSS = 0.02
"""Of the time: where stock Linux loses less, a policy that loses as much must not look like a catastrophe. A recipe may
say `least_loss`: with less, harm where there is little to win counts for more."""


def reward_scales(scenarios: Sequence[Scenario], reward: str, least_loss: float = LEAST_LOSS) -> NDArray[np.float64]:
    """Factors of the reward by scenario, float64 (scenarios,): 1 for `return`."""
    if reward == RETURN:
        return np.ones(len(scenarios))
    return 1.0 / np.array([max(loss_per_tick(scenario), least_loss) for scenario in scenarios])


def loss_per_tick(scenario: Scenario) -> float:
    """Mean reward per tick under untouched Linux, negated."""
    machines = Machines([scenario], MACHINES)
    machines.reset(np.arange(MACHINES, dtype=np.uint64))
    untouched = np.tile(DEFAULT, (MACHINES, 1))
    ticks = int(machines.records["ticks"].min())
    total = 0.0
    for _ in range(ticks):
        machines.step(untouched)
        total += float(machines.reward.mean())
    return -total / ticks
