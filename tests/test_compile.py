"""Compiled code: what the cache notices, where it lies, and that parallel regions survive fork and threads."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from tiergym.sim import compile as compiling
from tiergym.sim.compile import cache_dir, jit, source_hash

CALLEE = """
    from tiergym.sim.compile import jit

    @jit
    def step(x):
        return x + {constant}
"""
CALLER = """
    from tiergym.sim.compile import cache_dir, jit
    from tiergym.sim.callee import step

    @jit
    def twice(x):
        return step(step(x))

    result = twice(1)
    print(result, sum(twice.stats.cache_hits.values()), sum(twice.stats.cache_misses.values()), cache_dir())
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of the same shape with two compiled functions, one calling the other across files."""
    root = tmp_path / "site" / "tiergym"
    (root / "sim").mkdir(parents=True)
    (root / "env").mkdir()
    for name in ("__init__.py", "sim/__init__.py", "env/__init__.py"):
        (root / name).touch()
    shutil.copy(Path(compiling.__file__), root / "sim" / "compile.py")
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

    assert config.CACHE_DIR == before
    assert Path(ours.stats.cache_path).is_relative_to(folder)


PARALLEL = """
    import os, threading
    import numba, numpy as np
    from tiergym.sim.compile import jit, jit_parallel

    @jit
    def one(x):
        for _ in range(1000):
            x = x * 0.999 + 0.1
        return x

    @jit_parallel
    def all_of_them(x, out):
        for i in numba.prange(x.size):
            out[i] = one(x[i])

    @jit
    def one_by_one(x, out):
        for i in range(x.size):
            out[i] = one(x[i])

    x = np.linspace(0, 1, 1000)
    expected, out = np.empty_like(x), np.empty_like(x)
    one_by_one(x, expected)

    def check():
        out = np.empty_like(x)
        for _ in range(100):
            out[:] = 0
            all_of_them(x, out)
            assert np.array_equal(out, expected)

    check()
    print(numba.threading_layer())
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
    child = os.fork()  # while another thread is in a region
    if child == 0:
        check()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    for thread in threads:
        thread.join()
    assert failures == []
"""


@pytest.mark.parametrize("then", [FORK, THREADS], ids=["fork", "threads"])
def test_parallel_regions_survive(tmp_path: Path, then: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PARALLEL) + textwrap.dedent(then))
    variables = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    variables |= {"NUMBA_NUM_THREADS": "2", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "workqueue\n"), done.stderr


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
