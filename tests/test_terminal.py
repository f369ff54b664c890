"""What a person reads at 80 and 120 columns, what a program gets as JSON, and what a wrong name is told."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from tests.command_line import Cli, Done
from tests.places import ROOT
from tests.refusals import assert_refused
from tests.short_runs import write_short_scenario
from tests.strangers import experiment, write
from tests.tiny_training import small
from tiergym import specs
from tiergym.cli.app import app
from tiergym.env.actions import ENTRIES
from tiergym.lab import run_dir
from tiergym.lab.metrics import NAMES
from tiergym.lab.recipe import list_recipes
from tiergym.policy.load import list_policies
from tiergym.terminal import FittedTable, first_clause, new_table

WIDTHS = (80, 120)
FITTED = ROOT / "experiments/evidence/fitted/a_llama_anon_on"
FAMILY = "kvstore+tiering+asic+1to4+tight+boot+6.12"
LONG = "a-scenario_whose-name-is_as-long-as-a-familys"
POLICIES = ("online", "restrict", "migrate_headroom", "online_movable")


def paths_of(command: Any, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every command, with those of groups."""
    yield before
    for name, below in getattr(command, "commands", {}).items():
        yield from paths_of(below, *before, name)


PATHS = sorted(paths_of(typer.main.get_command(app)))


@pytest.fixture
def suite_toml(short_toml: Path, tmp_path: Path) -> str:
    """A user's suite of two short scenarios, one with a name as long as a family's."""
    (tmp_path / f"{LONG}.toml").write_text(short_toml.read_text())
    (tmp_path / "both.toml").write_text(f'description = "d"\nscenarios = ["{short_toml}", "{LONG}.toml"]\n')
    return "both.toml"


def assert_readable(text: str, width: int, *names: str) -> None:
    """Nothing is wider than the terminal, nothing was cut, and every name is whole."""
    wide = [line for line in text.splitlines() if len(line.rstrip()) > width]
    assert not wide, wide[:3]
    assert "…" not in text
    words = set(re.split(r"[\s,:;]+", text))
    assert not set(names) - words, set(names) - words


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_of_every_command_fits(cli: Cli, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    page = cli(*path, "--help")
    assert page.code == 0
    assert_readable(page.out, width, "--help", "--quiet")
    prose = [line.strip() for line in page.out.partition("╭")[0].splitlines()]
    for line, following in pairwise(prose):  # a line ends where the next word has no room, or a paragraph does
        first = following.partition(" ")[0]
        assert not line or not first or len(f" {line} {first} ") > width, (line, following)


@pytest.mark.parametrize("width", WIDTHS)
def test_lists_fit(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    presets = (specs.list_machines(), specs.list_workloads(), specs.list_scenarios(), specs.list_suites())
    for wide in ((), ("--wide",)):
        assert_readable(cli("scenarios", *wide).out, width, *(name for names in presets for name in names))
        assert_readable(cli("agents", *wide).out, width, *list_policies(), *list_recipes())
    assert_readable(cli("scenarios", "--kind", "families").out, width, "connection_burst", "switched-off")
    assert_readable(cli("doctor").out, width, "packages", "simulator", "gymnasium")
    for name in (*list_policies(), *list_recipes()):
        shown = cli("agents", "show", name)
        assert shown.code == 0 and f" {name} " in f" {shown.out} "
    assert_readable(cli("agents", "show", "restrict").out.partition("file:")[0], width, "place.slab_unreclaim")


@pytest.mark.parametrize("width", WIDTHS)
def test_measurements_fit(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, short_toml: Path, suite_toml: str, tmp_path: Path, width: int
):
    monkeypatch.setenv("COLUMNS", str(width))
    few = ("--episodes", 1, "--json", "result.json")
    named = ("--policies", ",".join(POLICIES))
    compare = ("compare", *named, "--scenario", short_toml, *few)
    matrix = ("matrix", "--suite", suite_toml, *named, *few)
    leaderboard = ("leaderboard", suite_toml, *named, "--against", "restrict", "--out", "board", *few)
    ladder = ("ladder", suite_toml, "--tuning", "tuning.toml", "--rounds", 1, "--out", "steps", *few)
    (tmp_path / "tuning.toml").write_text(f'description = "d"\npurpose = "train"\nscenarios = ["{short_toml}"]\n')
    both = ("short", LONG)

    def read(*args: object) -> str:
        done = cli(*args)
        assert done.code == 0, done.err
        return done.out

    entries = [entry.name for entry in ENTRIES]
    assert_readable(read("evaluate", "migrate_headroom", "--scenario", f"{LONG}.toml", *few), width, LONG, "return")
    assert_readable(read("evaluate", "restrict", "--scenario", short_toml, *few, "--wide"), width, *NAMES, *entries)
    short = read(*compare)
    assert_readable(short, width, *POLICIES, "return", "throughput", "place.slab_unreclaim")
    assert "page tables" not in short
    assert_readable(read(*compare, "--wide"), width, *POLICIES, "contention")
    assert_readable(read(*matrix), width, *both, "online_movable")
    assert_readable(read(*matrix, "--wide"), width, *both, *POLICIES)
    assert_readable(read(*leaderboard), width, *POLICIES)
    assert_readable(read("verify", "result.json", "--policy", "restrict"), width, "restrict")
    assert_readable(read(*ladder), width, *both, "headroom")
    assert_readable(read(*ladder, "--wide"), width, *both, "headroom")
    stability = read(
        "stability", suite_toml, "--policies", ",".join(POLICIES), "--draws", 2, "--out", "stability", *few
    )
    assert_readable(stability, width, *POLICIES, "releases")
    assert_readable(read("networks", suite_toml, "--count", 4, "--out", "networks"), width, *both, "better")
    bound = read("bound", "--scenario", short_toml, "--rounds", 1, *few)
    assert_readable(bound, width, *{"online", "restrict", "migrate_headroom"})


@pytest.mark.parametrize("width", WIDTHS)
def test_validation_fits(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    assert_readable(cli("validate", "recordings", FITTED).out, width, "a_llama_anon_on")
    assert_readable(cli("validate", "marks").out, width, "Normal")
    assert_readable(cli("show", "restrict", "--episode", 0).out, width, "restrict")


def test_a_table_that_is_too_wide_is_split_by_columns():
    table = new_table("title", "caption")
    table.add_column("name", no_wrap=True)
    for column in ("first", "second", "third"):
        table.add_column(column, justify="right")
    table.add_row("a_long_name_here", "1.0 ± 0.5", "2.0 ± 0.5", "3.0 ± 0.5")
    table.add_row("another", "10", "20", "30", style="bold")

    def lines(width: int) -> list[str]:
        console = Console(width=width, file=None)
        with console.capture() as seen:
            console.print(table)
        return [line.rstrip() for line in seen.get().splitlines() if line.strip()]

    assert [line for line in lines(60) if "another" in line] == [" another                  10         20         30"]
    split = lines(44)
    assert [line.split() for line in split if "name" in line][0::2] == [["name", "first", "second"], ["name", "third"]]
    assert [line.split() for line in split if "another" in line] == [["another", "10", "20"], ["another", "30"]]
    assert (split[0], split[-1]) == ("title", "caption")
    assert isinstance(table, FittedTable) and max(map(len, lines(12))) <= 12


def test_prose_takes_what_numbers_leave():
    table = new_table("t")
    table.add_column("name", no_wrap=True)
    table.add_column("text")
    table.add_column("number", justify="right")
    table.add_row("a", "word " * 30, "1234567.8")
    console = Console(width=70)
    with console.capture() as seen:
        console.print(table)
    rows = seen.get().splitlines()
    assert max(map(len, rows)) == 70 and sum("word" in row for row in rows) == 3
    assert not re.search(r"wor\s*$|^\s*(?:d|rd|ord) ", seen.get(), re.M)


def test_a_short_description_ends_where_its_clause_does():
    assert first_clause("Policy (a et al. 2021; b: c): does it. And more.") == "Policy (a et al. 2021; b: c)"
    assert first_clause("No clause.") == "No clause"


JSON_COMMANDS: dict[tuple[str, ...], str] = {
    ("scenarios",): "scenarios",
    ("scenarios", "--kind", "families"): "families",
    ("scenarios", "show", "llama-1to2"): "content",
    ("scenarios", "show", "train"): "content",
    ("agents",): "policies",
    ("agents", "show", "restrict"): "modes",
    ("agents", "show", "ppo"): "recipe",
    ("doctor",): "checks",
    ("validate", "marks"): "zones",
    ("evaluate", "online", "--scenario", "short.toml", "--episodes", "1"): "policies",
    ("compare", "--policies", "online,soft", "--scenario", "short.toml", "--episodes", "1"): "policies",
    ("matrix", "--scenarios", "short.toml", "--policies", "online", "--episodes", "1"): "scenarios",
    ("bound", "--scenario", "short.toml", "--rounds", "1", "--episodes", "1", "--out", "plan.json"): "plan",
    ("networks", "both.toml", "--count", "3", "--out", "networks"): "suites",
    (
        *("stability", "both.toml", "--policies", "online,soft,restrict,reserve", "--draws", "1"),
        *("--episodes", "1", "--out", "s"),
    ): "kept",
    (
        "leaderboard",
        "both.toml",
        "--policies",
        "online",
        "--against",
        "online",
        "--out",
        "b",
        "--episodes",
        "1",
    ): "rows",
    ("validate", "recordings", str(FITTED)): "runs",
    ("workload", "from-recording", str(FITTED), "--out", "w.toml"): "workload",
    ("show", "online", "--scenario", "short.toml"): "policies",
}


@pytest.mark.parametrize("args", JSON_COMMANDS, ids=" ".join)
def test_json_alone_is_on_stdout_and_is_what_a_file_gets(
    cli: Cli, suite_toml: str, tmp_path: Path, args: tuple[str, ...]
):
    alone = cli(*args, "--json")
    assert alone.code == 0, alone.err
    document = json.loads(alone.out)
    assert next(iter(document)) == "schema" and JSON_COMMANDS[args] in document
    (tmp_path / "plan.json").unlink(missing_ok=True)
    beside = cli(*args, "--json", "deep/file.json")
    assert beside.code == 0, beside.err
    assert "{" not in beside.out[:1]
    in_file = json.loads((tmp_path / "deep/file.json").read_text())
    assert list(in_file) == list(document)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stranger_s_text_gives_the_terminal_no_orders(
    terminal: bool, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Colours of our own remain; a title that would clear the screen is text."""
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    write_short_scenario(tmp_path)
    title = '[tables.gain]\ntitle = "a\\u001b[2Jb\\u009b2Jc"\n'
    name = write(tmp_path / "e.toml", experiment(f'policies = ["online", "restrict"]\n{title}'))
    done = cli("run", name, "--out", "out")
    assert done.code == 0, done.err
    assert "a?[2Jb?2Jc" in done.out and "\x1b[2J" not in done.out and ("\x1b[" in done.out) == terminal


def test_quiet_leaves_results_alone(cli: Cli, suite_toml: str):
    args = ("networks", suite_toml, "--count", 3, "--out")
    loud, quiet = cli(*args, "loud"), cli(*args, "quiet", "--quiet")
    assert loud.out == quiet.out
    assert "networks: short" in loud.err and quiet.err == ""


def test_quiet_leaves_warnings_and_errors(cli: Cli):
    assert_refused(cli("evaluate", "onlin", "--quiet"), "did you mean 'online'")


WRONG_KINDS = {
    "evaluate online --scenario workload.toml": ("that is a workload", 'workload = "workload.toml"'),
    "evaluate online --scenario machine.toml": ("that is a machine", 'machine = "machine.toml"'),
    "evaluate online --scenario both.toml": ("that is a suite", "tiergym matrix --suite both.toml"),
    "evaluate online --scenario kvstore": ("that is a workload", 'workload = "kvstore"'),
    "evaluate online --scenario restrict": ("that is a policy", "tiergym evaluate restrict"),
    "evaluate online --scenario ppo": ("that is a recipe", "tiergym train --agent ppo"),
    "compare --policies online,short.toml": ("that is a scenario", "--scenario short.toml"),
    "compare --policies online,workload.toml": ("that is a workload",),
    "compare --policies llama-1to2": ("that is a scenario",),
    "evaluate results.json": ("that is a file of results", "tiergym verify results.json"),
    "matrix --suite short.toml": ("that is a scenario",),
    "matrix --suite llama-1to2": ("that is a scenario",),
    "matrix --scenarios train": ("that is a suite",),
    "leaderboard short.toml --out o": ("that is a scenario",),
    "networks ppo --out o": ("that is a recipe",),
    "ladder workload.toml --out o": ("that is a workload",),
    "show train": ("that is a suite",),
    "advise --policy train --seconds 1": ("that is a suite",),
    "bound --scenario train": ("that is a suite",),
    "scenarios show restrict": ("that is a policy",),
    "agents show train": ("that is a suite",),
    "agents show onlin": ("did you mean 'online'",),
    "scenarios show lama": ("did you mean 'llama'",),
    "scenarios show kvstore --set kernel.demotion=on": ("allowed: with a scenario",),
    "evaluate run --scenario recording": ("unknown scenario",),
}


@pytest.mark.parametrize("args", WRONG_KINDS)
def test_what_is_of_another_kind_is_told_and_how_to_use_it(cli: Cli, suite_toml: str, tmp_path: Path, args: str):
    (tmp_path / "workload.toml").write_text(cli("scenarios", "show", "kvstore").out)
    (tmp_path / "machine.toml").write_text(cli("scenarios", "show", "spr_cxl_asic").out)
    (tmp_path / "results.json").write_text('{"schema": 1, "model": "x", "policies": {}}')
    assert_refused(cli(*args.split()), *WRONG_KINDS[args])


def test_presets_of_every_kind_are_shown_and_work_as_files(cli: Cli, tmp_path: Path):
    for kind, name in (("workload", "kvstore"), ("machine", "spr_cxl_asic")):
        (tmp_path / f"{kind}.toml").write_text(cli("scenarios", "show", name).out)
    (tmp_path / "mine.toml").write_text('description = "d"\nmachine = "machine.toml"\nworkload = "workload.toml"\n')
    assert specs.load_scenario("mine.toml").name == "mine"
    (tmp_path / "suite.toml").write_text(cli("scenarios", "show", "heldout").out)
    assert specs.load_suite("suite.toml").scenarios == specs.load_suite("heldout").scenarios
    assert cli("scenarios", "show", FAMILY).out == specs.scenario_toml(FAMILY)
    assert cli("scenarios", "show", "workload.toml").out == (tmp_path / "workload.toml").read_text()


def test_what_was_trained_is_told_as_json_and_nothing_else_is_on_stdout(cli: Cli, suite_toml: str, tmp_path: Path):
    (tmp_path / "tiny.toml").write_text(run_dir.toml_text(small("ppo").document()))
    (tmp_path / "mine.toml").write_text(
        'description = "d"\nagents = ["tiny.toml"]\npolicies = ["online"]\nscenarios = ["short.toml"]\nepisodes = 2\n'
    )
    trained = read_json(cli("train", "--agent", "tiny.toml", "--scenario", "short.toml", "--out", "first", "--json"))
    assert trained["schema"] == 1 and Path(trained["policy"]).is_file() and Path(trained["best"]["policy"]).is_file()
    exported = read_json(cli("export", "first", "--out", "mine.onnx", "--json"))
    assert exported == {"schema": 1, "files": {"onnx": "mine.onnx"}}
    page = cli("report", "first", "--policies", "online", "--episodes", 1, "-o", "page.html", "--json")
    assert read_json(page) == {"schema": 1, "page": "page.html"}
    done = read_json(cli("run", "mine.toml", "--out", "second", "--json", "-"))
    assert done["folder"] == "second" and done["results"]["policies"].keys() == {"tiny", "online"}
    assert read_json(cli("explain", "online", "--scenario", "short.toml", "--json"))["schema"] == 1


def test_the_page_tells_the_keys_of_every_command_s_json(cli: Cli):
    firsts = re.findall(r"(?m)^\| (`.+?`) \| ", (ROOT / "docs/command-line.md").read_text())
    told = set(re.findall(r"`(.+?)`", " ".join(firsts)))
    assert told == {" ".join(path) for path in PATHS if "--json" in cli(*path, "--help").out}


@pytest.mark.parametrize("target", ["/dev/full", "/proc/none/x.json", "short.toml/x.json"])
def test_a_target_that_cannot_be_written_is_refused_before_work(cli: Cli, short_toml: Path, target: str):
    for command in ("scenarios", "agents", "doctor", "evaluate online", "bound", "validate marks"):
        assert_refused(cli(*command.split(), "--json", target), "cannot write")


def read_json(done: Done) -> Any:
    return json.loads(done.out)


def test_json_says_what_the_tables_say(cli: Cli, suite_toml: str):
    assert read_json(cli("agents", "--json", "--plausibility", "available"))["policies"].keys() == {
        "online",
        "online_movable",
        "auto_movable",
    }
    assert read_json(cli("agents", "show", "restrict", "--json"))["modes"]["place.pt_leaf"] == "restrict"
    content = read_json(cli("scenarios", "show", "llama-1to2", "--set", "kernel.demotion=off", "--json", "-"))[
        "content"
    ]
    assert content["kernel"]["demotion"] == "off"
    suites = read_json(cli("networks", suite_toml, "--count", 3, "--out", "n", "--json"))["suites"]
    assert suites["both.toml"].keys() == {"short", LONG}
