"""What a tree is packaged as: a daemon that sees what `tiergym advise` sees and writes only when told, and a sketch."""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.live_trees import lines, simulated, two_nodes, write
from tests.refusals import assert_refused
from tiergym.env import actions as act
from tiergym.env.observations import NAMES
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.lab.bpf_source import bpf_source
from tiergym.lab.daemon_source import daemon_source
from tiergym.policy.c_header import inputs_of
from tiergym.policy.fixed_point import INPUTS, ONE, columns_of
from tiergym.policy.rules import default_actions
from tiergym.policy.tree import Node, TreePolicy, make_tree, tree_json
from tiergym.recordings.live_observation import LiveMachine
from tiergym.recordings.sampling import Machine

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="this machine has no C compiler")
PERIOD_MS = 250
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1", f"-DTIERGYM_PERIOD_MS={PERIOD_MS}")
FACTOR, DEMOTION = "proc/sys/vm/watermark_scale_factor", "sys/kernel/mm/numa/demotion_enabled"


def tree_of_all_inputs() -> TreePolicy:
    """One question about every input that a daemon can make."""

    def grow(columns: Sequence[int], first: int) -> list[Node]:
        if not columns:
            return [act.DEFAULT]
        half = len(columns) // 2
        yes = grow(columns[1 : 1 + half], first + 1)
        no = grow(columns[1 + half :], first + 1 + len(yes))
        return [(columns[0], 0, first + 1, first + 1 + len(yes)), *yes, *no]

    return make_tree("all", grow(columns_of(INPUTS["counters"]).tolist(), 0))


def constant(**modes: str) -> TreePolicy:
    return make_tree("constant", [act.from_modes(modes)])


def compiled(tree: TreePolicy, folder: Path) -> Path:
    (folder / "tiergymd.c").write_text(daemon_source(tree))
    subprocess.run([str(COMPILER), *STRICT, "-o", "tiergymd", "tiergymd.c"], cwd=folder, check=True)
    return folder / "tiergymd"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A daemon that makes every input."""
    return compiled(tree_of_all_inputs(), tmp_path_factory.mktemp("daemon")) if COMPILER else Path()


def printed(text: str) -> Iterator[dict[str, float]]:
    """Inputs of every update as they are shown, by name."""
    for update in re.split(r"(?m)^\d+$", text)[1:]:
        numbers = [int(number) / ONE for number in re.findall(r"(?m)^  input (\d+)$", update)]
        yield dict(zip(inputs_of(tree_of_all_inputs()), numbers, strict=True))


def run(daemon: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([daemon, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def seen(live: LiveMachine, now_s: float) -> dict[str, float]:
    obs, _ = live.observe(now_s)
    return dict(zip(NAMES, obs[0].tolist(), strict=True))


@needs_compiler
@pytest.mark.parametrize("scenario", ["llama-1to2", "kvstore-1to2"])
def test_the_daemon_sees_what_advise_sees(seeing, tmp_path, scenario):
    envs = PlacementVectorEnv(scenario=scenario, num_envs=1)
    envs.reset(seed=3)
    for _ in range(160):
        envs.step(default_actions(1))
    root = simulated(tmp_path / "machine", envs._episodes.machines.records[0])
    done = run(seeing, "--root", root, "--seconds", 1, "--inputs")
    assert done.returncode == 0, done.stderr
    live = LiveMachine.find(Machine(root))
    seen(live, 0.0)
    there = seen(live, PERIOD_MS / 1000)
    (inputs,) = printed(done.stdout)
    still = {name: value for name, value in inputs.items() if name != "calm"}
    assert still == pytest.approx({name: there[name] for name in still}, abs=2 / ONE)
    assert sum(value > 0 for value in still.values()) > 15


GROWN = {
    "vm": {
        "pgalloc_normal": 50_000,
        "pgalloc_dma32": 2_000,
        "pageoutrun": 7,
        "allocstall_normal": 3,
        "allocstall_movable": 4,
        "pgsteal_kswapd": 900,
        "pgsteal_direct": 70,
        "pgdemote_kswapd": 1_100,
        "pgdemote_direct": 120,
        "pgdemote_proactive": 13,
        "pgpromote_success": 1_500,
        "pgpromote_candidate": 1_600,
        "numa_hint_faults": 1_700,
        "pswpout": 180,
        "pswpin": 190,
        "workingset_refault_file": 2_100,
        "oom_kill": 1,
    },
    "n0": {"numa_hit": 30_000, "numa_miss": 0},
    "n1": {"numa_hit": 9_000, "numa_miss": 2_500, "nr_slab_unreclaimable": 1_000, "nr_kernel_stack": 2_800},
}


@needs_compiler
def test_rates_are_growth_per_second_since_the_look_before(seeing, tmp_path):
    root = two_nodes(tmp_path / "machine")
    write(root, {"proc/pressure/memory": "some total=0\nfull total=0\n"})
    command = [seeing, "--root", root, "--seconds", "1", "--inputs"]
    live = LiveMachine.find(Machine(root))
    seen(live, 0.0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "shadow mode: nothing is written\n"  # the first look is over
        running.send_signal(signal.SIGSTOP)
        for node in (0, 1):
            path = root / f"sys/devices/system/node/node{node}/vmstat"
            path.write_text(path.read_text().replace("nr_kernel_stack 2400\n", "") + lines(GROWN[f"n{node}"]))
        path = root / "proc/vmstat"
        path.write_text(
            path.read_text().replace("pgsteal_kswapd 0\npgsteal_direct 0\n", "").replace("oom_kill 0\n", "")
            + lines(GROWN["vm"])
        )
        (root / "proc/pressure/memory").write_text("some avg10=0.00 total=50000\nfull avg10=0.00 total=20000\n")
        running.send_signal(signal.SIGCONT)
        text = running.stdout.read()
    (inputs,) = printed(text)
    stalls = inputs["rate.allocstall"]
    elapsed_s = 7 * (1 - stalls) / (100 * stalls)  # x / (x + 100) of 7 stalls
    assert PERIOD_MS / 1000 <= elapsed_s < 30
    there = seen(live, elapsed_s)
    rates = {name: value for name, value in inputs.items() if name.startswith(("rate.", "psi."))}
    assert rates == pytest.approx({name: there[name] for name in rates}, rel=0.01, abs=4 / ONE)
    assert sum(value > 0 for value in rates.values()) > 15 and inputs["calm"] == 0


@needs_compiler
def test_shadow_mode_says_what_it_would_write_and_writes_nothing(tmp_path):
    daemon, root = compiled(constant(headroom="medium", zone="movable"), tmp_path), two_nodes(tmp_path / "machine")
    before = {path: path.read_text() for path in root.rglob("*") if path.is_file()}
    done = run(daemon, "--root", root, "--seconds", 2)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("shadow mode: nothing is written\n1\n")
    for line in (
        "would write 200 to /proc/sys/vm/watermark_scale_factor (now 10)",
        "would write 1 to /sys/kernel/mm/numa/demotion_enabled (now false)",
        "would write online_movable to /sys/devices/system/memory/auto_online_blocks (now online)",
    ):
        assert done.stdout.count(line) == 1, line
    assert {path: path.read_text() for path in root.rglob("*") if path.is_file()} == before


@needs_compiler
def test_apply_writes_and_puts_back(tmp_path):
    daemon, root = compiled(constant(headroom="medium"), tmp_path), two_nodes(tmp_path / "machine")
    with subprocess.Popen([daemon, "--root", root, "--apply"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith("2"):
            assert line, "it ended by itself"
        assert (root / FACTOR).read_text() == "200\n" and (root / DEMOTION).read_text() == "1\n"
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    assert running.returncode == 0
    assert (root / FACTOR).read_text() == "10\n" and (root / DEMOTION).read_text() == "false\n"


@needs_compiler
def test_a_kill_puts_the_knobs_back(tmp_path):
    daemon, root = compiled(constant(headroom="large"), tmp_path), two_nodes(tmp_path / "machine")
    with subprocess.Popen([daemon, "--root", root, "--apply"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith("2"):
            assert line, "it ended by itself"
        assert (root / FACTOR).read_text() == "500\n"
        vmstat = root / "proc/vmstat"
        (tmp_path / "new").write_text(vmstat.read_text().replace("oom_kill 0", "oom_kill 1"))
        (tmp_path / "new").rename(vmstat)
        while "a guard holds" not in (line := running.stdout.readline()):
            assert line, "it ended by itself"
        while not (line := running.stdout.readline()).strip().isdecimal():
            assert line, "it ended by itself"
        assert (root / FACTOR).read_text() == "10\n"
        running.kill()


@needs_compiler
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aply"], "--aply; allowed: [--apply]"),
        (["--seconds", "0"], "--seconds; allowed: "),
        (["--fast", "0"], "one of --fast and --slow; allowed: "),
        (["--fast", "0", "--slow", "x"], "nodes 'x'; allowed: numbers below 64"),
        (["--root", "/nowhere"], "no node without CPUs; allowed: "),
    ],
)
def test_bad_arguments_are_one_line(seeing, arguments, message):
    done = run(seeing, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_tree_of_other_inputs_is_no_daemon(cli, tmp_path):
    tree = make_tree("t", [(NAMES.index("threads"), 1, 1, 2), act.DEFAULT, act.from_modes({"headroom": "small"})])
    (tmp_path / "tree.json").write_text(tree_json(tree))
    done = cli("export", "tree.json", "--to", "daemon")
    assert_refused(done, "the tree asks for threads, which the daemon does not read; allowed: --inputs counters")
    assert [path.name for path in tmp_path.iterdir()] == ["tree.json"]


def test_both_are_exported(cli, tmp_path):
    (tmp_path / "tree.json").write_text(tree_json(constant(headroom="small")))
    assert cli("export", "tree.json", "--to", "daemon").out == "tiergymd.c\n"
    assert cli("export", "tree.json", "--to", "bpf").out == "tiergym.bpf.c\n"


def test_the_sketch_says_that_it_is_one():
    text = bpf_source(tree_of_all_inputs())
    assert text.startswith("/* HYPOTHETICAL.") and "NO KERNEL HAS" in text
    assert all(name in text for name in ("struct_ops", "tiergym_update(t, in)", "tiergym_place(t, cls, pressure)"))
    assert np.all([text.count(f"{name}:") == 1 for name in re.findall(r"TIERGYM_IN_\w+(?=,)", text.split("enum")[1])])
