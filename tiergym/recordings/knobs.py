"""Which knobs of a running kernel come closest to a mode of the action, as commands for a person to type.

Few modes have a knob of their own: most are what kernels were asked to do and do not. Then the text says what comes
closest and how it differs, or that there is nothing. Commands are text; nothing here runs or writes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tiergym.recordings.live_observation import BLOCKS, LiveMachine
from tiergym.recordings.proc_files import number
from tiergym.recordings.process_tree import PAGE_KB
from tiergym.sim import names as n
from tiergym.sim.headroom import HEADROOM_SHARE
from tiergym.sim.migrate import BUDGET_PAGES_PER_S
from tiergym.sim.reserve import RESERVE_SHARE

HEADROOM_SHARES = dict(zip(n.HEADROOMS, HEADROOM_SHARE, strict=True))
RESERVE_SHARES = dict(zip(n.TABLE_RESERVES, RESERVE_SHARE, strict=True))
"""Of DRAM, by mode."""
BUDGETS = dict(zip(n.MIGRATION_BUDGETS, BUDGET_PAGES_PER_S, strict=True))
"""Kernel pages per second, by mode."""
SCALE_FACTOR_UNITS, MAX_SCALE_FACTOR = 10_000, 3_000
"""vm.watermark_scale_factor is in 1/10,000 of a zone and ends at 30 % (kernel/sysctl.c)."""
COMMAND = "COMMAND"
"""Stands for the workload in a line to type."""
_AUTO_ONLINE = f"/{BLOCKS}/auto_online_blocks"
_DEMOTION = "/sys/kernel/mm/numa/demotion_enabled"
_SCALE_FACTOR = "/proc/sys/vm/watermark_scale_factor"
_MIN_FREE = "/proc/sys/vm/min_free_kbytes"
_RATE_LIMIT = "/proc/sys/kernel/numa_balancing_promote_rate_limit_MBps"
_HOTPLUG = "/sys/module/memory_hotplug/parameters"


@dataclass(frozen=True, slots=True)
class Knob:
    """What comes closest to one mode on one machine: `text` says how close it is, `commands` are lines to type as root
    (`numactl` ones as any user); none where this kernel has nothing like it, or does it already."""

    text: str
    commands: tuple[str, ...] = ()


def closest(entry: str, mode: str, live: LiveMachine) -> Knob:
    """The knob closest to `mode` of the action entry on this machine, by what its kernel has and how it is set now.

    Reads /proc and /sys. The default mode needs none and gets one without commands.
    """
    if entry.startswith("place."):
        return _placement(entry.removeprefix("place."), mode, live)
    return _OTHERS[entry](mode, live)


def _placement(cls: str, mode: str, live: LiveMachine) -> Knob:
    fast, slow = (",".join(map(str, nodes)) for nodes in (live.fold.fast, live.fold.slow))
    normal = _normal_blocks(live)
    movable = tuple(
        f"echo {state} > /{BLOCKS}/{block}/state" for block in normal for state in ("offline", "online_movable")
    )
    if mode in ("prefer_fast", "restrict") and live.slow_normal_pages() == 0:
        return Knob("already so: the slow node has no zone that a kernel page may enter")
    if mode == "restrict" and cls == "kernel_other":
        return Knob(
            "no knob for these pages alone; slow memory in ZONE_MOVABLE keeps every kernel page out (blocks that hold "
            "kernel pages refuse)",
            _some(movable),
        )
    texts = {
        "restrict": "no knob for kernel pages alone; page tables, stacks and slab follow their task's mempolicy "
        "[K-zonelists], so a workload bound to DRAM has them there, and its data too; or, for all tasks, slow memory "
        "in ZONE_MOVABLE (blocks that hold kernel pages refuse)",
        "prefer_fast": "no knob for kernel pages alone; a task's mempolicy that prefers DRAM also asks in two passes, "
        "for its data too (MPOL_PREFERRED_MANY, Linux 5.15)",
        "prefer_slow": "no knob for kernel pages alone; a task's mempolicy that prefers the slow node takes its data "
        "there too",
    }
    commands = {
        "restrict": (f"numactl --membind={fast} {COMMAND}", *_some(movable)),
        "prefer_fast": (f"numactl --preferred-many={fast} {COMMAND}",),
        "prefer_slow": (f"numactl --preferred={slow.split(',')[0]} {COMMAND}",),
    }
    return Knob(texts[mode], commands[mode]) if mode in texts else Knob("what this kernel does")


def _some(commands: tuple[str, ...], most: int = 4) -> tuple[str, ...]:
    """The first few of a series, and how many follow."""
    more = len(commands) - most
    return commands if more <= 0 else (*commands[:most], f"# and {more // 2} more blocks likewise")


def _normal_blocks(live: LiveMachine) -> list[str]:
    """Memory blocks of the slow node that are online as NORMAL, in their order."""
    root = live.machine.root / BLOCKS
    names = live.machine.numbered(BLOCKS, "memory")
    of_slow = [name for name in names if any((root / name / f"node{node}").exists() for node in live.fold.slow)]
    return [name for name in of_slow if live.block_state(name) == "normal"]


def _no_migration(what: str) -> Callable[[str, LiveMachine], Knob]:
    return lambda mode, live: Knob(
        f"no kernel moves {what}: nothing to type; what is not born on the slow node need not be moved (place.*)"
    )


def _budget(mode: str, live: LiveMachine) -> Knob:
    mb = int(BUDGETS[mode]) * PAGE_KB // 1000
    return _setting(
        live,
        _RATE_LIMIT,
        str(mb),
        "bounds the promotion of data where NUMA balancing tiers, since no kernel page is moved",
    )


def _room(mode: str, live: LiveMachine) -> Knob:
    if mode == "kswapd":
        return _demotion(live, "kswapd makes room in DRAM for promoted data, not for kernel pages")
    return Knob("no kernel exchanges pages of two nodes: nothing to type")


def _reserve(mode: str, live: LiveMachine) -> Knob:
    now = _number(live, _MIN_FREE)
    kib = now + round(RESERVE_SHARES[mode] * live.dram_pages()) * PAGE_KB
    return _setting(
        live, _MIN_FREE, str(kib), f"a reserve for whoever may go below min, not for page tables alone; now {now} KiB"
    )


def _limit(mode: str, live: LiveMachine) -> Knob:
    nodes = ",".join(map(str, (*live.fold.fast, *live.fold.slow)))
    return Knob(
        "no limit by tier in this kernel; a task that interleaves its memory by the nodes' weights (Linux 6.9) has its "
        "kernel pages in proportion, its data too",
        (f"numactl --weighted-interleave={nodes} {COMMAND}",),
    )


def _empty_tables(mode: str, live: LiveMachine) -> Knob:
    return Knob("no kernel looks for empty page tables; since 6.14 MADV_DONTNEED frees those that it empties itself")


def _headroom(mode: str, live: LiveMachine) -> Knob:
    now = _number(live, _SCALE_FACTOR)
    factor = min(max(round(HEADROOM_SHARES[mode] * SCALE_FACTOR_UNITS), 1), MAX_SCALE_FACTOR)
    demotion = _demotion(live, "")
    if now >= factor:
        return Knob(f"already so: vm.watermark_scale_factor is {now}, {factor} would do; {demotion.text}".rstrip("; "))
    knob = _setting(
        live,
        _SCALE_FACTOR,
        str(factor),
        f"kswapd wakes earlier and frees as much more, on every node; now {now}. Cold pages leave DRAM only where "
        "demotion is on",
    )
    return Knob(knob.text, (*knob.commands, *demotion.commands))


def _zone(mode: str, live: LiveMachine) -> Knob:
    text = "for blocks that come online from now on; those that are online stay as they are"
    if mode == "movable":
        return _setting(live, _AUTO_ONLINE, "online_movable", text)
    policy = _setting(live, f"{_HOTPLUG}/online_policy", "auto-movable", text)
    online = _setting(live, _AUTO_ONLINE, "online", text)
    return Knob(policy.text, (*policy.commands, *online.commands))


def _memmap(mode: str, live: LiveMachine) -> Knob:
    path = f"{_HOTPLUG}/memmap_on_memory"
    if _text(live, path) in ("Y", "force"):
        return Knob("already so: memmap_on_memory is on, for blocks that are added from now on")
    if not _text(live, path):
        return Knob(f"this kernel has no {path} (CONFIG_MHP_MEMMAP_ON_MEMORY): nothing to type")
    return Knob(
        "set at boot, for blocks that are added later: append to the kernel's command line",
        ("memory_hotplug.memmap_on_memory=1",),
    )


def _demotion(live: LiveMachine, text: str) -> Knob:
    if _text(live, _DEMOTION) in ("true", "1"):
        return Knob("demotion is on already" + (f"; {text}" if text else ""))
    return _setting(live, _DEMOTION, "1", text)


def _setting(live: LiveMachine, path: str, value: str, text: str) -> Knob:
    """Writing a file of /proc or /sys, where the kernel has it and it says something else."""
    now = _text(live, path)
    if not now:
        return Knob(f"this kernel has no {path}: nothing to type ({text})")
    if now == value:
        return Knob(f"already so: {path} is {value} ({text})")
    if path.startswith("/proc/sys/"):
        name = path.removeprefix("/proc/sys/").replace("/", ".")
        return Knob(text, (f"sysctl -w {name}={value}",))
    return Knob(text, (f"echo {value} > {path}",))


def _text(live: LiveMachine, path: str) -> str:
    """What a file says, "" where the kernel has none."""
    return live.machine.read(path.removeprefix("/")).strip()


def _number(live: LiveMachine, path: str) -> int:
    return max(number(_text(live, path).split()) or 0, 0)


_OTHERS: dict[str, Callable[[str, LiveMachine], Knob]] = {
    "migrate.pt_leaf": _no_migration("page tables"),
    "migrate.slab": _no_migration("slab"),
    "migrate.kstack": _no_migration("kernel stacks"),
    "migrate.budget": _budget,
    "migrate.room": _room,
    "reserve.pt": _reserve,
    "limit.kernel": _limit,
    "reclaim.pt_empty": _empty_tables,
    "headroom": _headroom,
    "zone": _zone,
    "memmap": _memmap,
}
