"""Replay results: the same model, scenarios and policies must give the same numbers, to the bit."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tiergym import files
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError, shown
from tiergym.lab.compare import OnEpisodes, base_name, compare
from tiergym.lab.leaderboard import SCHEMA, OnCell, leaderboard
from tiergym.lab.results import comparison_json
from tiergym.lab.rungs import REFERENCE
from tiergym.lab.suite_comparison import Progress, compare_suites, load_members
from tiergym.lab.suite_rows import ABOVE
from tiergym.memory import MAX_EPISODES
from tiergym.policy.base import digest_of
from tiergym.policy.load import load_policy
from tiergym.specs import Scenario, list_scenarios, load_scenario, load_suite, override, scenario_digest, suite_digest
from tiergym.specs.families import is_family
from tiergym.trust import check_inside

REPLAYED = ("policies", "modes")
"""Tables of a scenario's results: what came of each policy, and what it did."""
NOT_REPLAYED = ("decision_us", "seconds")
"""Times, the only numbers of a row and of what a policy costs that depend on the machine they were measured on."""
COSTS = "costs"


def verify(
    path: Path,
    rows: Sequence[str] | None,
    on_cell: OnCell = lambda policy, scenario: None,
    trust: bool = False,
) -> dict[str, list[str]]:
    """Evaluate policies of a result's file anew, of a leaderboard, a comparison or a matrix; per policy the suites and
    scenarios in which a number differs.

    `rows`: names of policies, all by default. `trust`: whether Python code may run that the file names and that is not
    shipped. Raises `UserError` where the file is none, or is of another model, suite, scenario or policy than those
    that are there.
    """
    document = files.read_json(path)
    try:
        known = document["policies"] if "rows" in document else document["agents"]
        asked = list(known) if rows is None else list(rows)
        unknown = [name for name in asked if name not in known]
        if not known:
            raise UserError(f"{path}: has no policies; allowed: results of at least one")
        if unknown:
            raise UserError(f"{path}: has no policy '{unknown[0]}'; allowed: {', '.join(known)}")
        _equal(path, "schema", document["schema"], SCHEMA)
        _equal(path, "model", document["model"], model_hash())
        _count(path, "episodes", document["episodes"], 1, MAX_EPISODES)
        _count(path, "seed", document["seed"], 0)
        suites = _replay_suites if "suites" in document else _replay_comparisons
        replay = _replay_board if "rows" in document else suites
        return replay(path, document, asked, trust, on_cell)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a file of results ({type(error).__name__}: {error})") from error


def _replay_board(
    path: Path, document: Mapping[str, Any], asked: Sequence[str], trust: bool, on_cell: OnCell
) -> dict[str, list[str]]:
    known, against = document["policies"], document["against"]
    _whole(path, "rows", document["rows"], document["suites"])
    for name, suite in document["suites"].items():
        _equal(path, f"suites.{name}.digest", suite["digest"], suite_digest(load_suite(suite["spec"]).load()))
    for name, runs in known.items():
        check_inside(name, f"{path}: one of the policies")
        specs = [run["spec"] for run in runs]
        if not specs or len(set(specs)) < len(specs):
            raise UserError(f"{path}: policies.{name} is of {len(specs)} runs; allowed: at least one, each once")
        for number, run in enumerate(runs):
            policy = load_policy(str(run["spec"]), "" if trust else str(path))
            _equal(path, f"policies.{name}[{number}].digest", run["digest"], digest_of(policy))
    _has(path, document["rows"].values(), asked, known)
    _has(path, (document["profile"][suite] for suite in document["rows"]), asked, known, list)
    _whole(path, COSTS, document[COSTS], known)
    _has(path, [document[COSTS]], asked, known, list)
    _equal(path, "above", document["above"], ABOVE.tolist())
    spelled = {name: [run["spec"] for run in known[name]] for name in {*asked, REFERENCE, against}}
    suites = [load_suite(suite["spec"]) for suite in document["suites"].values()]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        board = leaderboard(suites, spelled, out, document["episodes"], document["seed"], against, on_cell).document()
    return {
        name: [
            *(
                suite
                for suite, now in board["rows"].items()
                if _differ(document["rows"][suite][name], now[name])
                or _differ(document["profile"][suite][name], board["profile"][suite][name])
            ),
            *([COSTS] if _differ(document[COSTS][name], board[COSTS][name]) else []),
        ]
        for name in asked
    }


def _replay_suites(
    path: Path, document: Mapping[str, Any], asked: Sequence[str], trust: bool, on_cell: OnCell
) -> dict[str, list[str]]:
    """Names of scenarios, and of suites whose rows differ."""
    suites, changes = [load_suite(about["spec"]) for about in document["suites"].values()], document["changes"]
    _whole(path, "suites", document["suites"], [suite.name for suite in suites])
    members = load_members(suites, changes, str(path))
    for suite, (name, about) in zip(suites, document["suites"].items(), strict=True):
        _equal(path, f"suites.{name}.digest", about["digest"], suite_digest(suite.load()))
        _equal(path, f"suites.{name}.scenarios", about["scenarios"], [each.name for each in members[suite.name]])
        for scenario in members[suite.name]:
            said = document["scenarios"][scenario.name]["digest"]
            _equal(path, f"{scenario.name}.digest", said, scenario_digest(scenario))
    entries, tables = document["scenarios"].values(), document["suites"].values()
    _has(path, (entry[table] for entry in entries for table in REPLAYED), asked, document["agents"])
    _has(path, (about["rows"] for about in tables), asked, document["agents"])
    _has(path, (about["profile"] for about in tables), asked, document["agents"], list)
    _equal(path, "against", document["against"], REFERENCE)
    _equal(path, "above", document["above"], ABOVE.tolist())
    policies = {name: [load_policy(str(name), "" if trust else str(path))] for name in {*asked, REFERENCE}}
    for name, (policy,) in policies.items():
        _equal(path, f"agents.{name}", document["agents"][name], [digest_of(policy)])
    episodes, seed = document["episodes"], document["seed"]
    now = compare_suites(suites, members, policies, changes, episodes, seed, _telling(on_cell)).document()
    return {
        name: [
            *(
                title
                for title, entry in document["scenarios"].items()
                if any(_differ(entry[table][name], now["scenarios"][title][table][name]) for table in REPLAYED)
            ),
            *(
                suite
                for suite, about in document["suites"].items()
                if _differ(about["rows"][name], now["suites"][suite]["rows"][name])
                or _differ(about["profile"][name], now["suites"][suite]["profile"][name])
            ),
        ]
        for name in asked
    }


def _has(
    path: Path, tables: Iterable[Mapping[str, Any]], names: Sequence[str], known: Iterable[str], kind: type = dict
) -> None:
    """Raise `UserError` where one of the tables lacks one of the policies, or has one of none, before any episode is
    run. `kind`: of what it has of a policy."""
    for table in tables:
        for name in names:
            if not isinstance(table.get(name), kind):
                raise UserError(f"{path}: has no results of '{name}' in one of its tables; allowed: a whole file")
        if strange := sorted(set(table) - set(known)):
            raise UserError(
                f"{path}: has results of {shown(strange[0])}, of which it does not say what it is; allowed: "
                f"{', '.join(known)}"
            )


def _whole(path: Path, what: str, table: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise `UserError` for a table that is empty, or of other things than are replayed: they would count as the same
    to the bit."""
    if not table or set(table) != set(names):
        raise UserError(f"{path}: {what} are {shown(list(table))}; allowed: {', '.join(names) or 'at least one'}")


def _telling(on_cell: OnCell) -> Progress:
    def progress(scenario: str) -> AbstractContextManager[OnEpisodes | None]:
        on_cell("all policies", scenario)
        return nullcontext()

    return progress


def _replay_comparisons(
    path: Path, document: Mapping[str, Any], asked: Sequence[str], trust: bool, on_cell: OnCell
) -> dict[str, list[str]]:
    entries = document["scenarios"] if "scenarios" in document else {document["scenario"]: document}
    _whole(path, "scenarios", entries, entries)
    _has(path, (entry[table] for entry in entries.values() for table in REPLAYED), asked, document["agents"])
    policies = {name: [load_policy(str(name), "" if trust else str(path))] for name in asked}
    for name, (policy,) in policies.items():
        _equal(path, f"agents.{name}", document["agents"][name], [digest_of(policy)])
    scenarios = {title: _compared(path, title, entry) for title, entry in entries.items()}
    differing: dict[str, list[str]] = {name: [] for name in asked}
    for title, scenario in scenarios.items():
        for name, runs in policies.items():
            on_cell(name, title)
            replayed = comparison_json(compare({name: runs}, scenario, document["episodes"], document["seed"]))
            if any(_differ(entries[title][table][name], replayed[table][name]) for table in REPLAYED):
                differing[name].append(title)
    return differing


def _compared(path: Path, title: str, entry: Mapping[str, Any]) -> Scenario:
    """The scenario of a comparison, with its changes. Raises `UserError` where it is another one now."""
    if not isinstance(entry["variant"], str):
        raise UserError(f"{path}: variant is {shown(entry['variant'])}; allowed: a text")
    loaded = _scenario(path, base_name(title, entry["variant"]))
    scenario = override(loaded, entry["changes"]) if entry["changes"] else loaded
    _equal(path, f"{title}.digest", entry["digest"], scenario_digest(scenario))
    return scenario


def _scenario(path: Path, name: str) -> Scenario:
    """Of a result: a shipped one, a family, or one of a file that lies beside the result."""
    check_inside(name, f"{path}: one of the scenarios")
    own = path.parent / f"{name}.toml"
    if name in list_scenarios() or is_family(name):
        return load_scenario(name)
    if not files.is_file(own):
        raise UserError(f"{path}: scenario {shown(name)} is not shipped; allowed: with its file {own}")
    return load_scenario(own)


def _count(path: Path, what: str, said: object, least: int, most: float = math.inf) -> None:
    if type(said) is not int or not least <= said <= most:
        to = "" if most == math.inf else f" to {most}"
        raise UserError(f"{path}: {what} is {shown(said)}; allowed: a whole number from {least}{to}")


def _equal(path: Path, what: str, said: object, found: object) -> None:
    if not files.same(said, found):
        raise UserError(f"{path}: {what} is {shown(said)}; allowed: {shown(found)}, which is here now")


def _differ(said: object, now: object) -> bool:
    return not files.same(_replayed(said), _replayed(now))


def _replayed(value: Any) -> Any:
    """Numbers that a replay must find again."""
    if isinstance(value, list):
        return [_replayed(each) for each in value]
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if key not in NOT_REPLAYED}
    return value
