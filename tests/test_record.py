"""The recorder: what it makes of /proc and /sys, and `tiergym record` on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.places import ROOT
from tests.proc_zoneinfo import ZONEINFO
from tiergym.errors import UserError
from tiergym.lab.locking import LOCK
from tiergym.recordings import proc_files
from tiergym.recordings.format import Recording, read_recording
from tiergym.recordings.machine_facts import machine_facts
from tiergym.recordings.process_tree import Process, descendants, read_processes, requests
from tiergym.recordings.recorder import record
from tiergym.recordings.samples import Samples
from tiergym.recordings.sampling import Machine, Sampler
from tiergym.sim.units import PAGES_PER_MIB

LOAD = textwrap.dedent("""
    import mmap, sys, threading, time
    PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    def touch(mib, step):
        memory = mmap.mmap(-1, mib << 20, flags=PRIVATE)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, mib << 20, step):
            memory[at] = 1
        return memory
    dense = touch(32, 4096)
    sparse = touch(256, 2 << 20)
    end = threading.Event()
    for _ in range(12):
        threading.Thread(target=end.wait).start()
    time.sleep(0.6)
    end.set()
    sys.exit(3)
""")


def test_zoneinfo_has_the_names_of_the_recordings():
    values = proc_files.zoneinfo(ZONEINFO)
    assert values["z0.DMA.free"] == 3840 and values["z0.DMA.promo"] == 71 and values["z0.DMA.prot1"] == 2991
    assert (values["z0.DMA.pcp_count"], values["z0.DMA.pcp_high"]) == (15, 126)
    assert values["z0.DMA.node_unreclaimable"] == 0 and values["z0.DMA.nr_free_pages"] == 3840
    assert values["z1.Movable.min"] == 32 and "z1.Movable.pcp_count" not in values
    assert not any("nr_inactive_anon" in name or "batch" in name for name in values)
    report = proc_files.zone_report(ZONEINFO)
    assert report[0] == "Node 0, zone      DMA |   pages free     3840" and len(report) == 17


def test_other_files_too():
    assert proc_files.counters("nr_free_pages 12\nnuma_hit 3\nodd line here\n", "n0.") == {
        "n0.nr_free_pages": 12,
        "n0.numa_hit": 3,
    }
    assert proc_files.meminfo("Node 1 MemFree:  42 kB\nNode 1 HugePages_Free: 0\n", "m1.") == {
        "m1.MemFree": 42,
        "m1.HugePages_Free": 0,
    }
    assert proc_files.buddyinfo("Node 1, zone  Movable  3 0 7\n") == {
        "b1.Movable.o0": 3,
        "b1.Movable.o1": 0,
        "b1.Movable.o2": 7,
    }
    text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=17\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
    assert proc_files.pressure(text, "psi.io.") == {"psi.io.some_us": 17, "psi.io.full_us": 5}
    slab = "slabinfo - version: 2.1\n# name ...\ndentry 420 441 192 21 1 : tunables 0 0 0 : slabdata 21 21 0\n"
    assert proc_files.slabinfo(slab) == {"slab.dentry.objs": 420, "slab.dentry.pages": 21}
    assert proc_files.slabinfo(slab.replace(" : tunables 0 0 0", "")) == proc_files.slabinfo(slab)  # no such columns


def process(pid: int, parent: int, **sizes: int) -> Process:
    zero = dict.fromkeys(("anon_kb", "file_kb", "shmem_kb", "swap_kb", "data_kb", "tables_kb"), 0)
    return Process(pid=pid, parent=parent, **{**zero, "threads": 1, **sizes})


def test_the_tree_is_what_hangs_below_the_root():
    found = {p.pid: p for p in (process(10, 1), process(11, 10), process(12, 11), process(20, 1))}
    assert sorted(p.pid for p in descendants(found, 10)) == [11, 12]
    assert descendants(found, 99) == []


def test_requests_of_a_tree():
    dense = process(2, 1, anon_kb=4096, swap_kb=2048, file_kb=2048, tables_kb=4 * (4 + 4), threads=5)
    sparse = process(3, 2, anon_kb=400, shmem_kb=800, tables_kb=4 * (100 + 4))
    values = requests([dense, sparse], {"mi.Mapped": 1024 + 600, "mi.AnonPages": 1 << 20, "mi.Shmem": 600}, {})
    assert values["w.anon_touched_pages"] == (4096 + 400 + 2048) // 4  # swapped out is still asked for
    assert values["w.shmem_rss_pages"] == 600 // 4  # the machine has no more
    assert values["w.shmem_touched_pages"] == 200
    assert values["w.sparse_leaf_tables"] == (4 + 100) - (4 + 1)
    assert values["w.tables_kb"] == 4 * (8 + 104)
    assert (values["w.threads"], values["w.procs"]) == (4, 2)


def test_files_that_several_processes_map_count_once():
    """Four map the same library and a shared segment of 2,000 pages, each another quarter of it."""
    tree = [process(pid, 1, file_kb=4 * 500, shmem_kb=4 * 500) for pid in (2, 3, 4, 5)]
    values = requests(tree, {"mi.Mapped": 4 * 2500, "mi.AnonPages": 0, "mi.Shmem": 4 * 2000}, {})
    assert (values["w.file_rss_pages"], values["w.shmem_rss_pages"]) == (500, 2000)


def test_tables_stay_when_reclaim_drops_what_they_map():
    """A file of 20 MiB was mapped, half of it is out of memory: its ten tables are not sparse."""
    now = process(2, 1, file_kb=10 << 10, tables_kb=4 * (4 + 10))
    machine = {"mi.Mapped": 10 << 10, "mi.AnonPages": 0, "mi.Shmem": 0}
    assert requests([now], machine, {2: 20 << 10})["w.sparse_leaf_tables"] == 0
    assert requests([now], machine, {})["w.sparse_leaf_tables"] == 5


def fake_machine(root: Path) -> Machine:
    """Two nodes, the second MOVABLE, and one process; nothing that only root may read."""
    node = "nr_free_pages {}\nnr_anon_pages 5\nnr_file_pages {}\nnr_shmem 10\n"
    files = {
        "proc/vmstat": "pgsteal_file 0\nworkingset_refault_file 0\noom_kill 0\n",
        "proc/meminfo": "MemFree: 9 kB\nMapped: 4000 kB\nAnonPages: 9000 kB\n",
        "proc/zoneinfo": ZONEINFO.replace("present  0", "present  512").replace("managed  0", "managed  500"),
        "proc/sys/kernel/osrelease": "6.12.0-test\n",
        "proc/sys/vm/min_free_kbytes": "4816\n",
        "proc/sys/fs/inode-nr": "500 20\n",
        "proc/sys/fs/dentry-state": "900 800 45 0 60 0\n",
        "proc/70/status": "PPid:\t1\nVmPTE:\t64 kB\nRssAnon:\t400 kB\nRssFile:\t80 kB\nRssShmem:\t0 kB\nThreads:\t3\n",
        "proc/71/status": "PPid:\t1\nThreads:\t1\n",  # a kernel thread
        "sys/devices/system/node/node0/vmstat": node.format(100, 300),
        "sys/devices/system/node/node1/vmstat": node.format(200, 50),
        "sys/devices/system/node/node1/cpulist": "\n",
        "sys/devices/system/node/node0/distance": "10 20\n",
        "sys/devices/system/node/node1/distance": "20 10\n",
        "sys/devices/system/memory/block_size_bytes": "8000000\n",
        "sys/devices/system/memory/auto_online_blocks": "online\n",
        "sys/devices/system/memory/memory32/state": "online\n",
        "sys/devices/system/memory/memory32/valid_zones": "Movable Normal\n",
        "sys/devices/system/memory/memory32/node1/meminfo": "",
        "sys/devices/virtual/memory_tiering/memory_tier4/nodelist": "0\n",
        "sys/devices/virtual/memory_tiering/memory_tier33/nodelist": "1\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Machine(root)


def test_samples_and_facts_of_a_machine_with_two_nodes(tmp_path: Path):
    machine = fake_machine(tmp_path)
    sampler = Sampler(machine, parent=1)
    first = sampler.sample(0.0)
    assert (first["n0.nr_free_pages"], first["n1.nr_free_pages"], first["w.threads"], first["w.procs"]) == (
        100,
        200,
        2,
        1,
    )
    assert first["w.file_touched_pages"] == first["w.file_rss_pages"] == 20 and first["w.files"] == 0
    (tmp_path / "sys/devices/system/node/node0/vmstat").write_text("nr_free_pages 50\nnr_file_pages 350\nnr_shmem 10\n")
    (tmp_path / "proc/vmstat").write_text("pgsteal_file 100\nworkingset_refault_file 30\n")
    (tmp_path / "proc/sys/fs/inode-nr").write_text("512 20\n")
    second = sampler.sample(1.0)
    assert second["w.file_touched_pages"] == 50 + 100 - 30  # cached now, and what reclaim took, each page once
    assert second["w.files"] == 12 and second["w.neg_lookups"] == 0

    (tmp_path / "proc/vmstat").write_text("pgsteal_file 180\nworkingset_refault_file 30\npgdemote_kswapd 80\n")
    (tmp_path / "sys/devices/system/node/node1/vmstat").write_text("nr_free_pages 9\nnr_file_pages 250\nnr_shmem 200\n")
    third = sampler.sample(2.0)
    assert third["w.file_touched_pages"] == 50 + 10 + 100 - 30  # demoted pages are not gone, shared memory is no file
    assert third["w.shmem_touched_pages"] == 190  # whoever has touched it

    facts = machine_facts(machine, first)
    assert (facts["kernel_release"], facts["memhp_default_state"], facts["hmat"]) == (
        "6.12.0-test",
        "online_movable",
        True,
    )
    assert (facts["cxl_mib"], facts["block_mib"], facts["numa_distance"]) == (2.0, 128, 20)
    assert "memblocks memory32:online:1:Movable/Normal" in facts["guest_report"]
    assert "min_free_kbytes 4816" in facts["guest_report"]
    assert "/proc/slabinfo" in machine.notes and "node 1" not in machine.notes


def test_a_machine_without_its_counters_is_refused(tmp_path: Path):
    machine = fake_machine(tmp_path)
    (tmp_path / "proc/zoneinfo").unlink()
    with pytest.raises(UserError, match="proc/zoneinfo: No such file"):
        machine.values()


def test_a_kernel_without_numa_is_one_node(tmp_path: Path):
    machine = fake_machine(tmp_path)
    shutil.rmtree(tmp_path / "sys/devices/system/node")
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 70\nnr_file_pages 30\noom_kill 0\n")
    values = Sampler(machine, parent=1).sample(0.0)
    assert (values["n0.nr_free_pages"], values["vm.nr_free_pages"], values["m0.MemFree"]) == (70, 70, 9)
    assert machine_facts(machine, values)["numa_distance"] is None


def test_samples_have_all_columns_that_any_has():
    samples = Samples()
    samples.add(3.0, {"vm.a": 1, "n0.b": 2})
    samples.add(3.5, {"vm.a": 1 << 52, "n1.b": 4, "vm.late": 7})
    columns = samples.columns()
    assert columns["t_s"].tolist() == [0, 0.5] and columns["vm.a"].tolist() == [1, 1 << 52]
    assert columns["n1.b"].tolist() == [0, 4] and columns["n0.b"].tolist() == [2, 0]  # a node that came, one that left
    np.testing.assert_array_equal(columns["vm.late"], [np.nan, 7])
    assert columns["vm.a"].dtype == np.int64


def test_processes_that_end_meanwhile_are_left_out(tmp_path: Path):
    machine = fake_machine(tmp_path)
    (tmp_path / "proc/99").mkdir()
    assert list(read_processes(machine.root / "proc")) == [70]


def tiergym(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tiergym", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def peak(recording: Recording, column: str) -> float:
    return float(recording.columns[column].max())


def test_a_command_on_this_machine(tmp_path: Path):
    (tmp_path / "load.py").write_text(LOAD)
    running = tiergym("record", "--hz", 20, "--out", "rec", "--", sys.executable, "load.py", cwd=tmp_path)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 3 and "exit status 3" in err, err
    recording = read_recording(tmp_path / "rec")
    assert 32 * PAGES_PER_MIB + 128 <= peak(recording, "w.anon_touched_pages") < 32 * PAGES_PER_MIB + 128 + 10000
    assert 128 <= peak(recording, "w.sparse_leaf_tables") < 128 + 100
    assert (peak(recording, "w.threads"), peak(recording, "w.procs")) == (12, 1)
    assert recording.columns["w.anon_touched_pages"][[0, -1]].tolist() == [0, 0]
    assert [event.event for event in recording.events] == ["phase:start", "child_exit", "phase:end"]
    assert recording.events[1].detail.endswith("status=3")
    assert recording.meta["completed"] and recording.meta["command"] == [sys.executable, "load.py"]
    assert recording.meta["dram_mib"] > 0 and len(recording.t_s) > 5  # 22, where the machine is not busy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_sampled(tmp_path: Path, number: signal.Signals):
    ready = tmp_path / "ready"
    code = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    running = tiergym("record", "--hz", 20, "--out", "rec", "--", sys.executable, "-c", code, cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in err, err
    recording = read_recording(tmp_path / "rec")
    assert not recording.meta["completed"] and len(recording.t_s) > 3
    assert recording.events[-1].detail == "interrupted" and "signal=15" in recording.events[-2].detail


def test_the_whole_machine_for_a_time(tmp_path: Path):
    running = tiergym("record", "--seconds", 0.5, "--hz", 10, cwd=tmp_path)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    (folder,) = (tmp_path / "recordings").iterdir()
    assert folder.name.startswith("machine-")
    assert 0.5 <= read_recording(folder).t_s[-1] < 2 and peak(read_recording(folder), "w.procs") >= 1


def test_a_thread_records_as_well(tmp_path: Path):
    """As a notebook's or a server's does: only the main thread may handle signals."""
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(record, tmp_path / "here", [sys.executable, "-c", "raise SystemExit(4)"], hz=20).result()
    assert done.status == 4 and done.samples >= 2
    assert read_recording(tmp_path / "here").meta["completed"] is True
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_recording_into_one_folder_is_told_of_the_first_at_once(tmp_path: Path):
    first = tiergym("record", "--seconds", 60, "--out", "rec", cwd=tmp_path)
    while not (lock := tmp_path / "rec" / LOCK).is_file() or not lock.read_text():
        assert first.poll() is None
        time.sleep(0.02)
    began = time.monotonic()
    second = tiergym("record", "--seconds", 60, "--out", "rec", cwd=tmp_path)
    _, err = second.communicate(timeout=50)
    assert second.returncode == 2 and time.monotonic() - began < 50
    told = f"error: rec: process {first.pid} on "
    assert told in err and "tiergym record --seconds 60" in err and err.count("\n") == 1, err
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130, err
    assert not lock.exists() and len(read_recording(tmp_path / "rec").columns) > 10


def test_where_a_recording_was_killed_the_next_one_may_record(tmp_path: Path):
    killed = tiergym("record", "--seconds", 60, "--out", "rec", cwd=tmp_path)
    while not (tmp_path / "rec" / LOCK).is_file():
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.communicate(timeout=60)
    assert [path.name for path in (tmp_path / "rec").iterdir()] == [LOCK]
    again = tiergym("record", "--seconds", 0.2, "--out", "rec", cwd=tmp_path)
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert sorted(path.name for path in (tmp_path / "rec").iterdir()) == ["meta.json", "samples.csv.gz", "workload.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["rec"]


def test_accessed_bits_on_request(tmp_path: Path):
    code = "import time; memory = bytearray(16 << 20)\nwhile True: memory[::4096] = bytes(4096); time.sleep(0.01)"
    code = f"import time\nend = time.monotonic() + 1.5\n{code.replace('True', 'time.monotonic() < end')}"
    running = tiergym(
        "record", "--hz", 10, "--referenced", 0.4, "--out", "rec", "--", sys.executable, "-c", code, cwd=tmp_path
    )
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    recording = read_recording(tmp_path / "rec")
    if "w.referenced_pages" in recording.meta["notes"]:
        pytest.skip(recording.meta["notes"]["w.referenced_pages"])
    assert 16 * PAGES_PER_MIB <= peak(recording, "w.referenced_pages") <= peak(recording, "w.anon_touched_pages") * 2
    ages = sorted(set(recording.columns["w.referenced_age_ms"].tolist()))
    assert ages[0] == 0 and 400 <= ages[1] < 800 <= ages[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "what to record: give either --seconds N or -- COMMAND"),
        (("--seconds", "1", "--", "true"), "what to record: give either --seconds N or -- COMMAND"),
        (("--", "no-such-command"), "cannot run 'no-such-command': No such file"),
        (("--out", "full", "--", "true"), "cannot record into 'full': it exists"),
        (("--out", "full/file/rec", "--", "true"), "full/file/rec: cannot be written to: 'full/file' is no folder"),
        (("--slow", "1", "--", "true"), "--slow without --fast"),
        (("--fast", "x", "--out", "a/b/rec", "--", "true"), "--fast = 'x'; allowed: numbers of memory nodes"),
        (("--fast", "0", "--slow", "0", "--", "true"), "--fast and --slow: node 0 is in both"),
        (("--fast", "x", "--seconds", "1"), "--fast = 'x'; allowed: numbers of memory nodes"),
        (("--fast", "9999", "--seconds", "1"), "--fast: node 9999 has no memory"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path: Path, arguments: tuple[str, ...], message: str):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text(json.dumps({}))
    running = tiergym("record", *arguments, cwd=tmp_path)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 2 and err.startswith(f"error: {message}") and err.count("\n") == 1, err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
