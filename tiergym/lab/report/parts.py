"""What a page tells of one source, whatever it was read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiergym.lab.rungs import Rung
from tiergym.lab.statistics import Interval

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario


@dataclass(frozen=True)
class Entry:
    """Policies on one scenario. `policies`: by policy and metric; `modes`: by policy, entry and mode the share of ticks
    in which it was in force."""

    scenario: str
    variant: str
    digest: str
    changes: dict[str, Any]
    policies: dict[str, dict[str, Interval]]
    modes: dict[str, dict[str, dict[str, float]]]

    def mean(self, policy: str, metric: str) -> float:
        """Of a policy's episodes here."""
        return self.policies[policy][metric].mean


@dataclass(frozen=True)
class Standing:
    """A policy's row on a suite. `intervals`: by the names of `tiergym.lab.suite_rows.INTERVALS`."""

    intervals: dict[str, Interval]
    gap: float | None
    decision_us: float | None


@dataclass(frozen=True)
class SuitePart:
    """Policies on a suite. `profile`: by policy, the share of episodes above each of `Part.above`."""

    name: str
    spec: str
    digest: str
    rows: dict[str, Standing]
    profile: dict[str, list[float]]

    def ranking(self) -> list[str]:
        """Policies, those that save most first."""
        return sorted(self.rows, key=lambda name: -self.rows[name].intervals["saved"].mean)


@dataclass(frozen=True)
class Guess:
    """Random networks on a scenario: returns of `online` and at quantiles of theirs, and the share that does better."""

    scenario: str
    online: float
    quantiles: dict[str, float]
    better: float


@dataclass(frozen=True)
class Networks:
    """Random networks on a suite: how many, on each scenario, and quantiles of what they save on all of them."""

    count: int
    guesses: list[Guess]
    saved: dict[str, float]


@dataclass(frozen=True)
class Training:
    """A training run. `curves`: by what is shown, one number per rollout; `facts`: what it was asked to do."""

    curves: dict[str, list[float]]
    facts: dict[str, str]


@dataclass(frozen=True)
class Replayable:
    """How policies and scenarios of a source are loaded again; each raises `UserError` where that cannot be."""

    policy: Callable[[str, str], Policy]
    """Of its name and that of the scenario it runs on."""
    scenario: Callable[[Entry], Scenario]
    about: str = ""
    """The policy that the source is about; empty where it is about all of them."""


@dataclass(frozen=True)
class Part:
    """One source. What it does not know is empty. `facts`: provenance by name; `commands` make it again; `warnings`
    stand on top of the page."""

    source: str
    kind: str
    model: str = ""
    episodes: int = 0
    seed: int = 0
    against: str = ""
    agents: dict[str, list[str]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    suites: list[SuitePart] = field(default_factory=list)
    above: list[float] = field(default_factory=list)
    ladders: dict[str, list[Rung]] = field(default_factory=dict)
    networks: dict[str, Networks] = field(default_factory=dict)
    training: Training | None = None
    replayable: Replayable | None = None
    facts: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def policies(self) -> list[str]:
        """All policies, in the source's order."""
        found = [name for suite in self.suites for name in suite.rows]
        found += [name for entry in self.entries for name in entry.policies]
        return list(dict.fromkeys(found))
