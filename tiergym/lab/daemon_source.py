"""A tree as a daemon for kernels of today: one C file that watches /proc and turns the few knobs that there are.

The C is in tiergymd.c.in. In shadow mode, the default, it prints what it would write; `--apply` writes. Kernel pages
have no knob of their own, so the table of places is printed and nothing more. Inputs are made as
`tiergym.recordings.live_observation` makes them, with the same stand-ins, in integers.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Final

from tiergym.env import actions as act
from tiergym.env.observations import ENTRIES, NAMES
from tiergym.errors import UserError
from tiergym.policy.c_header import header, input_name, inputs_of
from tiergym.policy.fixed_point import INPUTS
from tiergym.policy.rules_page import PLACE_WORDS
from tiergym.policy.tree import TreePolicy
from tiergym.recordings.knobs import BUDGETS, HEADROOM_SHARES, SCALE_FACTOR_UNITS
from tiergym.recordings.process_tree import PAGE_KB
from tiergym.sim import names as n

_SOURCE: Final = Path(__file__).with_name("tiergymd.c.in")
_ZONES: Final = {"dma": "DMA", "dma32": "DMA32", "normal": "Normal", "movable": "Movable"}
_RATES: Final = {
    "pgalloc_fast": "pgalloc(0)",
    "pgalloc_slow": "pgalloc(1)",
    "kernel_fallback_slow": "spilled_kernel()",
    "user_fallback_slow": 'grown("n1.numa_miss") - spilled_kernel()',
    "kswapd_wakeups_fast": 'grown("vm.pageoutrun")',
    "pgsteal_kswapd_fast": 'steals(0, "pgsteal_kswapd")',
    "pgsteal_kswapd_slow": 'steals(1, "pgsteal_kswapd")',
    "pgsteal_direct_fast": 'steals(0, "pgsteal_direct")',
    "allocstall": "stalls()",
    "file_refault": 'grown("vm.workingset_refault_file")',
    "pgmigrate_fail": "0 /* this kernel moves no kernel page */",
}
"""Growth since the look before; other rates are the counter of that name in /proc/vmstat."""


def daemon_source(tree: TreePolicy) -> str:
    """The text of tiergymd.c, which needs no other file. Raises `UserError` for a tree of inputs that it lacks."""
    inputs = inputs_of(tree)
    for name in inputs:
        if name not in INPUTS["counters"]:
            raise UserError(f"the tree asks for {name}, which the daemon does not read; allowed: --inputs counters")
    settings = act.ENTRIES[n.N_PLACEMENTS :]
    return Template(_SOURCE.read_text(encoding="utf-8")).substitute(
        header=header(tree),
        inputs="\n".join(f"\tin[{input_name(name)}] = {_reading(name)};" for name in inputs),
        classes=", ".join(f'"{entry.name.removeprefix("place.")}"' for entry in act.ENTRIES[: n.N_PLACEMENTS]),
        places=", ".join(f'"{word}"' for word in PLACE_WORDS),
        settings=", ".join(f'"{entry.name}"' for entry in settings),
        modes=",\n".join("\t{" + ", ".join(f'"{mode}"' for mode in entry.modes) + "}" for entry in settings),
        most_modes=max(len(entry.modes) for entry in settings),
        factors=", ".join(str(round(HEADROOM_SHARES[mode] * SCALE_FACTOR_UNITS)) for mode in n.HEADROOMS),
        limits=", ".join(str(int(BUDGETS[mode]) * PAGE_KB // 1000) for mode in n.MIGRATION_BUDGETS),
    )


def _reading(name: str) -> str:
    """The C expression that makes an input."""
    kind, _, rest = name.partition(".")
    what, _, tier = rest.rpartition(".")
    scale = int(ENTRIES[NAMES.index(name)].scale)
    slow = {"slow_normal": 0, "slow_movable": 1}
    if kind == "free":
        zone = f'tier_zone(1, {slow[rest]}, "{{}}")' if rest in slow else f'get("z0.{_ZONES[rest]}.{{}}")'
        return f"tiergym_share({zone.format('free')}, {zone.format('managed')})"
    if kind == "above_low":
        return "above_low(0, -1)" if rest == "fast" else f"above_low(1, {slow[rest]})"
    if kind == "pages":
        node = n.TIERS.index(tier)
        return f'tiergym_share(pages({node}, "{what}"), managed({node}))'
    if kind == "on_slow":
        return f'tiergym_share(pages(1, "{rest}"), pages(0, "{rest}") + pages(1, "{rest}"))'
    if kind == "psi":
        return f'tiergym_share(grown("psi.{rest}"), elapsed_ms * 1000)'
    if kind == "rate":
        growth = _RATES.get(rest, f'grown("vm.{rest}")')
        return f"rate({growth}, {scale})"
    if name == "kswapd_failures.fast":
        return "hopeless() ? TIERGYM_ONE : 0"
    assert name == "calm", name
    return f"tiergym_scaled(calm_ms, {1000 * scale})"
