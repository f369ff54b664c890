"""The ladder of whole suites: which scenarios, rules and modes take part, and its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiergym import paths, specs
from tiergym.env.actions import is_at_least
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab.engines import Engine
from tiergym.lab.ladder import OnScenario, Search, ladder
from tiergym.lab.rungs import Rung
from tiergym.lab.splitting import split
from tiergym.policy.load import list_policies, load_policy
from tiergym.specs.suites import TRAIN
from tiergym.trust import check_plain

SCHEMA = 1
NOT_A_RULE = ("guarded", "random")
"""Not written by hand: one holds what was learned, one guesses."""
CHANGED = "changed for the ladder"


def climb(
    suites: Sequence[str],
    tuning: str,
    policy: str | None,
    out: Path,
    search: Search,
    changes: Mapping[str, Any] | None = None,
    splitting: bool = False,
    on_scenario: OnScenario = lambda name, kept: None,
    engine: Engine | None = None,
) -> dict[str, list[Rung]]:
    """The rungs of every suite, by its name, with `changes` of their fields.

    With `splitting`, of all families that were drawn, and the suites are rewritten. A suite's plausibility limits its
    rules, and what is searched.

    Raises `UserError` where nothing may be tuned on the suite `tuning`, and as `tiergym.lab.ladder.ladder` does.
    """
    check_plain(out)  # before the folders in it, which might be links themselves
    tuned = specs.load_suite(tuning)
    if tuned.purpose != TRAIN:
        raise UserError(f"suite '{tuned.name}' is for measuring (purpose test); allowed to tune on: purpose train")
    if splitting and changes:
        raise UserError("--split and --set were both given; allowed: one, since suites hold scenarios as they are")
    specs.check_trainable(tuned.load_all())
    tuning_scenarios = specs.override_all(tuned.load_all(), changes or {}, CHANGED)
    if policy is not None:
        load_policy(policy)  # refused before anything runs
    rules = {name: load_policy(name) for name in list_policies() if name not in NOT_A_RULE}
    loaded = [specs.load_suite(name) for name in suites]
    climbed: dict[str, list[Rung]] = {}
    for suite in loaded:
        scenarios = suite.load_all() if splitting else suite.load()
        plausible = {name: name for name, rule in rules.items() if is_at_least(rule.plausibility, suite.plausibility)}
        climbed[suite.name] = ladder(
            specs.override_all(scenarios, changes or {}, CHANGED),
            tuning_scenarios,
            plausible,
            out / suite.plausibility,
            search,
            policy,
            on_scenario,
            suite.plausibility,
            engine,
        )
    if splitting:
        rungs = {rung.scenario: rung for suite in climbed.values() for rung in suite}
        split(loaded, rungs, paths.envs_dir() / "suites")
    return climbed


def document(climbed: Mapping[str, Sequence[Rung]]) -> dict[str, Any]:
    """All rungs of all suites as JSON, with the model that they are of."""
    return {
        "schema": SCHEMA,
        "model": model_hash(),
        "suites": {name: [rung.as_dict() for rung in rungs] for name, rungs in climbed.items()},
    }
