"""What is installed and whether it works: each check runs the thing rather than asking for its version alone."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from rich.markup import escape
from rich.table import Table

from tiergym.errors import UserError
from tiergym.extras import PARTS, advice
from tiergym.terminal import new_table

TICKS = 16
STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `state` is "ok", "missing" (an optional part) or "broken"."""

    check: str
    state: str
    detail: str


def examine() -> list[Finding]:
    """Run all checks; takes some seconds, more where the simulator is compiled for the first time."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("machine", _machine),
        ("compile cache", _compile_cache),
        ("files", _files),
        ("simulator", _simulator),
        ("gymnasium", _gymnasium),
    ]
    findings = [_packages(part) for part in PARTS]
    return findings + [_run(check, function) for check, function in checks]


def report(findings: Sequence[Finding]) -> Table:
    """The findings as a table."""
    table = new_table("tiergym doctor")
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("detail")
    for finding in findings:
        table.add_row(finding.check, f"[{STYLES[finding.state]}]{finding.state}[/]", escape(finding.detail))
    return table


def _packages(part: str) -> Finding:
    found, absent = [], []
    for name in PARTS[part]:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if not absent:
        return Finding(f"packages: {part}", "ok", ", ".join(found))
    if part == "core":
        return Finding(f"packages: {part}", "broken", f"not installed: {', '.join(absent)}")
    return Finding(f"packages: {part}", "missing", f"not installed: {', '.join(absent)}; {advice(part)}")


def _run(check: str, function: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", function())
    except UserError as error:
        return Finding(check, "broken", str(error))
    except Exception as error:  # a broken installation fails in any way at all, and the report goes on
        return Finding(check, "broken", f"{type(error).__name__}: {error}")


def _machine() -> str:
    return f"Python {platform.python_version()} on {sys.platform} {platform.machine()}, {os.cpu_count()} cores"


def _compile_cache() -> str:
    from tiergym.sim.compile_cache import cache_dir

    folder = cache_dir()
    if folder is None:
        raise UserError("no folder to keep compiled code in, so every start compiles anew; set NUMBA_CACHE_DIR")
    return str(folder)


def _files() -> str:
    from tiergym import paths, specs
    from tiergym.policy.load import list_policies, load_policy

    scenarios, policies = specs.list_scenarios(), list_policies()
    for scenario in scenarios:
        specs.load_scenario(scenario)
    for policy in policies:
        load_policy(policy)
    return f"{len(scenarios)} scenarios in {paths.envs_dir()}, {len(policies)} policies in {paths.agents_dir()}"


def _simulator() -> str:
    from tiergym.cli.options import DEFAULT_SCENARIO
    from tiergym.env.actions import DEFAULT
    from tiergym.env.machines import PARALLEL_FROM, Machines
    from tiergym.lab.evaluate import evaluation_seeds
    from tiergym.specs import load_scenario

    scenario, count = load_scenario(DEFAULT_SCENARIO), PARALLEL_FROM
    actions, rewards = np.tile(DEFAULT, (count, 1)), []
    for threads in (1, None):
        machines = Machines([scenario], count, threads=threads)
        machines.reset(evaluation_seeds(0, count))
        trajectory = []
        for _ in range(TICKS):
            machines.step(actions)
            trajectory.append(machines.reward.copy())
        rewards.append(np.stack(trajectory))
    if not np.array_equal(rewards[0], rewards[1]) or not np.isfinite(rewards[0]).all():
        raise UserError("one thread and several differ on the same seeds: results here are not reproducible")
    return f"{TICKS} ticks of {count} machines on {DEFAULT_SCENARIO}, on one thread and on all: equal to the bit"


def _gymnasium() -> str:
    import gymnasium

    from tiergym import ENV_ID

    env = gymnasium.make(ENV_ID)
    obs, _ = env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()
    return f"{ENV_ID}: observations {obs.shape}, actions {env.action_space}"
