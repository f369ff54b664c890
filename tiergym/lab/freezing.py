"""Freeze drawn suites: write the families that a suite's `[draw]` stands for into its file, with their digests.

    python -m tiergym.lab.freezing train test ...      # after a change of envs/ on purpose
    python -m tiergym.lab.freezing peaks               # what `peak_mib` in envs/families.toml is to be

A test draws them again and compares.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tiergym import files, paths, specs
from tiergym.env.actions import DEFAULT
from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.specs.drawing import draw
from tiergym.specs.families import catalogue

HEAD = "[families]"
ASIDE = "[undecided]"
PEAKS = "peaks"
_ROOMY = """
machine = { base = "single_tier", dram_mib = 1e6, dram_read_gbps = 400, dram_mixed_gbps = 400 }
episode = { horizon_s = 75 }
"""


def table_text(head: str, families: Mapping[str, str]) -> str:
    """A table of families with their digests, as a suite's file has it."""
    return "\n".join([head, *(f'"{name}" = "{digest}"' for name, digest in families.items())]) + "\n"


def families_text(suite: specs.Suite) -> str:
    """The tables of a drawn suite's families with their digests; what decides nothing stays aside."""
    if suite.draw is None:
        raise UserError(f"suite '{suite.name}' has no [draw]; allowed: suites that are drawn")
    digests = {name: specs.scenario_digest(specs.load_scenario(name)) for name in draw(suite.draw)}
    aside = {name: digest for name, digest in digests.items() if name in suite.undecided}
    decides = {name: digest for name, digest in digests.items() if name not in aside}
    return "\n".join([table_text(HEAD, decides), *([table_text(ASIDE, aside)] if aside else [])])


def freeze(path: Path) -> None:
    """Write a suite's families into its file, in place of those that stand there."""
    text = path.read_text(encoding="utf-8")
    before, _, _ = text.partition(HEAD)
    files.write_text(path, before.rstrip("\n") + "\n\n" + families_text(specs.load_suite(path)))


def peak_mib(workload: str) -> int:
    """Most memory, MiB, that a workload has in use at once on a machine of one tier that it does not fill."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roomy.toml"
        path.write_text(f'workload = "{workload}"\n{_ROOMY}', encoding="utf-8")
        machines = Machines([specs.load_scenario(path)], 1)
    machines.reset(np.zeros(1, np.uint64))
    records = machines.records
    least = records["free_pages"].sum(dtype=np.int64)
    for _ in range(int(records["ticks"][0])):
        machines.step(DEFAULT[None])
        least = min(least, records["free_pages"].sum(dtype=np.int64) + records["pcp_pages"].sum(dtype=np.int64))
    return round(int(records["managed_pages"].sum(dtype=np.int64) - least) / PAGES_PER_MIB)


def main(
    names: Annotated[list[str], typer.Argument(metavar="SUITE...|peaks", help="Suites to freeze, or their peaks.")],
) -> None:
    """Freeze suites, or measure the workloads' peaks."""
    for name in names:
        if name == PEAKS:
            for workload in catalogue()["workload"]:
                print(f"{workload}: peak_mib = {peak_mib(workload)}")
        else:
            freeze(paths.envs_dir() / "suites" / f"{name}.toml")


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
