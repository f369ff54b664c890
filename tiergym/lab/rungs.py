"""One scenario's rungs of the ladder, and what can be read off them: shares, values, headroom, whether it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.lab.statistics import Bootstrap, Interval

REFERENCE = "online"
LEAST_HEADROOM = 0.05
"""Of the plan's gain over `online`: less is nothing that a policy could be told apart by."""
LEAST_GAIN = 0.005
"""Of the time: where clairvoyance wins less than half a percent over stock Linux, nobody need care who decides."""
NOTHING = 1e-9


@dataclass(frozen=True)
class Rung:
    """Returns on one scenario, each a list with one return per episode, of the same machines.

    rules: of every hand-written rule, by name. rule, selected: which of them H and S are. One, Ci and the plan are
    found by search; `learned` is None without a learned policy. ticks: of an episode.
    """

    scenario: str
    ticks: int
    rules: dict[str, list[float]]
    rule: str
    selected: str
    one: list[float]
    constant: list[float]
    plan: list[float]
    learned: list[float] | None = None
    seed: int = field(default=0)

    def as_dict(self) -> dict[str, Any]:
        """For a file; `Rung(**document)` reads it."""
        return asdict(self)

    @property
    def best_rule(self) -> str:
        """The rule with the highest mean return here, in hindsight: what choosing among rules could win, no policy."""
        return max(self.rules, key=lambda name: _mean(self.rules[name]))

    @property
    def online(self) -> float:
        """Mean return of stock Linux."""
        return _mean(self.rules[REFERENCE])

    @property
    def gain(self) -> float:
        """What the plan wins over stock Linux."""
        return _mean(self.plan) - self.online

    def share(self, returns: Sequence[float]) -> float:
        """The share of the plan's gain that a policy with these returns wins; 0 where there is none."""
        return (_mean(returns) - self.online) / self.gain if self.gain > NOTHING else 0.0

    @property
    def simple(self) -> list[float]:
        """The best of One, S and H: what a policy that adapts has to beat."""
        return max((self.one, self.rules[self.selected], self.rules[self.rule]), key=_mean)

    @property
    def headroom(self) -> float:
        """Of the plan's gain, what none of One, S and H reaches."""
        return max(0.0, 1.0 - self.share(self.simple)) if self.gain > NOTHING else 0.0

    @property
    def configuration_value(self) -> float:
        """Ci - One, of the gain: what knowing the scenario is worth."""
        return self.share(self.constant) - self.share(self.one)

    @property
    def adaptivity_value(self) -> float:
        """P - Ci, of the gain: what reacting within an episode is worth."""
        return self.share(self.plan) - self.share(self.constant)

    @property
    def captured(self) -> float | None:
        """Of the headroom, what the learned policy wins; None without one, or without headroom."""
        above = _mean(self.plan) - _mean(self.simple)
        if self.learned is None or above < NOTHING:
            return None
        return (_mean(self.learned) - _mean(self.simple)) / above

    @cached_property
    def above_simple(self) -> Interval:
        """What the plan wins over the best of One, S and H, paired by episode, in units of return."""
        plan: NDArray[np.float64] = np.array(self.plan)
        return Bootstrap(len(plan), seed=self.seed).difference(plan, np.array(self.simple))

    @property
    def decides(self) -> bool:
        """Whether policies can be told apart here: a gain, and headroom beyond the noise of episodes."""
        worth = self.gain >= LEAST_GAIN * self.ticks
        return worth and self.headroom >= LEAST_HEADROOM and self.above_simple.low > 0


def _mean(returns: Sequence[float]) -> float:
    return float(np.mean(returns))
