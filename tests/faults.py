"""Commands that are killed at random moments: afterwards every file is whole or absent, and going on ends the same.

    python -m tests.faults --kills 50          every command, killed so often
    python -m tests.faults --kills 50 train    one of them

A forked child of a process that has everything imported runs the command and is killed by the kernel; what it was doing
goes on in another child, as a person would go on. The end is compared, to the bit, with that of a child nobody killed.
Nothing here pulls a plug: what the kernel has accepted counts as written.
"""

import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.short_runs import write_short_scenario
from tiergym.errors import UserError

AGENT = """
algorithm = "{algorithm}"
envs = 4
steps = {steps}
checkpoint_steps = 32
{more}
[network]
hidden = [8]
[evaluation]
every_steps = 128
episodes = 2
pictures = false
[hyperparameters]
{numbers}
"""
PPO = AGENT.format(algorithm="ppo", steps=256, more="", numbers="n_steps = 8\nbatch_size = 16\nn_epochs = 2")
DQN = AGENT.format(
    algorithm="dqn",
    steps=256,
    more='action_form = "baseline"',
    numbers="learning_starts = 16\nbuffer_size = 64\nbatch_size = 16\ntrain_freq = 2",
)
EXPERIMENT = """
description = "x"
scenarios = ["short.toml"]
agents = ["ppo.toml"]
policies = ["online", "restrict"]
episodes = 2
training_seeds = [0, 1]
[variants]
off = { kernel.demotion = "off" }
on = { kernel.demotion = "on" }
"""
SUITE = 'purpose = "train"\nscenarios = ["short.toml", "other.toml"]\n'
MEASURE = 'scenarios = ["short.toml"]\n'
BY_MACHINE = ("decision_us",)
"""Times, which differ from run to run."""
ENDED_S = 300.0


@dataclass(frozen=True)
class Job:
    """A command, by how it begins and how it goes on, and what must come of it: files, by name, as what they say."""

    begin: Callable[[Path], list[str]]
    go_on: Callable[[Path], list[str]]
    result: Callable[[Path], object]


def begin(command: str) -> Callable[[Path], list[str]]:
    """A command's words, the same whatever there is."""
    return lambda folder: command.split()


def resume(command: str, again: str, asks: str) -> Callable[[Path], list[str]]:
    """`command` where `asks` is there already, else `again` from nothing, in the same folder."""

    def words(folder: Path) -> list[str]:
        if list(folder.glob(asks)):
            return command.split()
        shutil.rmtree(folder / "out", ignore_errors=True)
        return again.split()

    return words


def _trained(folder: Path) -> object:
    """What was learned and exported: bytes; and how many steps were made."""
    run = folder / "out"
    newest = max(run.glob("checkpoints/[0-9]*"))
    return newest.name, (newest / "learner.safetensors").read_bytes(), (run / "policy.onnx").read_bytes()


def _said(folder: Path) -> object:
    """What the results say, but for times."""
    return {
        str(path.relative_to(folder)): _without_times(json.loads(path.read_text()))
        for path in folder.rglob("*.json")
        if path.name not in ("versions.json", "state.json", "checkpoint.json")
    }


def _rows(folder: Path) -> object:
    """Results, and the rows of all episodes: no cell twice, none missing."""
    import pyarrow.parquet as pq

    return _said(folder), {
        str(path.relative_to(folder)): pq.read_table(path).to_pydict() for path in folder.rglob("*.parquet")
    }


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items() if key not in BY_MACHINE}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _texts(folder: Path) -> object:
    """What the rungs of an export say."""
    return {path.name: path.read_text() for path in (folder / "rungs").iterdir()}


def _recorded(folder: Path) -> object:
    """That there is a recording, whole: what it says is of the moment."""
    from tiergym.recordings.format import read_recording

    return len(read_recording(folder / "out").columns) > 10


TRAIN = "train --agent {} --scenario short.toml --seed 3 --out out"
RUN = "run experiment.toml --out out"
LADDER = "ladder suite.toml --tuning suite.toml --episodes 1 --rounds 1 --out out --json ladder.json"
BOARD = (
    "leaderboard suite.toml --policies online,restrict,adaptive --against online --episodes 2 --out out --json b.json"
)
COMPARE = (
    "compare --policies online,adaptive --scenario short.toml --episodes 4 "
    "--json a.json --parquet a.parquet --png a.png"
)
BOUND = "bound --scenario short.toml --episodes 2 --rounds 2 --out plan.json"
TUNE = "tune cost_benefit --scenario short.toml --trials 6 --out out"
STABILITY = (
    "stability measure.toml --policies online,restrict,adaptive,soft --draws 1 --episodes 1 --out out --json s.json"
)
NETWORKS = "networks measure.toml --count 5 --out out --json n.json"
RUNGS = "export restrict --to all --scenario short.toml --out rungs"
RECORD = "record --seconds 0.3 --hz 20 --out out"
RESUMED = resume("train --resume out", TRAIN.format("ppo.toml"), "out/checkpoints/[0-9]*")
JOBS: dict[str, Job] = {
    "train": Job(begin(TRAIN.format("ppo.toml")), RESUMED, _trained),
    "train, off-policy": Job(
        begin(TRAIN.format("dqn.toml")),
        resume("train --resume out", TRAIN.format("dqn.toml"), "out/checkpoints/[0-9]*"),
        _trained,
    ),
    "run": Job(begin(RUN), resume("run --resume out", RUN, "out/experiment.toml"), _rows),
    "ladder": Job(begin(LADDER), begin(LADDER), _said),
    "leaderboard": Job(begin(BOARD), begin(BOARD), _said),
    "compare": Job(begin(COMPARE), begin(COMPARE), _rows),
    "bound": Job(begin(BOUND), begin(BOUND), _said),
    "tune": Job(begin(TUNE), begin(TUNE), lambda folder: (folder / "out" / "cost_benefit_tuned.toml").read_text()),
    "export": Job(
        begin("export trained --out p.onnx"),
        begin("export trained --out p.onnx"),
        lambda folder: (folder / "p.onnx").read_bytes(),
    ),
    "export, all rungs": Job(begin(RUNGS), begin(RUNGS), _texts),
    "stability": Job(begin(STABILITY), begin(STABILITY), _said),
    "networks": Job(begin(NETWORKS), begin(NETWORKS), _said),
    "record": Job(begin(RECORD), resume("doctor", RECORD, "out/meta.json"), _recorded),
}


def prepare(folder: Path, trained: Path | None = None) -> Path:
    """A working directory with what the commands name."""
    folder.mkdir(parents=True)
    text = write_short_scenario(folder).read_text()
    (folder / "other.toml").write_text(text.replace('demotion = "on"', 'demotion = "off"', 1))
    for name, content in (
        ("ppo", PPO),
        ("dqn", DQN),
        ("experiment", EXPERIMENT),
        ("suite", SUITE),
        ("measure", MEASURE),
    ):
        (folder / f"{name}.toml").write_text(content)
    if trained is not None:
        shutil.copytree(trained, folder / "trained")
    return folder


def warm() -> None:
    """Import and compile, once: children are killed in commands, not in imports. torch computes nothing here, for its
    threads would not be there in a child."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import tiergym.lab.export
    import tiergym.lab.plots
    import tiergym.lab.train  # noqa: F401
    from tests.invariants import check_steps
    from tests.short_runs import short_scenario

    check_steps(short_scenario(), 0, ticks=2)


def start(folder: Path, words: list[str], prelude: Callable[[], None] = lambda: None, said: int | None = None) -> int:
    """A child that runs `tiergym WORDS` in the folder, after `prelude`; its number.

    What it says is in said.txt, or goes to the descriptor `said`.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        if said is None:
            said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))  # not those of pytest
        signal.signal(signal.SIGINT, signal.default_int_handler)
        prelude()
        sys.argv = ["tiergym", *words]
        from tiergym import __main__

        try:
            __main__.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 98
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def end(child: int, within_s: float = ENDED_S) -> int | None:
    """A child's exit code, minus the signal that ended it; None where it goes on."""
    stop = time.monotonic() + within_s
    while time.monotonic() < stop:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def run(folder: Path, words: list[str], prelude: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Run a command to its end; its exit code and what it said."""
    ours, theirs = os.pipe()  # no file, which a full disk would not take; holds more than a command says
    child = start(folder, words, prelude, theirs)
    os.close(theirs)
    code = end(child)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError(f"{words} did not end")
    with os.fdopen(ours, "rb") as said:
        return code, said.read().decode(errors="replace")


def check_whole(folder: Path) -> int:
    """Read every file that has its final name; raises where one is not whole. How many there are."""
    import onnx
    import pyarrow.parquet as pq
    from PIL import Image
    from safetensors.numpy import load_file

    from tiergym.recordings.format import read_recording

    found = 0
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):  # a draft that was left
            continue
        found += 1
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text())
        elif path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path))
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.name.startswith("samples.csv"):
            read_recording(path.parent)
    return found


def fault(job: Job, folder: Path, at_s: float, number: int, trained: Path | None, reference: object) -> str:
    """Kill a job after `at_s` with a signal, look at what it left, go on; what came of the kill.

    Raises AssertionError where a file is half written or the end is another.
    """
    prepare(folder, trained)
    child = start(folder, job.begin(folder))
    code = end(child, at_s)
    if code is None:
        os.kill(child, number)
        code = end(child)
    said = (folder / "said.txt").read_text() if (folder / "said.txt").exists() else ""
    assert "Traceback" not in said, said[-2000:]
    assert code in (0, -number, 128 + number, 130), (code, said[-2000:])
    check_whole(folder)
    for _ in range(2):  # the second time, everything is there
        went, said = run(folder, job.go_on(folder))
        assert went == 0, (went, said[-2000:])
        check_whole(folder)
        assert job.result(folder) == reference
        if job.go_on(folder)[0] in ("doctor", "export"):
            break
    return "finished before" if code == 0 else "killed"


def kill_often(name: str, kills: int, folder: Path, rng: random.Random, signals: tuple[int, ...]) -> Counter[str]:
    """Kill a job so often at moments spread over its whole length; how many were killed and how many were done."""
    job = JOBS[name]
    trained = None
    if name == "export":
        made = prepare(folder / "made")
        code, said = run(made, TRAIN.format("ppo.toml").split())
        assert code == 0, said
        trained = made / "out"
    whole = prepare(folder / "whole", trained)
    started = time.monotonic()
    code, said = run(whole, job.begin(whole))
    assert code == 0, said[-2000:]
    took_s = time.monotonic() - started
    reference = job.result(whole)
    told: Counter[str] = Counter()
    for number in range(kills):
        at_s = (number + rng.random()) / kills * took_s
        place = folder / str(number)
        told[fault(job, place, at_s, signals[number % len(signals)], trained, reference)] += 1
        shutil.rmtree(place)
    return told


def without_capabilities() -> None:
    """What root is without: writing where the mode forbids it. For others, nothing changes."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)())


def main() -> None:
    """Print a line per command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=", ".join(JOBS))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    parser.add_argument("--gently", action="store_true", help="SIGINT and SIGTERM in turn, in place of SIGKILL")
    asked = parser.parse_args()
    unknown = sorted(set(asked.jobs) - JOBS.keys())
    if unknown:
        raise UserError(f"no command '{unknown[0]}'; allowed: {', '.join(JOBS)}")
    signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM) if asked.gently else (signal.SIGKILL,)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        warm()
        print(f"seed {asked.seed}")
        for name in asked.jobs or JOBS:
            rng = random.Random(f"{asked.seed} {name}")
            told = kill_often(name, asked.kills, Path(folder) / name.replace(", ", "-"), rng, signals)
            print(f"{name}: {told['killed']} killed, {told['finished before']} done before; none lost", flush=True)


if __name__ == "__main__":
    main()
