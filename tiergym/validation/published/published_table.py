"""A published table as data: what was measured, on which scenario, under which settings, and how close is close.

One folder of `experiments/evidence/published/` per test, with a `table.toml` and the scenarios that it names:

    title = "..."                     what was measured
    source = "..."                    where the numbers were read, and how surely
    fitted = "..."                    which parameters were fitted, on which other numbers
    from_s = 4                        measured from this second of the episode to its end

    [variants.remote_tables]          one setting of the machine
    policy = "online"                 a named policy, or a .toml file of modes beside the table
    set = { "workload.process.main.mempolicy" = "bind_slow" }

    [[rows]]
    name = "GUPS"
    scenario = "mitosis.toml"         beside the table
    set = { ... }                     this row's own parameters
    measure = "run_time"              of `tiergym.validation.published.measures`
    variant = "remote_tables"
    over = "local"                    divided by the same measure of that variant
    published = 1.53                  a number or [low, high]
    within = { absolute = 0.1 }       how it is judged; without: shown, or only part of a summary
    fitted = true                     instead of `within`: what a parameter was fitted on, shown, never judged

    [[summaries]]                     over the rows of the same measure that are not fitted
    of = "mean_absolute_error"        or "rank_correlation", "slope"
    published = 0
    within = { absolute = 0.08 }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.paths import experiments_dir
from tiergym.validation.published.judge import SUMMARIES, Tolerance
from tiergym.validation.published.measures import MEASURES

TABLE = "table.toml"


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting: a policy by name, and changes as `tiergym.specs.override` takes them."""

    name: str
    policy: str = "online"
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One published number and how the simulator is asked for it; `low` to `high` where a range was published."""

    name: str
    scenario: Path
    measure: str
    variant: Variant
    over: Variant | None
    low: float
    high: float
    tolerance: Tolerance | None
    fitted: bool
    changes: Mapping[str, Any] = field(default_factory=dict)
    region: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """A judgement over all rows of one measure; a slope is taken against `x`, a measure of the same runs."""

    name: str
    of: str
    measure: str
    low: float
    high: float
    tolerance: Tolerance
    x: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """One test: its rows and summaries, in the order of the table."""

    id: str
    title: str
    source: str
    fitted: str
    from_s: float
    episodes: int
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]


def load_all(folder: Path | None = None) -> tuple[Experiment, ...]:
    """Every table of a folder (`experiments/evidence/published` by default), by number. Raises `UserError`."""
    root = experiments_dir() / "evidence" / "published" if folder is None else folder
    paths = sorted(root.glob(f"*/{TABLE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not paths:
        raise UserError(f"{root}: no */{TABLE}")
    return tuple(load(path) for path in paths)


def load(path: Path) -> Experiment:
    """One table. Raises `UserError`, naming file, field and what is allowed."""
    file, table = str(path), read_toml(path)
    _keys(table, ("title", "source", "fitted", "from_s", "episodes", "variants", "rows", "summaries"), file)
    variants = {
        name: _variant(name, given, path.parent, f"{file}: variants.{name}")
        for name, given in table.get("variants", {}).items()
    } or {"": Variant("")}
    rows = tuple(
        _row(given, variants, path, f"{file}: rows[{i}]") for i, given in enumerate(_tables(table, "rows", file))
    )
    if not rows:
        raise UserError(f"{file}: rows is missing; allowed: [[rows]] tables")
    summaries = tuple(
        _summary(given, f"{file}: summaries[{i}]") for i, given in enumerate(_tables(table, "summaries", file))
    )
    return Experiment(
        id=path.parent.name,
        title=_text(table, "title", file),
        source=_text(table, "source", file),
        fitted=_text(table, "fitted", file),
        from_s=_number(table.get("from_s", 0.0), "from_s", file),
        episodes=int(_number(table.get("episodes", 1), "episodes", file)),
        rows=rows,
        summaries=summaries,
    )


def _variant(name: str, given: Any, folder: Path, where: str) -> Variant:
    _keys(given, ("policy", "set"), where)
    policy = _text(given, "policy", where, "online")
    return Variant(name, str(folder / policy) if policy.endswith(".toml") else policy, given.get("set", {}))


def _row(given: Any, variants: Mapping[str, Variant], path: Path, where: str) -> Row:
    allowed = ("name", "scenario", "set", "measure", "region", "variant", "over", "published", "within", "fitted")
    _keys(given, allowed, where)
    fitted = given.get("fitted", False)
    if not isinstance(fitted, bool) or (fitted and "within" in given):
        raise UserError(f"{where}.fitted = {fitted!r}; allowed: true or false, and no `within` beside true")
    first = next(iter(variants))
    over = given.get("over")
    low, high = _range(given, where)
    return Row(
        name=_text(given, "name", where),
        scenario=path.parent / _text(given, "scenario", where),
        measure=_choice(given, "measure", MEASURES, where),
        variant=variants[_choice(given, "variant", variants, where, first)],
        over=None if over is None else variants[_choice(given, "over", variants, where)],
        low=low,
        high=high,
        tolerance=_tolerance(given["within"], where) if "within" in given else None,
        fitted=fitted,
        changes=given.get("set", {}),
        region=_text(given, "region", where, ""),
    )


def _summary(given: Any, where: str) -> Summary:
    _keys(given, ("name", "of", "measure", "published", "within", "x", "region"), where)
    low, high = _range(given, where)
    return Summary(
        name=_text(given, "name", where),
        of=_choice(given, "of", SUMMARIES, where),
        measure=_choice(given, "measure", MEASURES, where),
        low=low,
        high=high,
        tolerance=_tolerance(given.get("within"), where),
        x=_choice(given, "x", MEASURES, where) if "x" in given else "",
        region=_text(given, "region", where, ""),
    )


def _tolerance(given: Any, where: str) -> Tolerance:
    names = ("absolute", "relative", "factor", "decimals", "side_of", "at_least")
    _keys(given, names, f"{where}.within")
    if not given:
        raise UserError(f"{where}.within is empty; allowed: {', '.join(names)}")
    return Tolerance(**{name: _number(value, f"within.{name}", where) for name, value in given.items()})


def _range(given: Mapping[str, Any], where: str) -> tuple[float, float]:
    value = given.get("published")
    ends = value if isinstance(value, list) and len(value) == 2 else [value, value]
    low, high = (_number(end, "published", where) for end in ends)
    return low, high


def _keys(table: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(table, dict):
        raise UserError(f"{where} = {table!r}; allowed: a table with {', '.join(known)}")
    for key in table:
        if key not in known:
            raise UserError(f"{where}: {suggest(key, known, 'key')}")


def _tables(table: Mapping[str, Any], key: str, file: str) -> list[Any]:
    entries = table.get(key, [])
    if not isinstance(entries, list):
        raise UserError(f"{file}: {key} = {entries!r}; allowed: [[{key}]] tables")
    return entries


def _text(table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise UserError(f"{where}.{key} = {value!r}; allowed: a text")
    return value


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise UserError(f"{where}.{key} = {value!r}; allowed: a number")
    return float(value)


def _choice(
    table: Mapping[str, Any], key: str, known: Mapping[str, Any], where: str, default: str | None = None
) -> str:
    value = _text(table, key, where, default)
    if value not in known:
        raise UserError(f"{where}.{key}: {suggest(value, known)}")
    return value
