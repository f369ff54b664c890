"""The kernel lab: runs, the guest's files, QEMU's command line and the stream; one boot where QEMU and a kernel are."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from tests.places import ROOT
from tests.proc_zoneinfo import ZONEINFO
from tiergym.errors import UserError
from tiergym.kernel_lab import __main__ as kernel_lab
from tiergym.kernel_lab import qemu, stream
from tiergym.kernel_lab.initramfs import archive, dependencies
from tiergym.kernel_lab.qemu import Booted
from tiergym.kernel_lab.runs import DEFAULT_RUNS, Run, choose, lab_folder, load_runs
from tiergym.recordings.format import MACHINE_COUNTERS, NODE_COUNTERS, REQUESTS, Event, read_recording
from tiergym.sim.units import PAGES_PER_MIB

LAB = ROOT / "build" / "kernel-lab"
RUN = Run("r_on", "online", "w anon mb=8\n")


def test_runs_are_one_boot_per_policy():
    runs = load_runs()
    assert set(DEFAULT_RUNS) <= set(runs)
    assert runs["e_phases_mov"].policy == "online_movable" and runs["e_phases_on"].policy == "online"
    assert runs["e_phases_on"].script == runs["e_phases_mov"].script
    assert [run.name for run in choose(["a_llama_anon", "c_threads_on"], runs)] == [
        "a_llama_anon_on",
        "a_llama_anon_mov",
        "c_threads_on",
    ]
    with pytest.raises(UserError, match="unknown run 'e_phase'; did you mean 'e_phases_on'"):
        choose(["e_phase"], runs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", r"a\.script is missing"),
        ('[a]\nscript = ""\ndram = 3', "unknown field 'dram'; did you mean 'dram_mib'"),
        ('[a]\nscript = ""\ndram_mib = "512"', r"a\.dram_mib = '512'; allowed: a whole number"),
        ('[a]\nscript = ""\ndram_mib = 500', r"a\.dram_mib = 500; allowed: whole memory blocks of 128 MiB"),
        ("[a]\nscript = 3", r"a\.script = 3; allowed: text"),
        ('[a]\nscript = ""\npolicies = ["movable"]', r"a\.policies = .*; allowed: a list of online, online_movable"),
        ('[a]\nscript = ""\ndisk_mib = 1\nswap_mib = 1', "both /dev/vda"),
        ('["a b"]\nscript = ""', "a table with a name of letters"),
        ("a = 3", "expected a table"),
    ],
)
def test_a_wrong_run_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "runs.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_runs(tmp_path / "runs.toml")


def command(run: Run) -> str:
    return " ".join(qemu.command_line(run, Path("vmlinuz"), Path("initrd"), Path("scratch"), Path("monitor")))


def test_a_machine_of_two_nodes_gets_the_second_after_boot():
    line = command(Run("r", "online_movable", "", cxl_mib=2048, cpus=4, low_mib=256, swap_mib=64))
    assert "-m 512M,slots=16,maxmem=64G" in line and "2048" not in line  # node 1 is empty until it is plugged in
    assert "node,nodeid=0,cpus=0-3,memdev=m0,initiator=0" in line and "-numa node,nodeid=1,initiator=0" in line
    assert "initiator=0,target=1,hierarchy=memory,data-type=access-latency,latency=300" in line
    assert "max-ram-below-4g=256M" in line and "memhp_default_state=online_movable" in line
    assert "file=scratch/disk.img" in line and "transparent_hugepage=never" in line
    setup, _ = qemu.guest_scripts(Run("r", "online", "", cxl_mib=2048, setup="tiering 2"))
    assert "-lt 20 ]" in setup and setup.index("HOTPLUG_READY") < setup.index("tiering 2")  # 4 + 16 blocks


def test_a_machine_of_one_node_waits_for_nothing():
    run = Run("r", "online", "", cxl_mib=0, boot="transparent_hugepage=always")
    line = command(run)
    assert "hmat" not in line and "nodeid=1" not in line and "transparent_hugepage=never" not in line
    assert qemu.guest_scripts(run)[0] == "HZ=5\n\n"


def test_the_newest_kernel_of_a_version(tmp_path: Path):
    for release in ("6.1.0-56-amd64", "6.12.9+deb12-amd64", "6.12.95+deb12-amd64"):
        (tmp_path / "kernel" / release).mkdir(parents=True)
    found = {version: qemu.find_kernel(tmp_path, version) for version in ("", "6.12", "6.1.", "7")}
    assert {version: path and path.name for version, path in found.items()} == {
        "": "6.12.95+deb12-amd64",
        "6.12": "6.12.95+deb12-amd64",
        "6.1.": "6.1.0-56-amd64",
        "7": None,
    }


def unpack(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Entries of a newc archive, read as the kernel reads them."""
    data = gzip.decompress(data)
    entries: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 109 + length].decode()
        begin = -(-(at + 110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return entries
        entries[name] = (mode, data[begin : begin + size])
        at = -(-(begin + size) // 4) * 4


def test_the_guest_s_files_are_a_cpio_archive():
    entries = unpack(archive({"init": b"#!/bin/sh\n", "bin/deep/busybox": b"\x7fELF", "empty": b""}))
    assert entries == {
        "bin": (0o040755, b""),
        "bin/deep": (0o040755, b""),
        "init": (0o100755, b"#!/bin/sh\n"),
        "bin/deep/busybox": (0o100755, b"\x7fELF"),
        "empty": (0o100755, b""),
    }


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_it_too():
    data = gzip.decompress(archive({"a/b": b"text", "c": b"12345"}))
    done = subprocess.run(["cpio", "-it", "--quiet"], input=data, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["a", "a/b", "c"]


def test_dependencies_of_a_module():
    assert dependencies(b"\x7fELF\0license=GPL\0depends=crc16,jbd2,mb-cache\0retpoline=Y\0") == [
        "crc16",
        "jbd2",
        "mb_cache",
    ]
    assert dependencies(b"depends=\0") == dependencies(b"no such field") == []


STREAM = """\
T 5000000
F requests
0 anon_touched_pages 0
1 threads 0
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
    samples, events = stream.read_stream(STREAM + "END\n")
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
    samples, _ = stream.read_stream(STREAM)
    assert samples.times == [5.0, 5.2] and len(samples.rows) == 2


def console(*more: str) -> str:
    facts = ["kernel 6.12.0-test", "cmdline quiet ", "auto_online online", "dmesg [ 1.0] oom-kill:constraint=X"]
    facts += [f"zoneinfo {line}" for line in ZONEINFO.splitlines()]
    return "booting\n" + "".join(f"=LAB= {line}\n" for line in [*facts, *more])


def test_the_console_becomes_meta():
    meta = stream.meta(RUN, Booted(console("DONE"), "", "qemu -smp 2", "6.12.0", timed_out=False))
    assert (meta["kernel_release"], meta["kernel_cmdline"], meta["completed"]) == ("6.12.0-test", "quiet", True)
    assert meta["guest_report"] == ["kernel 6.12.0-test", "cmdline quiet ", "auto_online online", "DONE"]
    assert meta["zone_report"][0] == "Node 0, zone      DMA |   pages free     3840"
    assert meta["dmesg"] == ["[ 1.0] oom-kill:constraint=X"] and meta["qemu_args"] == "qemu -smp 2"


@pytest.mark.parametrize(("timed_out", "why"), [(True, "its time was over"), (False, "the guest stopped early")])
def test_a_guest_that_did_not_finish_is_not_kept(tmp_path: Path, timed_out: bool, why: str):
    booted = Booted(console("Kernel panic"), STREAM, "", "", timed_out)
    with pytest.raises(UserError, match=f"r_on: {why}, .*Kernel panic"):
        stream.save(RUN, booted, tmp_path / "r_on")
    assert not list(tmp_path.iterdir())


def whole_stream() -> str:
    """Three samples with everything that a recording must have."""
    files = {
        "requests": [f"{name} 0" for name in REQUESTS],
        "/proc/zoneinfo": ZONEINFO.splitlines(),
        "/proc/vmstat": [f"{name} 0" for name in MACHINE_COUNTERS],
        "/sys/devices/system/node/node0/vmstat": [f"{name} 7" for name in NODE_COUNTERS],
    }
    first = [f"F {path}\n" + "".join(f"{i} {line}\n" for i, line in enumerate(lines)) for path, lines in files.items()]
    later = "T 5200000\nF requests\n0 anon_touched_pages 5\nE 5250000 phase end \nT 5400000\n"
    return f"T 5000000\n{''.join(first)}{later}END\n"


def test_runs_are_recorded_once_and_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """The whole way but QEMU and apt: boot is replaced by what a guest would have sent."""
    booted, judged = [], []

    def boot(run: Run, kernel: Path, lab: Path) -> Booted:
        booted.append((run.name, kernel.name))
        return Booted(console("DONE"), whole_stream(), "qemu", kernel.name, timed_out=False)

    def judge(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        judged.append(command[-3:])
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(kernel_lab, "prepare", lambda lab: "")
    monkeypatch.setattr(qemu, "boot", boot)
    monkeypatch.setattr("tiergym.kernel_lab.__main__.subprocess.run", judge)
    (tmp_path / "kernel" / "6.12.1-amd64").mkdir(parents=True)
    for replicate in (1, 1, 2):
        with pytest.raises(typer.Exit) as done:
            kernel_lab.main(["a_llama_anon_on", "n_k61_pressure_on"], tmp_path, replicate=replicate)
        assert done.value.exit_code == 1  # the judge's
    assert booted == [("a_llama_anon_on", "6.12.1-amd64")] * 2
    assert judged == [["validate", "recordings", str(tmp_path / "recordings")]] * 3
    out = capsys.readouterr().out
    assert "a_llama_anon_on: 3 samples" in out and "a_llama_anon_on: there already" in out
    assert "n_k61_pressure_on: skipped: no kernel 6.1." in out
    recording = read_recording(tmp_path / "recordings" / "a_llama_anon_on__r2")
    assert recording.meta["run"] == "a_llama_anon_on__r2" and recording.zones(0) == ("DMA",)
    assert recording.columns["w.anon_touched_pages"].tolist() == [0, 5, 5]
    assert recording.events == (Event(0.25, "phase:end", ""),)


@pytest.mark.parametrize("script", ["setup.sh", "guest/init"])
def test_scripts_are_well_formed(script: str):
    subprocess.run(["bash", "-n", lab_folder() / script], check=True)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_guest_s_program_compiles_without_warnings(tmp_path: Path):
    sources = sorted((lab_folder() / "guest").glob("*.c"))
    command: list[str | Path] = [
        "gcc",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        tmp_path / "gt",
        *sources,
        "-lpthread",
    ]
    subprocess.run(command, check=True)


def test_a_machine_that_cannot_have_the_lab_skips_it_and_says_why(tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir"):
        (tools / name).symlink_to(shutil.which(name) or "")
    environment = os.environ | {"PATH": str(tools), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tiergym.kernel_lab", "--lab", "lab"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kernel-lab: skipped: no qemu-system-x86 seabios gcc")
    assert not (tmp_path / "lab" / "recordings").exists()


def test_an_unknown_run_is_told_before_anything_is_installed(tmp_path: Path):
    command = [sys.executable, "-m", "tiergym.kernel_lab", "--lab", "lab", "a_lama"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: unknown run 'a_lama'; did you mean" in done.stderr
    assert not (tmp_path / "lab").exists()


def why_no_boot() -> str:
    """Why a guest cannot be booted here, or ""."""
    if shutil.which("qemu-system-x86_64") is None:
        return "QEMU is not installed"
    if qemu.find_kernel(LAB, "") is None or not (LAB / "gt").exists():
        return f"no kernel and guest in {LAB.relative_to(ROOT)}: make kernel-lab"
    return ""


@pytest.mark.skipif(bool(why_no_boot()), reason=why_no_boot())
def test_a_real_kernel_is_booted_and_recorded(tmp_path: Path):
    for name in ("kernel", "gt"):
        (tmp_path / name).symlink_to(LAB / name)
    run = Run("boot_mov", "online_movable", "w anon mb=40 hold_ms=600\nunplug after\n", dram_mib=384, cxl_mib=256)
    kernel = qemu.find_kernel(tmp_path, "")
    assert kernel is not None
    stream.save(run, qemu.boot(run, kernel, tmp_path), tmp_path / "boot_mov")
    recording = read_recording(tmp_path / "boot_mov")
    assert recording.nodes == (0, 1) and recording.zones(1) == ("Movable",)
    assert int(recording.columns["w.anon_touched_pages"].max()) == 40 * PAGES_PER_MIB
    assert "offline_summary" in {event.event for event in recording.events}
    assert str(tmp_path) not in recording.meta["qemu_args"]
