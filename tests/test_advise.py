"""`tiergym advise`: the observation of a real machine, what a policy says to it, and that nothing is written."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Cli
from tests.live_trees import lines, simulated, tree, two_nodes, write
from tests.places import ROOT
from tiergym import specs
from tiergym.env import actions as act
from tiergym.env.machines import Machines
from tiergym.env.observations import ENTRIES, NAMES
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.errors import UserError
from tiergym.lab.advise import Adviser, stand_ins
from tiergym.policy.load import load_policy
from tiergym.policy.rules import default_actions, obs_index, set_mode
from tiergym.recordings.knobs import closest
from tiergym.recordings.live_observation import NEUTRAL, LiveMachine
from tiergym.recordings.sampling import NODES, Machine
from tiergym.recordings.tiers import Fold


def live(root: Path, fold: Fold | None = None) -> LiveMachine:
    return LiveMachine.find(Machine(root), fold)


def seen(machine: LiveMachine, now_s: float = 0.0) -> dict[str, float]:
    obs, _ = machine.observe(now_s)
    return dict(zip(NAMES, obs[0].tolist(), strict=True))


def test_a_machine_of_two_nodes_entry_by_entry(tmp_path: Path) -> None:
    machine = live(two_nodes(tmp_path))
    assert machine.fold == Fold((0,), (1,))
    obs = seen(machine)
    kernel_other = 100_000 - 6_000 - 74 - 20_000 - 10_000 - 1_026 - 200 - 3_000 - 4_000 - 3_000
    expected = {
        "free.dma": 0.0,
        "free.dma32": 0.25,
        "free.normal": 1 / 80,
        "free.slow_normal": 0.5,
        "free.slow_movable": 1 / 6,
        "above_low.fast": 20 * (6_000 - 1_000) / 100_000,
        "above_low.slow_normal": 1.0,
        "pages.anon.fast": 0.2,
        "pages.file.fast": 0.1,
        "pages.pt_leaf.fast": 1_024 / 100_000,
        "pages.pt_upper.fast": 2 / 100_000,
        "pages.kstack.fast": 200 / 100_000,
        "pages.memmap.fast": 0.03,
        "pages.kernel_other.fast": kernel_other / 100_000,
        "pages.anon.slow": 0.25,
        "on_slow.pt_leaf": 0.5,
        "on_slow.kstack": 0.75,
        "on_slow.slab_reclaim": 0.0,
        "threads": 100 / 5_100,
        "files": 500 / 1_000_500,
        "sockets": 7 / 100_007,
        "blocks.offline": 1 / 3,
        "blocks.normal": 1 / 3,
        "blocks.movable": 1 / 3,
        "config.slow_share": 2 / 3,
        "config.latency": 0.6,  # 25 / 10 - 1 = 1.5, shown as 1.5 / 2.5
        "config.demotion": 0.0,
        "pmu.misses.fast": NEUTRAL["pmu.misses.fast"],
        "calm": 0.0,
    }
    assert {name: obs[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert all(0.0 <= value <= 1.0 for value in obs.values())


def test_rates_are_growth_per_second_since_the_look_before(tmp_path: Path) -> None:
    machine = live(two_nodes(tmp_path, {"pgalloc_normal": 10, "pgdemote_kswapd": 5, "pageoutrun": 1}))
    assert not any(value for name, value in seen(machine, 10.0).items() if name.startswith(("rate.", "psi.")))
    grown = {"pgalloc_normal": 100_010, "pgdemote_kswapd": 100_005, "pageoutrun": 201, "pgsteal_kswapd": 100_000}
    write(tmp_path, {"proc/vmstat": lines({"oom_kill": 2, "pgsteal_direct": 0, "allocstall_normal": 0, **grown})})
    node = (tmp_path / NODES / "node1/vmstat").read_text()
    grown_node = node.replace("numa_miss 0", "numa_hit 0\nnuma_miss 50000").replace("_pages 1026", "_pages 21026")
    write(tmp_path, {f"{NODES}/node1/vmstat": grown_node, "proc/pressure/memory": "some total=0\nfull total=0\n"})
    obs = seen(machine, 12.0)  # two seconds later
    assert obs["rate.pgdemote_kswapd"] == obs["rate.pgsteal_kswapd_fast"] == pytest.approx(0.5)
    assert obs["rate.pgalloc_slow"] == pytest.approx(0.5) and obs["rate.pgalloc_fast"] == 0.0  # all hit node 1
    assert obs["rate.kernel_fallback_slow"] == pytest.approx(10_000 / 60_000)
    assert obs["rate.user_fallback_slow"] == pytest.approx(15_000 / 65_000)
    assert obs["rate.kswapd_wakeups_fast"] == pytest.approx(0.5) and obs["rate.oom_kill"] == pytest.approx(0.5)
    assert obs["calm"] == 0.0
    pressure = "some avg10=0.00 total=1000000\nfull avg10=0.00 total=500000\n"
    write(tmp_path, {"proc/pressure/memory": pressure})
    obs = seen(machine, 16.0)
    assert (obs["psi.some"], obs["psi.full"]) == pytest.approx((0.25, 0.125)) and obs["calm"] == pytest.approx(
        0.5
    )  # 4 s
    assert obs["rate.pgdemote_kswapd"] == 0.0


def test_a_simulated_machine_seen_through_proc_is_what_the_environment_shows(tmp_path: Path) -> None:
    """All that /proc tells exactly. Levels of page tables, block pins, sampled and past values are stood in for."""
    envs = PlacementVectorEnv(scenario=["llama-1to2", "graph-1to2", "kvstore-1to2"], num_envs=3)
    obs, _ = envs.reset(seed=3)
    action = set_mode(default_actions(3), "migrate.slab", "idle")
    for _ in range(160):
        obs, *_, info = envs.step(action)
    machines: Machines = envs._episodes.machines
    exact = ("free.", "above_low.", "pages.", "on_slow.", "threads", "files", "sockets", "blocks.", "swap", "config.")
    loose = {"blocks.pinned", *(name for name in NAMES if "pt_leaf" in name or "pt_upper" in name)}
    names = [name for name in NAMES if name.startswith(exact) and name not in loose]
    for i, record in enumerate(machines.records):
        machine = live(simulated(tmp_path / str(i), record))
        _, mask = machine.observe(0.0)
        there = seen(machine)
        shown = {name: float(obs[i, NAMES.index(name)]) for name in names}
        assert {name: there[name] for name in names} == pytest.approx(shown, abs=2e-3), i
        assert any(value > 0.01 for name, value in shown.items() if name.endswith(".slow")), "it never spilled"
        tables = [f"pages.pt_{level}.fast" for level in ("leaf", "upper")]
        assert sum(there[name] for name in tables) == pytest.approx(
            sum(float(obs[i, NAMES.index(name)]) for name in tables), abs=1e-4
        )
        assert np.array_equal(mask[0], info["action_masks"][i])
    assert len(names) == 40


def test_every_entry_that_a_machine_does_not_tell_is_said(tmp_path: Path) -> None:
    """A bare tree: what a kernel of no counters leaves open, entry by entry."""
    zones = {
        (0, "Normal"): {"free": 50, "low": 5, "managed": 100},
        (1, "Normal"): {"free": 5, "low": 5, "managed": 100},
    }
    root = tree(tmp_path, zones, {0: {"nr_anon_pages": 1}, 1: {"nr_anon_pages": 2}}, {}, {})
    for name in ("proc/loadavg", "proc/net/sockstat", "proc/sys/fs/inode-nr"):
        (root / name).unlink()
    machine = live(root)
    machine.observe(0.0)
    sourced = (
        *("free.", "above_low.", "pages.anon", "pages.file", "pages.kstack", "pages.slab", "on_slow.kstack"),
        *("on_slow.slab", "rate.oom_kill", "rate.allocstall", "rate.file_refault", "last.zone", "last.memmap"),
        *("swap_free", "config.slow_share"),
    )
    silent = {name for name in NAMES if name not in machine.assumed and not name.startswith(sourced)}
    assert silent == set()
    said = {name for names, _ in stand_ins(machine) for name in names}
    assert said == set(machine.assumed) <= {entry.name for entry in ENTRIES}


def test_neutral_values_are_medians_of_an_untouched_linux() -> None:
    scenarios = list(specs.load_suite("tuning").scenarios)
    envs = PlacementVectorEnv(scenario=scenarios, num_envs=4 * len(scenarios))
    envs.reset(seed=0)
    seen_by_all = np.concatenate([envs.step(default_actions(envs.num_envs))[0] for _ in range(200)])
    for name, value in NEUTRAL.items():
        assert value == pytest.approx(float(np.median(seen_by_all[:, obs_index(name)])), abs=0.02), name


def test_tiers_are_found_by_memory_tiers_or_by_nodes_without_cpus_or_given(tmp_path: Path) -> None:
    root = two_nodes(tmp_path)
    tiering = "sys/devices/virtual/memory_tiering"
    write(root, {f"{tiering}/memory_tier4/nodelist": "1\n", f"{tiering}/memory_tier961/nodelist": "0\n"})
    assert live(root).fold == Fold((1,), (0,))
    write(root, {f"{tiering}/memory_tier4/nodelist": "0-1\n", f"{tiering}/memory_tier961/nodelist": "\n"})
    assert live(root).fold == Fold((0,), (1,))
    write(root, {f"{NODES}/node1/cpulist": "4-7\n"})
    one = live(root)
    assert one.fold == Fold((0, 1), ())
    obs, mask = one.observe(0.0)
    assert mask[0].sum() == len(act.ENTRIES) and obs[0, obs_index("config.slow_share")] == 0.0
    assert live(root, Fold((0,), (1,))).fold.slow == (1,)
    with pytest.raises(UserError, match="--slow: node 7 has no memory"):
        live(root, Fold((0,), (7,)))


def test_the_mask_is_the_environments(tmp_path: Path) -> None:
    _, mask = live(two_nodes(tmp_path)).observe(0.0)
    forbidden = [name for name, possible in zip(act.MASK_NAMES, mask[0], strict=True) if not possible]
    assert forbidden == ["migrate.kstack=idle"]


def test_what_the_kernel_has_in_force_is_what_a_policy_sees_as_its_last_choice(tmp_path: Path) -> None:
    root = two_nodes(tmp_path)
    hotplug = "sys/module/memory_hotplug/parameters"
    write(
        root, {"sys/devices/system/memory/auto_online_blocks": "online_movable\n", f"{hotplug}/memmap_on_memory": "Y"}
    )
    obs = seen(live(root))
    assert (obs["last.zone"], obs["last.memmap"], obs["last.headroom"]) == (0.5, 1.0, 0.0)
    assert obs["pages.memmap.fast"] == 0.0 and obs["pages.memmap.slow"] == pytest.approx(3_000 / 200_000)


@pytest.mark.parametrize(
    ("entry", "mode", "commands"),
    [
        ("headroom", "medium", [
            "sysctl -w vm.watermark_scale_factor=200",
            "echo 1 > /sys/kernel/mm/numa/demotion_enabled",
        ]),
        ("zone", "movable", ["echo online_movable > /sys/devices/system/memory/auto_online_blocks"]),
        ("zone", "auto_movable", ["echo auto-movable > /sys/module/memory_hotplug/parameters/online_policy"]),
        ("memmap", "on_memory", ["memory_hotplug.memmap_on_memory=1"]),
        ("reserve.pt", "large", ["sysctl -w vm.min_free_kbytes=8816"]),
        ("limit.kernel", "proportional", ["numactl --weighted-interleave=0,1 COMMAND"]),
        ("migrate.budget", "medium", ["sysctl -w kernel.numa_balancing_promote_rate_limit_MBps=80"]),
        ("migrate.room", "kswapd", ["echo 1 > /sys/kernel/mm/numa/demotion_enabled"]),
        ("migrate.room", "exchange", []),
        ("migrate.pt_leaf", "idle", []),
        ("place.pt_leaf", "prefer_fast", ["numactl --preferred-many=0 COMMAND"]),
        ("place.slab_reclaim", "prefer_slow", ["numactl --preferred=1 COMMAND"]),
        ("place.kernel_other", "restrict", [
            "echo offline > /sys/devices/system/memory/memory32/state",
            "echo online_movable > /sys/devices/system/memory/memory32/state",
        ]),
        ("place.kstack", "restrict", [
            "numactl --membind=0 COMMAND",
            "echo offline > /sys/devices/system/memory/memory32/state",
            "echo online_movable > /sys/devices/system/memory/memory32/state",
        ]),
    ],
)  # fmt: skip
def test_the_closest_knob(tmp_path: Path, entry: str, mode: str, commands: list[str]) -> None:
    machine = live(two_nodes(tmp_path))
    machine.observe(0.0)
    assert list(closest(entry, mode, machine).commands) == commands


def test_every_mode_of_every_entry_has_an_answer(tmp_path: Path) -> None:
    machine = live(two_nodes(tmp_path))
    machine.observe(0.0)
    for entry in act.ENTRIES:
        for mode in entry.modes[1:]:
            assert len(closest(entry.name, mode, machine).text) > 20, (entry.name, mode)


def test_what_is_so_already_or_not_there_needs_no_command(tmp_path: Path) -> None:
    root = two_nodes(tmp_path)
    write(
        root,
        {
            "sys/kernel/mm/numa/demotion_enabled": "true\n",
            "proc/sys/vm/watermark_scale_factor": "500\n",
            "sys/devices/system/memory/auto_online_blocks": "online_movable\n",
            "sys/module/memory_hotplug/parameters/memmap_on_memory": "",
        },
    )
    (root / "proc/sys/kernel/numa_balancing_promote_rate_limit_MBps").unlink()
    machine = live(root)
    machine.observe(0.0)
    for entry, mode, words in (
        ("headroom", "medium", "already so: vm.watermark_scale_factor is 500, 200 would do; demotion is on already"),
        ("zone", "movable", "already so: "),
        ("memmap", "on_memory", "this kernel has no /sys/module/memory_hotplug/parameters/memmap_on_memory"),
        ("migrate.budget", "high", "this kernel has no /proc/sys/kernel/numa_balancing_promote_rate_limit_MBps"),
    ):
        knob = closest(entry, mode, machine)
        assert knob.text.startswith(words) and knob.commands == ()


def test_a_slow_node_without_a_normal_zone_restricts_by_itself(tmp_path: Path) -> None:
    zones = {
        (0, "Normal"): {"free": 50, "low": 5, "managed": 100},
        (1, "Movable"): {"free": 5, "low": 5, "managed": 100},
    }
    machine = live(tree(tmp_path, zones, {0: {"nr_anon_pages": 1}, 1: {"nr_anon_pages": 1}}, {}, {}))
    _, mask = machine.observe(0.0)
    assert not mask[0, act.MASK_NAMES.index("place.kstack=prefer_slow")]
    assert closest("place.kstack", "restrict", machine).text.startswith("already so")


def test_an_adviser_tells_modes_and_what_is_impossible(tmp_path: Path) -> None:
    class Rule:
        resets = 0

        def reset(self, num_envs: int, seed: int) -> None:
            self.resets += 1

        def __call__(self, obs: np.ndarray, masks: np.ndarray) -> np.ndarray:
            actions = set_mode(default_actions(len(obs)), "migrate.kstack", "idle")
            return set_mode(actions, "headroom", "large", where=obs[:, obs_index("rate.pgdemote_kswapd")] > 0.4)

    root = two_nodes(tmp_path, {"pgdemote_kswapd": 0})
    rule = Rule()
    adviser = Adviser(live(root), load_policy(rule))
    adviser.look(0.0)
    first = adviser.decide(1.0)
    assert first.modes == {} and first.impossible == {"migrate.kstack": "idle"}
    write(root, {"proc/vmstat": lines({"oom_kill": 0, "pgdemote_kswapd": 50_000})})
    assert adviser.decide(2.0).modes == {"headroom": "large"}
    assert rule.resets == 2  # once to be checked, once to start


def stamps(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


WRITES = """
import os, sys
told = []
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and path != os.devnull:
            told.append(path)
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "subprocess.Popen", "os.system"):
        told.append(f"{event} {arguments}")
sys.dont_write_bytecode = True
sys.addaudithook(hook)
sys.argv = ["tiergym", *sys.argv[1:]]
from tiergym.__main__ import main
try:
    main()
finally:
    print("WRITTEN", told)
"""
"""The command line that says at the end what it opened for writing, and which programs it started."""


@pytest.mark.parametrize("here", [True, False], ids=["this-machine", "two-nodes"])
def test_nothing_is_written_and_no_program_is_run(tmp_path: Path, here: bool) -> None:
    root = two_nodes(tmp_path / "machine")
    before = stamps(root)
    arguments = ["advise", "--policy", "restrict", "--seconds", "1", *([] if here else ["--root", str(root)])]
    done = subprocess.run(
        [sys.executable, "-c", WRITES, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "WRITTEN []"
    assert stamps(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["machine"]


def test_the_command_on_a_machine_of_two_nodes(cli: Cli, tmp_path: Path) -> None:
    root = two_nodes(tmp_path / "machine")
    done = cli("advise", "--policy", "restrict", "--root", root, "--seconds", 2)
    assert done.code == 0, done.err
    assert "read only" in done.out and "DRAM: node 0; slow memory: 1" in done.out
    assert "pmu.misses.fast, pmu.walks.fast, pmu.load.fast and 3 more: hardware counters are not read" in done.out
    first, second = (line for line in done.out.splitlines() if line.strip().startswith(("1 s", "2 s")))
    assert "place.pt_leaf=restrict" in first and first.split("s  ")[1] == second.split("s  ")[1]
    assert done.out.count("numactl --membind=0 COMMAND") == 5  # told once, not every second


def test_an_exported_policy_is_asked_and_writes_nothing_either(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tiergym.policy.export_onnx import export_module

    root = two_nodes(tmp_path / "machine")
    layer = torch.nn.Linear(len(NAMES), act.N_MASK)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[act.MASK_NAMES.index("headroom=small")] = 1.0
    export_module(layer, tmp_path / "policy.onnx")
    before = stamps(tmp_path)
    command = [sys.executable, "-c", WRITES, "advise", "--policy", "policy.onnx", "--seconds", "1", "--root", str(root)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "   1 s  headroom=small\n" in done.stdout and "sysctl -w vm.watermark_scale_factor=50\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "WRITTEN []" and stamps(tmp_path) == before


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tiergym", "advise", "--policy", "online", "--root", str(two_nodes(tmp_path))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        while "1 s" not in (line := running.stdout.readline()):
            assert line, "it ended by itself"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")


def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_whole_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tiergym", "advise", "--policy", "online", "--seconds", "1", "--json", "a.json"]
    command += ["--root", str(two_nodes(tmp_path / "machine"))]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20)),
    )
    assert (done.returncode, done.stderr) == (2, "error: a.json: cannot be written: File too large\n")
    assert (tmp_path / "a.json").read_bytes() == b""


def test_the_command_on_this_machine(cli: Cli) -> None:
    done = cli("advise", "--policy", "online", "--seconds", 1)
    assert done.code == 0, done.err
    assert "   1 s  nothing but the defaults" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "restrickt"], "did you mean 'restrict'"),
        (["--policy", "online", "--root", "nowhere"], "--root is 'nowhere'"),
        (["--policy", "online", "--root", "."], "proc/zoneinfo"),
        (["--policy", "online", "--slow", "1"], "--slow without --fast"),
        (["--policy", "online", "--fast", "77"], "node 77 has no memory"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    done = cli("advise", *arguments, "--seconds", 1)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1
