"""What several commands share: their options, and the checks made before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.errors import UserError
from tiergym.lab.experiment import MAX_EPISODES
from tiergym.terminal import console

if TYPE_CHECKING:
    from tiergym import specs
    from tiergym.policy.base import Policy

DEFAULT_SCENARIO = "llama-1to2"

POLICY_HELP = (
    "a baseline's name (tiergym agents lists them), module:Class, a .py, .toml or .onnx file, or a run directory"
)

Scenario = Annotated[
    str, typer.Option(metavar="NAME|FILE.toml", help="What to run it on; tiergym scenarios lists the names.")
]
SET = "--set"
Changes = Annotated[
    list[str] | None,
    typer.Option(
        SET,
        metavar="SECTION.FIELD=VALUE",
        help="Change a field of the scenario, as kernel.demotion=on; again for another field. Values as in its file.",
    ),
]
Episodes = Annotated[
    int, typer.Option(min=1, max=MAX_EPISODES, help="Episodes per policy: machines drawn from the scenario.")
]
Seed = Annotated[
    int, typer.Option(min=0, help="Seed of the machines: the same seed, the same machines for every policy.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write means and intervals as JSON (schema 1).")
]
ParquetFile = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Also write every episode's metrics as Parquet.")
]
PictureFile = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Also draw returns and lost time as a picture.")
]


PLAUSIBILITY = "--plausibility"


class Plausible(Enum):
    """The words of `tiergym.env.actions.PLAUSIBILITIES`, which is not imported for a line of help."""

    AVAILABLE = "available"
    PROPOSED = "proposed"
    COUNTERFACTUAL = "counterfactual"


Plausibility = Annotated[
    Plausible | None,
    typer.Option(PLAUSIBILITY, help="Leave out policies that may choose a less plausible mode than this."),
]


def names(comma_separated: str, option: str) -> list[str]:
    """The names in `a,b,c`, without repetitions. Raises `UserError` if there is none."""
    found = list(dict.fromkeys(name.strip() for name in comma_separated.split(",") if name.strip()))
    if not found:
        raise UserError(f"{option}: no name in '{comma_separated}'; allowed: names separated by commas")
    return found


def load_scenarios(names_or_paths: Iterable[str], changes: list[str] | None) -> list[specs.Scenario]:
    """Scenarios with what `--set` changes in each of them. Raises `UserError`."""
    from tiergym import specs

    assigned = specs.read_assignments(changes or [], SET)
    loaded = [specs.load_scenario(name) for name in names_or_paths]
    return [specs.override(scenario, assigned, f"with {SET}") for scenario in loaded] if assigned else loaded


def load_policies(specs: Iterable[str], least: Plausible | None = None) -> dict[str, list[Policy]]:
    """Policies by the names they were given, in the form that `tiergym.lab.compare.compare` takes.

    Those less plausible than `least` are left out, and named. Raises `UserError` where none is left.
    """
    from tiergym.policy.load import load_policy

    loaded = {spec: load_policy(spec) for spec in specs}
    kept = {spec: [policy] for spec, policy in loaded.items() if allowed(policy.plausibility, least)}
    out = [f"{spec} ({policy.plausibility})" for spec, policy in loaded.items() if spec not in kept]
    if not kept and least is not None:
        raise UserError(f"{PLAUSIBILITY} {least.value}: no policy is left of {', '.join(out)}")
    if out:
        console(stderr=True).print(f"left out: {', '.join(out)}", style="dim", highlight=False)
    return kept


def allowed(plausibility: str, least: Plausible | None) -> bool:
    """Whether a plausibility is at least `least`; without one, any is."""
    order = [word.value for word in Plausible]
    return least is None or order.index(plausibility) <= order.index(least.value)


def check_outputs(*paths: Path | None) -> None:
    """Make the folders of files to come; refuse, before any work, what cannot be written. Raises `UserError`."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"cannot write '{path}': it is a folder; name a file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write '{path}': {path.parent}: {error.strerror}") from error
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise UserError(f"cannot write '{path}': '{path.parent}' is not a folder that this user can write")
