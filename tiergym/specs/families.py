"""Families of scenarios: one level of each axis of envs/families.toml, and the scenario that they make together.

    kvstore+tiering+asic+1to4+tight+boot+6.12

is a name that every command takes as a scenario's. The workload keeps the sizes of its file; DRAM is its peak over the
pressure, CXL is DRAM times the ratio. Regions, pools, latencies and times of events vary by the file's `jitter`, anew
for each machine and episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.paths import envs_dir
from tiergym.specs.catalogue import read_catalogue
from tiergym.specs.reading import Table, complete_sections

AXES = ("workload", "configuration", "platform", "ratio", "pressure", "course", "release")
SEPARATOR = "+"
DRAM_STEP_MIB = 1024
"""DRAM comes in whole GiB."""
MOST_OF_ALL = 0.93
"""Of all memory, what a workload may need where its pressure says nothing else: struct pages need some too."""


@cache
def catalogue() -> Mapping[str, Any]:
    """envs/families.toml: per axis its levels by name, and what all families share."""
    return read_catalogue(envs_dir() / "families.toml")


def is_family(name: str) -> bool:
    """Whether a scenario's name is that of a family."""
    return SEPARATOR in name


def family_name(levels: Mapping[str, str]) -> str:
    """The name of the family with these levels, axis to level."""
    return SEPARATOR.join(levels[axis] for axis in AXES)


def levels_of(name: str) -> dict[str, str]:
    """Axis to level. Raises `UserError` that names the axis, its level and what is allowed."""
    parts = name.split(SEPARATOR)
    if len(parts) != len(AXES):
        raise UserError(f"family '{name}' has {len(parts)} levels; allowed: one each of {SEPARATOR.join(AXES)}")
    for axis, level in zip(AXES, parts, strict=True):
        if level not in catalogue()[axis]:
            raise UserError(f"family '{name}': {suggest(level, catalogue()[axis], axis)}")
    return dict(zip(AXES, parts, strict=True))


def text_of(name: str) -> dict[str, str]:
    """What each level of a family stands for, axis to text."""
    return {axis: str(catalogue()[axis][level]["text"]) for axis, level in levels_of(name).items()}


def impossible(levels: Mapping[str, str]) -> str:
    """Why these levels do not go together; empty where they do."""
    chosen = _chosen(levels)
    allowed = chosen["course"].get("configurations")
    if allowed is not None and levels["configuration"] not in allowed:
        return f"course '{levels['course']}' goes with the configurations {', '.join(allowed)}"
    single = levels["platform"] == "single"
    if single != (chosen["ratio"]["slow_over_dram"] == 0):
        return "platform 'single' goes with ratio 'none', and with no other"
    if single and levels["course"] != "boot":
        return "a machine of one tier goes with course 'boot'"
    if "peak_over_all" not in chosen["pressure"]:
        room = 1 + chosen["ratio"]["slow_over_dram"]
        if chosen["pressure"]["peak_over_dram"] > MOST_OF_ALL * room and not (single and _swaps(chosen)):
            return f"pressure '{levels['pressure']}' leaves no room at ratio '{levels['ratio']}'"
    elif chosen["ratio"]["slow_over_dram"] != 1:
        return f"pressure '{levels['pressure']}' says itself how much CXL there is; it goes with ratio '1to1'"
    return ""


def document(name: str) -> Table:
    """The scenario of a family, as its file would say it. Raises `UserError` where its levels do not go together."""
    levels = levels_of(name)
    reason = impossible(levels)
    if reason:
        raise UserError(f"family '{name}': {reason}")
    chosen, shared = _chosen(levels), catalogue()
    jitter = float(shared["jitter"])
    platform, configuration, course = chosen["platform"], chosen["configuration"], chosen["course"]
    base = complete_sections({"machine": platform["machine"], "workload": levels["workload"]}, name, Path())
    fields = base["machine"] | platform.get("fields", {}) | course.get("machine", {})
    dram, slow = _sizes(chosen, float(fields["block_mib"]))
    machine = {**platform.get("fields", {}), **course.get("machine", {}), "dram_mib": dram, "slow_mib": slow}
    if slow > 0:
        machine["slow_latency_ns"] = _around(fields["slow_latency_ns"], jitter)
    return {
        "description": "; ".join(text_of(name).values()) + ".",
        "machine": {"base": platform["machine"], **machine},
        "kernel": {"release": levels["release"], **configuration["kernel"]},
        "storage": dict(configuration.get("storage", {})),
        "episode": dict(shared["episode"]),
        "workload": {
            "base": levels["workload"],
            "region": {each["name"]: {"mib": _around(each["mib"], jitter)} for each in base["regions"]},
            "pools": {pool: {"count": _around(each["count"], jitter)} for pool, each in base["pools"].items()},
        },
        "events": [_event(event, slow, float(fields["block_mib"]), jitter) for event in course.get("events", [])],
    }


def cells(axes: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """Every combination of the given levels that goes together."""
    rows = (dict(zip(AXES, row, strict=True)) for row in product(*(axes[axis] for axis in AXES)))
    return [levels for levels in rows if not impossible(levels)]


def _chosen(levels: Mapping[str, str]) -> dict[str, Any]:
    return {axis: catalogue()[axis][level] for axis, level in levels.items()}


def _swaps(chosen: Mapping[str, Any]) -> bool:
    return bool(chosen["configuration"]["kernel"].get("swap_mib", 0))


def _sizes(chosen: Mapping[str, Any], block_mib: float) -> tuple[float, float]:
    """DRAM in whole GiB and the slow tier in whole blocks, MiB."""
    peak, pressure = chosen["workload"]["peak_mib"], chosen["pressure"]
    dram = max(1, round(peak / pressure["peak_over_dram"] / DRAM_STEP_MIB)) * DRAM_STEP_MIB
    slow = dram * chosen["ratio"]["slow_over_dram"]
    if "peak_over_all" in pressure:
        slow = peak / pressure["peak_over_all"] - dram
    blocks = 0 if slow == 0 else max(1, round(slow / block_mib))
    return float(dram), blocks * block_mib


def _around(value: Any, jitter: float) -> Any:
    """A number as a range of `jitter` to both sides; what is a distribution or nothing stays."""
    if isinstance(value, dict) or value == 0:
        return value
    return {"uniform": [round(value * (1 - jitter), 6), round(value * (1 + jitter), 6)]}


def _event(event: Mapping[str, Any], slow_mib: float, block_mib: float, jitter: float) -> Table:
    """An event of a course, with its share of the slow tier in whole blocks."""
    out = {key: value for key, value in event.items() if key != "share"} | {"at_s": _around(event["at_s"], jitter)}
    if "share" in event:
        out["mib"] = max(1, int(slow_mib * event["share"] / block_mib)) * block_mib
    return out
