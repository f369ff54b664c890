"""What the guest sent, as a recording: the stream of changed lines becomes samples, the console becomes meta.json."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiergym.errors import UserError
from tiergym.kernel_lab.qemu import FACT, Booted
from tiergym.kernel_lab.runs import Run
from tiergym.recordings import proc_files
from tiergym.recordings.format import Event, write_recording
from tiergym.recordings.proc_files import Values
from tiergym.recordings.samples import Samples
from tiergym.recordings.sampling import NODES, Machine
from tiergym.sim.units import PAGE_BYTES


@dataclass
class Guest(Machine):
    """The guest's /proc and /sys as they were last sent: lines by file."""

    files: dict[str, list[str]] = field(default_factory=dict)

    def read(self, path: str) -> str:
        """The text of a file that the guest sends, "" for any other."""
        return "\n".join(self.files.get(f"/{path}", []))

    def nodes(self) -> list[int]:
        """The nodes whose files it sends."""
        found = (re.fullmatch(rf"/{NODES}/node(\d+)/vmstat", path) for path in self.files)
        return sorted(int(match[1]) for match in found if match)

    def sample(self) -> Values:
        """All columns of the moment, with what the workloads asked for."""
        asked = proc_files.counters("\n".join(self.files.get("requests", [])), "w.")
        return self.values() | asked

    def change(self, path: str, number: str, text: str) -> None:
        """Line `number` of a file is now `text`; `#` in its place: the file has `text` lines."""
        lines = self.files[path]
        if number == "#":
            del lines[int(text) :]
        elif int(number) < len(lines):
            lines[int(number)] = text
        else:
            lines.append(text)


def read_stream(text: str) -> tuple[Samples, list[tuple[float, str]]]:
    """Samples and events as (time, text), at seconds since boot. See guest/sampler.c for the form of the lines.

    A sample counts when the next one begins or the stream ends properly: one that was cut off is left out.
    """
    guest = Guest()
    samples = Samples()
    events: list[tuple[float, str]] = []
    path, began = "", None
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("T", "END"):
            if began is not None:
                samples.add(began, guest.sample())
            began = int(rest) / 1e6 if word == "T" else None
        elif word == "E":
            at, _, what = rest.partition(" ")
            events.append((int(at) / 1e6, what.strip()))
        elif word == "F":
            path = rest
            guest.files.setdefault(path, [])
        elif word == "#" or word.isdecimal():
            guest.change(path, word, rest)
    return samples, events


def as_event(t_s: float, text: str) -> Event:
    """`phase grow name=A` is the event phase:grow; of any other the first word is."""
    word, _, detail = text.partition(" ")
    if word == "phase":
        phase, _, detail = detail.partition(" ")
        word = f"phase:{phase}"
    return Event(t_s, word, detail.strip())


def meta(run: Run, booted: Booted) -> dict[str, Any]:
    """meta.json: the machine as it was made, and the facts that the guest printed."""
    facts = [line.removeprefix(FACT) for line in booted.console.splitlines() if line.startswith(FACT)]

    def part(prefix: str) -> list[str]:
        return [line.removeprefix(prefix) for line in facts if line.startswith(prefix)]

    apart = ("zoneinfo ", "dmesg ", "pagetype ")
    two_nodes = run.cxl_mib > 0
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
        "completed": "DONE" in facts,
        "qemu_args": booted.command,
        "page_size": PAGE_BYTES,
        "guest_report": [line for line in facts if not line.startswith(apart)],
        "zone_report": proc_files.zone_report("\n".join(part("zoneinfo "))),
        "dmesg": part("dmesg "),
        "pagetypeinfo_end": part("pagetype "),
    }


def save(run: Run, booted: Booted, folder: Path) -> int:
    """Write the recording and return its number of samples. Raises `UserError` if the guest did not finish."""
    facts = meta(run, booted)
    samples, events = read_stream(booted.samples)
    if not facts["completed"] or not samples.times:
        why = "its time was over" if booted.timed_out else "the guest stopped early"
        last = " / ".join(booted.console.splitlines()[-3:])
        raise UserError(f"{run.name}: {why}, nothing is kept; its console ends: {last}")
    began, ended = samples.times[0], samples.times[-1]
    facts |= {"run": folder.name, "duration_s": round(ended - began, 3), "t0_guest_monotonic_us": round(began * 1e6)}
    write_recording(folder, facts, samples.columns(), [as_event(at - began, text) for at, text in events])
    return len(samples.times)
