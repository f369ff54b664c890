"""Settings of the whole suite (reproducible hypothesis runs, no window system, one torch thread per worker), and the
fixtures that several files use."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.bad_recordings import unpacked_copy
from tests.command_line import Cli, Done, call
from tests.short_runs import short_scenario, write_short_scenario
from tiergym import specs

# Tables are as wide and as plain as a test says, whatever terminal or CI the suite runs in; children inherit it.
for _name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(_name, None)
os.environ.pop("GITHUB_ACTIONS", None)  # typer takes it for a terminal

# Who starts the suite in the background of a script has it ignore Ctrl-C, and the commands that tests interrupt, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which only tests do

# No deadline: the first example may compile. The same examples in every run; `--hypothesis-profile=explore`
# looks for new ones.
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("suite")


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test whose parameter is thousands of characters is named after the first of them."""
    return f"{val[:20]!r}... of {len(val)}" if isinstance(val, str | bytes) and len(val) > 200 else None


@pytest.fixture(scope="session", autouse=True)
def _state_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The key that seals checkpoints is not made in the user's own folder."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def short() -> specs.Scenario:
    """`llama-1to2` with episodes of eight ticks."""
    return short_scenario()


@pytest.fixture(scope="module")
def other() -> str:
    """A shipped scenario that is not `llama-1to2`."""
    return next(name for name in specs.list_scenarios() if name.startswith("traditional-"))


@pytest.fixture
def short_toml(tmp_path: Path) -> Path:
    """A user's file of `llama-1to2` with episodes of two seconds, in the test's folder."""
    return write_short_scenario(tmp_path)


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """torch without barriers, which spin where other programs want the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """`cli("compare", ...)` in an empty working directory, through the installed command's function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: object) -> Done:
        return call(monkeypatch, capsys, *args)

    return run


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A copy of a real recording, its samples unpacked so that a test can spoil them."""
    return unpacked_copy(tmp_path)
