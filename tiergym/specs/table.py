"""The parameter table of a scenario: one row per number, in the order of a machine's record."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.layout import parameter_names
from tiergym.specs.distributions import Row, parse
from tiergym.specs.reading import REGION, Table, default_value, knob_field, may_be_setting, toml_fields

Rows = dict[str, Row]


def rows_of(values: Table, fields: tuple[p.Field, ...]) -> Rows:
    """Row of each of a table's fields, by TOML name; the default's where the table has none."""
    by_name = toml_fields(fields)
    return {name: parse(values.get(name, default_value(field)), field) for name, field in by_name.items()}


def section_rows(sections: Table) -> dict[str, Rows]:
    """Rows of the scalar sections."""
    return {section: rows_of(sections[section], fields) for section, fields in p.SCALAR_SECTIONS}


def entry_rows(sections: Table) -> dict[str, list[Rows]]:
    """Rows of the processes, regions, pools and events that the scenario has, in order."""
    index = {process["name"]: float(i) for i, process in enumerate(sections["processes"])}
    owner = REGION["process"]
    regions = [
        rows_of(region | {"process": default_value(owner)}, p.REGION)
        | {"process": parse(index[region["process"]], owner)}
        for region in sections["regions"]
    ]
    return {
        "processes": [rows_of(process, p.PROCESS) for process in sections["processes"]],
        "regions": regions,
        "pools": [rows_of(sections["pools"][pool], p.POOL) for pool in n.POOLS],
        "events": [event_rows(event) for event in sections["events"]],
    }


def event_rows(event: Table) -> Rows:
    """Rows of an event; the value of a setting is spelled as its field of [kernel]."""
    if not may_be_setting(event):
        return rows_of(event, p.EVENT)
    rows = rows_of(event | {"value": 0}, p.EVENT)
    return rows | {"value": parse(event["value"], knob_field(event["knob"]))}


def build_table(sections: Table, regions: int) -> NDArray[np.float64]:
    """The table, shape (parameters, ROW), at a size class of `regions` region slots.

    Slots that the scenario does not use hold the fields' defaults, and no share of the work. Raises
    `ValueError` if the regions do not fit.
    """
    if len(sections["regions"]) > regions:
        raise ValueError(f"{len(sections['regions'])} regions do not fit into {regions} slots")
    rows = [row for section in section_rows(sections).values() for row in section.values()]
    entries = entry_rows(sections)
    slots = {"processes": p.N_PROCESSES, "regions": regions, "pools": n.N_POOLS, "events": p.N_EVENTS}
    for section, _, fields in p.REPEATED_SECTIONS:
        unused = rows_of(_UNUSED.get(section, {}), fields)
        filled = entries[section] + [unused] * (slots[section] - len(entries[section]))
        rows += [slot[name] for name in toml_fields(fields) for slot in filled]
    table = np.array(rows, dtype=np.float64)
    assert table.shape == (len(parameter_names(regions)), p.ROW)
    return table


_UNUSED: dict[str, dict[str, Any]] = {"processes": {"work_share": 0}}
