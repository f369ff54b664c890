"""Which machines are booted and what runs in them: `runs.toml` and `programs.toml` of `experiments/kernel-lab`."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.kernel_lab.kernels import RELEASE, SUITES
from tiergym.paths import experiments_dir
from tiergym.sim.units import LEAST_BLOCK_MIB

POLICIES = {"online": "on", "online_movable": "mov"}
"""memhp_default_state, and how a run's name ends."""
RUNS, PROGRAMS = "runs.toml", "programs.toml"
"""Workloads of the guest's own program, and real programs in a Debian root, recorded by their process tree."""
DEFAULT_RUNS = ("a_llama_anon_on", "a_llama_anon_mov", "e_phases_on", "e_phases_mov")


@dataclass(frozen=True, slots=True)
class Run:
    """One boot. Sizes in MiB; see runs.toml for the fields. `programs`: real ones, /dev/vda is the Debian root."""

    name: str
    policy: str
    script: str
    setup: str = ""
    dram_mib: int = 512
    cxl_mib: int = 1024
    cpus: int = 2
    hz: int = 5
    disk_mib: int = 0
    swap_mib: int = 0
    low_mib: int = 0
    boot: str = ""
    kernel: str = RELEASE
    timeout_s: int = 300
    programs: bool = False


_OF_FILE = {field.name: field.type for field in fields(Run) if field.name not in ("name", "policy", "programs")}


def lab_folder() -> Path:
    """Where the guest's sources and the runs lie."""
    return experiments_dir() / "kernel-lab"


def load_runs(path: Path | None = None) -> dict[str, Run]:
    """The runs of a file by name, one per entry and policy; without `path`, all that there are.

    Raises `UserError` that names entry and field.
    """
    if path is None:
        return load_runs(lab_folder() / RUNS) | load_runs(lab_folder() / PROGRAMS)
    file, runs = path, {}
    for name, entry in read_toml(file).items():
        if not isinstance(entry, dict) or not re.fullmatch(r"\w+", name, re.ASCII):
            raise UserError(f"{file}: {name}: expected a table with a name of letters, digits and _")
        policies = entry.pop("policies", list(POLICIES))
        if not isinstance(policies, list) or not policies or not set(policies) <= set(POLICIES):
            raise UserError(f"{file}: {name}.policies = {policies!r}; allowed: a list of {', '.join(POLICIES)}")
        values = {key: _value(file, name, key, value) for key, value in entry.items()}
        if "script" not in values:
            raise UserError(f"{file}: {name}.script is missing")
        run = Run(name, "", programs=file.name == PROGRAMS, **values)
        _check(file, run)
        for policy in policies:
            runs[f"{name}_{POLICIES[policy]}"] = replace(run, name=f"{name}_{POLICIES[policy]}", policy=policy)
    return runs


def choose(names: list[str], runs: dict[str, Run]) -> list[Run]:
    """Runs by name; a name without its policy's ending stands for all policies. Raises `UserError`."""
    chosen: dict[str, Run] = {}
    for name in names:
        found = {key: run for key, run in runs.items() if key == name or key.rpartition("_")[0] == name}
        if not found:
            raise UserError(suggest(name, runs, "run"))
        chosen |= found
    return list(chosen.values())


def _value(file: Path, name: str, key: str, value: Any) -> Any:
    if key not in _OF_FILE:
        raise UserError(f"{file}: {name}: {suggest(key, [*_OF_FILE, 'policies'], 'field')}")
    if _OF_FILE[key] == "str":
        fits, allowed = isinstance(value, str), "text"
    else:
        fits, allowed = type(value) is int and value >= 0, "a whole number"
    if not fits:
        raise UserError(f"{file}: {name}.{key} = {value!r}; allowed: {allowed}")
    return value


def _check(file: Path, run: Run) -> None:
    for key in ("dram_mib", "cxl_mib"):
        size: int = getattr(run, key)
        if size % LEAST_BLOCK_MIB:
            raise UserError(f"{file}: {run.name}.{key} = {size}; allowed: whole memory blocks of {LEAST_BLOCK_MIB} MiB")
    if run.disk_mib and run.swap_mib:
        raise UserError(f"{file}: {run.name}: disk_mib and swap_mib; allowed: one of them, they are both /dev/vda")
    if run.disk_mib and run.programs:
        raise UserError(f"{file}: {run.name}.disk_mib; allowed: none, /dev/vda is the root of the programs")
    if run.kernel not in SUITES:
        raise UserError(f"{file}: {run.name}.kernel: {suggest(run.kernel, SUITES, 'release')}")
