"""What an experiment's file asks to be shown of its results: tables, and a picture.

`FIELDS` are those of a `[tables.NAME]` and of `[picture]`, on the page docs/reference/experiment.md. Shares are shown
in percent, pages as MiB. A picture draws panels for the scenarios and axes that it does not draw along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.lab.metrics import NAMES

SCENARIO, POLICY, VARIANT = "scenario", "policy", "variant"
SHOWN = ("runtime", "per_mib")
KINDS = ("lines", "causes", "scatter", "map")

FIELDS = {
    "title": ("text", "what stands above it; left out: the table's name"),
    "metrics": ("names of [metrics](metrics.md)", "what is shown; left out: `throughput`"),
    "policies": ("some of those compared", "whom it is shown of; left out: all"),
    "against": ("one of those compared", "the others are shown as differences from it, paired by episode"),
    "columns": (
        "an axis, `scenario`, `variant` or `policy`",
        "whose values stand side by side, of one metric; left out: the metrics. What is not in columns is in rows",
    ),
    "only": ("tables of an axis's values", 'which cells are shown, as `only = { release = ["7.2"] }`; left out: all'),
    "shown": (
        "`runtime` or `per_mib`",
        "of `throughput`, in place of its difference: the change of the run time in percent; or the time lost, in us "
        "of each second, per MiB of kernel pages that the policy has more on the slow tier",
    ),
    "winner": (
        "groups of policies by name",
        "in each cell the best policy of the best group, its gain over `against`, its lead on the next group's best",
    ),
    "kind": (
        ", ".join(f"`{kind}`" for kind in KINDS),
        "of a picture: a line per policy along `columns`; lost time by cause, stacked; the second metric over the "
        "first; `winner` by `columns` and `rows`",
    ),
    "rows": ("an axis", "of a map"),
}
"""Name to what is allowed and what it means; `kind` and `rows` are a picture's alone."""

Axes = Mapping[str, Sequence[str]]
"""Every axis of an experiment with its values; scenarios are one."""


@dataclass(frozen=True, slots=True)
class View:
    """One table or picture; fields as in the module's text, `policies` complete."""

    title: str
    policies: tuple[str, ...]
    metrics: tuple[str, ...] = ("throughput",)
    against: str = ""
    columns: str = ""
    rows: str = ""
    shown: str = ""
    winner: dict[str, tuple[str, ...]] = field(default_factory=dict)
    only: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kind: str = ""


def make_view(
    document: Mapping[str, Any], where: str, name: str, policies: Sequence[str], axes: Axes, *, picture: bool = False
) -> View:
    """The view that a table of the experiment's file describes; `where` stands in errors. Raises `UserError`."""
    known = _fields(policies, axes, picture=picture)
    for key, value in document.items():
        if key not in known:
            raise UserError(f"{where}: {suggest(key, known, 'field')}")
        is_allowed, allowed = known[key]
        if not is_allowed(value):
            raise UserError(f"{where}.{key} is {value!r}; allowed: {allowed}")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    for key in ("winner", "only"):
        fields[key] = {group: tuple(values) for group, values in document.get(key, {}).items()}
    view = View(**({"title": name, "policies": tuple(policies)} | fields))
    _check(view, where)
    return view


def _check(view: View, where: str) -> None:
    """What fields ask of each other. Raises `UserError`."""
    needs = (
        (bool(view.shown) and not view.against, "shown", "with against"),
        (bool(view.shown) and view.metrics != ("throughput",), "shown", "with the metric throughput alone"),
        (bool(view.winner) and not (view.against and view.columns), "winner", "with against and columns"),
        (bool(view.columns) and not view.kind and len(view.metrics) > 1, "columns", "with one metric"),
        (view.kind == "lines" and not view.columns, "kind", "lines with columns"),
        (view.kind == "scatter" and len(view.metrics) != 2, "kind", "scatter with two metrics"),
        (
            view.kind == "map" and not (view.winner and view.columns and view.rows),
            "kind",
            "map with winner, columns, rows",
        ),
    )
    for wrong, key, allowed in needs:
        if wrong:
            raise UserError(f"{where}.{key} is {getattr(view, key)!r}; allowed: {allowed}")


def _fields(policies: Sequence[str], axes: Axes, *, picture: bool) -> dict[str, tuple[Callable[[Any], bool], str]]:
    """Allowed values of every field, and what they are in words."""
    names = f"some of {', '.join(policies)}"
    along = [*axes, POLICY]
    found: dict[str, tuple[Callable[[Any], bool], str]] = {
        "title": (lambda value: isinstance(value, str), "text"),
        "metrics": (lambda value: _some(value, NAMES), "a list of names of docs/reference/metrics.md"),
        "policies": (lambda value: _some(value, policies), names),
        "against": (lambda value: value in policies, f"one of {', '.join(policies)}"),
        "columns": (lambda value: value in along, f"one of {', '.join(along)}"),
        "shown": (lambda value: value in SHOWN, f"one of {', '.join(SHOWN)}"),
        "winner": (
            lambda value: isinstance(value, dict) and bool(value) and all(_some(g, policies) for g in value.values()),
            f"groups, each of {names}",
        ),
        "only": (
            lambda value: isinstance(value, dict) and all(_some(v, axes.get(axis, ())) for axis, v in value.items()),
            "values of axes: " + "; ".join(f"{axis}: {', '.join(values)}" for axis, values in axes.items()),
        ),
    }
    if picture:
        found["kind"] = (lambda value: value in KINDS, f"one of {', '.join(KINDS)}")
        found["rows"] = (lambda value: value in axes, f"one of {', '.join(axes)}")
    return found


def _some(value: Any, known: Sequence[str]) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(item in known for item in value)
