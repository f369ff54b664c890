"""Scenarios as TOML: a machine, its kernel configuration, a workload, events, an episode and reward weights.

`load_scenario` reads one and refuses whatever cannot be simulated before anything runs; what it returns is
data: a table of numbers and distributions that the simulator draws machines from. The presets lie in `envs/`;
a user's own file is named by its path.
"""

from tiergym.specs.assignments import assignments_text, common_changes, dotted, read_assignments
from tiergym.specs.scenario import (
    Scenario,
    describe,
    list_machines,
    list_scenarios,
    list_suites,
    list_workloads,
    load_scenario,
    load_suite,
    override,
    scenario_table,
    scenario_toml,
)

__all__ = [
    "Scenario",
    "assignments_text",
    "common_changes",
    "describe",
    "dotted",
    "list_machines",
    "list_scenarios",
    "list_suites",
    "list_workloads",
    "load_scenario",
    "load_suite",
    "override",
    "read_assignments",
    "scenario_table",
    "scenario_toml",
]
