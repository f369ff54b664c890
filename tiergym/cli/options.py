"""What several commands share: their options, and the checks made before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym import files
from tiergym.cli import completion
from tiergym.cli.command import JSON, made_folders
from tiergym.cli.file_kinds import wanted
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.files import STDOUT
from tiergym.memory import MAX_EPISODES
from tiergym.terminal import console, manner
from tiergym.trust import TRUST

if TYPE_CHECKING:
    from tiergym import specs
    from tiergym.policy.base import Policy

DEFAULT_SCENARIO = "llama-1to2"
RUNGS = ("onnx", "tree", "policy.h", "rules", "all", "daemon", "bpf")
"""What `tiergym export` writes."""

POLICY_HELP = (
    "a baseline's name (tiergym agents lists them), module:Class, a .py, .toml, .onnx, .json or .h file, or a run "
    "directory"
)

Scenario = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE.toml",
        help="What to run it on; tiergym scenarios lists the names.",
        autocompletion=completion.scenarios,
    ),
]
Policies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Policies, separated by commas. Default: all baselines.",
        autocompletion=completion.several_policies,
    ),
]
OptionalScenario = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="NAME|FILE.toml",
        help=f"What to run it on; tiergym scenarios lists the names. Default, without --suite: {DEFAULT_SCENARIO}.",
        autocompletion=completion.scenarios,
    ),
]
SuiteNames = Annotated[
    list[str] | None,
    typer.Option(
        "--suite",
        metavar="NAME|FILE.toml",
        help="All scenarios of a suite, with a table of what is saved there; again for another. Adds online.",
        autocompletion=completion.suites,
    ),
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


def claim_stdout(path: Path | None) -> Path | None:
    """Where JSON goes to stdout, nothing else does."""
    if path == STDOUT:
        manner.json_on_stdout = True
    return path


JsonFile = Annotated[
    Path | None,
    typer.Option(
        JSON,
        metavar="[FILE|-]",
        callback=claim_stdout,
        help="Also write JSON to a file; with - or nothing, to stdout in place of tables.",
    ),
]
Wide = Annotated[bool, typer.Option("--wide", "-w", help="All columns and tables, not only those that matter most.")]
ParquetFile = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Also write every episode's metrics as Parquet.")
]
PictureFile = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Also draw returns and lost time as a picture.")
]


Trust = Annotated[
    bool,
    typer.Option(TRUST, help="Run Python code that the file names (module:Class, a .py file); never a stranger's."),
]


class EngineName(Enum):
    """The words of `tiergym.lab.engines.ENGINES`, which is not imported for a line of help."""

    LOCAL = "local"
    PROCESSES = "processes"
    RAY = "ray"


EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="Where it runs: here, in processes of this machine, or on a Ray cluster."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes of this machine. Default: as many as it has cores.")
]
Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT|auto", help="Of a running Ray cluster, with --engine ray.")
]
TrustArchive = Annotated[
    bool, typer.Option(TRUST, help="Read an archive of stable-baselines3 (.zip), which runs the code in it.")
]

PLAUSIBILITY = "--plausibility"


class Plausible(Enum):
    """The words of `tiergym.sim.names.PLAUSIBILITIES`, which is not imported for a line of help."""

    AVAILABLE = "available"
    PROPOSED = "proposed"
    COUNTERFACTUAL = "counterfactual"


Plausibility = Annotated[
    Plausible | None,
    typer.Option(
        PLAUSIBILITY,
        metavar="WORD",
        help="Leave out policies that may choose a less plausible mode: available, proposed or counterfactual.",
    ),
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

    loaded = []
    for name in names_or_paths:
        with wanted(name, "scenario", "--scenario"):
            loaded.append(specs.load_scenario(name))
    return changed(loaded, changes)


def load_suite(name_or_path: str) -> specs.Suite:
    """A suite. Raises `UserError`, which tells what the name is where it is none."""
    from tiergym import specs

    with wanted(name_or_path, "suite", "suite"):
        return specs.load_suite(name_or_path)


def changed(scenarios: Sequence[specs.Scenario], changes: list[str] | None) -> list[specs.Scenario]:
    """The scenarios with what `--set` changes. Raises `UserError`."""
    from tiergym import specs

    return specs.override_all(scenarios, specs.read_assignments(changes or [], SET), f"with {SET}")


def load_policies(
    specs: Iterable[str], least: Plausible | None = None, *, trust: bool = False
) -> dict[str, list[Policy]]:
    """Policies by the names they were given, in the form that `tiergym.lab.compare.compare` takes.

    Those less plausible than `least` are left out, and named; `trust` lets archives of stable-baselines3 be read.
    Raises `UserError` where none is left.
    """
    from tiergym.policy.load import load_policy

    loaded = {}
    for spec in specs:
        with wanted(spec, "policy", "policy"):
            loaded[spec] = load_policy(spec, trust=trust)
    kept = {spec: [policy] for spec, policy in loaded.items() if allowed(policy.plausibility, least)}
    out = [f"{spec} ({policy.plausibility})" for spec, policy in loaded.items() if spec not in kept]
    if not kept and least is not None:
        raise UserError(f"{PLAUSIBILITY} {least.value}: no policy is left of {', '.join(out)}")
    if out:
        console(stderr=True).print(f"left out: {', '.join(out)}", style="dim", highlight=False)
    return kept


def allowed(plausibility: str, least: Plausible | None) -> bool:
    """Whether a plausibility is at least `least`; without one, any is."""
    from tiergym.env.actions import is_at_least

    return least is None or is_at_least(plausibility, least.value)


def check_outputs(*paths: Path | None, parquet: Path | None = None, picture: Path | None = None) -> None:
    """Make the folders of files to come; refuse, before any work, what cannot be written. Raises `UserError`.

    A command that ends in an error removes those folders again where nothing is in them. The package that writes
    Parquet or draws must be installed, too.
    """
    if parquet is not None:
        require("pyarrow")
    if picture is not None:
        require("matplotlib")
    for path in (*paths, parquet, picture):
        if path is None or path == STDOUT:
            continue
        if path.is_dir():
            raise UserError(f"cannot write '{path}': it is a folder; name a file")
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write '{path}': it is no regular file; allowed: a file, or - of {JSON}")
        try:
            made_folders.extend(files.make_folder(path.parent))
        except OSError as error:
            raise UserError(f"cannot write '{path}': {path.parent}: {error.strerror}") from error
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise UserError(f"cannot write '{path}': '{path.parent}' is not a folder that this user can write")
