"""Axes, named modes, tables and pictures that an experiment's file asks for, on comparisons made for them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.places import ROOT
from tests.short_runs import write_short_scenario
from tiergym.errors import UserError
from tiergym.files import read_toml
from tiergym.lab.compare import Comparison
from tiergym.lab.experiment import Experiment, load_experiment, make_experiment
from tiergym.lab.experiment_fields import FIELDS as EXPERIMENT_FIELDS
from tiergym.lab.experiment_run import resume_experiment, run_experiment
from tiergym.lab.metrics import NAMES
from tiergym.lab.view_pictures import write_png
from tiergym.lab.view_tables import Cell, MadeTable, make_table
from tiergym.lab.views import FIELDS, KINDS, View, make_view

PNG = b"\x89PNG"
QUIET = Console(quiet=True)
AXES = {"scenario": ["a", "b"], "release": ["6.12", "7.2"], "latency": ["150ns", "250ns"]}
POLICIES = ("online", "restrict", "soft", "move")
GRID = """
description = "d"
scenarios = ["short.toml"]
policies = ["online", "leaf"]
episodes = 2
[modes.leaf]
place.pt_leaf = "restrict"
[modes.stacks]
place.kstack = "restrict"
[axes.demotion]
on = { kernel.demotion = "on" }
off = { kernel.demotion = "off" }
[axes.swap]
none = { kernel.swap_mib = 0 }
some = { kernel.swap_mib = 64, storage.disk = "sata" }
[tables.gain]
against = "online"
columns = "swap"
[picture]
kind = "causes"
"""


def experiment(text: str) -> Experiment:
    return make_experiment("mine", tomllib.loads(text), "mine.toml")


def comparison(**throughput: list[float]) -> Comparison:
    """Policies that differ in the throughput of their episodes, and all else 0."""
    values = {
        policy: {name: np.array([means]) if name == "throughput" else np.zeros((1, len(means))) for name in NAMES}
        for policy, means in throughput.items()
    }
    return Comparison("a", 1, len(next(iter(throughput.values()))), values)


def cells(*comparisons: Comparison) -> list[Cell]:
    """A comparison for each latency on 6.12, then on 7.2, of scenario a."""
    places = [(release, latency) for release in AXES["release"] for latency in AXES["latency"]]
    at = [{"scenario": "a", "release": release, "latency": latency} for release, latency in places]
    return [Cell(where, each) for where, each in zip(at, comparisons, strict=False)]


def view(**fields: Any) -> View:
    return make_view(fields, "mine", "table", POLICIES, AXES, picture=True)


def table(made: list[Cell], **fields: Any) -> MadeTable:
    return make_table(view(**fields), made, AXES)


SAME = {"online": [0.5, 0.7], "restrict": [0.6, 0.9], "soft": [0.6, 0.9], "move": [0.4, 0.6]}


def test_axes_are_every_combination_with_the_fields_of_both():
    variants = experiment(GRID).all_variants()
    assert list(variants) == ["on+none", "on+some", "off+none", "off+some"]
    at, changes = variants["off+some"]
    assert at == {"demotion": "off", "swap": "some"}
    assert changes == {"kernel.demotion": "off", "kernel.swap_mib": 64, "storage.disk": "sata"}


def test_policies_of_named_modes_that_are_not_named_come_last():
    loaded = experiment(GRID)
    assert loaded.policies == ("online", "leaf", "stacks")
    assert list(loaded.load_policies()) == ["online", "leaf", "stacks"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("some = {", "some = { kernel.demotion = 'on',", "axes.swap changes kernel.demotion, as axes.demotion does"),
        ("[tables.gain]", "[variants.x]\n[tables.gain]", "variants and axes; allowed: one of the two"),
        ("[axes.swap]", "[axes.policy]", "not scenario, policy or variant"),
        ("[axes.swap]", "[axes.'a b']", "whose names are ASCII letters"),
        ("[modes.stacks]", "[modes.soft]", "modes.soft has the name of a baseline"),
        ('place.kstack = "restrict"', 'place.kstak = "restrict"', "did you mean 'place.kstack'"),
        ('place.kstack = "restrict"', 'place.kstack = "restrct"', "did you mean 'restrict'"),
        (
            'columns = "swap"',
            'columns = "swop"',
            "tables.gain.columns is 'swop'; allowed: one of scenario, demotion, swap",
        ),
        ('columns = "swap"', 'column = "swap"', "did you mean 'columns'"),
        ('columns = "swap"', 'kind = "lines"', "unknown field 'kind'"),
        ('columns = "swap"', 'only = { swap = ["much"] }', "allowed: values of axes"),
        ('against = "online"', 'against = "soft"', "allowed: one of online, leaf, stacks"),
        ('against = "online"', 'metrics = ["troughput"]', "docs/reference/metrics.md"),
        ('against = "online"', 'shown = "runtime"', "allowed: with against"),
        ('kind = "causes"', 'kind = "pie"', "picture.kind is 'pie'; allowed: one of lines"),
        ('kind = "causes"', 'kind = "map"', "allowed: map with winner, columns, rows"),
        ('kind = "causes"', 'kind = "scatter"', "allowed: scatter with two metrics"),
    ],
)
def test_a_bad_grid_or_view_is_refused_with_what_is_allowed(before: str, after: str, message: str):
    assert before in GRID
    with pytest.raises(UserError, match=re.escape(message)):
        experiment(GRID.replace(before, after, 1))


def test_a_run_writes_its_tables_and_picture_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_short_scenario(tmp_path)
    (tmp_path / "mine.toml").write_text(GRID)
    out = run_experiment(load_experiment("mine.toml"), tmp_path / "out", QUIET)
    text = (out / "tables.md").read_text()
    assert text.splitlines()[2] == "| demotion | policy | none | some |"
    assert (out / "picture.png").read_bytes()[:4] == PNG
    assert not (out / "variants.png").exists()
    assert {"short@on+none", "short@off+some"} <= {path.name for path in out.iterdir()}
    assert read_toml(out / "experiment.toml")["axes"]["swap"]["some"]["storage.disk"] == "sata"
    (out / "tables.md").unlink()
    resume_experiment(out, QUIET)
    assert (out / "tables.md").read_text() == text


def test_named_modes_act_as_the_same_modes_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    modes = '[modes.mine]\nplace.pt_leaf = "restrict"\nplace.pt_upper = "restrict"\n'
    text = (
        f'description = "d"\nscenarios = ["phases-1to2"]\npolicies = ["online", "restrict_pt"]\nepisodes = 1\n{modes}'
    )
    loaded = experiment(text + "[set]\nepisode.horizon_s = 20\n[tables.all]\n")
    out = run_experiment(loaded, tmp_path / "out", QUIET)
    rows = (out / "tables.md").read_text().splitlines()[4:6]
    assert rows[1].startswith("| `restrict_pt`, `mine` |")
    assert rows[0].split("|")[2] != rows[1].split("|")[2]


def test_differences_are_paired_and_in_percent():
    made = table(cells(comparison(**SAME)), against="online")
    assert made.rows == (
        ("`online`", "60.00 ± 10.00"),
        ("`restrict`, `soft`", "+15.00 ± 5.00"),  # +0.1 and +0.2
        ("`move`", "-10.00"),  # by as much in both episodes
    )


def test_policies_share_a_row_only_when_every_metric_is_the_same():
    one = comparison(**SAME)
    one.values["soft"]["oom_kills"] = np.array([[0.0, 1e-12]])
    names = [row[0] for row in table(cells(one)).rows]
    assert names == ["`online`", "`restrict`", "`soft`", "`move`"]
    equal = comparison(**{policy: [0.5, 0.7] for policy in POLICIES})
    assert [row[0] for row in table(cells(equal)).rows] == ["all 4"]


def test_rows_that_read_the_same_on_two_releases_are_one():
    slower = {policy: [x - 0.1 for x in values] for policy, values in SAME.items()}
    made = table(cells(*(comparison(**each) for each in (SAME, SAME, SAME, SAME))), columns="latency")
    assert [row[0] for row in made.rows] == ["6.12, 7.2"] * 3
    made = table(cells(*(comparison(**each) for each in (SAME, SAME, SAME, slower))), columns="latency")
    assert {row[0] for row in made.rows} == {"6.12", "7.2"}


def test_only_what_is_asked_for_is_shown():
    made = table(cells(*(comparison(**SAME) for _ in range(4))), only={"release": ["7.2"], "latency": ["150ns"]})
    assert made.headings == ("policy", "throughput, %")
    assert len(made.rows) == 3


def test_pages_are_shown_as_mib_and_nothing_as_zero():
    one = comparison(**SAME)
    one.values["move"]["migrated_pages"] = np.array([[256.0 * 30, 256.0 * 30]])
    made = table(cells(one), metrics=["migrated_pages", "oom_kills"], policies=["online", "move"])
    assert made.headings == ("policy", "migrated, MiB", "oom kills")
    assert made.rows == (("`online`", "0", "0"), ("`move`", "30", "0"))


def test_cost_per_mib_is_time_lost_over_what_lies_on_the_slow_tier_more():
    one = comparison(online=[0.9, 0.9], move=[0.8, 0.8], soft=[0.9, 0.9], restrict=[0.9, 0.9])
    one.values["online"]["slow_kernel_pages"] = np.array([[256.0, 256.0]])
    one.values["move"]["slow_kernel_pages"] = np.array([[256.0 * 11, 256.0 * 11]])
    made = table(cells(one, one), against="online", shown="per_mib", columns="latency")
    assert made.rows == (("`move`", "10,000", "10,000"),)  # a tenth of the time, over 10 MiB; others have no page more


def test_the_run_time_changes_as_throughput_s_inverse():
    one = comparison(online=[0.8], restrict=[1.0], soft=[0.8], move=[0.4])
    made = table(cells(one), against="online", shown="runtime")
    assert made.rows == (("`online`, `soft`", "80.00"), ("`restrict`", "-20.00"), ("`move`", "+100.00"))


WINNER = {"neither": ["online"], "restrict": ["restrict", "soft"], "migrate": ["move"]}


@pytest.mark.parametrize(
    ("throughput", "cell"),
    [
        ({"online": [0.5], "restrict": [0.6], "soft": [0.62], "move": [0.55]}, "`soft` +12.00 (7.00)"),
        ({"online": [0.5], "restrict": [0.6], "soft": [0.6001], "move": [0.55]}, "`restrict` +10.00 (5.00)"),
        ({"online": [0.5], "restrict": [0.6], "soft": [0.6], "move": [0.6001]}, "`restrict` +10.00 (even)"),
        ({"online": [0.5], "restrict": [0.4], "soft": [0.4], "move": [0.45]}, "`online` (5.00)"),
        ({"online": [0.5], "restrict": [0.4], "soft": [0.4], "move": [0.9]}, "`move` +40.00 (40.00)"),
    ],
)
def test_the_winner_is_the_best_of_the_best_group_and_the_first_of_even_ones(throughput: Any, cell: str):
    one = comparison(**throughput)
    made = table(cells(one, one), against="online", columns="latency", winner=WINNER)
    assert made.rows == ((cell, cell),)


def test_a_lead_that_chance_could_make_is_none():
    one = comparison(online=[0.5] * 4, restrict=[0.6, 0.8, 0.6, 0.8], soft=[0.5] * 4, move=[0.8, 0.6, 0.79, 0.6])
    assert "even" in table(cells(one), against="online", columns="latency", winner=WINNER).rows[0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_drawn(kind: str, tmp_path: Path):
    made = cells(*(comparison(**SAME) for _ in range(4)))
    for one in made:
        for values in one.comparison.values.values():
            values["lost_page_tables"] = np.array([[0.1, 0.2]])
    more: dict[str, Any] = {
        "lines": {"columns": "latency"},
        "map": {"columns": "latency", "rows": "release", "winner": WINNER, "against": "online"},
        "scatter": {"metrics": ["oom_kills", "throughput"]},
    }
    write_png(tmp_path / "p.png", view(kind=kind, **more.get(kind, {})), made, AXES)
    drawn = (tmp_path / "p.png").read_bytes()
    assert drawn[:4] == PNG
    assert len(drawn) > 8000


def test_every_field_stands_in_the_reference():
    known = {"title", "policies", *(name for name in View.__slots__)}
    assert set(FIELDS) == known
    assert set(EXPERIMENT_FIELDS) == set(Experiment.__slots__) - {"name"}


QUESTIONS = sorted(path.stem for path in (ROOT / "docs" / "questions").glob("*.md"))


def test_every_question_has_an_experiment_a_picture_and_is_made_anew_with_the_others():
    makefile = re.search(r"(?m)^QUESTIONS \?= (.*)$", (ROOT / "Makefile").read_text())
    assert makefile is not None
    assert sorted(makefile[1].split()) == QUESTIONS
    index = (ROOT / "docs" / "questions.md").read_text()
    for name in QUESTIONS:
        assert f"(questions/{name}.md)" in index
        assert (ROOT / "docs" / "questions" / f"{name}.png").read_bytes()[:4] == PNG
        asked = load_experiment(name)
        assert asked.views()[1] is not None
        assert asked.axes["release"] == {r: {"kernel.release": r} for r in ("6.12", "7.2")}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_s_page_has_the_tables_that_its_experiment_asks_for(name: str):
    asked, text = load_experiment(name), (ROOT / "docs" / "questions" / f"{name}.md").read_text()
    match = re.search(r"(?s)<!-- results -->\n(.*)<!-- /results -->", text)
    assert match is not None
    assert re.findall(r"(?m)^\*\*(.*)\*\*$", match[1]) == [each.title for each in asked.views()[0]]
    assert match[1].count(f"{asked.episodes} episodes each, seed {asked.seed}.") == len(asked.tables)
