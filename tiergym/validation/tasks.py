"""What a workload asked for, process by process: the guest script's commands, timed by the recorded phases.

Each line `w COMMAND key=value ...` of the script is one process. Its phases say when it starts, how much it will ask
for and when it gives it back; the `w.*` columns say how far it has come.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tiergym.errors import UserError, shown
from tiergym.recordings.format import EVENTS, MOST_COUNTED, Event, Recording
from tiergym.sim.units import PAGES_PER_MIB

STARTS = {
    "phase:load_model": "llama",
    "phase:grow": "anon",
    "phase:sparse_grow": "sparse",
    "phase:thread_storm": "threads",
    "phase:fork_storm": "procs",
    "phase:files_create": "dentry",
    "phase:readfile": "readfile",
}
"""First phase of each command."""
SIZE_KEY = {"llama": "pages", "anon": "pages", "sparse": "n", "threads": "n", "procs": "n", "dentry": "n"}
COUNTERS = {
    "llama": "anon_touched_pages",
    "anon": "anon_touched_pages",
    "sparse": "sparse_leaf_tables",
    "threads": "threads",
    "procs": "procs",
    "dentry": "files",
    "readfile": "file_touched_pages",
}
"""The column `w.*` that counts a command's progress."""
ARGUMENTS = {
    "node": (0, 1),
    "adj": (-1000, 1000),
    "step": (1, MOST_COUNTED),
    "kb": (0, MOST_COUNTED),
    "kv": (0, MOST_COUNTED),
    "ratio": (1, MOST_COUNTED),
}
"""What whole numbers a command takes, and from where to where."""


@dataclass(slots=True)
class Task:
    """One process of the workload.

    `size` is what it asks for when complete, in units of its counter. Times are in seconds of the recording; `inf` is
    never. `shrink_s` to `freed_s`: it gives everything back. `killed`: its exit was by a signal of the OOM killer.
    """

    command: str
    arguments: Mapping[str, str]
    background: bool
    start_s: float
    size: int
    shrink_s: float = float("inf")
    freed_s: float = float("inf")
    exit_s: float = float("inf")
    killed: bool = False

    @property
    def counter(self) -> str:
        file_model = self.command == "llama" and "file" in self.arguments
        return "file_touched_pages" if file_model else COUNTERS[self.command]

    @property
    def name(self) -> str:
        return self.arguments.get("name", self.command)


def details(text: str) -> dict[str, str]:
    """`key=value` words of an event or a command."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def script_commands(script: str) -> list[tuple[str, dict[str, str], bool]]:
    """(command, arguments, in the background) of every `w` line."""
    return [
        (match[1], details(match[2]), line.rstrip().endswith("&"))
        for line in re.split(r"[\n;]", script)
        if (match := re.match(r"\s*w\s+(\w+)(.*)", line))
    ]


def read_tasks(recording: Recording) -> list[Task]:
    """The processes of a run, in the order of their start."""
    left = script_commands(str(recording.meta.get("guest_script", "")))
    tasks: list[Task] = []
    for event in recording.events:
        found = details(event.detail)
        command = STARTS.get(event.event)
        if command is not None:
            arguments, background = _take_command(left, command, found)
            size = int(number(recording, event, found, SIZE_KEY.get(command, "")))
            if command == "readfile":
                size = int(number(recording, event, found, "mb")) * PAGES_PER_MIB
            if found.get("kind") == "file":
                arguments = {"file": "?"} | arguments
            _check_arguments(recording, event, arguments | found)
            tasks.append(Task(command, arguments | found, background, event.t_s, size))
        elif event.event in ("phase:shrink", "phase:exit", "phase:files_delete"):
            if task := _last(tasks, event, found):
                task.shrink_s = event.t_s
        elif event.event == "phase:freed":
            if task := _last(tasks, event, found):
                task.freed_s = event.t_s
        elif event.event == "child_exit":
            _end(tasks, event, found)
    for task in tasks:
        if task.shrink_s < float("inf") and task.freed_s == float("inf"):
            task.freed_s = task.exit_s
    return tasks


def number(recording: Recording, event: Event, words: Mapping[str, str], key: str) -> float:
    """A number in an event's detail, 0 where there is none. Raises `UserError` for what is no number."""
    text = words.get(key, "") or "0"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_COUNTED:
        raise UserError(
            f"{recording.path}/{EVENTS}: event {shown(event.event)}: {key} is {shown(text)}; "
            f"allowed: a number from 0 to {MOST_COUNTED}"
        )
    return value


def _check_arguments(recording: Recording, event: Event, words: Mapping[str, str]) -> None:
    """Raise `UserError` for an argument of a command that is no such number as it takes."""
    for key, (low, high) in ARGUMENTS.items():
        text = words.get(key, str(low))
        if not re.fullmatch(r"-?[0-9]{1,16}", text) or not low <= int(text) <= high:
            raise UserError(
                f"{recording.path}: event {shown(event.event)}, or its command in guest_script: {key} is "
                f"{shown(text)}; allowed: a whole number from {low} to {high}"
            )


def _take_command(
    left: list[tuple[str, dict[str, str], bool]], command: str, found: Mapping[str, str]
) -> tuple[dict[str, str], bool]:
    for i, (name, arguments, background) in enumerate(left):
        if name == command and arguments.get("name", "") in ("", found.get("name", "")):
            del left[i]
            return arguments, background
    return {}, False


def offline_tests(recording: Recording) -> list[tuple[str, float, float]]:
    """(tag, begin, end) in seconds of each test that took blocks offline."""
    begin: dict[str, float] = {}
    tests = []
    for event in recording.events:
        words = details(event.detail)
        tag = words.get("tag", "")
        if event.event == "offline_block" and tag not in begin:
            took_s = number(recording, event, words, "t1") - number(recording, event, words, "t0")
            begin[tag] = event.t_s - took_s
        elif event.event == "offline_summary" and tag in begin:
            tests.append((tag, begin.pop(tag), event.t_s))
    return tests


MOST_KILLS = 10_000
"""OOM kills of a recording; each is looked up in all samples."""
KIND_OF_FREED = {"threads": "threads", "procs": "procs", "files": "dentry", "llama": "llama"}


def _last(tasks: Iterable[Task], event: Event, found: Mapping[str, str]) -> Task | None:
    """The process that an event is about: by its name, else by the kind of thing it gives back."""
    alive = [task for task in tasks if task.exit_s > event.t_s]
    if "name" in found:
        alive = [task for task in alive if task.arguments.get("name") == found["name"]]
    else:
        word = re.match(r"(\w+)", event.detail)
        kind = KIND_OF_FREED.get(word[1]) if word else None
        if event.event == "phase:files_delete":
            kind = "dentry"
        alive = [task for task in alive if task.command == kind]
    return alive[-1] if alive else None


def _end(tasks: Iterable[Task], event: Event, found: Mapping[str, str]) -> None:
    alive = [task for task in tasks if task.exit_s == float("inf") and task.command == found.get("cmd")]
    by_pid = [task for task in alive if task.arguments.get("pid", "") == found.get("pid", "?")]
    for task in (by_pid or alive)[:1]:
        task.exit_s = event.t_s
        task.killed = found.get("signal") == "9"


def block_requests(recording: Recording) -> list[tuple[int, str, str]]:
    """(sample, what, tag): when a block of node 1 was to go "offline" (in a test, by tag) or all "online" again: the
    first sample after it."""
    found = []
    for event in recording.events:
        if event.event == "offline_block":
            found.append((event.t_s, "offline", details(event.detail).get("tag", "")))
        elif event.event == "reonline":
            found.append((event.t_s, "online", ""))
    last = len(recording.t_s) - 1
    return [(min(int(np.searchsorted(recording.t_s, when)), last), what, tag) for when, what, tag in found]


def kill_samples(recording: Recording) -> list[int]:
    """The first sample that counts each OOM kill."""
    count = recording.column("vm.oom_kill").astype(np.int64)
    kills = int(count[-1] - count[0])
    if kills > MOST_KILLS:
        raise UserError(f"{recording.path}: vm.oom_kill grows by {kills}; allowed: at most {MOST_KILLS}")
    return [int(np.argmax(count - count[0] > i)) for i in range(kills)]
