"""The kernel lab: runs, kernels, the guest's files, QEMU's command line; one boot where QEMU and a kernel are."""

import gzip
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from tests.guest_streams import RUN, console, whole_stream
from tests.places import ROOT
from tiergym.errors import UserError
from tiergym.kernel_lab import __main__ as kernel_lab
from tiergym.kernel_lab import kernels, qemu
from tiergym.kernel_lab.initramfs import archive, dependencies
from tiergym.kernel_lab.kernels import SUITES, UnavailableError
from tiergym.kernel_lab.qemu import Booted
from tiergym.kernel_lab.runs import DEFAULT_RUNS, Run, choose, lab_folder, load_runs
from tiergym.recordings.format import Event, read_recording
from tiergym.sim.units import PAGES_PER_MIB

LAB = ROOT / "build" / "kernel-lab"


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
        ('[a]\nscript = ""\nkernel = "6.2"', r"a\.kernel: unknown release '6\.2'; .*known: 6\.1, 6\.12, 6\.18, 7\.2"),
        ('["a b"]\nscript = ""', "a table with a name of letters"),
        ("a = 3", "expected a table"),
    ],
)
def test_a_wrong_run_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "runs.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_runs(tmp_path / "runs.toml")


def test_real_programs_are_runs_with_a_root_and_a_process_tree(tmp_path: Path):
    runs = load_runs()
    programs = {name for name, run in runs.items() if run.programs}
    assert {"p_llama_on", "p_redis_mov", "p_sqlite_on", "p_gcc_on", "p_stress_mov", "p_memcached_on"} <= programs
    assert all(name.startswith("p_") for name in programs) and not runs["e_phases_on"].programs
    (tmp_path / "programs.toml").write_text('[p]\nscript = ""\ndisk_mib = 64\n')
    with pytest.raises(UserError, match=r"p\.disk_mib; allowed: none, /dev/vda is the root"):
        load_runs(tmp_path / "programs.toml")


def command(run: Run) -> str:
    paths = (Path(name) for name in ("vmlinuz", "initrd", "scratch", "monitor", "root.img"))
    return " ".join(qemu.command_line(run, *paths))


def test_a_machine_of_two_nodes_gets_the_second_after_boot():
    line = command(Run("r", "online_movable", "", cxl_mib=2048, cpus=4, low_mib=256, swap_mib=64))
    assert "-m 512M,slots=16,maxmem=64G" in line and "2048" not in line  # node 1 is empty until it is plugged in
    assert "node,nodeid=0,cpus=0-3,memdev=m0,initiator=0" in line and "-numa node,nodeid=1,initiator=0" in line
    assert "initiator=0,target=1,hierarchy=memory,data-type=access-latency,latency=300" in line
    assert "max-ram-below-4g=256M" in line and "memhp_default_state=online_movable" in line
    assert "file=scratch/disk.img" in line and "transparent_hugepage=never" in line
    setup, _ = qemu.guest_scripts(Run("r", "online", "", cxl_mib=2048, setup="tiering 2"))
    assert "-lt 20 ]" in setup and setup.index("-lt 20 ]") < setup.index("tiering 2")  # 4 + 16 blocks


def test_a_machine_of_one_node_waits_for_nothing():
    run = Run("r", "online", "", cxl_mib=0, boot="transparent_hugepage=always")
    line = command(run)
    assert "hmat" not in line and "nodeid=1" not in line and "transparent_hugepage=never" not in line
    assert qemu.guest_scripts(run)[0] == "HZ=5\n\n"


def test_a_root_with_programs_is_a_disk_that_keeps_nothing():
    run = Run("p", "online", "in_ true\n", swap_mib=64, programs=True)
    line = command(run)
    assert "file=root.img,snapshot=on,if=none,id=root" in line
    assert line.index("drive=root") < line.index("drive=disk")  # /dev/vda, and swap on /dev/vdb
    setup, _ = qemu.guest_scripts(replace(run, setup="as_nvme"))
    assert "TREE=1" in setup and setup.index("state") < setup.index("mountroot") < setup.index("as_nvme")
    assert "root.img" not in command(RUN) and "TREE" not in qemu.guest_scripts(RUN)[0]


RELEASES = (
    "6.1.0-9-amd64",
    "6.1.0-50-amd64",
    "6.1.0-56-rt-amd64",
    "6.12.9+bpo-amd64",
    "6.12.90+deb12.1-amd64",
    "6.12.95+deb12-cloud-amd64",
    "6.18.15+deb13-amd64",
    "6.18.16+deb13-amd64-unsigned",
    "7.2.9+deb13-amd64",
    "7.2.12+deb13-amd64",
)


def test_the_newest_kernel_of_a_release():
    assert {release: kernels.newest(RELEASES, release) for release in (*SUITES, "7.1")} == {
        "6.1": "6.1.0-50-amd64",
        "6.12": "6.12.90+deb12.1-amd64",
        "6.18": "6.18.15+deb13-amd64",
        "7.2": "7.2.12+deb13-amd64",
        "7.1": None,
    }


def test_a_kernel_that_is_there_is_not_fetched(tmp_path: Path):
    for version in ("6.12.9+deb12-amd64", "6.12.95+deb12-amd64"):
        (tmp_path / "kernel" / version / "boot").mkdir(parents=True)
        (tmp_path / "kernel" / version / "boot" / f"vmlinuz-{version}").touch()
    kernel = kernels.fetch(tmp_path, "6.12")
    assert kernels.image(kernel).name == "vmlinuz-6.12.95+deb12-amd64" and not (tmp_path / "apt").exists()
    assert kernels.find(tmp_path, "6.1") is None


def fake_apt(folder: Path, packages: dict[str, str]) -> None:
    """apt-get, apt-cache and dpkg-deb that know `packages`, each with the one file that it holds."""
    files = "".join(f"{name}) echo {file};;" for name, file in packages.items())
    scripts = {
        "apt-get": 'case "$*" in *indextargets*) echo file:/a Debian;;\n*download*) touch "${@: -1}_1.deb";; esac',
        "apt-cache": f'for p in {" ".join(packages)}; do case $p in "${{@: -1}}"*) echo $p;; esac; done',
        "dpkg-deb": f'p=${{2##*/}}\nf=$(case ${{p%%_*}} in {files} esac)\nmkdir -p "$(dirname "$3/$f")"\ntouch "$3/$f"',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)


def test_a_kernel_is_unpacked_from_its_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Until 7.0 one package has image and modules; then the image lies beside the modules, in a package of its own."""
    tools = tmp_path / "bin"
    tools.mkdir()
    fake_apt(
        tools,
        {
            "linux-image-6.18.15+deb13-amd64": "boot/vmlinuz-6.18.15+deb13-amd64",
            "linux-image-7.2.12+deb13-amd64": "usr/share/doc/linux",
            "linux-binary-7.2.12+deb13-amd64": "usr/lib/modules/7.2.12+deb13-amd64/vmlinuz",
            "linux-modules-7.2.12+deb13-amd64": "usr/lib/modules/7.2.12+deb13-amd64/kernel/ext4.ko.xz",
        },
    )
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(kernels, "KEY", tmp_path)
    images = [kernels.image(kernels.fetch(tmp_path / "lab", release)) for release in ("6.18", "7.2")]
    assert [path.relative_to(tmp_path / "lab" / "kernel").as_posix() for path in images] == [
        "6.18.15+deb13-amd64/boot/vmlinuz-6.18.15+deb13-amd64",
        "7.2.12+deb13-amd64/usr/lib/modules/7.2.12+deb13-amd64/vmlinuz",
    ]
    assert (images[1].parent / "kernel" / "ext4.ko.xz").exists()
    assert (tmp_path / "lab/apt/7.2/sources.list").read_text().endswith("file:/a trixie-backports main\n")
    with pytest.raises(UnavailableError, match=r"no kernel 6\.1 in Debian's suite bookworm"):
        kernels.fetch(tmp_path / "lab", "6.1")


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

    monkeypatch.setattr(kernel_lab, "prepare", lambda lab, programs: None)
    monkeypatch.setattr(kernels, "archive", lambda: (_ for _ in ()).throw(UnavailableError("no archive")))
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
    assert "n_k61_pressure_on: skipped: no archive" in out
    recording = read_recording(tmp_path / "recordings" / "a_llama_anon_on__r2")
    assert recording.meta["run"] == "a_llama_anon_on__r2" and recording.zones(0) == ("DMA",)
    assert recording.columns["w.anon_touched_pages"].tolist() == [0, 5, 5]
    assert recording.events == (Event(0.25, "phase:end", ""),)


@pytest.mark.parametrize("script", ["setup.sh", "root.sh", "guest/init", "guest/helpers"])
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


def without_tools(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The lab on a machine without QEMU and apt."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir"):
        (tools / name).symlink_to(shutil.which(name) or "")
    environment = os.environ | {"PATH": str(tools), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tiergym.kernel_lab", "--lab", "lab", *arguments]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_a_machine_that_cannot_have_the_lab_skips_it_and_says_why(tmp_path: Path):
    done = without_tools(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kernel-lab: skipped: no qemu-system-x86 seabios gcc")
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("arguments", [("e_phases",), ("--release", "7.2"), ("--all",)])
def test_what_was_asked_for_and_cannot_be_had_is_an_error(tmp_path: Path, arguments: tuple[str, ...]):
    done = without_tools(tmp_path, *arguments)
    assert done.returncode == 2
    assert "error: the kernel lab needs Debian's packages: no qemu-system-x86 seabios gcc" in done.stderr
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a_lama",), "error: unknown run 'a_lama'; did you mean"),
        (("p_redys",), "error: unknown run 'p_redys'; did you mean 'p_redis"),
        (("--release", "6.13"), "error: unknown release '6.13'; did you mean '6.1"),
    ],
)
def test_an_unknown_name_is_told_before_anything_is_installed(tmp_path: Path, arguments: tuple[str, ...], message: str):
    done = without_tools(tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr and "(known: " in done.stderr
    assert not (tmp_path / "lab").exists()


def why_no_boot() -> str:
    """Why a guest cannot be booted here, or ""."""
    if shutil.which("qemu-system-x86_64") is None:
        return "QEMU is not installed"
    if kernels.find(LAB, RUN.kernel) is None or not (LAB / "gt").exists():
        return f"no kernel and guest in {LAB.relative_to(ROOT)}: make kernel-lab"
    return ""


@pytest.mark.skipif(bool(why_no_boot()), reason=why_no_boot())
def test_a_real_kernel_is_booted_and_recorded(tmp_path: Path):
    for name in ("kernel", "gt"):
        (tmp_path / name).symlink_to(LAB / name)
    run = Run("boot_mov", "online_movable", "w anon mb=40 hold_ms=600\nunplug after\n", dram_mib=384, cxl_mib=256)
    assert "samples" in kernel_lab.record(run, tmp_path, tmp_path / "boot_mov")
    recording = read_recording(tmp_path / "boot_mov")
    assert recording.nodes == (0, 1) and recording.zones(1) == ("Movable",)
    assert int(recording.columns["w.anon_touched_pages"].max()) == 40 * PAGES_PER_MIB
    assert "offline_summary" in {event.event for event in recording.events}
    assert str(tmp_path) not in recording.meta["qemu_args"]
