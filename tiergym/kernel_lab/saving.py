"""A run as a recording on disk, also of a guest that panicked or whose time was over: what came until then is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiergym.files import write_text
from tiergym.kernel_lab.qemu import CONSOLE, FACT, UP, Booted
from tiergym.kernel_lab.runs import Run
from tiergym.kernel_lab.stream import as_event, read_stream
from tiergym.recordings import proc_files
from tiergym.recordings.format import write_recording
from tiergym.sim.units import PAGE_BYTES

LAST_LINES = 150
"""Of the kernel's own lines on a console, as many as the guest sends of its log."""


@dataclass(frozen=True, slots=True)
class Saved:
    """`samples` of the recording, 0 if there is none; `incomplete`: why the guest did not finish, "" if it did."""

    samples: int
    incomplete: str


def why_incomplete(run: Run, booted: Booted) -> str:
    """Why the guest did not come to its end, in words; "" if it did."""
    if f"{FACT}DONE" in booted.console.splitlines():
        return ""
    if (panic := re.search(r"Kernel panic - not syncing: (.*)", booted.console)) is not None:
        return f"the kernel panicked: {panic[1]}"
    if UP not in booted.console:
        return "the guest's init did not come up"
    return f"its time of {run.timeout_s} s was over" if booted.timed_out else "the guest stopped early"


def meta(run: Run, booted: Booted) -> dict[str, Any]:
    """meta.json: the machine as it was made, and the facts that the guest printed."""
    facts = [line.removeprefix(FACT) for line in booted.console.splitlines() if line.startswith(FACT)]

    def part(prefix: str) -> list[str]:
        return [line.removeprefix(prefix) for line in facts if line.startswith(prefix)]

    apart = ("zoneinfo ", "dmesg ", "pagetype ", "output ")
    two_nodes = run.cxl_mib > 0
    incomplete = why_incomplete(run, booted)
    return {
        "kernel_release": next(iter(part("kernel ")), booted.release),
        "accel": "qemu-tcg",
        "smp": run.cpus,
        "dram_mib": run.dram_mib,
        "cxl_mib": run.cxl_mib,
        "cxl_dimms": int(two_nodes),
        "cxl_attach": "pc-dimm hotplug memory device" if two_nodes else "none",
        "memhp_default_state": run.policy,
        "hmat": two_nodes,
        "numa_distance": 20 if two_nodes else None,
        "kernel_cmdline": next(iter(part("cmdline ")), "").strip(),
        "max_ram_below_4g_mib": run.low_mib or None,
        "pre_script": run.setup,
        "guest_script": run.script,
        "sample_hz": run.hz,
        "timed_out": booted.timed_out,
        "completed": not incomplete,
        **({"incomplete": incomplete} if incomplete else {}),
        "qemu_args": booted.command,
        "page_size": PAGE_BYTES,
        "guest_report": [line for line in facts if not line.startswith(apart)],
        "zone_report": proc_files.zone_report("\n".join(part("zoneinfo "))),
        "dmesg": _kernel_lines(booted.console) if incomplete else part("dmesg "),
        "pagetypeinfo_end": part("pagetype "),
        **({"program_output": part("output ")} if run.programs else {}),
    }


def _kernel_lines(console: str) -> list[str]:
    """What the kernel said on the console: a guest that did not finish has not sent its log."""
    return [line for line in console.splitlines() if re.match(r"\[ *\d+\.\d+\]", line)][-LAST_LINES:]


def save(run: Run, booted: Booted, folder: Path, boot: int = 1) -> Saved:
    """Write the recording, and beside it the console of a guest that did not finish. `boot`: it was the n-th attempt.

    Without a single sample there is no recording: nothing is written.
    """
    facts = meta(run, booted)
    incomplete = facts.get("incomplete", "")
    samples, events = read_stream(booted.samples, run.programs)
    if not samples.times:
        return Saved(0, incomplete or "the guest sent no sample")
    began, ended = samples.times[0], samples.times[-1]
    facts |= {"run": folder.name, "duration_s": round(ended - began, 3), "t0_guest_monotonic_us": round(began * 1e6)}
    facts |= {"boots": boot}
    write_recording(folder, facts, samples.columns(), [as_event(at - began, text) for at, text in events])
    if incomplete:
        write_text(folder / CONSOLE, booted.console)
    return Saved(len(samples.times), incomplete)
