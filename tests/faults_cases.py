"""Kills, full disks, folders that are read-only or vanish, two at once: nothing saved is lost (`tests/faults.py`).

A few of each; `make faults` kills every command fifty times. `tests/test_faults.py` runs these in processes of their
own.
"""

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import faults
from tests.faults import JOBS, PPO, TRAIN, check_whole, end, kill_often, prepare, run, start, without_capabilities

LONG = PPO.replace("steps = 256", "steps = 400000")


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    faults.warm()


@pytest.mark.parametrize("job", JOBS)
def test_a_killed_command_leaves_whole_files_and_goes_on_to_the_same_end(job: str, tmp_path: Path) -> None:
    assert kill_often(job, 1, tmp_path / "jobs", random.Random(1), (signal.SIGKILL,)).total() == 1


@pytest.mark.parametrize("job", ["train", "run", "leaderboard", "compare", "record"])
def test_ctrl_c_and_sigterm_are_no_traceback_and_lose_nothing(job: str, tmp_path: Path) -> None:
    assert kill_often(job, 1, tmp_path / "jobs", random.Random(2), (signal.SIGINT, signal.SIGTERM)).total() == 1


def refused(code: int, said: str, *parts: str) -> None:
    """One line of an error at the end, no traceback, exit code 2."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in said, (code, said[-2000:])
    assert [part for part in parts if part not in lines[0]] == [], lines[0]


def smaller_files(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.parametrize("most", [0, 5000])
@pytest.mark.parametrize(
    "job",
    [
        "train",
        "run",
        "leaderboard",
        "compare",
        "export",
        "bound",
        "record",
        "export, all rungs",
        "stability",
        "networks",
        "tune",
    ],
)
def test_a_full_disk_is_one_line_and_the_command_goes_on_when_there_is_room(
    job: str, most: int, tmp_path: Path, trained: Path
) -> None:
    """A file that may not grow beyond so many bytes fails like one on a full disk."""
    folder = prepare(tmp_path / "work", trained)
    code, said = run(folder, JOBS[job].begin(folder), smaller_files(most))
    if code != 0:
        refused(code, said)
    check_whole(folder)
    code, said = run(folder, JOBS[job].go_on(folder))
    assert code == 0, said[-2000:]
    check_whole(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = prepare(tmp_path_factory.mktemp("faults") / "made")
    code, said = run(folder, TRAIN.format("ppo.toml").split())
    assert code == 0, said
    return folder / "out"


def read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o555)


@pytest.mark.parametrize(
    "command",
    ["train --resume trained", "export trained", "run experiment.toml --out trained/x", TRAIN.format("ppo.toml"),
     "leaderboard suite.toml --policies online --against online --out trained", "record --seconds 0.2 --out trained/r"],
)  # fmt: skip
def test_a_read_only_folder_is_refused_in_one_line(command: str, tmp_path: Path, trained: Path) -> None:
    folder = prepare(tmp_path / "work", trained)
    before = sorted(folder.rglob("*"))
    read_only(folder)
    code, said = run(folder, command.split(), without_capabilities)
    refused(code, said)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_vanishes_is_one_line(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "work")
    (folder / "ppo.toml").write_text(LONG)
    child = start(folder, TRAIN.format("ppo.toml").split())
    until(lambda: list((folder / "out").glob("checkpoints/[0-9]*")))
    shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    code = end(child)
    assert code is not None
    refused(code, (folder / "said.txt").read_text(), "out")


def until(there: Callable[[], object]) -> None:
    stop = time.monotonic() + 120
    while not there():
        assert time.monotonic() < stop
        time.sleep(0.01)


def test_two_resumes_of_one_run_are_one_and_the_other_names_it(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "work")
    (folder / "ppo.toml").write_text(LONG)
    first = start(folder, TRAIN.format("ppo.toml").split())
    until(lambda: list((folder / "out").glob("checkpoints/[0-9]*")))
    for command in ("train --resume out", TRAIN.format("ppo.toml")):
        code, said = run(folder, command.split())
        parts = (f"process {first} on ", "train --agent ppo.toml") if "resume" in command else ("not an empty folder",)
        refused(code, said, *parts)
    os.kill(first, signal.SIGKILL)
    assert end(first) == -signal.SIGKILL
    assert (folder / "out" / ".lock").is_file()  # what it says has no meaning any more
    (folder / "out" / "config.toml").write_text(
        (folder / "out" / "config.toml").read_text().replace("steps = 400000", "steps = 32", 1)
    )
    code, said = run(folder, ["train", "--resume", "out"])
    assert code == 0, said
    assert not (folder / "out" / ".lock").exists()


@pytest.mark.parametrize(
    "command",
    ["ladder suite.toml --tuning suite.toml --rounds 1000 --out out", faults.BOARD, faults.STABILITY, faults.NETWORKS,
     faults.TUNE, faults.RUNGS.replace("--out rungs", "--out out")],
)  # fmt: skip
def test_two_in_one_folder_of_results_are_one(command: str, tmp_path: Path) -> None:
    folder = prepare(tmp_path / "work")
    from tiergym.lab.locking import locked

    with locked(folder / "out"):
        code, said = run(folder, command.split())
        refused(code, said, f"process {os.getpid()} on", "allowed: one at a time")
    assert not (folder / "out").exists()
