"""A study in a real PostgreSQL server, which is started for this file: two commands beside each other work at it."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.tiny_training import tiny_scenario

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
USER = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
TRIALS = 9


def as_server(*words: object) -> None:
    """A command of the server's, which refuses to be root."""
    command = [str(word) for word in words]
    if os.getuid() == 0:
        command = ["setpriv", f"--reuid={USER}", f"--regid={pwd.getpwnam(USER).pw_gid}", "--clear-groups", *command]
    # No pipe: the server would keep it open.
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a database in an empty server, which listens on this machine alone."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if not BINARIES:
        pytest.skip("there is no PostgreSQL server in /usr/lib/postgresql")
    if os.getuid() == 0 and USER not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"PostgreSQL refuses root, and there is no user {USER}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="tiergym-postgres-"))  # short and outside of pytest's, which is root's alone
    try:
        if os.getuid() == 0:
            shutil.chown(folder, USER)
        data, control = folder / "data", BINARIES[-1] / "pg_ctl"
        as_server(BINARIES[-1] / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        as_server(control, "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            as_server(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(folder: Path, url: str, out: str, trials: int) -> subprocess.Popen[str]:
    words = ["tune", "cost_benefit", "--scenario", "tiny.toml", "--trials", str(trials), "--storage", url]
    return subprocess.Popen(
        [sys.executable, "-m", "tiergym", *words, "--out", out, "--json", f"{out}.json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def test_two_commands_work_at_one_study(server: str, tmp_path: Path) -> None:
    """Each trial is one of theirs, none is measured twice, and a third finds nothing left to do."""
    import psycopg

    tiny_scenario(tmp_path)
    running = [command(tmp_path, server, out, TRIALS) for out in ("a", "b")]
    told = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    finished = sum(text.count(f" of {TRIALS}: ") for text in told)
    with psycopg.connect(server.replace("+psycopg", "")) as connection:
        states = connection.execute("select state, count(*) from trials group by state").fetchall()
        owners = connection.execute(
            "select count(distinct value_json) from trial_user_attributes where key = 'owner'"
        ).fetchone()
    assert states == [("COMPLETE", finished)] and TRIALS <= finished <= TRIALS + 1
    assert owners == (2,)
    values = [json.dumps(each["values"]) for each in json.loads((tmp_path / "a.json").read_text())["trials"]]
    assert len(values) == TRIALS and len(set(values)) >= TRIALS - 1  # both may begin with the untuned values
    last = command(tmp_path, server, "c", TRIALS)
    assert "trial" not in last.communicate(timeout=300)[1].split("steps", 1)[1] and last.returncode == 0
    assert json.loads((tmp_path / "c.json").read_text())["best"]["score"] is not None


def test_one_command_finds_there_what_it_finds_in_a_file(server: str, tmp_path: Path) -> None:
    tiny_scenario(tmp_path)
    found = []
    for out, url in (("there", server.rpartition("/")[0] + "/template1"), ("here", f"sqlite:///{tmp_path}/s.db")):
        process = command(tmp_path, url, out, TRIALS)
        assert process.wait(300) == 0, process.communicate()[1]
        found.append(json.loads((tmp_path / f"{out}.json").read_text()))
    assert found[0]["trials"] == found[1]["trials"] and len(found[0]["trials"]) == TRIALS
