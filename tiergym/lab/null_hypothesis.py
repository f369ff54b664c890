"""S, the null hypothesis: that knowing the configuration and the workload is all there is to it.

For a scenario the rule is chosen that was best on scenarios of the train suite with the same workload and the same
configuration, never the scenario's own family among them; without any, on those of the same workload, then of the same
configuration, then on all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tiergym.lab.rungs import REFERENCE
from tiergym.specs import Scenario, scenario_digest


@dataclass(frozen=True)
class Tried:
    """How the rules did on a scenario: returns per episode by name."""

    scenario: Scenario
    returns: Mapping[str, Sequence[float]]


def select(scenario: Scenario, tried: Sequence[Tried]) -> str:
    """The name of the rule with the highest mean of what it saves of stock Linux's loss, on the nearest scenarios."""
    own = scenario_digest(scenario)
    others = [each for each in tried if scenario_digest(each.scenario) != own]
    alike: list[Callable[[Scenario], object]] = [
        lambda each: (_workload(each), _configuration(each)),
        _workload,
        _configuration,
        lambda each: None,
    ]
    near = next(
        (found for key in alike if (found := [each for each in others if key(each.scenario) == key(scenario)])), []
    )
    return best(near)


def best(tried: Sequence[Tried]) -> str:
    """The rule with the highest mean of what it saves on these; stock Linux without any."""
    if not tried:
        return REFERENCE
    return max(tried[0].returns, key=lambda name: float(np.mean([_saved(each, name) for each in tried])))


def _saved(tried: Tried, rule: str) -> float:
    """Of what stock Linux loses, at most all of it lost again: a kill weighs no more than the worst."""
    online = float(np.mean(tried.returns[REFERENCE]))
    if online >= 0:
        return 0.0
    return max(-1.0, 1.0 - float(np.mean(tried.returns[rule])) / online)


def _workload(scenario: Scenario) -> object:
    """Workloads are told by their regions: what a machine's owner would know."""
    return tuple(sorted(region["name"] for region in scenario.sections["regions"]))


def _configuration(scenario: Scenario) -> object:
    """What a policy's owner could look up before the start: demotion, and whether there is swap."""
    kernel = scenario.sections["kernel"]
    return kernel["demotion"], kernel["swap_mib"] != 0
