"""A `Part` from the JSON of compare, matrix, leaderboard, ladder or networks. A stranger may have written it, so every
value that the page uses is checked; errors name the file and the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

from tiergym import files
from tiergym.errors import UserError, shown
from tiergym.lab.metrics import NAMES
from tiergym.lab.random_networks import QUANTILES
from tiergym.lab.report.parts import Entry, Guess, Networks, Part, Standing, SuitePart
from tiergym.lab.rungs import REFERENCE, Rung
from tiergym.lab.statistics import Interval
from tiergym.lab.suite_rows import INTERVALS
from tiergym.specs import assignments_text

SCHEMA = 1
NEEDED = ("return", "throughput")
"""Metrics that every policy must have; of the others, those that are known are read."""
LARGEST = 1e100
"""Of a number, so that sums and ratios of them remain numbers."""
KINDS = ("comparison", "matrix", "comparison on suites", "leaderboard", "ladder", "networks")


def read_part(document: Any, source: str) -> Part:
    """The part of a results document. Raises `UserError` where it is none."""
    table = _table(document, source)
    if not files.same(table.get("schema"), SCHEMA):
        raise UserError(
            f"{source}: schema is {shown(table.get('schema'))}; allowed: {SCHEMA}, a file of tiergym's results"
        )
    model = _text(table.get("model", ""), f"{source}: model")
    if "rows" in table:
        return _leaderboard(table, source, model)
    if "scenarios" in table or "policies" in table:
        return _comparisons(table, source, model)
    if "networks" in table:
        return _networks(table, source, model)
    if "suites" in table:
        suites = _table(table["suites"], f"{source}: suites")
        ladders = {name: _rungs(value, f"{source}: suites.{name}") for name, value in suites.items()}
        return Part(source, "ladder", model, ladders=ladders)
    raise UserError(
        f"{source}: no scenarios, policies, rows or suites; allowed: what --json of {', '.join(KINDS)} wrote"
    )


def _comparisons(table: Mapping[str, Any], source: str, model: str) -> Part:
    if "scenarios" in table:
        scenarios = _filled(table["scenarios"], f"{source}: scenarios")
        entries = [_entry(name, value, f"{source}: scenarios.{name}") for name, value in scenarios.items()]
    else:
        name = _text(table.get("scenario"), f"{source}: scenario")
        entries = [_entry(name, table, source)]
    check_alike(entries, source)
    suites = _table(table.get("suites", {}), f"{source}: suites")
    above = _rising(table["above"], f"{source}: above") if suites and "above" in table else []
    for name, value in suites.items():
        rows = _table(_table(value, f"{source}: suites.{name}").get("rows"), f"{source}: suites.{name}.rows")
        for policy in rows.keys() - entries[0].policies.keys():
            raise UserError(f"{source}: suites.{name}: {shown(policy)} has no results on the scenarios")
    kind = KINDS[2] if suites else KINDS["scenarios" in table]
    agents = _table(table.get("agents", {}), f"{source}: agents")
    return Part(
        source,
        kind,
        model,
        *_measured(table, source),
        against=REFERENCE,
        agents={name: _texts(value, f"{source}: agents.{name}") for name, value in agents.items()},
        entries=entries,
        suites=[_suite(name, value, value, above, f"{source}: suites.{name}") for name, value in suites.items()],
        above=above,
    )


def check_alike(entries: Sequence[Entry], source: str) -> None:
    """Raise `UserError` where the scenarios do not have the same policies."""
    first = entries[0].policies
    for entry in entries:
        if entry.policies.keys() != first.keys():
            raise UserError(f"{source}: {shown(entry.scenario)} has other policies; allowed: {', '.join(first)[:200]}")


def _leaderboard(table: Mapping[str, Any], source: str, model: str) -> Part:
    rows = _filled(table["rows"], f"{source}: rows")
    suites, profiles = (_table(table.get(key, {}), f"{source}: {key}") for key in ("suites", "profile"))
    above = _rising(table["above"], f"{source}: above") if profiles and "above" in table else []
    parts = []
    for name, value in rows.items():
        about = _table(suites.get(name, {}), f"{source}: suites.{name}")
        joined = {"rows": value, "profile": profiles.get(name, {})}
        parts.append(_suite(name, about, joined, above, f"{source}: rows.{name}"))
    agents = {}
    for name, runs in _table(table.get("policies", {}), f"{source}: policies").items():
        where = f"{source}: policies.{name}"
        each = [_table(run, where) for run in _list(runs, where)]
        agents[name] = [_text(run.get("digest", ""), f"{where}: digest") for run in each]
    against = _text(table.get("against", ""), f"{source}: against")
    measured = _measured(table, source)
    return Part(source, "leaderboard", model, *measured, against=against, agents=agents, suites=parts, above=above)


def _measured(table: Mapping[str, Any], source: str) -> tuple[int, int]:
    """Episodes and seed."""
    return _whole(table.get("episodes"), f"{source}: episodes", 1), _whole(table.get("seed"), f"{source}: seed")


def _entry(name: str, value: Any, where: str) -> Entry:
    table = _table(value, where)
    policies = {
        policy: _metrics(metrics, f"{where}: policies.{policy}")
        for policy, metrics in _filled(table.get("policies"), f"{where}: policies").items()
    }
    modes, changes = (_table(table.get(key, {}), f"{where}: {key}") for key in ("modes", "changes"))
    try:
        assignments_text(changes)
    except RecursionError as error:
        raise UserError(f"{where}: changes: nested too deeply; allowed: fields and their values") from error
    return Entry(
        name,
        _text(table.get("variant", ""), f"{where}: variant"),
        _text(table.get("digest", ""), f"{where}: digest"),
        changes,
        policies,
        {policy: _modes(modes[policy], f"{where}: modes.{policy}") for policy in policies if policy in modes},
    )


def _metrics(value: Any, where: str) -> dict[str, Interval]:
    table = _table(value, where)
    for name in NEEDED:
        if name not in table:
            raise UserError(f"{where}: no {name}; allowed: a policy's metrics, with it")
    return {name: _interval(table[name], f"{where}.{name}") for name in NAMES if name in table}


def _modes(value: Any, where: str) -> dict[str, dict[str, float]]:
    out = {}
    for entry, use in _table(value, where).items():
        shares = _filled(_table(use, f"{where}.{entry}").get("in_force"), f"{where}.{entry}.in_force")
        out[entry] = {mode: _number(share, f"{where}.{entry}.in_force.{mode}") for mode, share in shares.items()}
    return out


def _suite(name: str, about: Mapping[str, Any], of: Mapping[str, Any], above: Sequence[float], where: str) -> SuitePart:
    rows = _filled(of.get("rows"), f"{where}: rows")
    profile = {}
    for policy, value in _table(of.get("profile", {}), f"{where}: profile").items():
        profile[policy] = _numbers(value, f"{where}: profile.{policy}")
        if len(profile[policy]) != len(above):
            raise UserError(f"{where}: profile.{policy} has {len(profile[policy])} numbers; allowed: {len(above)}")
    return SuitePart(
        name,
        _text(about.get("spec", ""), f"{where}: spec"),
        _text(about.get("digest", ""), f"{where}: digest"),
        {policy: _standing(row, f"{where}: {policy}") for policy, row in rows.items()},
        {policy: shares for policy, shares in profile.items() if policy in rows},
    )


def _standing(value: Any, where: str) -> Standing:
    table = _table(value, where)
    gap, decision_us = (
        None if table.get(key) is None else _number(table[key], f"{where}.{key}") for key in ("gap", "decision_us")
    )
    return Standing({name: _interval(table.get(name), f"{where}.{name}") for name in INTERVALS}, gap, decision_us)


def _networks(table: Mapping[str, Any], source: str, model: str) -> Part:
    count, found = _whole(table["networks"], f"{source}: networks", 1), {}
    saved = _table(table.get("saved"), f"{source}: saved")
    for suite, scenarios in _filled(table.get("suites"), f"{source}: suites").items():
        where = f"{source}: suites.{suite}"
        guesses = [_guess(name, value, f"{where}.{name}") for name, value in _filled(scenarios, where).items()]
        found[suite] = Networks(count, guesses, _quantiles(saved.get(suite), f"{source}: saved.{suite}"))
    return Part(source, "networks", model, seed=_whole(table.get("seed"), f"{source}: seed"), networks=found)


def _guess(scenario: str, value: Any, where: str) -> Guess:
    table = _table(value, where)
    online, better = (_number(table.get(key), f"{where}.{key}") for key in ("online", "better"))
    return Guess(scenario, online, _quantiles(table.get("quantiles"), f"{where}.quantiles"), better)


def _quantiles(value: Any, where: str) -> dict[str, float]:
    table = _table(value, where)
    return {f"{100 * q:g} %": _number(table.get(str(q)), f"{where}.{q}") for q in QUANTILES}


def _rungs(value: Any, where: str) -> list[Rung]:
    return [_rung(each, f"{where}[{index}]") for index, each in enumerate(_list(value, where))]


def _rung(value: Any, where: str) -> Rung:
    table = _table(value, where)
    rules = {
        name: _numbers(returns, f"{where}.rules.{name}")
        for name, returns in _filled(table.get("rules"), f"{where}.rules").items()
    }
    for name, rule in (("rule", table.get("rule")), ("selected", table.get("selected")), ("rules", REFERENCE)):
        if not isinstance(rule, str) or rule not in rules:
            raise UserError(f"{where}.{name}: {shown(rule)} is not among the rules; allowed: {', '.join(rules)[:200]}")
    learned = table.get("learned")
    searched = {name: _numbers(table.get(name), f"{where}.{name}") for name in ("one", "constant", "plan")}
    returns = {**rules, **searched, **({} if learned is None else {"learned": _numbers(learned, f"{where}.learned")})}
    episodes = {name: len(each) for name, each in returns.items()}
    if len(set(episodes.values())) > 1 or not searched["plan"]:
        raise UserError(f"{where}: {shown(episodes)} episodes; allowed: as many of each rung, at least one")
    return Rung(
        _text(table.get("scenario"), f"{where}.scenario"),
        _whole(table.get("ticks"), f"{where}.ticks"),
        rules,
        str(table["rule"]),
        str(table["selected"]),
        **searched,
        learned=returns.get("learned"),
        seed=_whole(table.get("seed", 0), f"{where}.seed"),
    )


def _interval(value: Any, where: str) -> Interval:
    table = _table(value, where)
    return Interval(*(_number(table.get(key), f"{where}.{key}") for key in ("mean", "low", "high")))


def _number(value: Any, where: str) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not -LARGEST < value < LARGEST or not isfinite(value):
        raise UserError(f"{where}: {shown(value)}; allowed: a number")
    return float(value)


def _whole(value: Any, where: str, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise UserError(f"{where}: {shown(value)}; allowed: a whole number from {least}")
    return value


def _numbers(value: Any, where: str) -> list[float]:
    return [_number(each, where) for each in _list(value, where)]


def _rising(value: Any, where: str) -> list[float]:
    found = _numbers(value, where)
    if len(found) < 2 or any(b <= a for a, b in pairwise(found)):
        raise UserError(f"{where}: {shown(found)}; allowed: two numbers or more, each larger than the one before")
    return found


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {shown(value)}; allowed: a text")
    return value


def _texts(value: Any, where: str) -> list[str]:
    return [_text(each, where) for each in _list(value, where)]


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where}: {shown(value)}; allowed: a list")
    return value


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: {shown(value)}; allowed: a table")
    return value


def _filled(value: Any, where: str) -> dict[str, Any]:
    if not _table(value, where):
        raise UserError(f"{where}: empty; allowed: at least one")
    return dict(value)
