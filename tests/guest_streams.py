"""What a guest of the kernel lab sends, for tests that have none."""

from tests.proc_zoneinfo import ZONEINFO
from tiergym.kernel_lab.runs import Run
from tiergym.recordings.format import MACHINE_COUNTERS, NODE_COUNTERS, REQUESTS

RUN = Run("r_on", "online", "w anon mb=8\n")


def as_stream(files: dict[str, str]) -> str:
    """All lines of all files, as the guest sends them first."""
    return "".join(
        f"F /{name}\n" + "".join(f"{number} {line}\n" for number, line in enumerate(text.splitlines()))
        for name, text in files.items()
    )


def console(*more: str) -> str:
    facts = ["kernel 6.12.0-test", "cmdline quiet ", "auto_online online", "dmesg [ 1.0] oom-kill:constraint=X"]
    facts += [f"zoneinfo {line}" for line in ZONEINFO.splitlines()]
    return "booting\n[    0.5] before init\n" + "".join(f"=LAB= {line}\n" for line in [*facts, *more])


def whole_stream() -> str:
    """Three samples with everything that a recording must have."""
    files = {
        "proc/zoneinfo": ZONEINFO,
        "proc/vmstat": "".join(f"{name} 0\n" for name in MACHINE_COUNTERS),
        "proc/meminfo": "Mapped: 0 kB\nAnonPages: 0 kB\n",
        "sys/devices/system/node/node0/vmstat": "".join(f"{name} 7\n" for name in NODE_COUNTERS),
    }
    requests = "F requests\n" + "".join(f"{number} {name} 0\n" for number, name in enumerate(REQUESTS))
    later = "T 5200000\nF requests\n0 anon_touched_pages 5\nE 5250000 phase end \nT 5400000\n"
    return f"T 5000000\n{requests}{as_stream(files)}{later}END\n"
