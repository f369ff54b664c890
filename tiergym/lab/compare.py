"""Compare policies on the same machines, episode by episode (common random numbers)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym.errors import UserError
from tiergym.lab.evaluate import evaluate
from tiergym.lab.metrics import NAMES, Array
from tiergym.lab.mode_use import ModeUse, stack
from tiergym.lab.statistics import Bootstrap, Interval, stratified, worst_tenth
from tiergym.policy.base import digest_of
from tiergym.specs import assignments_text, scenario_digest

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

REFERENCE = "online"
"""Stock Linux with all CXL online as ZONE_NORMAL: what differences are measured from, where it takes part."""

OnEpisodes = Callable[[str, float, int], None]
"""Called after each tick with the policy's name, and how many of all runs of all policies are done, with parts."""


@dataclass(frozen=True)
class Comparison:
    """Policies on one scenario: `values[policy][metric]` is float64 (runs, episodes); `changes` is what was overridden
    in the scenario, `variant` the experiment's name for it.

    A fixed policy is one run; a learned one has a run per training seed. Column i of every array is the
    same machine, drawn from the same seed. `modes[policy]` is what it did, with axes (runs, episodes, ...). `digest` is
    the scenario's, `agents[policy]` are those of its runs.
    """

    scenario: str
    seed: int
    episodes: int
    values: dict[str, dict[str, Array]]
    decision_us: dict[str, float] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    variant: str = ""
    modes: dict[str, ModeUse] = field(default_factory=dict)
    digest: str = ""
    agents: dict[str, list[str]] = field(default_factory=dict)

    def worst_tenth(self, policy: str) -> Interval:
        """Mean of the lowest tenth of the policy's returns: what happens where it goes badly."""
        return stratified(worst_tenth, [self.values[policy]["return"]], self.seed)

    @property
    def base(self) -> str:
        """The scenario's name without its variant."""
        return base_name(self.scenario, self.variant)

    @property
    def title(self) -> str:
        """The scenario's name, and what was changed in it."""
        return f"{self.scenario} with {assignments_text(self.changes)}" if self.changes else self.scenario

    @property
    def reference(self) -> str:
        """The policy that differences are measured from: `online`, else the first one."""
        return REFERENCE if REFERENCE in self.values else next(iter(self.values))

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Policy to metric to mean with its 95 % bootstrap interval."""
        bootstrap = self._bootstrap
        return {
            policy: {metric: bootstrap.interval(metrics[metric]) for metric in NAMES}
            for policy, metrics in self.values.items()
        }

    def difference(self, policy: str, metric: str = "return", against: str = "") -> Interval:
        """`policy` minus another one, by default the reference, paired by episode."""
        return self._bootstrap.difference(self.values[policy][metric], self.values[against or self.reference][metric])

    def ranking(self) -> list[str]:
        """Policies by mean return, best first; equal ones keep their order."""
        return sorted(self.values, key=lambda policy: -float(self.values[policy]["return"].mean()))

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self.episodes, seed=self.seed)


def compare(
    policies: Mapping[str, Sequence[Policy]],
    scenario: Scenario,
    episodes: int,
    seed: int,
    on_episodes: OnEpisodes | None = None,
) -> Comparison:
    """Evaluate every policy on the same seeds of `scenario`.

    Args:
        policies: name to its runs: one policy, or one per training seed of a learned one.
        scenario: a loaded scenario.
        episodes: episodes per run, all in one batch.
        seed: seed of the evaluation's machines; every policy gets the same ones.
        on_episodes: progress.
    """
    if not policies:
        raise UserError("no policy to compare; allowed: at least one")
    values: dict[str, dict[str, Array]] = {}
    decision_us: dict[str, float] = {}
    modes: dict[str, ModeUse] = {}
    done, total = 0, sum(map(len, policies.values()))
    for name, runs in policies.items():
        evaluations = []
        for policy in runs:
            on_tick = None if on_episodes is None else partial(_report, on_episodes, name, done, total)
            done += 1
            evaluations.append(evaluate(policy, scenario, episodes, seed, on_tick))
        values[name] = {metric: np.stack([e.values[metric] for e in evaluations]) for metric in NAMES}
        decision_us[name] = float(np.median([e.decision_us for e in evaluations]))
        modes[name] = stack([e.modes for e in evaluations])
    agents = {name: [digest_of(policy) for policy in runs] for name, runs in policies.items()}
    return Comparison(
        scenario.name,
        seed,
        episodes,
        values,
        decision_us,
        scenario.changes,
        scenario.variant,
        modes,
        scenario_digest(scenario),
        agents,
    )


def by_base(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Variants of each scenario, in the order of `comparisons`."""
    found: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.base, []).append(comparison)
    return found


def ranking(comparisons: Sequence[Comparison], metric: str) -> list[str]:
    """Policies by their mean `metric` over several comparisons, highest first; equal ones keep their order."""
    means = {
        policy: float(np.mean([comparison.values[policy][metric].mean() for comparison in comparisons]))
        for policy in comparisons[0].values
    }
    return sorted(means, key=lambda policy: -means[policy])


def base_name(scenario: str, variant: str) -> str:
    """The name of a scenario without that of its variant.

    >>> base_name("llama-1to2@7.2", "7.2")
    'llama-1to2'
    """
    return scenario.removesuffix(f"@{variant}") if variant else scenario


def _report(on_episodes: OnEpisodes, name: str, before: int, total: int, ticks: int, longest: int) -> None:
    on_episodes(name, before + ticks / longest, total)
