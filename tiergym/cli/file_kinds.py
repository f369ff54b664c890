"""What a name or a file is where another kind of thing was asked for, and how to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tiergym import paths
from tiergym.errors import UserError
from tiergym.files import is_dir, is_file, read_json, read_toml

USES: Final[dict[str, str]] = {
    "scenario": "run on it with --scenario {name}",
    "machine": 'a scenario names it, beside a workload: machine = "{name}"',
    "kernel": 'a scenario is based on it: kernel = "{name}", or --set kernel.base={name}',
    "workload": 'a scenario names it, beside a machine: workload = "{name}"',
    "suite": "measure on all of it: tiergym matrix --suite {name}",
    "recipe": "train with it: tiergym train --agent {name} --scenario NAME; its run directory is then a policy",
    "policy": "it decides on a scenario: tiergym evaluate {name} --scenario NAME",
    "plan": "replay it: tiergym evaluate {name} --scenario NAME",
    "experiment": "run it: tiergym run {name}",
    "file of results": "replay it: tiergym verify {name}",
    "recording": "make a workload of it: tiergym workload from-recording {name} --out FILE.toml",
    "run directory": "its policy is evaluated by: tiergym evaluate {name} --scenario NAME",
}
"""Kinds, and what each is for."""
_POLICY_KINDS = ("policy", "plan", "run directory")

_OF_EXPERIMENTS = ("agents", "policies", "episodes", "training_seeds", "axes")

_TABLES: Final[tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...]] = (
    ("recipe", lambda document: "algorithm" in document),
    ("policy", lambda document: "modes" in document and "scenarios" not in document),
    ("scenario", lambda document: "machine" in document and "workload" in document),
    ("experiment", lambda document: "suites" in document),
    ("experiment", lambda document: "scenarios" in document and not document.keys().isdisjoint(_OF_EXPERIMENTS)),
    ("suite", lambda document: not document.keys().isdisjoint(("scenarios", "draw", "undecided_of"))),
    ("workload", lambda document: not document.keys().isdisjoint(("regions", "processes", "pools", "workers"))),
    ("machine", lambda document: not document.keys().isdisjoint(("dram_mib", "slow_mib", "cpus"))),
    ("kernel", lambda document: not document.keys().isdisjoint(("release", "demotion", "numa_balancing"))),
)
"""Of TOML files, the first that fits."""


def kind_of_file(path: Path) -> str:
    """One of `USES`, or an empty text where it is none of them or cannot be read."""
    if is_dir(path):
        files = {"meta.json": "recording", "policy.onnx": "run directory", "config.toml": "run directory"}
        return next((kind for name, kind in files.items() if is_file(path / name)), "")
    if not is_file(path):
        return ""
    if path.suffix in (".onnx", ".py"):
        return "policy"
    try:
        if path.suffix == ".toml":
            document = read_toml(path)
            return next((kind for kind, fits in _TABLES if fits(document)), "")
        if path.suffix == ".json":
            document = read_json(path)
            keys = document.keys() if isinstance(document, dict) else ()
            return "plan" if "plan" in keys else "file of results" if "schema" in keys and "model" in keys else ""
    except UserError:
        pass
    return ""


def kinds_of_name(name: str) -> list[str]:
    """Kinds of which a preset is called so."""
    envs, agents = paths.envs_dir(), paths.agents_dir()
    places = {kind: envs / f"{kind}s" for kind in ("scenario", "machine", "kernel", "workload", "suite")}
    places |= {"experiment": paths.experiments_dir()}
    if not name or Path(name).name != name:
        return []
    found = [kind for kind, folder in places.items() if is_file(folder / f"{name}.toml")]
    return found + [kind for path in (agents / f"{name}.toml", agents / f"{name}.py") if (kind := kind_of_file(path))]


def other_kind(name: str, wanted: str, option: str) -> UserError | None:
    """What to say of a name or file that was given where a `wanted` is; None where nothing is known of it.

    >>> print(other_kind("train", "scenario", "--scenario"))
    --scenario train: that is a suite; measure on all of it: tiergym matrix --suite train; allowed: a scenario
    """
    of_file = kind_of_file(Path(name))
    kinds = [of_file] if of_file else kinds_of_name(name)
    if not kinds or wanted in kinds or (wanted == "policy" and not set(kinds).isdisjoint(_POLICY_KINDS)):
        return None
    article = "an" if kinds[0][0] in "aeiou" else "a"
    use = USES[kinds[0]].format(name=name)
    return UserError(f"{option} {name}: that is {article} {kinds[0]}; {use}; allowed: a {wanted}")


@contextmanager
def wanted(name: str, kind: str, option: str) -> Iterator[None]:
    """While something is loaded by its name: where it is refused and is of another kind, the refusal says of which."""
    try:
        yield
    except UserError as error:
        told = other_kind(name, kind, option)
        if told is None:
            raise
        raise told from error
