"""The ladder: how much of what could be won each kind of policy wins, scenario by scenario.

| rung | is |
|---|---|
| One | the one constant action that is best over the suite that may be tuned on |
| S  | the rule that was best on that suite for this workload and configuration (`tiergym.lab.null_hypothesis`) |
| H  | the rule of agents/, written by hand, that is best over that suite |
| Ci | the best constant action of that scenario, by search (`tiergym.lab.bound`) |
| A  | a learned policy, where one is named |
| P  | the best plan for these very episodes, by search: clairvoyant, a lower bound of the optimum |

What is read off them is in `tiergym.lab.rungs`. Everything is kept in a folder, a file for each scenario, and not
computed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tiergym import files
from tiergym.env.actions import COUNTERFACTUAL, NVEC
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab import null_hypothesis
from tiergym.lab.bound import CANDIDATES, PIECES, ROUNDS, Actions, Arena, bound, search_constant
from tiergym.lab.engines import Engine
from tiergym.lab.evaluate import evaluate
from tiergym.lab.kept import Cell, Form, fields, is_number, keep_all, kept, numbers
from tiergym.lab.measuring import measure
from tiergym.lab.null_hypothesis import Tried
from tiergym.lab.rungs import REFERENCE, Rung
from tiergym.policy.base import digest_of
from tiergym.policy.load import load_policy
from tiergym.policy.plan import PlanPolicy, modes_of, plan_document
from tiergym.specs import Scenario, scenario_digest
from tiergym.trust import check_plain

SCHEMA = 3
ONE_FILE = "one.json"
RULES, PLANS, LEARNED = "rules", "plans", "learned"
"""Folders of what the rules returned, of the plans that were found, and of what learned policies returned."""
ONE_EPISODES = 2
"""Machines of each scenario that One is searched on: many scenarios make up for few machines."""

OnScenario = Callable[[str, bool], None]
"""Called after each scenario with its name, and whether it was read from an earlier run."""


@dataclass(frozen=True)
class Search:
    """What all rungs of a ladder have in common."""

    episodes: int
    seed: int
    rounds: int = ROUNDS

    def document(self) -> dict[str, Any]:
        """What results must agree in to be kept."""
        settings = {"episodes": self.episodes, "seed": self.seed, "rounds": self.rounds}
        return {"schema": SCHEMA, "model": model_hash(), **settings, "candidates": CANDIDATES, "pieces": PIECES}


def ladder(
    scenarios: Sequence[Scenario],
    tuning: Sequence[Scenario],
    rules: Mapping[str, str],
    out: Path,
    search: Search,
    learned: str | None = None,
    on_scenario: OnScenario = lambda name, kept: None,
    plausibility: str = COUNTERFACTUAL,
    engine: Engine | None = None,
) -> list[Rung]:
    """Climb it for every scenario; each is kept in `out` when it is done, and not searched again.

    `tuning`: what One is searched on and S chooses by. `rules`: the hand-written ones, as `load_policy` takes them, by
    name, with `online` among them; `learned` alike. What is searched takes only modes that are at least as plausible as
    `plausibility`. Scenarios run side by side where the engine does so.
    Raises `UserError` where `out` holds results of other settings or of another model, or links.
    """
    if REFERENCE not in rules:
        raise UserError(f"no policy '{REFERENCE}'; allowed: rules with it, since all gains are over it")
    out.mkdir(parents=True, exist_ok=True)
    check_plain(out)
    tuned_on = _tuned_on(tuning, search, plausibility)
    one = np.array(kept(Cell(out / ONE_FILE, tuned_on, _is_one, _search_one, (tuning, search, plausibility)))["action"])
    spelled = {name: (spec, digest_of(load_policy(spec))) for name, spec in sorted(rules.items())}
    each_once = {scenario_digest(scenario): scenario for scenario in (*tuning, *scenarios)}
    of_rules = keep_all([_rules(scenario, spelled, out, search) for scenario in each_once.values()], engine)
    by_digest = dict(zip(each_once, of_rules, strict=True))
    tried = [Tried(scenario, by_digest[scenario_digest(scenario)]) for scenario in tuning]
    best = null_hypothesis.best(tried)
    ours = None if learned is None else keep_all(_learned(scenarios, learned, out, search), engine)

    def tell(index: int, before: bool) -> None:
        on_scenario(scenarios[index].name, before)

    cells = [_climb(each, one, search, plausibility, out) for each in scenarios]
    rungs = []
    for index, (scenario, found) in enumerate(zip(scenarios, keep_all(cells, engine, tell), strict=True)):
        path = out / PLANS / f"{scenario.name}.json"
        if not path.is_file():
            files.write_text(path, json.dumps(found["best_plan"], indent=1, allow_nan=False) + "\n")
        rungs.append(
            Rung(
                scenario.name,
                **{name: value for name, value in found.items() if name != "best_plan"},
                rules=by_digest[scenario_digest(scenario)],
                rule=best,
                selected=null_hypothesis.select(scenario, tried),
                learned=None if ours is None else ours[index],
                seed=search.seed,
            )
        )
    return rungs


def _climb(scenario: Scenario, one: Actions, search: Search, plausibility: str, out: Path) -> Cell:
    asked = {**_on(scenario, search), "one": modes_of(one), "plausibility": plausibility}
    return Cell(
        out / f"{scenario.name}.json",
        asked,
        _is_climbed(search),
        search_scenario,
        (scenario, one, search, plausibility),
    )


def search_scenario(scenario: Scenario, one: Actions, search: Search, plausibility: str) -> dict[str, Any]:
    """Returns of the searched rungs, the ticks of an episode, and the plan as a document."""
    found = bound(scenario, search.episodes, search.seed, rounds=search.rounds, plausibility=plausibility)
    about = {"episodes": search.episodes, "seed": search.seed, "return": found.plan_return}
    always = partial(_always, ticks=found.plan.horizon_ticks)
    return {
        "ticks": found.plan.horizon_ticks,
        "one": _returns(always(one), scenario, search),
        "constant": _returns(always(found.constant), scenario, search),
        "plan": _returns(found.plan, scenario, search),
        "best_plan": plan_document(found.plan, about),
    }


def _is_climbed(search: Search) -> Form:
    """What `search_scenario` returns."""
    returns = dict.fromkeys(("one", "constant", "plan"), numbers(search.episodes))
    return fields({"ticks": is_number, "best_plan": lambda plan: isinstance(plan, dict)} | returns)


def _is_one(value: Any) -> bool:
    """What `_search_one` returns."""
    modes = NVEC.tolist()
    return fields(
        {
            "action": lambda action: (
                isinstance(action, list)
                and len(action) == len(modes)
                and all(type(mode) is int and 0 <= mode < most for mode, most in zip(action, modes, strict=True))
            ),
            "modes": lambda told: isinstance(told, dict),
        }
    )(value)


def _rules(scenario: Scenario, rules: Mapping[str, tuple[str, str]], out: Path, search: Search) -> Cell:
    """Returns of the rules, each known by its spelling and its digest."""
    asked = {**_on(scenario, search), "rules": {name: digest for name, (_, digest) in rules.items()}}
    form = fields(dict.fromkeys(rules, numbers(search.episodes)))
    return Cell(out / RULES / f"{scenario.name}.json", asked, form, returns_of_rules, (rules, scenario, search))


def returns_of_rules(
    rules: Mapping[str, tuple[str, str]], scenario: Scenario, search: Search
) -> dict[str, list[float]]:
    """Returns per episode by name."""
    return {name: returns_of(spec, digest, scenario, search) for name, (spec, digest) in rules.items()}


def _learned(scenarios: Sequence[Scenario], spec: str, out: Path, search: Search) -> list[Cell]:
    """Returns of the learned policy on each, in a folder of its name."""
    policy = load_policy(spec)
    digest, folder, form = digest_of(policy), out / LEARNED / policy.name, numbers(search.episodes)
    return [
        Cell(
            folder / f"{each.name}.json",
            {**_on(each, search), "policy": digest},
            form,
            returns_of,
            (spec, digest, each, search),
        )
        for each in scenarios
    ]


def returns_of(spec: str, digest: str, scenario: Scenario, search: Search) -> list[float]:
    """Returns per episode of a policy."""
    returns: list[float] = measure(spec, digest, scenario, search.episodes, search.seed, ("return",))["return"]
    return returns


def _on(scenario: Scenario, search: Search) -> dict[str, Any]:
    return {**search.document(), "scenario": scenario.name, "digest": scenario_digest(scenario)}


def _returns(policy: PlanPolicy, scenario: Scenario, search: Search) -> list[float]:
    returns: list[float] = evaluate(policy, scenario, search.episodes, search.seed).values["return"].tolist()
    return returns


def _always(action: Actions, ticks: int) -> PlanPolicy:
    """A constant action, as a plan of one piece."""
    return PlanPolicy("constant", "", np.array([ticks]), action[None])


def _tuned_on(tuning: Sequence[Scenario], search: Search, plausibility: str) -> dict[str, Any]:
    settings = {**search.document(), "plausibility": plausibility}
    return {**settings, "tuning": {each.name: scenario_digest(each) for each in tuning}}


def _search_one(tuning: Sequence[Scenario], search: Search, plausibility: str) -> dict[str, Any]:
    """The constant action with the best mean return over the tuning scenarios, each in units of what `online` loses."""
    arenas = [Arena(scenario, min(ONE_EPISODES, search.episodes), search.seed) for scenario in tuning]
    action = search_constant(arenas, search.seed, search.rounds, plausibility)
    return {"action": action.tolist(), "modes": modes_of(action)}
