"""The release of Linux: which value a field of the table has, who may state another, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from tiergym import specs
from tiergym.errors import UserError
from tiergym.sim import parameters as p
from tiergym.sim.releases import BY_RELEASE, RELEASES, SWITCHES, defaults, version
from tiergym.specs.distributions import parse

FIELDS = {field.name: field for field in p.KERNEL}


def load(folder: Path, kernel: str = "", machine: str = "", name: str = "mine.toml") -> specs.Scenario:
    (folder / "box.toml").write_text(f"cpus = 4\n[kernel]\n{machine}\n")
    text = f"machine = 'box.toml'\n[workload]\nbase = 'sparse'\n[kernel]\n{kernel}\n"
    (folder / name).write_text(text)
    return specs.load_scenario(folder / name)


def kernel(scenario: specs.Scenario, field: str = "movable_shares_min") -> Any:
    return scenario.sections["kernel"][field]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.field)
def test_a_switch_is_a_kernel_field_whose_values_are_allowed_from_the_oldest_release_on(switch) -> None:
    assert next(iter(switch.since)) == RELEASES[0]
    assert list(switch.since) == sorted(switch.since, key=version)
    for value in switch.since.values():
        assert parse(value, FIELDS[switch.field])
        assert version(switch.needs(value)) <= version(RELEASES[-1])
    differs = len({str(defaults(version(release))[switch.field]) for release in RELEASES}) > 1
    assert differs or version(switch.others) > version(RELEASES[0]), "some release must have or lack something"


def test_releases_compare_as_numbers() -> None:
    assert version("6.1") < version("6.12") < version("6.18") < version("7.2")
    assert list(RELEASES) == sorted(RELEASES, key=version)


def test_a_release_gives_its_values_and_a_stated_field_wins(tmp_path: Path) -> None:
    assert kernel(load(tmp_path)) == "off"
    assert kernel(load(tmp_path, 'release = "6.1"')) == "on"
    assert kernel(load(tmp_path, 'release = "7.2"\nmovable_shares_min = "on"')) == "on"


def test_a_machine_s_values_stand_until_the_scenario_names_a_release(tmp_path: Path) -> None:
    machine = 'release = "6.1"\nmovable_shares_min = "on"\ndemotion = "on"'
    assert kernel(load(tmp_path, machine=machine)) == "on"
    newer = load(tmp_path, 'release = "6.12"', machine)
    assert (kernel(newer), kernel(newer, "demotion")) == ("off", "on")
    assert kernel(specs.override(load(tmp_path, machine=machine), {"kernel.release": "6.12"})) == "off"
    assert kernel(load(tmp_path, 'movable_shares_min = "on"', 'movable_shares_min = "off"')) == "on"


def test_another_release_on_top_leaves_what_the_scenario_states(tmp_path: Path) -> None:
    plain, stated = load(tmp_path), load(tmp_path, 'movable_shares_min = "off"', name="stated.toml")
    assert kernel(specs.override(plain, {"kernel.release": "6.1"})) == "on"
    twice = specs.override(specs.override(plain, {"kernel.release": "6.1"}), {"kernel.release": "7.2"})
    assert kernel(twice) == "off"
    assert kernel(specs.override(stated, {"kernel.release": "7.2"})) == "off"
    with pytest.raises(UserError, match=r"kernel\.movable_shares_min = 'off' with kernel\.release = '6\.1'"):
        specs.override(stated, {"kernel.release": "6.1"})


def test_complete_toml_leaves_to_the_release_what_is_the_release_s(tmp_path: Path) -> None:
    scenario = load(tmp_path)
    (tmp_path / "shown.toml").write_text(specs.scenario_toml(scenario))
    shown = specs.load_scenario(tmp_path / "shown.toml")
    assert shown.sections == scenario.sections
    assert kernel(specs.override(shown, {"kernel.release": "6.1"})) == "on"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('release = "6.13"', 'kernel.release = \'6.13\'; allowed: one of "6.1", "6.12", "6.18", "7.2"'),
        ("release = 6.12", "kernel.release = 6.12; allowed: one of"),
        ('release = { choice = ["6.12", "7.2"] }', "not drawn"),
        (
            'release = "6.1"\nmovable_shares_min = { choice = ["on", "off"] }',
            "with kernel.release = '6.1'; allowed: 'on', a release from 6.2 on, or no release at all",
        ),
    ],
)
def test_what_a_release_does_not_have_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value) and "mine.toml" in str(caught.value)


def test_a_machine_s_own_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"box\.toml: kernel\.movable_shares_min = 'off' with kernel\.release = '6\.1'"):
        load(tmp_path, machine='release = "6.1"\nmovable_shares_min = "off"')


def test_without_a_release_any_value_can_be_tried_alone(tmp_path: Path) -> None:
    for switch in BY_RELEASE.values():
        for value in switch.since.values():
            assert kernel(specs.override(load(tmp_path), {f"kernel.{switch.field}": value}), switch.field) == value


def test_releases_are_words_on_the_command_line() -> None:
    """6.10 is a number that reads as 6.1."""
    assert specs.read_assignments(["kernel.release=6.10"], "--set") == {"kernel.release": "6.10"}
    with pytest.raises(UserError, match=r"with --set: kernel\.release = '6\.10'; allowed: one of \"6\.1\""):
        specs.override(specs.load_scenario("sparse-1to2"), {"kernel.release": "6.10"}, "with --set")
