"""Speed of evaluation: many policies on many scenarios, as `tiergym matrix` does it."""

from collections.abc import Callable, Sequence
from time import perf_counter

from tiergym.lab.compare import compare
from tiergym.policy.load import list_policies, load_policy
from tiergym.specs import list_scenarios, load_scenario

POLICIES, SCENARIOS, EPISODES = 12, 16, 64


def matrix() -> Callable[[], float]:
    """Seconds for twelve policies on sixteen scenarios, 64 episodes each."""
    return _seconds(list(list_policies())[:POLICIES])


def reference() -> Callable[[], float]:
    """The same for the policy `online` alone."""
    return _seconds(["online"])


def _seconds(policies: Sequence[str]) -> Callable[[], float]:
    loaded = {name: [load_policy(name)] for name in policies}
    scenarios = [load_scenario(name) for name in list_scenarios()[:SCENARIOS]]

    def once() -> float:
        started = perf_counter()
        for scenario in scenarios:
            compare(loaded, scenario, EPISODES, 0)
        return perf_counter() - started

    return once
