"""Copies of another machine's /proc and /sys with anything under their names: what is no number counts as absent."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Cli
from tests.live_trees import block, two_nodes, write
from tests.refusals import assert_refused
from tiergym.recordings.live_observation import BLOCKS, TIERING, LiveMachine
from tiergym.recordings.machine_facts import machine_facts
from tiergym.recordings.sampling import MAX_BYTES, NODES, Machine

MANY = "9" * 5000
HMAT = f"{NODES}/node0/access0/initiators/read_latency"
FILES: dict[str, dict[str, str]] = {
    "a tier without a number": {f"{TIERING}/memory_tier1x/nodelist": "0\n"},
    "a tier of another script": {f"{TIERING}/memory_tier1\u00b2/nodelist": "0\n"},
    "a tier of many digits": {f"{TIERING}/memory_tier{'9' * 200}/nodelist": "0\n"},
    "a block without a number": {f"{BLOCKS}/memory1x/state": "online\n", f"{BLOCKS}/memory1x/node1/meminfo": ""},
    "a block's size that is none": {f"{BLOCKS}/block_size_bytes": "zz\n"},
    "a block's size of many digits": {f"{BLOCKS}/block_size_bytes": "f" * 5000},
    "a node of another script": {f"{NODES}/node1\u00b2/vmstat": "nr_free_pages 1\n"},
    "a distance that is a word": {f"{NODES}/node0/distance": "10 far\n"},
    "a distance of many digits": {f"{NODES}/node0/distance": f"10 {MANY}\n"},
    "inodes that are a word": {"proc/sys/fs/inode-nr": "many few\n"},
    "inodes of many digits": {"proc/sys/fs/inode-nr": f"{MANY} 1\n"},
    "dentries that are words": {"proc/sys/fs/dentry-state": "a b c d e f\n"},
    "threads of many digits": {"proc/loadavg": f"0 0 0 1/{MANY} 1\n"},
    "sockets of many digits": {"proc/net/sockstat": f"sockets: used {MANY}\n"},
    "a setting of many digits": {"proc/sys/kernel/numa_balancing": MANY, "proc/sys/vm/min_free_kbytes": MANY},
    "a setting that is a word": {"proc/sys/kernel/numa_balancing": "on\n", "proc/sys/vm/watermark_scale_factor": "x"},
    "a latency of many digits": {HMAT: MANY, HMAT.replace("node0", "node1"): MANY},
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_number_is_as_if_it_were_not_there(case: str, cli: Cli, tmp_path: Path) -> None:
    root = two_nodes(tmp_path / "root")
    write(root, block(33, 1, "online", "Normal") | FILES[case])
    obs, _ = LiveMachine.find(Machine(root)).observe(0.0)
    assert np.isfinite(obs).all() and (obs >= 0).all() and (obs <= 1).all()
    assert machine_facts(Machine(root), Machine(root).values())["guest_report"]
    done = cli("advise", "--policy", "adaptive", "--seconds", 1, "--root", root)
    assert done.code == 0 and done.err == "", done.err


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [endless, os.mkfifo, Path.mkdir])
@pytest.mark.parametrize("name", ["proc/zoneinfo", "proc/loadavg", f"{BLOCKS}/auto_online_blocks"])
def test_what_is_no_file_is_not_waited_for(name: str, make: Callable[[Path], object], cli: Cli, tmp_path: Path) -> None:
    root = two_nodes(tmp_path / "root")
    (root / name).unlink()
    make(root / name)
    command = ("advise", "--policy", "online", "--seconds", 1, "--root", root)
    if name == "proc/zoneinfo":
        assert_refused(cli(*command), name, "allowed: a file; recording needs a Linux kernel with it")
    else:
        assert cli(*command).code == 0


def test_a_file_that_no_kernel_has_is_not_read(tmp_path: Path) -> None:
    machine = Machine(two_nodes(tmp_path))
    with (tmp_path / "proc/loadavg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert machine.read("proc/loadavg") == ""
    assert machine.notes == {"/proc/loadavg": f"left out: more than {MAX_BYTES} bytes; allowed: at most {MAX_BYTES}"}
