"""What a guest sends and how it is kept: the stream, the console, a guest that does not finish. No QEMU needed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.guest_streams import RUN, as_stream, console, whole_stream
from tests.proc_zoneinfo import ZONEINFO
from tiergym.kernel_lab import __main__ as kernel_lab
from tiergym.kernel_lab import qemu, saving, stream
from tiergym.kernel_lab.qemu import Booted
from tiergym.kernel_lab.runs import Run
from tiergym.recordings.format import Event, read_recording
from tiergym.recordings.sampling import Machine, Sampler

STREAM = """\
T 5000000
F requests
0 anon_touched_pages 0
1 threads 0
F /proc/zoneinfo
0 Node 0, zone      DMA
F /proc/meminfo
0 Mapped: 0 kB
F /proc/vmstat
0 oom_kill 0
1 pgfault 10
2 pgfree 7
F /sys/devices/system/node/node0/vmstat
0 nr_free_pages 900
E 5100000 phase grow name=A pages=5
T 5200000
F requests
0 anon_touched_pages 5
F /proc/vmstat
1 pgfault 15
# 2
F /sys/devices/system/node/node0/vmstat
0 nr_free_pages 895
E 5150000 offline_block tag=x block=memory3
T 5400000
F requests
0 anon_touched_pages 9
"""


def test_a_stream_of_changed_lines_becomes_samples():
    samples, events = stream.read_stream(STREAM + "END\n", programs=False)
    columns = samples.columns()
    assert samples.times == [5.0, 5.2, 5.4]
    np.testing.assert_allclose(columns["t_s"], [0, 0.2, 0.4])
    assert columns["w.anon_touched_pages"].tolist() == [0, 5, 9]
    assert columns["n0.nr_free_pages"].tolist() == [900, 895, 895]
    assert columns["vm.pgfault"].tolist() == [10, 15, 15]
    np.testing.assert_array_equal(columns["vm.pgfree"], [7, np.nan, np.nan])
    assert [stream.as_event(at, text) for at, text in events] == [
        Event(5.1, "phase:grow", "name=A pages=5"),
        Event(5.15, "offline_block", "tag=x block=memory3"),
    ]


def test_a_sample_that_was_cut_off_does_not_count():
    samples, _ = stream.read_stream(STREAM, programs=False)
    assert samples.times == [5.0, 5.2] and len(samples.rows) == 2


MACHINE = {
    "proc/vmstat": "pgsteal_file 0\nworkingset_refault_file 0\noom_kill 0\n",
    "proc/meminfo": "Mapped: 4000 kB\nAnonPages: 9000 kB\n",
    "proc/zoneinfo": ZONEINFO,
    "proc/sys/fs/inode-nr": "500 20\n",
    "proc/sys/fs/dentry-state": "900 800 45 0 60 0\n",
    "sys/devices/system/node/node0/vmstat": "nr_free_pages 100\nnr_file_pages 300\nnr_shmem 10\n",
}
PROCESS = "PPid:\t{}\nVmPTE:\t64 kB\nRssAnon:\t400 kB\nRssFile:\t80 kB\nRssShmem:\t0 kB\nThreads:\t3\n"


def test_a_process_tree_in_a_stream_is_what_the_recorder_sees_of_it(tmp_path: Path):
    tree = {f"proc/{pid}/status": PROCESS.format(parent) for pid, parent in ((71, 70), (72, 71), (99, 1))}
    for name, content in (MACHINE | tree).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    text = f"T 1000000\n{as_stream(MACHINE)}T 2000000\nR 70\n{as_stream(tree)}T 3000000\nX /proc/72/status\nEND\n"
    samples, _ = stream.read_stream(text, programs=True)
    columns = samples.columns()
    assert columns["w.procs"].tolist() == [0, 2, 1] and columns["w.threads"].tolist() == [0, 4, 2]
    assert columns["w.anon_touched_pages"].tolist() == [0, 200, 100]
    recorded = Sampler(Machine(tmp_path), parent=70).sample(0.0)
    assert {name: columns[name][1] for name in recorded if name.startswith("w.")} == {
        name: value for name, value in recorded.items() if name.startswith("w.")
    }


def test_the_console_becomes_meta():
    run = replace(RUN, programs=True)
    booted = Booted(console("output READY", "DONE"), "", "qemu -smp 2", "6.12.0", timed_out=False)
    meta = saving.meta(run, booted)
    assert (meta["kernel_release"], meta["kernel_cmdline"], meta["completed"]) == ("6.12.0-test", "quiet", True)
    assert meta["guest_report"] == ["kernel 6.12.0-test", "cmdline quiet ", "auto_online online", "DONE"]
    assert meta["zone_report"][0] == "Node 0, zone      DMA |   pages free     3840"
    assert meta["dmesg"] == ["[ 1.0] oom-kill:constraint=X"] and meta["qemu_args"] == "qemu -smp 2"
    assert meta["program_output"] == ["READY"] and "incomplete" not in meta


PANIC = """\
[   40.1] Out of memory: Killed process 70
[   41.0] Kernel panic - not syncing: System is deadlocked on memory
[   41.1] ---[ end Kernel panic - not syncing: System is deadlocked on memory ]---
"""


@pytest.mark.parametrize(
    ("more", "timed_out", "why"),
    [
        (PANIC, False, "the kernel panicked: System is deadlocked on memory"),
        ("", True, "its time of 300 s was over"),
        ("", False, "the guest stopped early"),
    ],
)
def test_of_a_guest_that_did_not_finish_is_kept_what_came_until_then(
    tmp_path: Path, more: str, timed_out: bool, why: str
):
    cut_off = whole_stream().removesuffix("T 5400000\nEND\n") + "T 5400000\nF /proc/vmstat\n0 oom"
    saved = saving.save(RUN, Booted(console() + more, cut_off, "", "", timed_out), tmp_path / "r_on", boot=2)
    assert saved == saving.Saved(2, why)
    recording = read_recording(tmp_path / "r_on")
    assert (recording.meta["completed"], recording.meta["incomplete"], recording.meta["boots"]) == (False, why, 2)
    assert recording.columns["w.anon_touched_pages"].tolist() == [0, 5]
    assert (tmp_path / "r_on" / "console.log").read_text() == console() + more
    assert recording.meta["dmesg"] == ["[    0.5] before init", *more.splitlines()]


def test_without_a_sample_there_is_no_recording(tmp_path: Path):
    early = "[    0.3] int3: 0000 [#1]\n[    0.4] Kernel panic - not syncing: Fatal exception in interrupt\n"
    saved = saving.save(RUN, Booted(early, "", "", "", timed_out=False), tmp_path / "r_on")
    assert saved == saving.Saved(0, "the kernel panicked: Fatal exception in interrupt")
    hung = saving.save(RUN, Booted("[    0.3] booting\n", "T 1000000\nF /proc", "", "", True), tmp_path / "r_on")
    assert hung == saving.Saved(0, "the guest's init did not come up") and not list(tmp_path.iterdir())


def test_a_kernel_that_ends_before_its_first_sample_is_booted_again_a_few_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    (tmp_path / "kernel" / "6.12.1-amd64").mkdir(parents=True)
    failures = 2
    boots: list[str] = []

    def boot(run: Run, kernel: Path, lab: Path) -> Booted:
        boots.append(run.name)
        works = len(boots) > failures
        return Booted(console("DONE") if works else PANIC, whole_stream() if works else "", "", "", timed_out=False)

    monkeypatch.setattr(qemu, "boot", boot)
    said = kernel_lab.record(RUN, tmp_path, tmp_path / "recordings" / "r_on")
    assert said.startswith("3 samples, boot 3, ") and len(boots) == 3
    assert "r_on: boot 2 of 4 left no sample: the kernel panicked" in capsys.readouterr().out
    assert (tmp_path / "failed" / "r_on.1.log").read_text() == PANIC
    assert read_recording(tmp_path / "recordings" / "r_on").meta["boots"] == 3
    failures, boots[:] = 99, []
    assert kernel_lab.record(RUN, tmp_path, tmp_path / "recordings" / "other") == "skipped: no sample in 4 boots"
    assert len(boots) == 4 and not (tmp_path / "recordings" / "other").exists()
