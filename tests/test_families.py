"""Families of scenarios, the generator that draws suites of them, and that a drawn suite is what was frozen."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.command_line import Cli
from tiergym import specs
from tiergym.errors import UserError
from tiergym.lab.freezing import freeze, peak_mib
from tiergym.paths import envs_dir
from tiergym.specs.distributions import parse
from tiergym.specs.drawing import draw
from tiergym.specs.families import AXES, catalogue, document, family_name, impossible, levels_of
from tiergym.specs.reading import SCALARS

FAMILY = "kvstore+tiering+asic+1to4+tight+boot+6.12"
DRAWN = [suite for suite in map(specs.load_suite, specs.list_suites()) if suite.draw is not None]


def suite_file(tmp_path: Path, **changes: str) -> Path:
    """The suite `test` with lines that start otherwise."""
    lines = (envs_dir() / "suites" / "test.toml").read_text().splitlines()
    path = tmp_path / "suite.toml"
    changed = [next((new for key, new in changes.items() if line.startswith(key)), line) for line in lines]
    path.write_text("\n".join(changed))
    return path


@pytest.mark.parametrize("suite", DRAWN, ids=lambda suite: suite.name)
def test_a_drawn_suite_is_what_its_draw_gives_and_was_frozen_with(suite: specs.Suite) -> None:
    assert suite.draw is not None
    assert draw(suite.draw) == sorted(suite.drawn) == [each.name for each in suite.load_all()]
    assert [each.name for each in suite.load()] == list(suite.scenarios)
    aside = set(specs.load_suite("validation").scenarios)
    assert not set(suite.scenarios) & aside and set(suite.undecided) <= aside


def test_there_are_enough_families_and_as_many_as_shipped_as_tuned() -> None:
    drawn = {name for suite in DRAWN for name in draw(suite.draw)}  # type: ignore[arg-type]
    shipped = [name for name in drawn if levels_of(name)["configuration"].startswith(("default", "quiet"))]
    assert len(drawn) >= 60
    assert len(drawn) / 3 < len(shipped) < 2 * len(drawn) / 3
    for axis in AXES:
        assert {levels_of(name)[axis] for name in drawn} == set(catalogue()[axis]), axis


def test_nothing_to_be_measured_on_is_in_train() -> None:
    trained = {name: set(specs.load_suite(name).drawn) for name in ("train", "train-wide", "train-broad")}
    for suite in DRAWN:
        assert suite.purpose == ("train" if suite.name in trained else "test")
        for name, drawn in trained.items():
            assert suite.name == name or not drawn & set(suite.drawn)
    for drawn in trained.values():
        assert {levels_of(name)["release"] for name in drawn} == {"6.1", "6.12", "6.18"}


@pytest.mark.parametrize("workload", catalogue()["workload"])
def test_a_workload_has_the_peak_that_its_machine_is_made_for(workload: str) -> None:
    assert peak_mib(workload) == pytest.approx(catalogue()["workload"][workload]["peak_mib"], rel=0.005)


def test_the_machine_fits_the_pressure_and_the_ratio() -> None:
    sections = specs.load_scenario(FAMILY).sections
    peak = catalogue()["workload"]["kvstore"]["peak_mib"]
    assert sections["machine"]["dram_mib"] == pytest.approx(peak / 1.5, abs=512)
    assert sections["machine"]["slow_mib"] == pytest.approx(4 * sections["machine"]["dram_mib"], abs=1024)
    assert sections["kernel"]["release"] == "6.12"
    assert (sections["kernel"]["demotion"], sections["kernel"]["numa_balancing"]) == ("on", "tiering")
    full = specs.load_scenario("llama+default+asic+1to1+full+boot+6.12").sections["machine"]
    assert full["dram_mib"] + full["slow_mib"] == pytest.approx(116011 / 0.92, abs=1536)


def test_each_machine_of_a_family_is_another() -> None:
    region = specs.load_scenario(FAMILY).sections["regions"][0]
    low, high = region["mib"]["uniform"]
    assert high / low == pytest.approx(1.05 / 0.95, rel=1e-6)
    field = SCALARS["machine"]["slow_latency_ns"]
    latency = parse(specs.load_scenario(FAMILY).sections["machine"][field.name], field)
    assert latency[1] < 250 < latency[2]


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({axis: st.sampled_from(sorted(catalogue()[axis])) for axis in AXES}))
def test_every_family_can_be_loaded_or_says_why_not(levels: dict[str, str]) -> None:
    name = family_name(levels)
    assert levels_of(name) == levels
    refused = ""
    try:
        scenario = specs.load_scenario(name)
    except UserError as error:
        refused = str(error)
    if refused:
        assert name in refused
        return
    assert not impossible(levels)
    assert scenario.name == name
    assert specs.scenario_digest(scenario) == specs.scenario_digest(specs.load_scenario(name))
    assert scenario.description


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kvstore+tiering", "has 2 levels; allowed: one each of workload"),
        (FAMILY.replace("kvstore", "kvstor"), "unknown workload 'kvstor'; did you mean 'kvstore'"),
        (FAMILY.replace("asic", "single"), "platform 'single' goes with ratio 'none'"),
        (FAMILY.replace("boot", "switched-on"), "course 'switched-on' goes with the configurations default"),
        (FAMILY.replace("tight", "full"), "goes with ratio '1to1'"),
        (FAMILY.replace("1to4", "1to1").replace("tight", "severe"), "leaves no room at ratio '1to1'"),
    ],
)
def test_a_family_that_cannot_be_drawn_is_refused_with_the_reason(name: str, message: str, cli: Cli) -> None:
    with pytest.raises(UserError, match="family") as error:
        document(name)
    assert message in str(error.value)
    assert cli("evaluate", "online", "--scenario", name).code == 2


def test_a_suite_whose_digest_does_not_match_is_refused(tmp_path: Path) -> None:
    path = suite_file(tmp_path)
    name = specs.load_suite(path).scenarios[0]
    path.write_text(path.read_text().replace(specs.load_suite(path).families[name], "0" * 16))
    with pytest.raises(UserError, match=f"digest .* allowed: {'0' * 16}") as error:
        specs.load_suite(path).load()
    assert name in str(error.value)


def test_freezing_writes_the_families_of_the_draw(tmp_path: Path) -> None:
    path = suite_file(tmp_path, count="count = 3", purpose='purpose = "train"')
    freeze(path)
    frozen = specs.load_suite(path)
    assert len(frozen.load_all()) == len(frozen.drawn) == 3 and frozen.purpose == "train"
    assert set(frozen.undecided) == set(frozen.drawn) & set(specs.load_suite("test").undecided)


@pytest.mark.parametrize("suite", DRAWN, ids=lambda suite: suite.name)
def test_freezing_again_keeps_what_stands_aside(tmp_path: Path, suite: specs.Suite) -> None:
    shipped = (envs_dir() / "suites" / f"{suite.name}.toml").read_text()
    (path := tmp_path / f"{suite.name}.toml").write_text(shipped)
    freeze(path)
    assert path.read_text() == shipped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"purpose": 'purpose = "fun"'}, "purpose = 'fun'; allowed: one of train, test"),
        ({"count": "count = 0"}, "draw.count = 0; allowed: a whole number from 1"),
        ({"seed": "seed = true"}, "draw.seed = True; allowed: a whole number from 0"),
        ({"workload": 'workload = ["lama"]'}, "draw.workload: unknown level 'lama'"),
        ({"release": "release = []"}, "draw.release = []; allowed: a list of levels of release, each once"),
        ({"not_in": 'not_in = ["trains"]'}, "draw.not_in = ['trains']; allowed: a list of names of suites"),
        ({"[families]": "[families]\nnothing = 'x'"}, "families: family 'nothing' has 1 levels"),
        (
            {"[draw]": "scenarios = ['llama-1to2']\n[draw]"},
            "scenarios and draw says what is in it; allowed: ",
        ),
        ({"purpose": 'plausibility = "magic"'}, "plausibility = 'magic'; allowed: one of available"),
    ],
)
def test_a_suite_that_says_nonsense_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        specs.load_suite(suite_file(tmp_path, **changes))
    assert message in str(error.value)


def test_more_families_than_there_are_are_refused(tmp_path: Path) -> None:
    few = {axis: f'{axis} = ["{levels_of(FAMILY)[axis]}"]' for axis in AXES} | {"not_in": "not_in = []"}
    suite = specs.load_suite(suite_file(tmp_path, count="count = 2", **few))
    with pytest.raises(UserError, match="count is 2; allowed: up to 1"):
        draw(suite.draw)  # type: ignore[arg-type]


def test_what_is_for_measuring_may_not_be_trained_on_under_any_name(tmp_path: Path) -> None:
    specs.check_trainable(specs.load_suite("train").load_all())
    specs.check_trainable([specs.load_scenario("llama-1to2")])
    held = specs.load_suite("test").load()[0]
    copy = tmp_path / "mine.toml"
    copy.write_text(specs.scenario_toml(held))
    for scenario in (held, specs.load_scenario(copy)):
        with pytest.raises(UserError, match="is in the suite 'test', which is for measuring") as error:
            specs.check_trainable([scenario])
        assert f"scenario '{scenario.name}'" in str(error.value)
