"""What the guest sent, as samples and events: the stream of changed lines becomes files, which the recorder reads."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tiergym.recordings import proc_files
from tiergym.recordings.format import Event
from tiergym.recordings.proc_files import Values
from tiergym.recordings.samples import Samples
from tiergym.recordings.sampling import Machine, Sampler

REQUESTS = "requests"
"""The guest's own file: what its workloads have asked for."""
NO_PROCESS = -1


class Guest:
    """The guest's /proc and /sys as they were last sent, as files under `root`, sampled by the recorder's own code."""

    def __init__(self, root: Path, programs: bool) -> None:
        self.root, self.programs = root, programs
        self.lines: dict[str, list[str]] = {}
        self.changed: set[str] = set()
        self.sampler = Sampler(Machine(root), NO_PROCESS)

    def change(self, path: str, number: str, text: str) -> None:
        """Line `number` of a file is now `text`; `#` in its place: the file has `text` lines."""
        lines = self.lines[path]
        if number == "#":
            del lines[int(text) :]
        elif int(number) < len(lines):
            lines[int(number)] = text
        else:
            lines.append(text)
        self.changed.add(path)

    def remove(self, path: str) -> None:
        """The file is gone, as the process that it told of."""
        del self.lines[path]
        self.changed.discard(path)
        file = self._file(path)
        file.unlink(missing_ok=True)
        if file.parent.exists():
            file.parent.rmdir()

    def sample(self, t_s: float) -> Values:
        """All columns of the moment, with what the workload asked for: by its process tree, or as it says itself."""
        for path in self.changed:
            file = self._file(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(self.lines[path]) + "\n")
        self.changed.clear()
        if self.programs:
            return self.sampler.sample(t_s)
        return self.sampler.machine.values() | proc_files.counters("\n".join(self.lines.get(REQUESTS, [])), "w.")

    def _file(self, path: str) -> Path:
        return self.root / path.removeprefix("/")


def read_stream(text: str, programs: bool) -> tuple[Samples, list[tuple[float, str]]]:
    """Samples and events as (time, text), at seconds since boot. See guest/sampler.c for the form of the lines.

    `programs`: the requests are those of a process tree. A sample counts when the next one begins or the stream ends
    properly: one that was cut off, as of a guest that panicked, is left out.
    """
    with tempfile.TemporaryDirectory() as root:
        return _read(text, Guest(Path(root), programs))


def _read(text: str, guest: Guest) -> tuple[Samples, list[tuple[float, str]]]:
    samples = Samples()
    events: list[tuple[float, str]] = []
    path, began = "", None
    whole = text[: text.rfind("\n") + 1]
    for line in whole.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("T", "END"):
            if began is not None:
                samples.add(began, guest.sample(began))
            began = int(rest) / 1e6 if word == "T" else None
        elif word == "E":
            at, _, what = rest.partition(" ")
            events.append((int(at) / 1e6, what.strip()))
        elif word == "F":
            path = rest
            guest.lines.setdefault(path, [])
        elif word == "X":
            guest.remove(rest)
        elif word == "R":
            guest.sampler.parent = int(rest)
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
