"""Scenarios and their files: loading, overriding, listing."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.sim.layout import BLOCK_SIZES, MOST_COUNTED_MIB, REGION_SIZES
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.specs.assignments import assignments_text
from tiergym.specs.digest import scenario_digest
from tiergym.specs.distributions import highest, lowest, parse
from tiergym.specs.families import document as document_of_family
from tiergym.specs.families import is_family
from tiergym.specs.feasibility import check
from tiergym.specs.kernel import OF_MACHINE, OF_SCENARIO
from tiergym.specs.reading import (
    KERNEL,
    OF_REGION,
    SCALARS,
    Table,
    complete_sections,
    kernel_preset,
    preset_names,
    preset_path,
    refuse,
)
from tiergym.specs.table import build_table
from tiergym.specs.writing import complete_toml


@dataclass(frozen=True, eq=False)
class Scenario:
    """A validated scenario.

    sections: every field's value as TOML spells it, bases resolved: "machine", "kernel", "costs", "episode",
    "weights", "workload" by name; "processes", "regions" and "events" as lists; "pools" by name; "origins" of the
    fields that depend on the release.
    regions: the smallest of `layout.REGION_SIZES` that holds its regions, blocks: of `layout.BLOCK_SIZES` its memory.
    table: float64 (parameters, ROW) in the order of `layout.parameter_names(regions)`.
    counts: how many regions and processes it has.
    slow_pages_max: 4 KiB pages of the largest slow tier that it can draw.
    changes: what `override` changed, dotted field to TOML value; results carry it beside the name.
    variant: which variant of an experiment it is; its name then ends in @VARIANT.
    origin: digest of what was overridden, before all changes; empty where nothing was.
    """

    name: str
    description: str
    sections: dict[str, Any]
    regions: int
    table: NDArray[np.float64]
    counts: tuple[int, int]
    slow_pages_max: int
    blocks: int = BLOCK_SIZES[0]
    changes: dict[str, Any] = field(default_factory=dict)
    variant: str = ""
    origin: str = ""


def load_scenario(name_or_path: str | Path) -> Scenario:
    """The preset `envs/scenarios/NAME.toml`, a family's scenario, or any file whose path ends in .toml.

    Raises `UserError`.
    """
    if isinstance(name_or_path, str) and is_family(name_or_path) and not name_or_path.endswith(".toml"):
        return _scenario(document_of_family(name_or_path), name_or_path, f"family '{name_or_path}'", Path())
    path = named_path("scenarios", name_or_path)
    return _scenario(read_toml(path), path.stem, str(path), path.parent)


def override(scenario: Scenario, changes: Mapping[str, Any], how: str = "overridden") -> Scenario:
    """The scenario with other values, validated anew: dotted field to TOML value.

    Fields are spelled as in a scenario's file: "kernel.demotion", "machine.slow_latency_ns",
    "workload.workers", "workload.region.weights.mib", "workload.process.main.restart_s",
    "workload.pools.threads.count"; "kernel.base" sets all fields of a preset of [kernel]. `how` stands beside the
    scenario's name in errors. Raises `UserError`.
    """
    document, machine_kernel = _document(scenario)
    file = f"{scenario.name}, {how}"
    for name, value in changes.items():
        *parents, last = name.split(".")
        if name in ("machine.base", "workload.base"):
            raise refuse(file, name, value, "fields; what a scenario is based on stands in its file")
        if name == f"{KERNEL}.base":
            document[KERNEL] |= kernel_preset(value, file, Path())
            continue
        table = document
        for i, key in enumerate(parents):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise refuse(file, name, value, f"fields of tables, and {'.'.join(parents[: i + 1])} is none")
        table[last] = value
    changed = _scenario(document, scenario.name, file, Path(), machine_kernel)
    origin = scenario.origin or scenario_digest(scenario)
    return replace(changed, changes=scenario.changes | dict(changes), origin=origin)


def override_all(scenarios: Iterable[Scenario], changes: Mapping[str, Any], how: str) -> list[Scenario]:
    """Each scenario with the same other values; as it is where there are none. Raises `UserError`."""
    return [override(scenario, changes, how) if changes else scenario for scenario in scenarios]


def scenario_table(scenario: Scenario, regions: int) -> NDArray[np.float64]:
    """The scenario's table at the size class `regions`, as a batch of mixed scenarios needs it.

    Shape (parameters, ROW) in the order of `layout.parameter_names(regions)`.
    """
    return scenario.table if regions == scenario.regions else build_table(scenario.sections, regions)


def scenario_toml(scenario: str | Path | Scenario) -> str:
    """Complete TOML of a scenario, without references to other files; it loads back to an equal table."""
    loaded = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
    changed = f"# {loaded.name} with {assignments_text(loaded.changes)}\n" if loaded.changes else ""
    return changed + complete_toml(loaded.sections)


def list_scenarios() -> tuple[str, ...]:
    """Names of the shipped scenarios, sorted."""
    return preset_names("scenarios")


def list_machines() -> tuple[str, ...]:
    """Names of the shipped machines, sorted."""
    return preset_names("machines")


def list_kernels() -> tuple[str, ...]:
    """Names of the shipped presets of [kernel], sorted."""
    return preset_names("kernels")


def list_workloads() -> tuple[str, ...]:
    """Names of the shipped workloads, sorted."""
    return preset_names("workloads")


def list_suites() -> tuple[str, ...]:
    """Names of the shipped suites, sorted."""
    return preset_names("suites")


def describe(kind: str, name_or_path: str | Path) -> str:
    """Description of a preset; `kind` is "machines", "kernels", "workloads", "scenarios" or "suites"."""
    path = named_path(kind, name_or_path)
    description = read_toml(path).get("description", "")
    if not isinstance(description, str):
        raise refuse(str(path), "description", description, "a string")
    return description


def named_path(kind: str, name_or_path: str | Path) -> Path:
    """The file of a preset's name or of a path that ends in .toml. Raises `UserError`."""
    if isinstance(name_or_path, Path):
        return name_or_path
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    known = preset_names(kind)
    if name_or_path not in known:
        hint = f"{suggest(name_or_path, known, kind.removesuffix('s'))}; a file's path ends in .toml"
        raise UserError(hint)
    return preset_path(kind, name_or_path, kind, "name", Path())


def _document(scenario: Scenario) -> tuple[Table, Table]:
    """The scenario in the shape of its file, with nothing left to look up, and what its machine says of [kernel].

    What the release gives is in neither, so that it follows another release.
    """
    s = deepcopy(scenario.sections)
    workload = s["workload"] | {key: s.pop(key) for key in ("processes", "regions", "pools")}
    origins, kernel = s.pop("origins"), s["kernel"]
    machine = {name: kernel[name] for name, origin in origins.items() if origin == OF_MACHINE}
    stated = {name: value for name, value in kernel.items() if origins.get(name, OF_SCENARIO) == OF_SCENARIO}
    return s | {"workload": workload, "kernel": stated}, machine


def size_of_blocks(sections: Mapping[str, Any]) -> int:
    """The smallest of `layout.BLOCK_SIZES` that holds a complete scenario's memory: its blocks, and counts of pages."""
    machine = {name: parse(sections["machine"][name], field) for name, field in SCALARS["machine"].items()}
    sizes = [machine["dram_mib"], machine["slow_mib"]]
    sizes += [parse(region["mib"], OF_REGION["mib"]) for region in sections["regions"]]
    if max(map(highest, sizes)) > MOST_COUNTED_MIB:
        return BLOCK_SIZES[-1]
    blocks = highest(machine["slow_mib"]) / lowest(machine["block_mib"])
    return next((size for size in BLOCK_SIZES if blocks <= size), BLOCK_SIZES[-1])


def _scenario(document: Table, name: str, file: str, folder: Path, machine_kernel: Table | None = None) -> Scenario:
    sections = complete_sections(document, file, folder, machine_kernel)
    check(sections, file)
    count = len(sections["regions"])
    regions = min(size for size in REGION_SIZES if size >= count)
    slow_mib = parse(sections["machine"]["slow_mib"], SCALARS["machine"]["slow_mib"])
    return Scenario(
        name=name,
        description=sections["description"],
        sections=sections,
        regions=regions,
        table=build_table(sections, regions),
        counts=(count, len(sections["processes"])),
        slow_pages_max=int(highest(slow_mib) * PAGES_PER_MIB),
        blocks=size_of_blocks(sections),
    )
