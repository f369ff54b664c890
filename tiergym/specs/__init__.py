"""Scenarios as TOML: a machine, its kernel configuration, a workload, events, an episode and reward weights.

`load_scenario` reads one and refuses whatever cannot be simulated before anything runs; what it returns is
data: a table of numbers and distributions that the simulator draws machines from. The presets lie in `envs/`;
a user's own file is named by its path.
"""

from tiergym.specs.assignments import assignments_text, common_changes, dotted, read_assignments
from tiergym.specs.digest import scenario_digest
from tiergym.specs.scenario import (
    Scenario,
    describe,
    list_kernels,
    list_machines,
    list_scenarios,
    list_suites,
    list_workloads,
    load_scenario,
    override,
    override_all,
    scenario_table,
    scenario_toml,
)
from tiergym.specs.suites import Suite, check_trainable, distinct, load_suite, suite_digest

__all__ = [
    "Scenario",
    "Suite",
    "assignments_text",
    "check_trainable",
    "common_changes",
    "describe",
    "distinct",
    "dotted",
    "list_kernels",
    "list_machines",
    "list_scenarios",
    "list_suites",
    "list_workloads",
    "load_scenario",
    "load_suite",
    "override",
    "override_all",
    "read_assignments",
    "scenario_digest",
    "scenario_table",
    "scenario_toml",
    "suite_digest",
]
