"""The ladder: how much of what could be won each kind of policy wins, scenario by scenario.

| rung | is |
|---|---|
| One | the one constant action that is best over the suite that tuning may see |
| H  | the best rule of agents/ that was written by hand |
| Ci | the best constant action of that scenario, by search (`tiergym.lab.bound`) |
| A  | a learned policy, where one is named |
| P  | the best plan for these very episodes, by search: clairvoyant, a lower bound of the optimum |

*Configuration value* = Ci - One: what knowing the scenario is worth. *Adaptivity value* = P - Ci: what reacting within
an episode is worth. *Headroom* = P - max(One, H), and *captured* = (A - max(One, H)) / headroom.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab.bound import CANDIDATES, PIECES, ROUNDS, Actions, Arena, bound, search_constant
from tiergym.lab.evaluate import evaluate
from tiergym.policy.plan import modes_of
from tiergym.sim.compile_cache import source_hash
from tiergym.specs import Scenario, scenario_toml

if TYPE_CHECKING:
    from tiergym.policy.base import Policy

SCHEMA = 1
REFERENCE = "online"
C0_FILE = "c0.json"

OnScenario = Callable[[str, bool], None]
"""Called after each scenario with its name, and whether it was read from an earlier run."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One scenario's returns: of `rules` by name, of the constants and of the plan; `learned` is None without one."""

    scenario: str
    rules: dict[str, float]
    c0: float
    ci: float
    plan: float
    learned: float | None = None

    @property
    def best_rule(self) -> str:
        """The hand-written rule with the highest return."""
        return max(self.rules, key=lambda name: self.rules[name])

    @property
    def gain(self) -> float:
        """What the plan wins over stock Linux."""
        return self.plan - self.rules[REFERENCE]

    def share(self, value: float) -> float:
        """A return's share of the plan's gain; 0 where there is none."""
        return (value - self.rules[REFERENCE]) / self.gain if self.gain > 1e-9 else 0.0

    @property
    def simple(self) -> float:
        """The better of One and the best rule."""
        return max(self.c0, self.rules[self.best_rule])

    @property
    def headroom(self) -> float:
        """Of the plan's gain, what neither One nor a rule reaches."""
        return max(0.0, self.share(self.plan) - self.share(self.simple))

    @property
    def captured(self) -> float | None:
        """Of the headroom, what the learned policy wins; None without one, or without headroom."""
        if self.learned is None or self.plan - self.simple < 1e-9:
            return None
        return (self.learned - self.simple) / (self.plan - self.simple)


def ladder(
    scenarios: Sequence[Scenario],
    tuning: Sequence[Scenario],
    policies: Mapping[str, Policy],
    out: Path,
    episodes: int,
    seed: int,
    learned: Policy | None = None,
    rounds: int = ROUNDS,
    on_scenario: OnScenario = lambda name, kept: None,
) -> list[Rung]:
    """Climb it for every scenario; each is kept in `out` when it is done, and not searched again.

    `tuning`: what One is searched on, never what it is measured on alone. `policies` are the hand-written rules, with
    `online` among them. Raises `UserError` where `out` holds results of other settings, or of another model.
    """
    if REFERENCE not in policies:
        raise UserError(f"no policy '{REFERENCE}'; allowed: rules with it, since all gains are over it")
    out.mkdir(parents=True, exist_ok=True)
    settings = {"episodes": episodes, "seed": seed, "rounds": rounds, "candidates": CANDIDATES, "pieces": PIECES}
    c0 = _c0(out / C0_FILE, tuning, settings)
    rungs = []
    for scenario in scenarios:
        path = out / f"{scenario.name}.json"
        asked = {"schema": SCHEMA, **settings, "scenario": scenario.name, "sha256": _hash(scenario), "c0": modes_of(c0)}
        asked |= {"rules": sorted(policies), "learned": learned.name if learned is not None else ""}
        asked["model"] = source_hash()
        kept = _read(path, asked)
        if kept is None:
            kept = _climb(scenario, policies, c0, learned, episodes, seed, rounds)
            files.write_text(path, json.dumps({**asked, "result": kept}, indent=1, allow_nan=False) + "\n")
            on_scenario(scenario.name, False)
        else:
            on_scenario(scenario.name, True)
        rungs.append(Rung(scenario.name, **kept))
    return rungs


def _climb(
    scenario: Scenario,
    policies: Mapping[str, Policy],
    c0: Actions,
    learned: Policy | None,
    episodes: int,
    seed: int,
    rounds: int,
) -> dict[str, Any]:
    def mean_return(policy: Policy) -> float:
        return float(evaluate(policy, scenario, episodes, seed).values["return"].mean())

    found = bound(scenario, episodes, seed, rounds=rounds)
    return {
        "rules": {name: mean_return(policy) for name, policy in policies.items()},
        "c0": float(Arena(scenario, episodes, seed).returns(c0[None, None, :])[0]),
        "ci": found.constant_return,
        "plan": found.plan_return,
        "learned": None if learned is None else mean_return(learned),
    }


def _c0(path: Path, tuning: Sequence[Scenario], settings: Mapping[str, Any]) -> Actions:
    """The constant action with the best mean return over the tuning scenarios, each in units of what `online` loses."""
    asked = {
        "schema": SCHEMA,
        **settings,
        "model": source_hash(),
        "tuning": {each.name: _hash(each) for each in tuning},
    }
    kept = _read(path, asked)
    if kept is None:
        arenas = [Arena(scenario, settings["episodes"], settings["seed"]) for scenario in tuning]
        action = search_constant(arenas, settings["seed"], settings["rounds"])
        kept = {"action": action.tolist()}
        files.write_text(path, json.dumps({**asked, "result": kept, "modes": modes_of(action)}, indent=1) + "\n")
    return np.array(kept["action"], np.int64)


def _read(path: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result in a file of the same settings; None if there is no file. Raises `UserError` for other settings."""
    if not path.is_file():
        return None
    document = files.read_json(path)
    try:
        differing = [name for name, value in asked.items() if document[name] != value]
        result: dict[str, Any] = document["result"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a result of the ladder ({error}); name a new folder with --out") from error
    if differing:
        name = differing[0]
        raise UserError(
            f"{path}: {name} is {str(document[name])[:60]!r}; allowed: {str(asked[name])[:60]!r} as asked for now; "
            "name a new folder with --out"
        )
    return result


def _hash(scenario: Scenario) -> str:
    """Of the scenario's content, whatever its file is called."""
    return sha256(scenario_toml(scenario).encode()).hexdigest()[:16]
