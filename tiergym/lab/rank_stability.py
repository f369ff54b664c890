"""Does the order of policies survive what is not known of the machine, and the kernel's release?

A *variant* is a suite with other prices: each of `UNCERTAIN` is multiplied by one factor for all scenarios, drawn
evenly in the logarithm from 1/f to f; or with another release of Linux. In every variant the policies are ranked by
what they save of the time that stock Linux loses there, as on the leaderboard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiergym.errors import UserError
from tiergym.lab.engines import Engine
from tiergym.lab.leaderboard import load_all, measure_all
from tiergym.lab.rungs import REFERENCE
from tiergym.lab.statistics import pooled_iqm
from tiergym.lab.suite_rows import saved
from tiergym.specs import Scenario, Suite, override, suite_digest
from tiergym.specs.distributions import highest, lowest, parse
from tiergym.specs.reading import SCALARS
from tiergym.trust import check_plain

SCHEMA = 1
UNCERTAIN: dict[str, float] = {
    "machine.dram_latency_ns": 1.1,
    "machine.slow_latency_ns": 1.25,
    "machine.slow_read_gbps": 1.25,
    "machine.slow_mixed_gbps": 1.25,
    "machine.slow_knee": 1.2,
    "machine.slow_ceiling": 1.3,
    "costs.fault_us": 1.5,
    "costs.hint_fault_us": 1.5,
    "costs.migrate_batched_us": 1.5,
    "costs.migrate_unbatched_us": 2.0,
    "costs.reclaim_us": 2.0,
    "costs.reclaim_metadata_touches": 2.0,
    "costs.kswapd_pages_per_s": 2.0,
}
"""By field, the factor that it may be wrong by: of devices of one kind, sources differ by a quarter [H-cxl-modules]
[H-cxl-curves]; of the kernel's times, which hang on its version and the processor, by up to twice [H-reclaim]
[H-migration]. How wide is our choice."""
DRAM_NS, SLOW_NS = "dram_latency_ns", "slow_latency_ns"
MOST = {"machine.slow_knee": 0.99}
RELEASES = ("6.1", "6.12", "6.18", "7.2")
TOP = 3
AS_IT_IS = "as it is"

OnCell = Callable[[str, str, str], None]
"""Called for each cell that is there, with the variant's, the policy's and the scenario's name."""


@dataclass(frozen=True)
class Stability:
    """Of each variant, by name, what each policy saves; `AS_IT_IS` is the suite without a change."""

    suite: str
    digest: str
    saved: dict[str, dict[str, float]]

    def order(self, variant: str) -> list[str]:
        """Policies, those that save most first."""
        mine = self.saved[variant]
        return sorted(mine, key=lambda name: -mine[name])

    def places(self, policy: str, variants: Sequence[str]) -> list[int]:
        """Of a policy in the order of each variant, 1 the best."""
        return [self.order(variant).index(policy) + 1 for variant in variants]

    def kept(self, variants: Sequence[str]) -> dict[str, float]:
        """Shares of these variants in which the best policy, the best `TOP` in any order, and these in their order are
        those of the suite as it is."""
        before = self.order(AS_IT_IS)[:TOP]
        tops = [self.order(variant)[:TOP] for variant in variants]
        return {
            "best": float(np.mean([top[0] == before[0] for top in tops])),
            "best three": float(np.mean([set(top) == set(before) for top in tops])),
            "their order": float(np.mean([top == before for top in tops])),
        }

    def draws(self) -> list[str]:
        """Variants with other prices."""
        return [name for name in self.saved if name.startswith("draw")]

    def releases(self) -> list[str]:
        """Variants with another release."""
        return [name for name in self.saved if name.startswith("release")]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        kinds = {"draws": self.draws(), "releases": self.releases()}
        kept = {kind: self.kept(names) for kind, names in kinds.items() if names}
        return {"schema": SCHEMA, "suite": self.suite, "digest": self.digest, "kept": kept, "saved": self.saved}


def factors(seed: int, draw: int) -> dict[str, float]:
    """One draw: what each uncertain field is multiplied by."""
    rng = np.random.default_rng([seed, draw])
    return {field: float(np.exp(rng.uniform(-1, 1) * np.log(most))) for field, most in UNCERTAIN.items()}


def scaled(value: Any, factor: float, most: float = np.inf) -> Any:
    """A number of a scenario, or the numbers of its distribution, times `factor`, at most `most`."""
    if isinstance(value, Mapping):
        return {key: scaled(each, factor, most) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [scaled(each, factor, most) for each in value]
    return min(value * factor, most)


def priced(scenario: Scenario, by: Mapping[str, float]) -> Scenario:
    """The scenario with these fields multiplied, its slow memory no faster than its DRAM.

    Raises `UserError` where a field leaves what is allowed.
    """
    ends = {name: parse(scenario.sections["machine"][name], SCALARS["machine"][name]) for name in (DRAM_NS, SLOW_NS)}
    least = by[f"machine.{DRAM_NS}"] * highest(ends[DRAM_NS]) / lowest(ends[SLOW_NS])
    changes = {}
    for field, factor in {**by, f"machine.{SLOW_NS}": max(by[f"machine.{SLOW_NS}"], least)}.items():
        section, name = field.split(".")
        changes[field] = scaled(scenario.sections[section][name], factor, MOST.get(field, np.inf))
    return override(scenario, changes, "with other prices")


def stability(
    suite: Suite,
    spelled: Mapping[str, Sequence[str]],
    out: Path,
    draws: int,
    episodes: int,
    seed: int,
    on_cell: OnCell = lambda variant, policy, scenario: None,
    engine: Engine | None = None,
) -> Stability:
    """Rank the policies on every variant, as far as `out` does not hold it.

    `spelled`: as the leaderboard takes it, `online` among it. Raises `UserError` for fewer than `TOP` others, and where
    `out` holds results of other settings or of another model, or a link.
    """
    if REFERENCE not in spelled or len(spelled) <= TOP:
        raise UserError(f"policies are {', '.join(spelled)}; allowed: {REFERENCE} and at least {TOP} others")
    check_plain(out)
    policies = load_all(spelled)
    scenarios = suite.load()
    variants: dict[str, list[Scenario]] = {AS_IT_IS: scenarios}
    for draw in range(draws):
        by = factors(seed, draw)
        variants[f"draw {draw}"] = [priced(scenario, by) for scenario in scenarios]
    for release in RELEASES:
        there = {"kernel.release": release}
        variants[f"release {release}"] = [override(scenario, there, "on another release") for scenario in scenarios]
    found: dict[str, dict[str, float]] = {}
    for variant, machines in variants.items():
        measured = measure_all(
            spelled,
            policies,
            machines,
            out / variant.replace(" ", "-"),
            episodes,
            seed,
            lambda policy, scenario, variant=variant: on_cell(variant, policy, scenario),  # type: ignore[misc]
            engine,
        )
        cells = {name: [measured[name, each.name][0] for each in machines] for name in policies}
        found[variant] = {
            name: pooled_iqm([saved(mine, stock) for mine, stock in zip(ours, cells[REFERENCE], strict=True)])
            for name, ours in cells.items()
        }
    return Stability(suite.name, suite_digest(scenarios), found)
