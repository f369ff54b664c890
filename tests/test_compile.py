"""Compiled code: parts and entries, what the cache notices, where it lies, and threads that survive forks."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from tiergym.env.actions import NVEC
from tiergym.env.machines import Machines
from tiergym.env.threads import _pool, on_threads, take
from tiergym.sim import compile as compiling
from tiergym.sim import compile_cache, numba_changes
from tiergym.sim.compile import jit
from tiergym.sim.compile_cache import cache_dir, source_hash
from tiergym.specs import list_scenarios, load_scenario

ROOT = Path(__file__).resolve().parents[1]
CALLEE = """
    from tiergym.sim.compile import jit

    @jit
    def step(x):
        return x + {constant}
"""
CALLER = """
    from tiergym.sim.compile import jit
    from tiergym.sim.compile_cache import cache_dir
    from tiergym.sim.callee import step

    @jit
    def twice(x):
        return step(step(x))

    result = twice(1)
    stats = twice.entry.stats
    print(result, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), cache_dir())
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of the same shape with two compiled functions, one calling the other across files."""
    root = tmp_path / "site" / "tiergym"
    (root / "sim").mkdir(parents=True)
    (root / "env").mkdir()
    for name in ("__init__.py", "sim/__init__.py", "env/__init__.py"):
        (root / name).touch()
    for module in (compiling, compile_cache, numba_changes):
        shutil.copy(Path(str(module.__file__)), root / "sim")
    (root / "sim" / "caller.py").write_text(textwrap.dedent(CALLER))
    write_callee(root, 1)
    return root


def write_callee(package: Path, constant: int) -> None:
    (package / "sim" / "callee.py").write_text(textwrap.dedent(CALLEE).format(constant=constant))


def call(package: Path, **environment: str) -> tuple[int, int, int, str]:
    """Result, cache hits, cache misses and cache folder of `twice(1)` in a new process."""
    variables = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    variables |= {"PYTHONPATH": str(package.parent)} | environment
    command = [sys.executable, "-m", "tiergym.sim.caller"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, cwd=package.parent)
    result, hits, misses, folder = done.stdout.split()
    return int(result), int(hits), int(misses), folder


def test_a_second_process_loads_from_the_cache(package: Path) -> None:
    result, hits, misses, folder = call(package)
    assert (result, hits, misses) == (3, 0, 1)
    assert Path(folder).parent == package / "__pycache__"
    assert call(package) == (3, 1, 0, folder)


def test_an_edited_callee_in_another_file_is_noticed(package: Path) -> None:
    assert call(package)[:3] == (3, 0, 1)
    write_callee(package, 10)
    assert call(package)[:3] == (21, 0, 1)
    write_callee(package, 1)
    assert call(package)[:3] == (3, 1, 0)


def test_old_caches_are_dropped(package: Path) -> None:
    for constant in range(1, 7):
        write_callee(package, constant)
        newest = call(package)[3]
    caches = list((package / "__pycache__").glob("tiergym-*"))
    assert len(caches) == 4
    assert Path(newest) in caches


def test_an_unwritable_package_falls_back(package: Path, tmp_path: Path) -> None:
    # A file in the folder's place stops root too, which a read-only mode does not.
    pycache, xdg, temporary = package / "__pycache__", tmp_path / "xdg", tmp_path / "tmp"
    temporary.mkdir()
    shutil.rmtree(pycache, ignore_errors=True)
    pycache.touch()
    places = {"XDG_CACHE_HOME": str(xdg), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    result, _, _, folder = call(package, **places)
    assert (result, Path(folder).parent) == (3, xdg / "tiergym")
    assert call(package, **places)[1:3] == (1, 0)

    shutil.rmtree(xdg)
    xdg.touch()
    private = temporary / f"tiergym-{os.getuid()}"
    result, _, _, folder = call(package, **places)
    assert (result, Path(folder).parent) == (3, private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700

    private.chmod(0o777)  # anybody could put native code there: run without a cache
    result, hits, _, folder = call(package, **places)
    assert (result, hits, folder) == (3, 0, "None")


def test_the_user_s_own_folder_wins(package: Path, tmp_path: Path) -> None:
    folder = call(package, NUMBA_CACHE_DIR=str(tmp_path / "mine"))[3]
    assert Path(folder).parent == tmp_path / "mine"


def test_the_hash_depends_on_every_source_of_the_compiled_floors(package: Path) -> None:
    before = source_hash(package)
    (package / "env" / "deep").mkdir()
    (package / "env" / "deep" / "new.py").touch()
    added = source_hash(package)
    (package / "env" / "deep" / "new.py").rename(package / "env" / "deep" / "renamed.py")
    assert len({before, added, source_hash(package)}) == 3


def test_other_packages_functions_keep_their_cache() -> None:
    config: Any = numba.config
    before = config.CACHE_DIR
    folder = cache_dir()
    assert folder is not None

    def identity(x):
        return x

    ours: Any = jit(identity)

    assert ours(1) == 1
    assert config.CACHE_DIR == before
    assert Path(ours.entry.stats.cache_path).is_relative_to(folder)


def test_a_part_is_compiled_once_for_all_constants_and_has_no_machine_code() -> None:
    @jit
    def scaled(x, factor, twice):
        return x * factor * (2 if twice else 1)

    @jit
    def total(x):
        return scaled(x, 3, True) + scaled(x, 5, False) + scaled(x, int(x), x > 0)

    assert total(2) == 12 + 10 + 8
    part: Any = scaled.part  # type: ignore[attr-defined]
    assert len(part.signatures) == 1
    assert "entry" not in vars(scaled)  # Python has not called it
    assert scaled(2, 3, True) == 12
    assert scaled.py_func(2, 3, True) == 12  # type: ignore[attr-defined]


def test_parts_reach_an_entry_through_parts() -> None:
    @jit
    def lowest(x):
        return x + 1

    @jit
    def left(x):
        return lowest(x) * 2

    @jit
    def right(x):
        return lowest(x) * 3

    @jit
    def top(x):
        return left(x) + right(x)

    assert top(1) == 10
    assert left(1) == 4


SHARED = """
    import os, threading
    import numpy as np
    from tiergym.env.threads import on_threads, take
    from tiergym.sim.compile import jit

    @jit
    def one(x):
        for _ in range(1000):
            x = x * 0.999 + 0.1
        return x

    @jit
    def several(turn, x, out):
        first = take(turn, 7)
        while first < x.size:
            for i in range(first, min(first + 7, x.size)):
                out[i] += one(x[i])
            first = take(turn, 7)

    x = np.linspace(0, 1, 1000)
    expected = np.zeros_like(x)
    several(np.zeros(1, np.int64), x, expected)

    def check():
        turn, out = np.zeros(1, np.int64), np.empty_like(x)
        for k in range(100):
            turn[0], out[:] = 0, 0
            on_threads(lambda: several(turn, x, out), 1 + k % 4)
            assert np.array_equal(out, expected)

    check()
"""
FORK = """
    child = os.fork()
    if child == 0:
        check()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
THREADS = """
    failures = []
    threading.excepthook = failures.append
    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    child = os.fork()  # while others share work
    if child == 0:
        check()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    for thread in threads:
        thread.join()
    assert failures == []
"""


@pytest.mark.parametrize("then", [FORK, THREADS], ids=["fork", "threads"])
def test_shared_work_survives(tmp_path: Path, then: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SHARED) + textwrap.dedent(then))
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_error_on_another_thread_is_the_caller_s() -> None:
    caller, begun = threading.get_ident(), threading.Event()

    def work() -> None:
        if threading.get_ident() != caller:
            begun.set()
            raise ValueError("not the caller")
        assert begun.wait(10)

    with pytest.raises(ValueError, match="not the caller"):
        on_threads(work, 2)


def test_a_thread_that_wakes_late_is_not_waited_for() -> None:
    release = threading.Event()
    caller, called = threading.get_ident(), []

    def work() -> None:
        called.append(threading.get_ident())

    sleeper = threading.Thread(target=on_threads, args=(lambda: release.wait(10), 2))
    sleeper.start()  # keeps the pool's only thread
    while not _pool(1)._work_queue.empty():
        time.sleep(0.001)
    on_threads(work, 2)
    release.set()
    sleeper.join()
    assert called == [caller]


def test_take_without_a_compiler_counts_the_same() -> None:
    turn = np.zeros(1, np.int64)
    assert [take(turn, 3), take(turn, 5), take(turn, 1)] == [0, 3, 8]
    assert turn[0] == 9


def test_strict_floating_point() -> None:
    @jit
    def compensated(x):
        total = correction = 0.0
        for value in x:
            y = value - correction
            t = total + y
            correction = (t - total) - y  # fastmath would simplify this to zero
            total = t
        return total, 1.0 / x[0]

    x = np.array([0.0] + [0.1] * 1000)
    total, infinite = compensated(x)
    assert total == 100.0
    assert infinite == np.inf


LAYOUTS = """
    import sys
    import numpy as np
    from tiergym.sim.compile import jit

    @jit
    def read(m, depth):
        return m.last if depth == 0 else read(m, depth - 1)  # recursive: it is never inlined away

    @jit
    def total(machines):
        found = 0
        for i in range(machines.shape[0]):
            found += read(machines[i], 1)
        return found

    for size in sys.argv[1:]:
        machines = np.zeros(2, [("pad", "<i8", (int(size),)), ("last", "<i8")])
        machines["last"] = 7
        print(total(machines))
"""


def test_code_cached_by_several_processes_is_kept_apart(tmp_path: Path) -> None:
    """numba names records by a number of the process, so two sizes of machine may bear the same name in the cache."""
    script = tmp_path / "layouts.py"
    script.write_text(textwrap.dedent(LAYOUTS))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def totals(*sizes: str) -> list[str]:
        command = [sys.executable, str(script), *sizes]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()

    assert [*totals("1"), *totals("50")] == ["14", "14"]
    assert totals("1", "50") == totals("50", "1") == ["14", "14"]


ENTRIES = """
    import hashlib, sys

    import numpy as np

    from tiergym.sim.account import account
    from tiergym.sim.kswapd import kswapd_run

    machines = np.load(sys.argv[1])
    print(hashlib.sha256(machines.tobytes()).hexdigest())
    for work in (account, lambda machine: kswapd_run(machine, 0)):
        for machine in machines:
            work(machine)
        print(hashlib.sha256(machines.tobytes()).hexdigest())
"""


def test_plain_numba_gives_the_same_bits_and_shares_no_cache(tmp_path: Path) -> None:
    """All shipped scenarios under random actions, in what has most floating point and what has most branches: numba
    alone takes minutes for the whole model (experiments/trajectory_hash.py)."""
    scenarios = [load_scenario(name) for name in list_scenarios()]
    machines = Machines(scenarios, 5 * len(scenarios), threads=1)
    machines.reset(np.arange(len(machines.records), dtype=np.uint64))
    chosen = np.random.default_rng(0)
    for _ in range(60):
        machines.step(chosen.integers(0, NVEC, (len(machines.records), len(NVEC))))
    np.save(tmp_path / "machines.npy", machines.records)
    (tmp_path / "cache").mkdir()

    def shown(**environment: str) -> list[str]:
        command = [sys.executable, "-c", textwrap.dedent(ENTRIES), str(tmp_path / "machines.npy")]
        return subprocess.run(
            command, env=os.environ | environment, check=True, capture_output=True, text=True, cwd=ROOT
        ).stdout.split()

    ours = shown()
    assert len(set(ours)) == 3
    assert shown(TIERGYM_PLAIN_NUMBA="1", NUMBA_CACHE_DIR=str(tmp_path / "cache")) == ours
    assert list((tmp_path / "cache").iterdir()) == []
