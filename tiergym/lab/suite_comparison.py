"""Policies compared on whole suites: scenarios as `tiergym.lab.compare` does it, suites as the leaderboard does.

Schema 1, a matrix (`tiergym.lab.results`) with

    "changes": {FIELD: VALUE}, "against": POLICY, "above": [x, ...],
    "suites": {NAME: {"spec": ..., "digest": ..., "scenarios": [NAME, ...],
               "rows": {POLICY: {"saved": {"mean": x, "low": x, "high": x}, ...}}, "profile": {POLICY: [x, ...]}}}

`profile`: per policy the share of episodes that save more than each of `above`. The digest is of the suite as it is
frozen, whatever `changes` there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym.errors import UserError
from tiergym.lab.compare import REFERENCE, Comparison, OnEpisodes, compare
from tiergym.lab.leaderboard import TRAIN, Board
from tiergym.lab.results import matrix_json
from tiergym.lab.statistics import Array
from tiergym.lab.suite_rows import ABOVE, Cell, Row, profile, suite_rows
from tiergym.specs import Scenario, Suite, distinct, override_all, suite_digest

if TYPE_CHECKING:
    from tiergym.policy.base import Policy

Progress = Callable[[str], AbstractContextManager[OnEpisodes | None]]
"""Shows the evaluation of the scenario of this name."""


@dataclass(frozen=True)
class SuiteComparison:
    """`members`: of each suite the names of its scenarios; a scenario of several suites has one comparison."""

    board: Board
    members: dict[str, list[str]]
    changes: dict[str, Any]
    comparisons: dict[str, Comparison]

    def of(self, suite: str) -> list[Comparison]:
        """The comparisons of a suite's scenarios."""
        return [self.comparisons[name] for name in self.members[suite]]

    def saved(self, suite: str) -> dict[str, dict[str, float]]:
        """By scenario and policy, the mean score."""
        scores = self.board.scores[suite]
        return {
            scenario: {policy: float(mine[index].mean()) for policy, mine in scores.items()}
            for index, scenario in enumerate(self.members[suite])
        }

    def document(self) -> dict[str, Any]:
        """As JSON."""
        board = self.board
        suites = {
            name: {
                **about,
                "scenarios": self.members[name],
                "rows": {policy: row.document() for policy, row in board.rows[name].items()},
                "profile": profile(board.scores[name]),
            }
            for name, about in board.suites.items()
        }
        matrix = matrix_json(list(self.comparisons.values()))
        about = {"changes": self.changes, "against": board.against, "above": ABOVE.tolist()}
        return {**matrix, **about, "suites": suites}


def load_members(suites: Sequence[Suite], changes: Mapping[str, Any], source: str) -> dict[str, list[Scenario]]:
    """Per suite its scenarios with what is changed in each; `source` says in errors who changes it.

    Raises `UserError` for a family with another content than it was frozen with, and where one name means two things.
    """
    members: dict[str, list[Scenario]] = {}
    for suite in suites:
        if suite.name in members:
            raise UserError(f"two suites are named '{suite.name}'; allowed: each once")
        members[suite.name] = override_all(suite.load(), changes, source)
    distinct(members.values())
    return members


def compare_suites(
    suites: Sequence[Suite],
    members: Mapping[str, Sequence[Scenario]],
    policies: Mapping[str, Sequence[Policy]],
    changes: Mapping[str, Any],
    episodes: int,
    seed: int,
    progress: Progress = lambda scenario: nullcontext(),
) -> SuiteComparison:
    """Compare policies, `online` among them, on `members` as `load_members` gives them."""
    comparisons: dict[str, Comparison] = {}
    for scenario in (scenario for suite in suites for scenario in members[suite.name]):
        if scenario.name not in comparisons:
            with progress(scenario.name) as on_episodes:
                comparisons[scenario.name] = compare(policies, scenario, episodes, seed, on_episodes)
    names = {suite.name: [scenario.name for scenario in members[suite.name]] for suite in suites}
    return SuiteComparison(
        _board(suites, {name: [comparisons[each] for each in mine] for name, mine in names.items()}, episodes, seed),
        names,
        dict(changes),
        comparisons,
    )


def rows_of(
    comparisons: Sequence[Comparison], seed: int, on_train: Mapping[str, Row] | None = None
) -> tuple[dict[str, Row], dict[str, list[Array]]]:
    """Rows and scores as `suite_rows` makes them, over scenarios with `online` among the policies."""
    first = comparisons[0]
    cells = {policy: [_cell(comparison, policy) for comparison in comparisons] for policy in first.values}
    decision_us = {policy: float(np.median([each.decision_us[policy] for each in comparisons])) for policy in cells}
    return suite_rows(cells, decision_us, REFERENCE, seed, on_train)


def _board(suites: Sequence[Suite], of: Mapping[str, Sequence[Comparison]], episodes: int, seed: int) -> Board:
    rows: dict[str, dict[str, Row]] = {}
    scores: dict[str, dict[str, list[Array]]] = {}
    about: dict[str, dict[str, str]] = {}
    for suite in suites:
        on_train = None if suite.name == TRAIN else rows.get(TRAIN)
        rows[suite.name], scores[suite.name] = rows_of(of[suite.name], seed, on_train)
        about[suite.name] = {"spec": suite.spec, "digest": suite_digest(suite.load())}
    agents = next(iter(of.values()))[0].agents
    known = {name: [{"spec": name, "digest": digest} for digest in digests] for name, digests in agents.items()}
    return Board(REFERENCE, episodes, seed, rows, about, known, scores)


def _cell(comparison: Comparison, policy: str) -> Cell:
    metrics = comparison.values[policy]
    return Cell(metrics["return"], metrics["premature_kills_per_hour"])
