"""What a guest script of the kernel lab asks for: its commands, the phases that they report, and the `w.*` columns.

Made of the requests alone: the `w.*` columns, the phases, and the guest script's mempolicies. What was measured enters
only as the state in the first sample.
"""

from __future__ import annotations

import re

import numpy as np

from tiergym.recordings.format import Recording
from tiergym.sim.demand import STACK_PAGES
from tiergym.sim.units import LEAF_SPAN_BYTES, LEAF_SPAN_PAGES, PAGE_BYTES, PAGE_KIB, PAGES_PER_MIB
from tiergym.validation.recorded_cache import written_share
from tiergym.validation.recorded_machine import Start, first_sample
from tiergym.validation.request_series import SYSTEM, RegionRequest, Requests, Series, start_regions
from tiergym.validation.task_progress import alive, given_back_share, task_progress, task_totals
from tiergym.validation.tasks import Task, block_requests, offline_tests

# A small process beside what it touches, as /proc/<pid>/status shows it for a static program: page tables of its text,
# data, stack and kernel-shared top level; anonymous pages of an exec'd image, and those of a forked child.
IMAGE_TABLES = 9  # beside the top levels, which every region counts for itself
FORKED_TABLES = 11
SHELL_SHARE = 0.5  # of an image: what a forked shell writes to it has for itself
IMAGE_PAGES = 15
FORKED_PAGES = 5
HEAP_PAGES_PER_S = 1.0  # stack and heap of a process that runs (estimate)
PROCESS_SLAB_BYTES = 8192  # mm_struct, files_struct, sighand, signal, about twenty vm_area_structs
SHMEM_FILE_SLAB_BYTES = 880  # shmem_inode_cache, which is not reclaimable (mm/shmem.c), with its security blob
DENTRY_BYTES = 195  # 192, 21 to a page
NEGATIVE_DENTRY_BYTES = 256  # with a name of its own (kmalloc-rcl-64), as names longer than 40 bytes have
DISK_FILE_SLAB_BYTES = 1320
MOUNT_SLAB_UNRECLAIM_BYTES = 22 * PAGE_BYTES  # an ext4 mount: superblock, journal, group descriptors
MOUNT_SLAB_RECLAIM_BYTES = 18 * PAGE_BYTES
MOUNT_CACHE_PAGES = 100
DISK_FILES_PER_CACHE_PAGE = 16  # inodes of 256 bytes in the inode table
TEST_PROCESSES = 4
TEST_SYSFS_BYTES = 8 * PAGE_BYTES  # dentries and inodes of the files under /sys/devices/system/memory
STACKS_PER_TABLE = 64  # user stacks of 32 KiB
POLICIES = {("bind", 0): "bind_fast", ("bind", 1): "bind_slow", ("pref", 1): "prefer_slow"}


def mempolicy(task: Task) -> str:
    """The policy that a command's `pol=` and `node=` name."""
    policy = task.arguments.get("pol", "none")
    node = int(task.arguments.get("node", "0"))
    return "interleave" if policy == "ileave" else POLICIES.get((policy, node), "default")


def script_requests(recording: Recording, tasks: list[Task]) -> Requests:
    """The requests of a run of the lab's commands, resampled at its sample times."""
    t_s, start = recording.t_s, first_sample(recording)
    zero = np.zeros(len(t_s))
    requests = Requests(
        t_s,
        tasks,
        {SYSTEM: {"oom_score_adj": -1000}},
        _system_regions(t_s, start, tasks),
        {SYSTEM: zero + sum(start.stacks) // STACK_PAGES},
        zero.copy(),
        zero.copy(),
        zero.copy(),
        killed=frozenset(f"p{i}" for i, task in enumerate(tasks) if task.killed),
    )
    for i, task in enumerate(tasks):
        requests.processes[f"p{i}"] = {
            "oom_score_adj": int(task.arguments.get("adj", "0")),
            "mempolicy": mempolicy(task) if task.command == "sparse" else "default",
            "work_share": 0,
        }
    for counter in dict.fromkeys(task.counter for task in tasks):
        group = [i for i, task in enumerate(tasks) if task.counter == counter]
        column = recording.column(f"w.{counter}").astype(np.float64)
        sizes = [float(tasks[i].size) for i in group]
        for i, total in zip(group, task_totals(t_s, column, [tasks[i] for i in group], sizes), strict=True):
            _add_task(requests, f"p{i}", tasks[i], total)
    _add_second_regions(requests, recording, tasks)
    _add_processes(requests, tasks)
    _add_files(requests, recording)
    _add_offline_tests(requests, recording)
    requests.blocks = block_requests(recording)
    return requests


def _system_regions(t_s: Series, start: Start, tasks: list[Task]) -> list[RegionRequest]:
    """What is there in the first sample, and the images of the workload's processes."""
    images = process_count(t_s, tasks, shell=SHELL_SHARE) * IMAGE_PAGES
    heaps = np.zeros(len(t_s))
    for task in tasks:
        heaps += np.maximum(t_s - task.start_s, 0.0) * HEAP_PAGES_PER_S * alive(t_s, task)
    always = np.ones(len(t_s))
    return [
        *start_regions(t_s, start),
        RegionRequest("images", SYSTEM, images, density=IMAGE_PAGES / IMAGE_TABLES / LEAF_SPAN_PAGES, access_hz=always),
        RegionRequest("heaps", SYSTEM, heaps, access_hz=always),
    ]


def _add_task(requests: Requests, process: str, task: Task, total: Series) -> None:
    """The region, threads or files that a command's own counter counts, `total` up to each sample."""
    name, touched = task.name, total * given_back_share(requests.t_s, task)
    if task.counter == "file_touched_pages":
        # Page cache outlives who read it; a mapping's page tables do not.
        cached = np.maximum.accumulate(total)
        requests.regions.append(RegionRequest(f"{name} cache", SYSTEM, cached, kind="cache"))
        if task.command == "llama":
            requests.regions.append(RegionRequest(name, process, touched, kind="mapping"))
    elif task.command in ("llama", "anon"):
        left = given_back_share(requests.t_s, task)
        requests.regions.append(RegionRequest(name, process, touched, mempolicy=mempolicy(task), left=left))
    elif task.command == "sparse":
        kind = "zero" if task.arguments.get("mode", "read") == "read" else "anon"
        per_table = max(1, LEAF_SPAN_BYTES // int(task.arguments.get("step", LEAF_SPAN_BYTES)))
        density = per_table / LEAF_SPAN_PAGES
        requests.regions.append(
            RegionRequest(name, process, touched, kind=kind, density=density, mempolicy=mempolicy(task))
        )
    elif task.command == "threads":
        requests.threads[process] = touched
        requests.regions.append(RegionRequest(name, process, touched, density=STACKS_PER_TABLE / LEAF_SPAN_PAGES))
    elif task.command == "procs":
        pages = int(task.arguments.get("kb", "64")) // PAGE_KIB + FORKED_PAGES
        requests.threads[process] = touched
        requests.slab_unreclaim += touched * PROCESS_SLAB_BYTES
        requests.regions.append(
            RegionRequest(name, process, touched * pages, density=min(pages / FORKED_TABLES / LEAF_SPAN_PAGES, 1.0))
        )


def _add_second_regions(requests: Requests, recording: Recording, tasks: list[Task]) -> None:
    """The KV region of each llama."""
    llamas = [task for task in tasks if task.command == "llama"]
    column = recording.column("w.kv_touched_pages").astype(np.float64)
    if not llamas or not column.any():
        return
    sizes = [float(int(task.arguments.get("kv", "64")) * PAGES_PER_MIB) for task in llamas]
    for task, touched in zip(llamas, task_progress(recording.t_s, column, llamas, sizes), strict=True):
        requests.regions.append(RegionRequest(f"{task.name} kv", f"p{tasks.index(task)}", touched))
        _add_heat(requests, recording, task)


def _add_heat(requests: Requests, recording: Recording, task: Task) -> None:
    """References per page and second of a llama's model and KV: every `ratio`-th access to the model, one to KV."""
    t_s = requests.t_s
    running = np.gradient(recording.column("w.page_accesses").astype(np.float64), t_s) * alive(t_s, task)
    ratio = float(task.arguments.get("ratio", "4"))
    for region in requests.regions:
        if region.process == f"p{requests.tasks.index(task)}" or region.name == f"{task.name} cache":
            share = 1 / (ratio + 1) if region.name.endswith(" kv") else ratio / (ratio + 1)
            region.access_hz = np.where(region.target > 0, running * share / np.maximum(region.target, 1), 0.0)


def _add_processes(requests: Requests, tasks: list[Task]) -> None:
    """Stacks and slab of the processes themselves."""
    count = process_count(requests.t_s, tasks)
    requests.threads[SYSTEM] += count
    requests.slab_unreclaim += count * PROCESS_SLAB_BYTES


def _add_offline_tests(requests: Requests, recording: Recording) -> None:
    """A test of offlining runs programs that read sysfs block by block: processes while it lasts, objects for good."""
    for _, begin, end in offline_tests(recording):
        during = (requests.t_s >= begin) & (requests.t_s <= end)
        requests.threads[SYSTEM] += during * TEST_PROCESSES
        requests.slab_unreclaim += during * TEST_PROCESSES * PROCESS_SLAB_BYTES
        requests.slab_pinned += (requests.t_s >= begin) * TEST_SYSFS_BYTES


def process_count(t_s: Series, tasks: list[Task], shell: float = 1.0) -> Series:
    """Processes of the workload beyond those of the first sample.

    A command is two: the one that works and the one that waits for it; behind `&` a shell is a third. The script
    itself is either within a command or sleeps, and its sleep is a process that the first sample has. A shell
    behind `&` counts as `shell` of one.
    """
    count, foreground = np.zeros(len(t_s)), np.zeros(len(t_s), np.bool_)
    for task in tasks:
        count += alive(t_s, task) * (2.0 + task.background * shell)
        foreground |= alive(t_s, task) & (not task.background)
    return count - foreground


def _add_files(requests: Requests, recording: Recording) -> None:
    """Inodes and dentries: of tmpfs until they are deleted, of a disk's file system and negative ones until dropped."""
    t_s = requests.t_s
    script = str(recording.meta.get("guest_script", ""))
    tmpfs = tuple(re.findall(r"mount -t tmpfs .*?tmpfs (/\S+)", script))
    kept, disk_files = np.ones(len(t_s)), np.zeros(len(t_s))
    for event in recording.events:
        if event.event == "drop_caches":
            kept *= t_s < event.t_s
    for task in requests.tasks:
        if task.command != "dentry":
            continue
        column = recording.column("w.files").astype(np.float64)
        files = task_progress(t_s, column, [other for other in requests.tasks if other.command == "dentry"],
                              [float(o.size) for o in requests.tasks if o.command == "dentry"])  # fmt: skip
        order = [other for other in requests.tasks if other.command == "dentry"].index(task)
        made = np.maximum.accumulate(files[order])
        folder = task.arguments.get("dir", "/")
        made = made * _not_deleted(recording, folder)
        if folder.startswith(tmpfs) and tmpfs:
            requests.slab_unreclaim += made * SHMEM_FILE_SLAB_BYTES
            requests.slab_pinned += made * DENTRY_BYTES
        else:
            requests.slab_reclaim += made * DISK_FILE_SLAB_BYTES * kept
            disk_files += made
    mounted = _mounted(recording)
    requests.slab_unreclaim += mounted * MOUNT_SLAB_UNRECLAIM_BYTES
    requests.slab_pinned += mounted * MOUNT_SLAB_RECLAIM_BYTES
    if mounted.any():
        pages = mounted * MOUNT_CACHE_PAGES + disk_files / DISK_FILES_PER_CACHE_PAGE
        requests.regions.append(
            RegionRequest("disk metadata", SYSTEM, pages, kind="shmem", access_hz=np.ones(len(t_s)))
        )
    requests.slab_reclaim += recording.column("w.neg_lookups") * NEGATIVE_DENTRY_BYTES * kept
    written = written_share(recording, float(recording.column("w.file_touched_pages").max()))
    for region in requests.regions:
        if region.kind == "cache":
            region.target = region.target * kept
            region.written_share = written


def _mounted(recording: Recording) -> Series:
    """1 from the time on when a disk is mounted."""
    times = [event.t_s for event in recording.events if event.event == "mounted"]
    return (recording.t_s >= min(times, default=np.inf)).astype(np.float64)


def _not_deleted(recording: Recording, folder: str) -> Series:
    """Share of the files in `folder` that an `rm -rf` of the script has left, between the phases around it."""
    share = np.ones(len(recording.t_s))
    lines = [line.strip() for line in re.split(r"[\n;]", str(recording.meta.get("guest_script", "")))]
    for i, line in enumerate(lines):
        if line != f"rm -rf {folder}":
            continue
        marks = [match[1] for before in lines[:i] if (match := re.search(r"gt event 'phase (\w+)'", before))]
        begin = next((e.t_s for e in recording.events if marks and e.event == f"phase:{marks[-1]}"), None)
        if begin is None:
            continue
        slept, rest = (
            0.0,
            [
                float(m[1])
                for after in lines[i + 1 : i + 2]
                if (m := re.match(r"/gt sleep ([0-9]{1,9}(?:\.[0-9]*)?)", after))
            ],
        )
        slept = sum(rest)
        end = next((e.t_s for e in recording.events if e.t_s > begin), recording.t_s[-1]) - slept
        share *= np.clip((end - recording.t_s) / max(end - begin, 0.1), 0.0, 1.0)
    return share
