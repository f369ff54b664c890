"""Folders to work in that are not as any command leaves them: locks that are none, folders in place of files."""

import os
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from unittest import mock

import pytest

from tests import strangers
from tests.command_line import Cli, captured
from tests.refusals import assert_refused
from tests.short_runs import write_short_scenario
from tiergym.lab import learner
from tiergym.lab.locking import LOCK

COMMANDS: dict[str, str] = {
    "train": "train --agent ppo --scenario short.toml --out out",
    "train --resume": "train --resume run",
    "run": "run e.toml --out out",
    "run, goes on": "run --resume experiment",
    "run on suites": "run on_suites.toml --out out",
    "tune": "tune restrict --scenario short.toml --trials 1 --out out",
    "ladder": "ladder suite.toml --tuning suite.toml --rounds 1 --episodes 1 --out out",
    "leaderboard": "leaderboard suite.toml --policies online --against online --episodes 1 --out out",
    "stability": "stability suite.toml --policies online,restrict,adaptive,soft --draws 1 --episodes 1 --out out",
    "networks": "networks suite.toml --count 1 --out out",
    "export": "export restrict --to all --scenario short.toml --out out",
    "record": "record --seconds 0.1 --out out",
}
"""Each works in the folder that its last word names."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with all that the commands name, and the file `victim`."""
    place = tmp_path_factory.mktemp("made") / "place"
    place.mkdir()
    write_short_scenario(place)
    strangers.write(place / "suite.toml", 'purpose = "train"\nscenarios = ["short.toml"]\n')
    strangers.write(place / "e.toml", strangers.experiment('policies = ["online"]'))
    on_suites = 'description = "x"\nsuites = ["suite.toml"]\npolicies = ["online"]\nagainst = "online"\nepisodes = 1\n'
    strangers.write(place / "on_suites.toml", on_suites)
    strangers.stopped_run(place / "made").rename(place / "run")
    config = (place / "run" / "config.toml").read_text()
    strangers.write(place / "run" / "config.toml", config.replace("pictures = false", "pictures = true"))
    with chdir(place):
        assert captured("run", "e.toml", "--out", "experiment").code == 0
    strangers.write(place / "victim", "mine")
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, where the test works."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


WRONG: dict[str, tuple[str, str, str]] = {
    "pictures of a run": ("train --resume run", "run/timelines", "file"),
    "the best policy of a run": ("train --resume run", "run/best.onnx", "folder"),
    "evaluations of a run": ("train --resume run", "run/evaluations.json", "folder"),
    "a run's checkpoints": ("train --resume run", "run/checkpoints", "file"),
    "results of an experiment": ("run --resume experiment", "experiment/results.json", "folder"),
    "tables of an experiment": ("run --resume experiment", "experiment/tables.md", "folder"),
    "rows of an experiment": ("run --resume experiment", "experiment/results.parquet", "folder"),
    "a policy's results": (COMMANDS["leaderboard"], "out/online", "file"),
    "a policy's result": (COMMANDS["leaderboard"], "out/online/short.json", "folder"),
    "a scenario's result": (COMMANDS["networks"], "out/short.json", "folder"),
    "what was tuned": ("tune adaptive --scenario short.toml --trials 1 --out out", "out/adaptive_tuned.toml", "folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_could_not_be_written_at_the_end_is_refused_before_the_work(case: str, place: Path, cli: Cli) -> None:
    words, name, kind = WRONG[case]
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.write_text("")
    before = strangers.tree(place)
    with mock.patch("tiergym.lab.engines.Engine.run", side_effect=AssertionError("worked")):
        assert_refused(cli(*words.split()), f"{name}: {'a' if kind == 'folder' else 'not a'} folder; allowed: ")
    assert strangers.tree(place) == before


NO_LOCKS: dict[str, Callable[[Path], None]] = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a link": lambda path: path.symlink_to("../victim"),
    "a link to nothing": lambda path: path.symlink_to("../nothing"),
    "a loop": lambda path: path.symlink_to(LOCK),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", NO_LOCKS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_lock_that_is_no_file_is_refused_and_nothing_is_written_through_it(
    command: str, kind: str, place: Path, cli: Cli
) -> None:
    words = COMMANDS[command].split()
    (place / words[-1]).mkdir(exist_ok=True)
    NO_LOCKS[kind](place / words[-1] / LOCK)
    before = strangers.tree(place)
    with mock.patch.object(learner, "build", side_effect=AssertionError("worked")):
        assert_refused(cli(*words), "" if command == "record" else f"{words[-1]}/{LOCK}: ")
    assert strangers.tree(place) == before
