"""Commands as processes: in a terminal, interrupted, into pipes that close, without a home, completed by bash."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.places import ROOT

COMMAND = [sys.executable, "-m", "tiergym"]
DEADLINE_S = 180
NEVER = "(?!)"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(**changes: str) -> dict[str, str]:
    """Of a process that imports this checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **changes}


class Terminal:
    """A command in a terminal of 80 columns."""

    def __init__(self, folder: Path, *args: object, **changes: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, args)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environment(**changes),
            start_new_session=True,
        )
        os.close(theirs)
        self._ours = ours
        self.seen, self.raw = "", b""

    def read_until(self, pattern: str) -> bool:
        """Read on until `pattern` was seen, the command has ended, or the time is over; whether it was seen."""
        deadline = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.seen) and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 1.0)[0]:
                try:
                    data = os.read(self._ours, 65536)
                except OSError:  # the other side is closed
                    break
                self.raw += data
                self.seen = ESCAPES.sub("", self.raw.decode(errors="replace"))
        return re.search(pattern, self.seen) is not None

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.read_until(NEVER)
        return self.process.wait(DEADLINE_S)


def run(folder: Path, *args: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, its output in pipes."""
    words = [*COMMAND, *map(str, args)]
    return subprocess.run(
        words, cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=DEADLINE_S
    )


def test_a_terminal_sees_what_is_done_and_how_long_it_takes(tmp_path: Path, short_toml: Path):
    watched = Terminal(tmp_path, "matrix", "--policies", "online,restrict,soft", "--episodes", 2048)
    assert watched.read_until(r"\(1 of \d+\) \w+\s+.*\d+ %.*about \d:\d\d:\d\d left"), watched.seen[-500:]
    assert "None" not in watched.seen
    assert watched.interrupt() == 130
    lines = [line for line in watched.seen.split("\n") if line.strip()]
    assert lines[-1].strip() == "interrupted" and "Traceback" not in watched.seen


def test_the_first_compilation_is_announced(tmp_path: Path, short_toml: Path):
    args = ("evaluate", "online", "--scenario", short_toml, "--episodes", 2)
    watched = Terminal(tmp_path, *args, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert watched.read_until(r"compiling the simulator, once for machines of this size: about \d+ s")
    assert watched.interrupt() == 130
    quiet = Terminal(tmp_path, *args, "--quiet")
    assert quiet.read_until("throughput")
    assert "%" not in quiet.seen.partition("online on short")[0]
    assert quiet.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    "args",
    [
        "compare --policies online,restrict --episodes 4096 --json r.json",
        "leaderboard doable-today --policies online,restrict --against online --out r --json r.json",
        "networks doable-today --out r --json r.json",
        "bound --rounds 1000 --json r.json --out r.json",
    ],
    ids=lambda args: args.split()[0],
)
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, args: str):
    watched = Terminal(tmp_path, *args.split())
    assert watched.read_until(r"evaluating|leaderboard:|networks:|searching")
    time.sleep(1)
    assert watched.interrupt() == 130
    last = [line for line in watched.seen.split("\n") if line.strip()][-1]
    assert last.strip().startswith("interrupted") and "Traceback" not in watched.seen
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")] == []
    assert not (tmp_path / "r.json").exists()


HALF_MADE = """
import signal, sys, time
from tiergym.cli import interruption
class Resource:
    def __init__(self):
        {during_init}
        self.pointer = 1
    def __del__(self):
        {during_del}
        self.pointer
interruption.heed()
try:
    Resource()
    {after}
except KeyboardInterrupt:
    print("interrupted")
interruption.unheed()
{at_exit}
sys.exit(3)
"""


def half_made(folder: Path, **parts: str) -> subprocess.CompletedProcess[str]:
    """The program, run as `python -m` runs a command."""
    (folder / "half_made.py").write_text(
        HALF_MADE.format(**{"during_init": "pass", "during_del": "pass", "at_exit": "pass", **parts})
    )
    words = [sys.executable, "-m", "half_made"]
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S)


CTRL_C = "signal.raise_signal(signal.SIGINT)"
FALLS = {
    "a constructor": {"during_init": CTRL_C},
    "a destructor": {"during_del": CTRL_C},
    "both": {"during_init": CTRL_C, "during_del": CTRL_C},
    "a text that is executed": {"during_init": f"exec('{CTRL_C}')"},
}


@pytest.mark.parametrize("where", FALLS)
def test_ctrl_c_ends_a_command_wherever_it_falls_and_nothing_else_is_said(tmp_path: Path, where: str):
    ended = half_made(tmp_path, after="time.sleep(60)", **FALLS[where])
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "interrupted\n", "")


def test_a_command_that_ends_is_not_interrupted_again(tmp_path: Path):
    ended = half_made(tmp_path, during_del=CTRL_C, after="pass", at_exit="time.sleep(0.2)")
    assert (ended.returncode, ended.stderr) == (3, "")


def test_another_error_of_a_destructor_is_said(tmp_path: Path):
    ended = half_made(tmp_path, during_init="return", after="pass")
    assert "AttributeError: 'Resource' object has no attribute 'pointer'" in ended.stderr


@pytest.mark.parametrize("args", ["agents", "scenarios show heldout --json", "scenarios show llama-1to2", "--help"])
def test_a_reader_that_leaves_is_no_error(tmp_path: Path, args: str):
    with subprocess.Popen(
        [*COMMAND, *args.split()], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE_S) in (0, 1)


@pytest.mark.parametrize("args", ["agents", "agents --json", "scenarios show llama-1to2", "--help"])
def test_a_full_disk_is_one_line(tmp_path: Path, args: str):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *args.split()], cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "error: cannot write to stdout: No space left on device\n")


def test_an_encoding_without_our_signs_is_no_error(tmp_path: Path, short_toml: Path):
    args = ("compare", "--policies", "online,soft", "--scenario", short_toml, "--episodes", 2)
    plain = run(tmp_path, *args, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert plain.returncode == 0 and plain.stdout.isascii() and "minus online" in plain.stdout, plain.stderr[-300:]
    assert run(tmp_path, *args, PYTHONIOENCODING="ascii").returncode == 0


def test_colour_is_for_terminals_that_want_it(tmp_path: Path):
    def raw(**changes: str) -> bytes:
        watched = Terminal(tmp_path, "scenarios", "--help", **changes)
        watched.read_until(NEVER)
        assert "scenarios" in watched.seen
        return watched.raw

    colours = re.compile(rb"\x1b\[[0-9;]*3[1-7]")
    assert colours.search(raw())
    assert not colours.search(raw(NO_COLOR="1"))
    assert b"\x1b" not in raw(TERM="dumb")
    assert "\x1b" not in run(tmp_path, "agents").stdout


def test_a_user_without_a_home_can_work(tmp_path: Path, short_toml: Path):
    """The user of a container that is in no list of users."""
    script = (
        "import os, pwd, sys\n"
        "os.environ.pop('HOME')\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        f"sys.argv = ['tiergym', 'evaluate', 'online', '--scenario', {str(short_toml)!r}, '--episodes', '1']\n"
        "from tiergym.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "throughput" in done.stdout, done.stderr[-500:]


COMPLETED = {
    "evaluate on": {"online", "online_movable"},
    "evaluate online --scenario llama-a": {"llama-anon-1to2"},
    "compare --policies online,migrate_": {"online,migrate_headroom", "online,migrate_kswapd"},
    "matrix --suite ood-p": {"ood-platform", "ood-pressure"},
    "leaderboard tes": {"test"},
    "agents show ppo": {"ppo", "ppo_broad", "ppo_frames", "ppo_imitation", "ppo_suite"},
    "scenarios show spr_": {"spr_cxl_asic", "spr_cxl_fpga"},
    "sc": {"scenarios"},
}


def test_its_name_is_the_same_however_it_is_started(tmp_path: Path):
    assert "Usage: tiergym show " in run(tmp_path, "show", "--help").stdout


def test_bash_completes_commands_and_names(tmp_path: Path):
    shim = tmp_path / "bin/tiergym"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    shim.chmod(0o755)
    path = f"{shim.parent}:{os.environ['PATH']}"
    shown = subprocess.run(
        ["tiergym", "--show-completion", "bash"], env=environment(PATH=path), capture_output=True, text=True, check=True
    )
    (tmp_path / "completion.bash").write_text(shown.stdout)
    script = (
        "source completion.bash\n"
        "while read -r line; do COMP_WORDS=(tiergym $line); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))\n"
        'COMPREPLY=(); _tiergym_completion tiergym; IFS=" " ; echo "${COMPREPLY[*]}"; unset IFS; done\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        input="\n".join(COMPLETED) + "\n",
        cwd=tmp_path,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(COMPLETED, found, strict=True)) == COMPLETED, done.stderr[-500:]
