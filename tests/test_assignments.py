"""Single fields changed without a file: how they are spelled, and that scenarios keep them beside their names."""

from pathlib import Path
from typing import Any

import pytest

from tiergym import specs
from tiergym.errors import UserError


def test_overrides_are_kept_beside_the_name_and_add_up(tmp_path: Path) -> None:
    scenario = specs.load_scenario("sparse-1to2")
    first = specs.override(scenario, {"kernel.demotion": "on", "machine.cpus": 4})
    second = specs.override(first, {"machine.cpus": 8})
    assert (scenario.changes, second.changes) == ({}, {"kernel.demotion": "on", "machine.cpus": 8})
    text = specs.scenario_toml(second)
    assert text.startswith('# sparse-1to2 with kernel.demotion = "on", machine.cpus = 8\n')
    (tmp_path / "mine.toml").write_text(text)
    assert specs.load_scenario(tmp_path / "mine.toml").sections == second.sections


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("kernel.demotion=on", "on"),
        ('kernel.demotion = "on"', "on"),
        ("machine.cpus=4", 4),
        ("kernel.lru_window_s=2.5", 2.5),
        ("kernel.demotion={choice=['on','off']}", {"choice": ["on", "off"]}),
        ("machine.slow_latency_ns={ uniform = [180, 400] }", {"uniform": [180, 400]}),
        ("workload.region.kv.kind=file_ro", "file_ro"),
    ],
)
def test_assignments_are_toml_and_bare_words(text: str, value: Any) -> None:
    field = text.partition("=")[0].strip()
    assert specs.read_assignments([text], "--set") == {field: value}


@pytest.mark.parametrize(
    "text", ["kernel=on", "demotion=on", "kernel.=1", "kernel.demotion", "kernel.a=", "kernel.a=b c", "kernel.a=1\nb=2"]
)
def test_an_assignment_that_is_none_is_refused_with_its_option(text: str) -> None:
    with pytest.raises(UserError, match=r"^--set kernel|^--set demotion"):
        specs.read_assignments([text], "--set")
