"""Cells in this process, in others and on a real Ray cluster of this machine: the same results, whoever dies."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import pyarrow.parquet as pq
import pytest

from tests import engine_cells
from tests.command_line import Cli
from tests.places import ROOT
from tests.short_runs import write_short_scenario
from tests.tiny_training import small, tiny_scenario
from tiergym import specs
from tiergym.errors import UserError
from tiergym.lab import checkpoint, run_dir
from tiergym.lab.engines import LOCAL, PROCESSES, RAY, Engine
from tiergym.lab.kept import Cell, is_number, keep_all
from tiergym.lab.ladder import Search, ladder
from tiergym.lab.leaderboard import leaderboard
from tiergym.lab.rungs import Rung
from tiergym.lab.train import TrainingInterruptedError
from tiergym.lab.tuning import Search as TuningSearch
from tiergym.lab.tuning import Trial, TuningInterruptedError, search
from tiergym.policy.rule_parameters import Parameter

pytestmark = pytest.mark.xdist_group("ray")
RULES = {name: name for name in ("online", "restrict")}
NUMBERS = [(number,) for number in range(5)]
SQUARES = {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray with two workers, for all tests of this file: it takes seconds to start."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(params=[LOCAL, PROCESSES, RAY])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == RAY:
        request.getfixturevalue("ray_here")
    return Engine(request.param, workers=2 if request.param == PROCESSES else None)


@pytest.fixture
def dying(request: pytest.FixtureRequest) -> Engine:
    """Engines whose workers can die without the one who asked."""
    if request.param == RAY:
        request.getfixturevalue("ray_here")
    return Engine(request.param, workers=2 if request.param == PROCESSES else None)


in_workers = pytest.mark.parametrize("dying", [PROCESSES, RAY], indirect=True)


def test_every_cell_is_done_once(engine: Engine) -> None:
    done = list(engine.run(engine_cells.square, NUMBERS))
    assert dict(done) == SQUARES and len(done) == len(NUMBERS)
    assert list(engine.run(engine_cells.square, [])) == []


def test_what_a_cell_refuses_is_refused(engine: Engine) -> None:
    with pytest.raises(UserError, match="number is 0; allowed: none"):
        list(engine.run(engine_cells.refuse, NUMBERS[:1]))


def test_a_refusal_amid_many_cells_ends_the_program(tmp_path: Path) -> None:
    """Not only the call: a pool that breaks over a cancelled cell keeps the interpreter from ending."""
    program = tmp_path / "refused.py"
    program.write_text(
        "from tests import engine_cells\n"
        "from tiergym.lab.engines import PROCESSES, Engine\n"
        "if __name__ == '__main__':\n"
        "    cells = [(number, bytes(300_000)) for number in range(200)]\n"
        "    list(Engine(PROCESSES, workers=2).run(engine_cells.refuse_some, cells))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, timeout=100, cwd=tmp_path
        )
        assert "number is 20; allowed: others" in done.stderr and "InvalidStateError" not in done.stderr


@in_workers
def test_a_worker_that_is_killed_loses_nothing(dying: Engine, tmp_path: Path) -> None:
    marker = tmp_path / "died"
    assert dict(dying.run(engine_cells.die_once, [(number, marker) for number in range(5)])) == SQUARES
    assert marker.exists()


@in_workers
def test_a_cell_that_kills_every_worker_fails_and_the_others_are_kept(dying: Engine, tmp_path: Path) -> None:
    cells = [Cell(tmp_path / f"{n}.json", {"number": n}, is_number, engine_cells.die_always, (n,)) for n in range(5)]
    with pytest.raises(UserError, match="a worker died 3 times"):
        keep_all(cells, dying)
    assert not cells[2].path.exists()
    found = [Cell(cell.path, cell.asked, is_number, engine_cells.square, cell.arguments) for cell in cells]
    made: list[tuple[int, bool]] = []
    assert keep_all(found, on_kept=lambda index, before: made.append((index, before))) == list(SQUARES.values())
    assert (2, False) in made and len(made) == 5


def test_settings_that_do_not_go_together_are_refused() -> None:
    for settings, says in (
        ({"name": "slurm"}, "engine is 'slurm'; allowed: local, processes, ray"),
        ({"name": PROCESSES, "address": "auto"}, "--address auto with --engine processes"),
        ({"name": PROCESSES, "workers": 0}, "workers is 0"),
        ({"name": LOCAL, "workers": 2}, "--workers 2 with --engine local"),
        ({"name": RAY, "workers": 2, "address": "auto"}, "--workers 2 with a cluster"),
    ):
        with pytest.raises(UserError, match=says):
            Engine(**settings)


def short_scenarios(folder: Path, count: int) -> list[Path]:
    """Files of as many short scenarios, each a second longer than the one before."""
    text = write_short_scenario(folder).read_text()
    paths = [folder / f"short-{n}.toml" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_text(text.replace("horizon_s = 2", f"horizon_s = {2 + n}"))
    return paths


def rungs(tmp_path: Path, out: str, engine: Engine | None) -> list[Rung]:
    scenarios = [specs.load_scenario(path) for path in short_scenarios(tmp_path, 3)]
    return ladder(scenarios, scenarios[:1], RULES, tmp_path / out, Search(2, 0, 2), learned="adaptive", engine=engine)


def test_a_ladder_is_the_same_to_the_bit(engine: Engine, tmp_path: Path) -> None:
    assert rungs(tmp_path, "here", None) == rungs(tmp_path, "there", engine)
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.json"))
    assert len(files) == 1 + 4 * 3
    for file in files:
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes(), file


def test_a_leaderboard_is_the_same_to_the_bit(engine: Engine, tmp_path: Path) -> None:
    names = [path.name for path in short_scenarios(tmp_path, 2)]
    (tmp_path / "mine.toml").write_text(f'description = "Mine."\nscenarios = {json.dumps(names)}\n')
    suite = specs.load_suite(tmp_path / "mine.toml")
    spelled = {name: [name] for name in (*RULES, "adaptive")}
    rows = [
        leaderboard([suite], spelled, tmp_path / out, 3, 0, "online", engine=each).document()["rows"]["mine"]
        for out, each in (("here", None), ("there", engine))
    ]
    for row in (*rows[0].values(), *rows[1].values()):
        row.pop("decision_us")  # a time
    assert rows[0] == rows[1]


def test_a_worker_with_other_files_is_refused(tmp_path: Path) -> None:
    """On a cluster whose machines do not share their files, a policy's digest tells."""
    from tiergym.lab.measuring import policy_of

    with pytest.raises(UserError, match=r"policy .online.: its digest is .* allowed: 0000"):
        policy_of("online", "0" * 16)


def test_an_interrupted_ladder_goes_on_with_another_engine(tmp_path: Path) -> None:
    first = rungs(tmp_path, "out", None)
    (tmp_path / "out/short-1.json").unlink()
    assert rungs(tmp_path, "out", Engine(PROCESSES, 2)) == first


def test_nothing_phones_home() -> None:
    """Ray reports its usage unless it is told not to."""
    code = (
        "import os; from tiergym.lab.engines import Engine; from tests import engine_cells\n"
        "list(Engine('ray', workers=1).run(engine_cells.square, [(1,)])); print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    )
    pytest.importorskip("ray", reason="Ray is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == "0"


def test_an_experiment_is_the_same_to_the_bit(engine: Engine, tmp_path: Path, cli: Cli) -> None:
    """Two trainings and their evaluation, side by side in workers or one after the other here."""
    document = run_dir.toml_text(small("ppo").document())
    (tmp_path / "tiny.toml").write_text(document)
    scenarios = [path.name for path in short_scenarios(tmp_path, 5)]
    (tmp_path / "mine.toml").write_text(
        f'description = "Mine."\nagents = ["tiny.toml"]\npolicies = ["online"]\nscenarios = {json.dumps(scenarios)}\n'
        "episodes = 2\n"
    )
    where = ["--engine", engine.name] + (["--workers", str(engine.workers)] if engine.workers else [])
    for out, more in (("here", []), ("there", where)):
        done = cli("run", "mine.toml", "--out", out, *more)
        assert done.code == 0, done.err
    here, there = (
        pq.read_table(tmp_path / out / name / "results.parquet").to_pylist()
        for out in ("here", "there")
        for name in ("short-0",)
    )
    assert here == there
    weights = [(tmp_path / out / "tiny-short-1-0/policy.onnx").read_bytes() for out in ("here", "there")]
    assert weights[0] == weights[1]


def children(pid: int) -> set[int]:
    """Spawned workers of a process, without the tracker of multiprocessing's resources."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.add(int(stat.parent.name))
    return found


def alive(pids: set[int]) -> dict[int, str]:
    """What those of the processes do that have not ended; whether somebody has waited for it is not their doing."""
    states = {}
    for pid in pids:
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if "zombie" not in status:
                states[pid] = " ".join(line for line in status.splitlines() if line.startswith(("State", "Sig")))
    return states


def wait_for(what: Callable[[], bool], seconds: float = 600.0) -> bool:
    end = monotonic() + seconds
    while not what() and monotonic() < end:
        sleep(0.1)
    return what()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_stop_with_the_one_who_asked_and_their_trainings_are_saved(
    sent: signal.Signals, tmp_path: Path
) -> None:
    """The signal reaches the command alone, as `kill PID` does; nobody goes on learning into its folder, nor begins
    with what was handed out."""
    endless = replace(small("ppo"), steps=10_000_000, checkpoint_steps=2048)
    (tmp_path / "tiny.toml").write_text(run_dir.toml_text(endless.document()))
    scenarios = [path.name for path in short_scenarios(tmp_path, 5)]
    (tmp_path / "mine.toml").write_text(
        f'description = "Mine."\nagents = ["tiny.toml"]\npolicies = ["online"]\nscenarios = {json.dumps(scenarios)}'
    )
    command = [
        sys.executable,
        "-m",
        "tiergym",
        "run",
        "mine.toml",
        "--out",
        "out",
        "--engine",
        PROCESSES,
        "--workers",
        "2",
    ]
    runs = [tmp_path / "out" / f"tiny-short-{n}-0" for n in range(2)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as asker:
        try:
            assert wait_for(lambda: all(checkpoint.exists(run) for run in runs)), asker.poll()
            workers = children(asker.pid)
            assert len(workers) == 2
            saved = [checkpoint.steps(checkpoint.latest(run)) for run in runs]
            asker.send_signal(sent)
            assert wait_for(lambda: asker.poll() is not None)
            assert wait_for(lambda: not alive(workers)), alive(workers)
        finally:
            asker.kill()
        told = asker.stderr.read() if asker.stderr is not None else ""
    assert asker.returncode == (130 if sent == signal.SIGINT else -sent)
    assert "Traceback" not in told, told
    for run, before in zip(runs, saved, strict=True):
        assert checkpoint.steps(checkpoint.latest(run)) > before  # of the moment at which it was told to stop
    assert not [path for run in runs for path in run.rglob(".*") if path.is_dir()], "half a checkpoint"
    assert set((tmp_path / "out").glob("tiny-*")) == set(runs)


def test_a_worker_that_does_not_heed_ends_nevertheless(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(
        "import sys\n"
        "from tests import engine_cells\n"
        "from tiergym.lab import engines\n"
        "if __name__ == '__main__':\n"
        "    engines.PATIENCE_S = 1.0\n"
        "    cells = [(number, sys.argv[1]) for number in range(2)]\n"
        "    list(engines.Engine(engines.PROCESSES, workers=2).run(engine_cells.stay, cells))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, program, tmp_path], env=environment, cwd=tmp_path) as asker:
        try:
            assert wait_for(lambda: len(list(tmp_path.glob("at-work-*"))) == 2), asker.poll()
            workers = children(asker.pid)
        finally:
            asker.kill()
    assert len(workers) == 2
    assert wait_for(lambda: not alive(workers), 100), alive(workers)


def test_an_interruption_travels_from_a_worker() -> None:
    """One that could not be read would break the pool, which kills the workers that are about to save."""
    told = pickle.loads(pickle.dumps(TrainingInterruptedError(Path("run"), 32, 64)))
    assert (told.run, told.steps, str(told)) == (Path("run"), 32, str(TrainingInterruptedError(Path("run"), 32, 64)))


SPACE = {"x": Parameter("x", 0.5, 0.0, 1.0), "n": Parameter("n", 3, 1, 9)}


def tuned(
    folder: Path, engine: Engine, trials: int = 14, deadly: bool = False, stop_at: int = 0, batch: int = 4
) -> list[Trial]:
    """A study in the folder, with a file there for each time that a trial is measured."""
    folder.mkdir(exist_ok=True)

    def stop(trial: Trial, count: int) -> None:
        if count == stop_at:
            raise KeyboardInterrupt

    how = TuningSearch(trials, 0, "hill", batch=batch)
    measure = partial(engine_cells.hill, folder, deadly)
    return search(SPACE, [{"x": 0.5, "n": 3}], lambda: measure, {"what": "hill"}, how, folder, stop, engine)


def times_measured(folder: Path) -> list[int]:
    return [len(list(folder.glob(f"{number}-*"))) for number in range(14)]


def test_a_search_in_batches_is_the_same_wherever_it_is_measured_and_goes_on(engine: Engine, tmp_path: Path) -> None:
    """Stopped while it tells a batch, it measures nothing again, whichever engine goes on."""
    here = tuned(tmp_path / "here", Engine())
    assert tuned(tmp_path / "there", engine) == here and times_measured(tmp_path / "there") == [1] * 14
    assert len({str(trial.values) for trial in here}) == 14 and any(trial.score is None for trial in here)
    with pytest.raises(TuningInterruptedError, match="stopped with 8 trials finished"):
        tuned(tmp_path / "parts", engine, stop_at=6)
    assert times_measured(tmp_path / "parts") == [1] * 8 + [0] * 6
    assert tuned(tmp_path / "parts", Engine()) == here and times_measured(tmp_path / "parts") == [1] * 14
    assert tuned(tmp_path / "one", Engine(), batch=1) != here


@in_workers
def test_a_trial_whose_worker_is_killed_is_measured_again(dying: Engine, tmp_path: Path) -> None:
    assert tuned(tmp_path / "there", dying, deadly=True) == tuned(tmp_path / "here", Engine())
    times = times_measured(tmp_path / "there")
    assert times[2] == 2 and times[4:] == [1] * 10


def test_a_search_that_is_killed_takes_up_what_it_began(tmp_path: Path) -> None:
    """The third trial kills the command itself, with the batch half measured."""
    (tmp_path / "killed").mkdir()
    code = (
        "from pathlib import Path; from tests.test_engines import tuned; from tiergym.lab.engines import Engine\n"
        f"tuned(Path({str(tmp_path / 'killed')!r}), Engine(), deadly=True)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == -signal.SIGKILL
    assert times_measured(tmp_path / "killed")[:4] == [1, 1, 1, 0]
    assert tuned(tmp_path / "killed", Engine()) == tuned(tmp_path / "here", Engine())
    assert times_measured(tmp_path / "killed") == [1, 1, 2] + [1] * 11


def test_other_batches_are_another_study(tmp_path: Path) -> None:
    tuned(tmp_path, Engine(), trials=2)
    with pytest.raises(UserError, match="its batch is '4'; allowed: '2'"):
        tuned(tmp_path, Engine(), batch=2)


@in_workers
def test_tune_is_the_same_to_the_bit(dying: Engine, tmp_path: Path, cli: Cli) -> None:
    """Of a rule, whose workers load it by its spelling, and of a recipe, whose trials are trainings."""
    tiny_scenario(tmp_path)
    recipe = small("ppo")
    (tmp_path / "mine.toml").write_text(run_dir.toml_text(recipe.document()))
    where = ["--engine", dying.name] + (["--workers", str(dying.workers)] if dying.workers else [])
    steps = 4 * (4 * 24 + 128 * recipe.hold_ticks)
    for target, of in (("cost_benefit", ["--trials", 7]), ("mine.toml", ["--trials", 4, "--steps", steps])):
        found = []
        for out, more in (("here", []), ("there", where)):
            done = cli("tune", target, *of, "--scenario", "tiny.toml", "--batch", 3, "--out", f"{out}-{target}", *more)
            assert done.code == 0, done.err
            found.append((tmp_path / f"{out}-{target}/{Path(target).stem}_tuned.toml").read_bytes())
        assert found[0] == found[1]
    weights = [
        (tmp_path / out / "trials/0003/policy.onnx").read_bytes() for out in ("here-mine.toml", "there-mine.toml")
    ]
    assert weights[0] == weights[1]


def test_engines_that_do_not_go_with_their_options_are_refused_before_work(cli: Cli) -> None:
    for command in (
        ["ladder", "test", "--out", "o"],
        ["leaderboard", "test", "--out", "o"],
        ["run", "main"],
        ["tune", "cost_benefit", "--out", "o"],
    ):
        done = cli(*command, "--engine", "processes", "--address", "auto")
        assert done.code == 2 and "--address auto" in done.err and not Path("o").exists()
