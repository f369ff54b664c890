"""From TOML documents to one complete scenario: bases, overrides by name, defaults, and every field checked.

A scenario names a machine and a workload, or gives them as tables; a table starts from its `base`, without one
from the fields' defaults. A workload's file may have a base too. Kernel and cost settings come from the fields'
defaults, then the machine's file, then the scenario, and some of the kernel's from a release of Linux
(`tiergym.specs.kernel`). What this module returns refers to no file any more.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tiergym.errors import UserError, shown, suggest
from tiergym.files import read_toml
from tiergym.paths import envs_dir
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.layout import REGION_SIZES
from tiergym.sim.releases import RELEASE_FIELD
from tiergym.specs.distributions import parse
from tiergym.specs.kernel import check_release, settle

Table = dict[str, Any]

MAX_REGIONS = max(REGION_SIZES)
DEFAULT_PROCESS = "main"
"""The process of a workload that names none."""


def toml_fields(fields: Iterable[p.Field]) -> dict[str, p.Field]:
    """Fields by the name they have in TOML: `[weights] oom`, not `weight_oom`."""
    return {field.name.removeprefix("weight_"): field for field in fields}


SCALARS = {section: toml_fields(fields) for section, fields in p.SCALAR_SECTIONS}
SCALARS["kernel"] = {RELEASE_FIELD.name: RELEASE_FIELD, **SCALARS["kernel"]}
PROCESS, REGION, POOL, EVENT = (toml_fields(fields) for fields in (p.PROCESS, p.REGION, p.POOL, p.EVENT))
OF_REGION = {name: field for name, field in REGION.items() if name != "process"}
"""A region's fields except its owner, which TOML gives by name."""

KERNEL = "kernel"
SETTINGS = (KERNEL, "storage", "costs", "episode", "weights")
OF_MACHINE_FILES = (KERNEL, "storage", "costs")
"""Settings that a machine's file may bring along."""
WORKLOAD_TABLES = ("processes", "regions", "pools", "process", "region")


def refuse(file: str, field: str, value: Any, allowed: str) -> UserError:
    """The error of one field: which file, which field, what it says and what it may say."""
    return UserError(f"{file}: {field} = {shown(value)}; allowed: {allowed}")


def preset_path(kind: str, reference: Any, file: str, field: str, folder: Path) -> Path:
    """The file that a name in `envs/<kind>/` or a path ending in .toml, relative to `folder`, stands for."""
    if not isinstance(reference, str):
        raise refuse(file, field, reference, f"a name in envs/{kind}/, or the path of a .toml file")
    if reference.endswith(".toml"):
        return folder / reference
    known = preset_names(kind)
    if reference not in known:
        raise UserError(f"{file}: {field}: {suggest(reference, known, kind.removesuffix('s'))}")
    return envs_dir() / kind / f"{reference}.toml"


def preset_names(kind: str) -> tuple[str, ...]:
    """Names of the files in `envs/<kind>/`, sorted."""
    return tuple(sorted(path.stem for path in (envs_dir() / kind).glob("*.toml")))


def complete_sections(document: Table, file: str, folder: Path, machine_kernel: Table | None = None) -> Table:
    """The whole scenario, every field with a value, validated field by field.

    Sections: "description"; the scalar sections of `parameters.SCALAR_SECTIONS` by TOML name; "processes" and
    "regions", lists of tables with a "name" and every field; "pools", a table per pool; "events", a list; "origins",
    where the fields that depend on the release have their values from (`tiergym.specs.kernel`). `file` names the
    document in errors, `folder` is where its relative paths start; `machine_kernel` is what a machine's file said of
    [kernel] where the document has the machine without its file. Raises `UserError`.
    """
    _check_keys(document, ("description", "machine", *SETTINGS, "workload", "events"), file, "")
    machine, settings = _machine(document, file, folder)
    if machine_kernel:
        settings["kernel"] = machine_kernel
    workload = _workload_of_scenario(document, file, folder)
    given = {section: _fields(document.get(section, {}), SCALARS[section], file, section) for section in SETTINGS[1:]}
    given[KERNEL] = _kernel(document.get(KERNEL, {}), file, folder)
    kernel, origins = settle(settings.get("kernel", {}), given["kernel"], file)
    settings = {section: settings.get(section, {}) | given[section] for section in SETTINGS} | {"kernel": kernel}
    return {
        "description": _description(document, file),
        "machine": _complete(machine, SCALARS["machine"]),
        **{section: _complete(settings[section], SCALARS[section]) for section in SETTINGS},
        "workload": _complete(workload["workload"], SCALARS["workload"]),
        "processes": [{"name": name} | _complete(given, PROCESS) for name, given in workload["processes"].items()],
        "regions": [
            {"name": name, "process": given["process"]} | _complete(given, OF_REGION)
            for name, given in workload["regions"].items()
        ],
        "pools": {pool: _complete(workload["pools"].get(pool, {}), POOL) for pool in n.POOLS},
        "events": _events(document.get("events", []), kernel, file),
        "origins": origins,
    }


def _machine(document: Table, file: str, folder: Path) -> tuple[Table, Table]:
    """The machine's fields, and the settings that its file brings along."""
    given = _required(document, "machine", file)
    if isinstance(given, str):
        given = {"base": given}
    own = _fields(given, SCALARS["machine"], file, "machine", also=("base",))
    if "base" not in given:
        return own, {}
    path = preset_path("machines", given["base"], file, "machine", folder)
    base, name = read_toml(path), str(path)
    _description(base, name)
    fields = _fields(base, SCALARS["machine"], name, "", also=("description", *OF_MACHINE_FILES))
    settings = {key: _fields(base.get(key, {}), SCALARS[key], name, key) for key in OF_MACHINE_FILES}
    check_release(settings["kernel"], name)
    return fields | own, settings


def _kernel(given: Any, file: str, folder: Path) -> Table:
    """The fields of [kernel]: those of the preset that it is based on, and its own."""
    if isinstance(given, str):
        given = {"base": given}
    own = _fields(given, SCALARS[KERNEL], file, KERNEL, also=("base",))
    return kernel_preset(given["base"], file, folder) | own if "base" in given else own


def kernel_preset(base: Any, file: str, folder: Path) -> Table:
    """The fields of [kernel] in a file of `envs/kernels/`, or of one's own. Raises `UserError`."""
    path = preset_path("kernels", base, file, KERNEL, folder)
    preset, name = read_toml(path), str(path)
    _description(preset, name)
    return _fields(preset, SCALARS[KERNEL], name, "", also=("description",))


def check_preset(kind: str, path: Path) -> None:
    """Raise `UserError` where a file of "machines", "kernels" or "workloads" could not be named by a scenario.

    Fields are checked one by one; what only a whole scenario shows, as a workload too large for its machine, is not.
    """
    file = str(path)
    if kind == "machines":
        _machine({"machine": file}, file, Path())
    elif kind == KERNEL + "s":
        kernel_preset(file, file, Path())
    else:
        _based_workload({"base": file}, file, "workload", Path(), ())


def _workload_of_scenario(document: Table, file: str, folder: Path) -> Table:
    given = _required(document, "workload", file)
    if isinstance(given, str):
        given = {"base": given}
    return _based_workload(given, file, "workload", folder, ())


def _based_workload(table: Any, file: str, where: str, folder: Path, seen: tuple[Path, ...]) -> Table:
    """The table on top of its base, which may have a base itself."""
    base: Table = {"workload": {}, "processes": {}, "regions": {}, "pools": {}}
    if isinstance(table, dict) and "base" in table:
        path = preset_path("workloads", table["base"], file, _dotted(where, "base"), folder).resolve()
        if path in seen:
            raise refuse(file, _dotted(where, "base"), table["base"], "a workload that is not based on this one")
        given = read_toml(path)
        _description(given, str(path))
        base = _based_workload(given, str(path), "", path.parent, (*seen, path))
    return _workload(table, base, file, where, also=("base",) if where else ("base", "description"))


def _workload(table: Any, base: Table, file: str, where: str, also: tuple[str, ...]) -> Table:
    """`base` with the table's scalars, further processes and regions, and overrides of those it has."""
    scalars = _fields(table, SCALARS["workload"], file, where, also=(*also, *WORKLOAD_TABLES))
    processes = base["processes"] | _named(table, "processes", base["processes"], file, where, _process)
    processes = _overridden(table, "process", processes, file, where, _process) or {DEFAULT_PROCESS: {}}
    regions = base["regions"] | _named(table, "regions", base["regions"], file, where, _region)
    regions = _overridden(table, "region", regions, file, where, _region)
    for what, entries, most in (("processes", processes, p.N_PROCESSES), ("regions", regions, MAX_REGIONS)):
        if len(entries) > most:
            raise UserError(f"{file}: {_dotted(where, what)}: {len(entries)} of them; allowed: at most {most}")
    for name, region in regions.items():
        owner = region.setdefault("process", next(iter(processes)))
        if owner not in processes:
            field = _dotted(where, f"regions.{name}.process")
            raise UserError(f"{file}: {field}: {suggest(str(owner), processes, 'process')}")
    pools = table.get("pools", {})
    _check_keys(pools, n.POOLS, file, _dotted(where, "pools"))
    merged = {
        pool: base["pools"].get(pool, {}) | _fields(pools.get(pool, {}), POOL, file, _dotted(where, f"pools.{pool}"))
        for pool in n.POOLS
    }
    return {"workload": base["workload"] | scalars, "processes": processes, "regions": regions, "pools": merged}


def _process(table: Any, file: str, where: str) -> Table:
    return _fields(table, PROCESS, file, where, also=("name",))


def _region(table: Any, file: str, where: str) -> Table:
    fields = _fields(table, OF_REGION, file, where, also=("name", "process"))
    if "process" in table:
        if not isinstance(table["process"], str):
            raise refuse(file, f"{where}.process", table["process"], "the name of one of the workload's processes")
        fields["process"] = table["process"]
    return fields


def _named(
    table: Table, key: str, taken: Table, file: str, where: str, read: Callable[[Any, str, str], Table]
) -> Table:
    """The entries of an array of tables, by their name."""
    entries: Table = {}
    for i, entry in enumerate(_list(table.get(key, []), file, _dotted(where, key))):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise refuse(file, _dotted(where, f"{key}[{i}].name"), name, "ASCII letters, digits, - and _")
        if name in entries or name in taken:
            hint = "each name once; to change an inherited one write "
            raise refuse(file, _dotted(where, f"{key}[{i}].name"), name, f"{hint}[{where}.{_SINGULAR[key]}.{name}]")
        entries[name] = read(entry, file, _dotted(where, f"{key}.{name}"))
    return entries


_SINGULAR = {"processes": "process", "regions": "region"}


def _overridden(
    table: Table, key: str, entries: Table, file: str, where: str, read: Callable[[Any, str, str], Table]
) -> Table:
    """The entries with the changes of `[region.NAME]` or `[process.NAME]`."""
    changes = table.get(key, {})
    changed = {name: dict(entry) for name, entry in entries.items()}
    _check_keys(changes, tuple(entries), file, _dotted(where, key), what=key)
    for name, change in changes.items():
        changed[name] |= read(change, file, _dotted(where, f"{key}.{name}"))
    return changed


def knob_field(knob: str) -> p.Field:
    """The field of [kernel] that an event of the kind sysctl changes."""
    return SCALARS["kernel"][knob]


def may_be_setting(event: Table) -> bool:
    """Whether the event's kind is sysctl, or may be drawn so."""
    kind = event["kind"]
    return kind == "sysctl" or (isinstance(kind, dict) and "sysctl" in kind["choice"])


def _events(entries: Any, kernel: Table, file: str) -> list[Table]:
    """Events with all their fields; of a setting, `value` is what its field of [kernel] may be on this release."""
    events = []
    others = {name: field for name, field in EVENT.items() if name != "value"}
    for i, entry in enumerate(_list(entries, file, "events")):
        where = f"events[{i}]"
        event = _complete(_fields(entry, others, file, where, also=("value",)), others)
        if may_be_setting(event):
            _check_setting(entry, event, kernel, file, where)
        else:
            for name in ("knob", "value"):
                if entry.get(name, default_value(EVENT[name])) != default_value(EVENT[name]):
                    raise refuse(file, f"{where}.{name}", entry[name], 'nothing; only kind = "sysctl" has it')
        events.append(event | {"value": entry.get("value", default_value(EVENT["value"]))})
    if len(events) > p.N_EVENTS:
        raise UserError(f"{file}: events: {len(events)} of them; allowed: at most {p.N_EVENTS}")
    return events


def _check_setting(entry: Table, event: Table, kernel: Table, file: str, where: str) -> None:
    """Raise `UserError` unless the event names a knob and a value that it may have on this release."""
    knob = event["knob"]
    for name in ("knob", "value"):
        if name not in entry:
            raise UserError(f'{file}: {where}.{name} is missing; allowed: an event of kind = "sysctl" with a {name}')
    if not isinstance(knob, str):
        raise refuse(file, f"{where}.knob", knob, "a name, not drawn; draw the value")
    try:
        parse(entry["value"], knob_field(knob))
    except ValueError as error:
        raise refuse(file, f"{where}.value", entry["value"], f"for {knob}: {error}") from None
    check_release({RELEASE_FIELD.name: kernel[RELEASE_FIELD.name], knob: entry["value"]}, f"{file}: {where}")


def _fields(table: Any, fields: Mapping[str, p.Field], file: str, where: str, also: tuple[str, ...] = ()) -> Table:
    """The table's own values of `fields`, each checked; keys outside `fields` and `also` are refused."""
    _check_keys(table, (*fields, *also), file, where)
    given = {key: value for key, value in table.items() if key in fields}
    for key, value in given.items():
        try:
            parse(value, fields[key])
        except ValueError as error:
            raise refuse(file, _dotted(where, key), value, str(error)) from None
    return given


def _complete(given: Table, fields: Mapping[str, p.Field]) -> Table:
    return {name: given.get(name, default_value(field)) for name, field in fields.items()}


def default_value(field: p.Field) -> Any:
    """A field's default as TOML would spell it."""
    if field.choices:
        return field.choices[int(field.default)]
    return int(field.default) if float(field.default).is_integer() else field.default


def _check_keys(table: Any, known: tuple[str, ...], file: str, where: str, what: str = "key") -> None:
    if not isinstance(table, dict):
        raise refuse(file, where, table, "a table")
    for key in table:
        if key not in known:
            raise UserError(f"{file}: {where + ': ' if where else ''}{suggest(key, known, what)}")


def _required(document: Table, key: str, file: str) -> Any:
    if key not in document:
        raise UserError(f'{file}: {key} is missing; allowed: {key} = "name" or a [{key}] table')
    return document[key]


def _description(document: Table, file: str) -> str:
    description = document.get("description", "")
    if not isinstance(description, str):
        raise refuse(file, "description", description, "a string")
    return description


def _list(value: Any, file: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise refuse(file, where, value, f"an array of tables, [[{where}]]")
    return value


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
