"""One guest under QEMU: its command line, node 1 plugged in after boot, and what it wrote on its two serial lines."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tiergym.kernel_lab import kernels
from tiergym.kernel_lab.initramfs import archive, modules
from tiergym.kernel_lab.runs import Run, lab_folder
from tiergym.sim.units import LEAST_BLOCK_MIB

CONSOLE, SAMPLES, ROOT = "console.log", "samples.raw", "root.img"
BUSYBOX = Path("/bin/busybox")
FACT = "=LAB= "
"""How the guest begins a line of the console that is meant for us."""
UP = f"{FACT}auto_online"
"""The last fact before the guest waits for node 1."""
HMAT = ((0, 0, 100, 20000), (0, 1, 300, 8000))
"""initiator, target, ns, MB/s: what makes node 1 a lower memory tier."""
SLOTS = 16
BOOT_TIMEOUT_S = 150
"""Until the guest's init speaks: an emulated kernel takes 10 to 40 s, one that hangs takes for ever."""

WAIT_FOR_NODE1 = """\
i=0
while [ $(cat $BLOCKS/memory*/state | grep -c '^online') -lt {blocks} ] && [ $i -lt 100 ]; do
    sleep 0.2
    i=$((i + 1))
done
"""


@dataclass(frozen=True, slots=True)
class Booted:
    """What a guest left behind. `command`: QEMU's, without paths of this machine."""

    console: str
    samples: str
    command: str
    release: str
    timed_out: bool


def guest_scripts(run: Run) -> tuple[str, str]:
    """setup.sh and run.sh: the guest's shell reads both. Setup waits for node 1 and mounts the Debian root first."""
    blocks = (run.dram_mib + run.cxl_mib) // LEAST_BLOCK_MIB
    wait = WAIT_FOR_NODE1.format(blocks=blocks) if run.cxl_mib else ""
    root = "TREE=1\nmountroot\n" if run.programs else ""
    return f"HZ={run.hz}\n{wait}{root}{run.setup}\n", run.script


def command_line(run: Run, vmlinuz: Path, initrd: Path, scratch: Path, monitor: Path, root: Path) -> list[str]:
    """QEMU's arguments. Node 1 is declared here, its memory comes later (`plug`). What is written to `root` is lost."""
    machine = "pc,accel=tcg" + (",hmat=on" if run.cxl_mib else "") + _option(run.low_mib, ",max-ram-below-4g={}M")
    initiator = ",initiator=0" if run.cxl_mib else ""
    arguments = ["qemu-system-x86_64", "-machine", machine, "-cpu", "max,la57=off", "-smp", str(run.cpus)]
    arguments += ["-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(vmlinuz), "-initrd", str(initrd)]
    arguments += ["-serial", f"file:{scratch / CONSOLE}", "-serial", f"file:{scratch / SAMPLES}"]
    arguments += ["-monitor", f"unix:{monitor},server=on,wait=off"]
    arguments += ["-m", f"{run.dram_mib}M" + (f",slots={SLOTS},maxmem=64G" if run.cxl_mib else "")]
    arguments += ["-object", f"memory-backend-ram,id=m0,size={run.dram_mib}M"]
    arguments += ["-numa", f"node,nodeid=0,cpus=0-{run.cpus - 1},memdev=m0{initiator}"]
    if run.cxl_mib:
        arguments += ["-numa", f"node,nodeid=1{initiator}"]
        arguments += ["-numa", "dist,src=0,dst=1,val=20", "-numa", "dist,src=1,dst=0,val=20"]
        for source, target, latency_ns, mb_per_s in HMAT:
            path = f"hmat-lb,initiator={source},target={target},hierarchy=memory"
            arguments += ["-numa", f"{path},data-type=access-latency,latency={latency_ns}"]
            arguments += ["-numa", f"{path},data-type=access-bandwidth,bandwidth={mb_per_s}M"]
    if run.programs:
        arguments += _disk("root", f"{root},snapshot=on")
    if run.disk_mib or run.swap_mib:
        arguments += _disk("disk", str(scratch / "disk.img"))
    return [*arguments, "-append", kernel_arguments(run)]


def _disk(name: str, file: str) -> list[str]:
    return [
        "-drive",
        f"file={file},if=none,id={name},format=raw,cache=unsafe",
        "-device",
        f"virtio-blk-pci,drive={name}",
    ]


def kernel_arguments(run: Run) -> str:
    """The kernel's command line. No mitigations: they cost time, and nothing here is secret."""
    thp = "" if "transparent_hugepage" in run.boot else "transparent_hugepage=never "
    fixed = f"console=ttyS0 panic=5 rdinit=/init {thp}memhp_default_state={run.policy}"
    return f"{fixed} mitigations=off pti=off tsc=reliable no_timer_check {run.boot}".strip()


def _option(value: int, text: str) -> str:
    return text.format(value) if value else ""


def boot(run: Run, kernel: Path, lab: Path) -> Booted:
    """Boot the guest, wait until it powers off or its time is over, and read what it wrote.

    Runs at low priority: an emulated machine may be slow. Nothing but its logs stays in `lab/scratch/NAME`.
    """
    scratch = lab / "scratch" / run.name
    scratch.mkdir(parents=True, exist_ok=True)
    for name in (CONSOLE, SAMPLES):
        (scratch / name).unlink(missing_ok=True)
    initrd, vmlinuz, root = scratch / "initrd", kernels.image(kernel), lab / ROOT
    initrd.write_bytes(archive(_guest_files(run, kernel, lab)))
    _make_disk(run, scratch / "disk.img")
    # A socket's path has at most 107 bytes: a folder of the lab's may be too deep.
    with tempfile.TemporaryDirectory() as short, (scratch / "qemu.log").open("wb") as log:
        monitor = Path(short) / "monitor"
        command = command_line(run, vmlinuz, initrd, scratch, monitor, root)
        process = subprocess.Popen(["nice", "-n", "10", *command], stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_init(scratch / CONSOLE, process)
            plug(run, monitor)
            process.wait(run.timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            timed_out = process.poll() is None
            process.terminate()
            process.wait()
    for name in ("initrd", "disk.img"):
        (scratch / name).unlink(missing_ok=True)
    shown = " ".join(command)
    for path in (scratch, monitor.parent, vmlinuz.parent, root.parent):
        shown = shown.replace(f"{path}/", "")
    return Booted(_text(scratch / CONSOLE), _text(scratch / SAMPLES), shown, kernel.name, timed_out)


def _guest_files(run: Run, kernel: Path, lab: Path) -> dict[str, bytes]:
    loaded = modules(kernel)
    setup, script = guest_scripts(run)
    sources = lab_folder() / "guest"
    return {
        "init": (sources / "init").read_bytes(),
        "helpers": (sources / "helpers").read_bytes(),
        "gt": (lab / "gt").read_bytes(),
        "bin/busybox": BUSYBOX.read_bytes(),
        "dev/.keep": b"",
        "setup.sh": setup.encode(),
        "run.sh": script.encode(),
        "mods/order": "".join(f"{name}\n" for name in loaded).encode(),
        **{f"mods/{name}": data for name, data in loaded.items()},
    }


def _make_disk(run: Run, image: Path) -> None:
    if size := run.disk_mib or run.swap_mib:
        with image.open("wb") as file:
            file.truncate(size << 20)
    if run.disk_mib:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image], check=True)


def wait_for_init(console: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the guest's init is up or QEMU has ended. Raises `subprocess.TimeoutExpired`."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while UP not in _text(console) and process.poll() is None:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, BOOT_TIMEOUT_S)
        time.sleep(0.2)


def plug(run: Run, monitor: Path) -> None:
    """device_add node 1's memory through the monitor, for which the guest waits."""
    if not run.cxl_mib:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:  # OSError: QEMU has ended
        connection.connect(str(monitor))
        for line in (
            f"object_add memory-backend-ram,id=c0,size={run.cxl_mib}M",
            "device_add pc-dimm,id=d0,memdev=c0,node=1",
        ):
            connection.sendall(line.encode() + b"\n")
            time.sleep(0.3)


def _text(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""
