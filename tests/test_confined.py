"""SECURITY.md: what a file or a folder names lies in it, and nothing is written or deleted anywhere else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import strangers
from tests.places import ROOT
from tests.short_runs import write_short_scenario
from tests.strangers import experiment, refused, tree, write
from tiergym.lab import checkpoint, run_dir
from tiergym.sim.compile_cache import cache_dir


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's folder that no command names."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strangers.stopped_run(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", ["../../../short", "/etc/passwd", "..", "a/../../x", ""])
def test_the_scenarios_of_a_run_lie_in_it(cli, tmp_path, trained, name):
    shutil.copytree(trained, tmp_path / "r")
    text = (tmp_path / "r/config.toml").read_text()
    changed = re.sub(r"(?m)^scenarios = .*$", f'scenarios = ["{name}"]', text)
    (tmp_path / "r/config.toml").write_text(changed)
    assert "one of the scenarios is" in refused(cli, "train", "--resume", "r")


LINKS = (
    "progress-000000000064.csv",
    "checkpoints",
    "checkpoints/000000000001",
    "policy.onnx",
    "scenarios/x.toml",
    "tmp/a/b",
)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("command", [("train", "--resume"), ("export",)], ids=" ".join)
def test_nothing_is_written_or_deleted_through_a_link_in_a_run(cli, tmp_path, trained, outside, name, command):
    shutil.copytree(trained, tmp_path / "r")
    victim = outside / "victim"
    shutil.copytree(checkpoint.latest(trained), victim)
    link = tmp_path / "r" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if name == "checkpoints":
        shutil.move(link, victim / "checkpoints")
        link.symlink_to(victim / "checkpoints")
    else:
        link.unlink(missing_ok=True)
        link.symlink_to(victim / "state.json" if link.suffix else victim)
    before = tree(victim)
    assert "a link; allowed in this folder: files and folders alone" in refused(cli, *command, "r")
    assert tree(victim) == before


@pytest.mark.parametrize(
    "command",
    [
        ("ladder", "suite.toml", "--tuning", "suite.toml", "--out", "kept", "--episodes", "1", "--rounds", "1"),
        (
            "leaderboard",
            "suite.toml",
            "--policies",
            "online",
            "--against",
            "online",
            "--out",
            "kept",
            "--episodes",
            "1",
        ),
    ],
    ids=lambda command: command[0],
)
def test_nothing_is_written_through_a_link_where_results_are_kept(cli, tmp_path, outside, command):
    write_short_scenario(tmp_path)
    write(tmp_path / "suite.toml", 'purpose = "train"\nscenarios = ["short.toml"]\n')
    for inside in ("rules", "plans", "online", "counterfactual/rules"):
        (tmp_path / "kept" / inside).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kept" / inside).symlink_to(outside)
    assert "a link; allowed in this folder" in refused(cli, *command)
    assert not list(outside.iterdir())


def test_no_cell_of_an_experiment_lies_outside_its_folder(cli, tmp_path):
    """A scenario's file called `...toml` is called `..`."""
    path = write_short_scenario(tmp_path)
    path.rename(tmp_path / "...toml")
    write_short_scenario(tmp_path)
    text = experiment('policies = ["online"]').replace('["short.toml"]', '["short.toml", "...toml"]')
    write(tmp_path / "e.toml", text)
    assert "one of the scenarios is '..'" in refused(cli, "run", "e.toml", "--out", "a/out")
    assert not (tmp_path / "a").exists()


def test_a_run_folder_of_our_own_goes_on(cli, tmp_path, trained):
    """The checks above are not in the way, where the folder itself is a link."""
    shutil.copytree(trained, tmp_path / "far")
    (tmp_path / "r").symlink_to(tmp_path / "far")
    assert run_dir.read(tmp_path / "r").seed == 0
    assert cli("train", "--resume", "r").code == 0
    assert checkpoint.steps(checkpoint.latest(tmp_path / "r")) >= 96
    assert cli("export", "r").code == 0


WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE")
ALWAYS = (
    r"mkdir|mkdirat|rename|renameat|renameat2|unlink|unlinkat|rmdir|link|linkat|symlink|symlinkat|truncate|mknod|mknodat|"
    r"chmod|fchmodat|chown|lchown|fchownat|creat|utimensat|setxattr|lsetxattr"
)
"""System calls that change a file system, beside opening for writing."""


def strace() -> str | None:
    """The program, where it is there and may trace."""
    found = shutil.which("strace")
    if found is None:
        return None
    return found if subprocess.run([found, "-qq", "true"], capture_output=True, check=False).returncode == 0 else None


@pytest.mark.skipif(strace() is None, reason="needs strace, and permission to trace")
def test_evaluate_writes_nothing_but_its_cache_and_opens_no_socket(tmp_path):
    cache, temporary, work = (tmp_path / name for name in ("cache", "temporary", "work"))
    temporary.mkdir()
    work.mkdir()
    write_short_scenario(work)
    ours = cache_dir()
    assert ours is not None
    shutil.copytree(ours, cache / ours.name)  # compiled before: a minute less
    log = tmp_path / "trace"
    places = {"NUMBA_CACHE_DIR": cache, "TMPDIR": temporary, "PYTHONPATH": ROOT, "HOME": tmp_path / "home"}
    done = subprocess.run(
        [
            *(str(strace()), "-f", "-qq", "-s", "4096", "-o", str(log)),
            *("-e", f"trace=%network,open,openat,openat2,{ALWAYS.replace('|', ',')}"),
            *(sys.executable, "-B", "-m", "tiergym"),
            *("evaluate", "online", "--scenario", "short.toml", "--episodes", "1"),
        ],
        cwd=work,
        env=os.environ | {name: str(path) for name, path in places.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text(errors="replace").splitlines()
    assert sum("openat(" in line for line in lines) > 100, "nothing was traced"
    assert not [line for line in lines if re.search(r"\b(socket|socketpair|connect|bind|sendto)\(", line)]
    changes = [line for line in lines if WRITING.search(line) or re.search(rf"\b({ALWAYS})\(", line)]
    # A semaphore of Python's multiprocessing is shared memory that has a name for an instant. Python's tempfile makes
    # and deletes a file to see whether the folder for such is usable.
    allowed = (f'"{cache}', f'"{temporary}/', '"/dev/null"', '"/dev/shm/sem.')
    outside = [line for line in changes if not any(place in line for place in allowed)]
    assert outside == []
    assert [path.name for path in work.iterdir()] == ["short.toml"] and not list(temporary.iterdir())
    assert not (tmp_path / "home").exists()
