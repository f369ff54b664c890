"""The leaderboard: policies over suites, with statistics that a few lucky scenarios do not decide.

A policy's score in an episode is what it saves of the time that stock Linux loses on that scenario: 0 is `online`, 1 a
machine that loses nothing, negative is harm. Per suite:

| column | is |
|---|---|
| saved | interquartile mean of the scores over all episodes of all scenarios |
| improves | probability that an episode goes better than under the policy compared against |
| worst tenth | mean of the lowest tenth of the scores |
| kills per hour | OOM kills while CXL had the pages, per hour of a machine |
| gap | saved on `train` less saved here |

Intervals are of 95 %, by stratified bootstrap (Agarwal et al., NeurIPS 2021). Every cell, a policy on a scenario, is
kept in a folder and not evaluated again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab.engines import Engine
from tiergym.lab.kept import Cell as KeptCell
from tiergym.lab.kept import fields, is_number, keep_all, numbers
from tiergym.lab.measuring import measure
from tiergym.lab.policy_costs import PolicyCost, policy_cost
from tiergym.lab.rungs import REFERENCE
from tiergym.lab.statistics import Array
from tiergym.lab.suite_rows import ABOVE, Cell, Row, profile, suite_rows
from tiergym.policy.base import digest_of
from tiergym.policy.load import load_policy
from tiergym.specs import Scenario, Suite, distinct, scenario_digest, suite_digest
from tiergym.trust import check_plain

if TYPE_CHECKING:
    from tiergym.policy.base import Policy

SCHEMA = 1
TRAIN = "train"
METRICS = ("return", "premature_kills_per_hour")

OnCell = Callable[[str, str], None]
"""Called for each run of a policy on a scenario whose result is there, with the policy's and the scenario's name."""


@dataclass(frozen=True)
class Board:
    """Rows by suite and policy. Of every suite and of each policy's runs, how it is spelled and its digest; `scores` by
    suite and policy, for the profile; `costs` of each policy's runs."""

    against: str
    episodes: int
    seed: int
    rows: dict[str, dict[str, Row]]
    suites: dict[str, dict[str, str]]
    policies: dict[str, list[dict[str, str]]]
    scores: dict[str, dict[str, list[Array]]] = field(repr=False, default_factory=dict)
    costs: dict[str, list[PolicyCost]] = field(default_factory=dict)

    def ranking(self, suite: str) -> list[str]:
        """Policies of a suite, those that save most first."""
        return sorted(self.rows[suite], key=lambda name: -self.rows[suite][name].saved.mean)

    def document(self) -> dict[str, Any]:
        """As JSON, with the digests that `tiergym verify` replays it by."""
        return {
            "schema": SCHEMA,
            "model": model_hash(),
            "episodes": self.episodes,
            "seed": self.seed,
            "against": self.against,
            "suites": self.suites,
            "policies": self.policies,
            "costs": {name: [cost.document() for cost in costs] for name, costs in self.costs.items()},
            "rows": {suite: {name: row.document() for name, row in rows.items()} for suite, rows in self.rows.items()},
            "above": ABOVE.tolist(),
            "profile": {suite: profile(scores) for suite, scores in self.scores.items()},
        }


def leaderboard(
    suites: Sequence[Suite],
    spelled: Mapping[str, Sequence[str]],
    out: Path,
    episodes: int,
    seed: int,
    against: str,
    on_cell: OnCell = lambda policy, scenario: None,
    engine: Engine | None = None,
) -> Board:
    """Evaluate every policy on every scenario of every suite, as far as `out` does not hold it, and make the rows.

    The engine runs them side by side; a scenario of several suites is evaluated once.

    `spelled`: by name one policy, or the runs of one that was trained several times, as `load_policy` takes them;
    `online` and `against` among them. Raises `UserError` where they are not, and where `out` holds cells of other
    settings or of another model, or links, or where one name means two scenarios.
    """
    check_plain(out)
    for name in (REFERENCE, against):
        if name not in spelled:
            raise UserError(f"no policy '{name}' among {', '.join(spelled)}; allowed: policies with it")
    policies = load_all(spelled)
    members = {suite.name: suite.load() for suite in suites}
    found = measure_all(spelled, policies, distinct(members.values()), out, episodes, seed, on_cell, engine)
    rows: dict[str, dict[str, Row]] = {}
    scores: dict[str, dict[str, list[Array]]] = {}
    known_suites: dict[str, dict[str, str]] = {}
    for suite in suites:
        scenarios = members[suite.name]
        known_suites[suite.name] = {"spec": suite.spec, "digest": suite_digest(scenarios)}
        mine = {name: [found[name, each.name] for each in scenarios] for name in policies}
        cells = {name: [cell for cell, _ in measured] for name, measured in mine.items()}
        microseconds = {name: float(np.median([us for _, us in measured])) for name, measured in mine.items()}
        on_train = None if suite.name == TRAIN else rows.get(TRAIN)
        rows[suite.name], scores[suite.name] = suite_rows(cells, microseconds, against, seed, on_train)
    known = {
        name: [{"spec": spec, "digest": digest_of(run)} for spec, run in zip(spelled[name], runs, strict=True)]
        for name, runs in policies.items()
    }
    costs = {name: [policy_cost(spec) for spec in runs] for name, runs in spelled.items()}
    return Board(against, episodes, seed, rows, known_suites, known, scores, costs)


def count_cells(suites: Sequence[Suite], spelled: Mapping[str, Sequence[str]]) -> int:
    """How often `leaderboard` calls `on_cell`."""
    return len(distinct(suite.load() for suite in suites)) * sum(map(len, spelled.values()))


def load_all(spelled: Mapping[str, Sequence[str]]) -> dict[str, list[Policy]]:
    """The runs of each policy. Raises `UserError` where one is none."""
    return {name: [load_policy(run) for run in runs] for name, runs in spelled.items()}


def measure_all(
    spelled: Mapping[str, Sequence[str]],
    policies: Mapping[str, Sequence[Policy]],
    scenarios: Sequence[Scenario],
    out: Path,
    episodes: int,
    seed: int,
    on_cell: OnCell,
    engine: Engine | None,
) -> dict[tuple[str, str], tuple[Cell, float]]:
    """By policy and scenario, the policy's runs on it, kept in `out`, and microseconds per decision when they were
    evaluated. `policies` are those that are `spelled` so."""
    cells, of = [], []
    form = fields({metric: numbers(episodes) for metric in METRICS} | {"decision_us": is_number})
    for name, runs in policies.items():
        for scenario in scenarios:
            for number, (spec, policy) in enumerate(zip(spelled[name], runs, strict=True)):
                digest = digest_of(policy)
                asked = {"schema": SCHEMA, "model": model_hash(), "scenario": scenario.name}
                asked |= {"digest": scenario_digest(scenario), "policy": digest, "episodes": episodes, "seed": seed}
                path = out / name / (f"{scenario.name}.json" if len(runs) == 1 else f"{number}/{scenario.name}.json")
                arguments = (spec, digest, scenario, episodes, seed, METRICS)
                cells.append(KeptCell(path, asked, form, measure, arguments))
                of.append((name, scenario.name))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, result in zip(of, keep_all(cells, engine, lambda index, before: on_cell(*of[index])), strict=True):
        found.setdefault(key, []).append(result)
    measured = {}
    for key, results in found.items():
        returns, kills = (np.array([result[metric] for result in results]) for metric in METRICS)
        measured[key] = Cell(returns, kills), float(np.median([result["decision_us"] for result in results]))
    return measured
