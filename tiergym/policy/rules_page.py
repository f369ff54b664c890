"""The rules of a tree as a page of text: what is always so, then the questions in their order, in words with units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Final

from tiergym.env import actions as act
from tiergym.env.observations import ENTRIES, NAMES, SCALES
from tiergym.policy.controller import COOL_MS, GUARDS, HOLD_MS, N_BUCKETS, PERIODS_MS
from tiergym.policy.fixed_point import ONE
from tiergym.policy.tree import TreePolicy
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

PLACE_WORDS: Final = ("any", "prefer fast", "require fast", "slow first")
"""The modes of placement as policy.h calls them, in the order of `tiergym.sim.names.PLACEMENT_MODES`."""
ABOVE_LOW_SHARE: Final = 0.05
"""Of a zone, what `above_low.*` shows as 1."""
WIDTH: Final = 110
EMPTY_RUNS: Final = 16
"""What `kswapd_failures.fast` shows as 1."""
_NODES: Final = {"fast": "DRAM", "slow": "the slow node"}
_ZONES: Final = {"fast": "DRAM", "slow_normal": "the slow node's NORMAL zone", "slow_movable": "its MOVABLE zone"}
_SWITCHES: Final = {
    "config.demotion": ("demotion is off", "demotion is on"),
    "config.tiering": ("NUMA balancing does not tier", "NUMA balancing tiers"),
}


def rules_page(tree: TreePolicy) -> str:
    """The text of rules.md."""
    leaves = tree.actions[tree.is_leaf]
    usual = [Counter(leaves[:, entry].tolist()).most_common(1)[0][0] for entry in range(len(act.ENTRIES))]
    varies = (leaves != leaves[0]).any(axis=0)
    always = [entry for entry in range(len(act.ENTRIES)) if not varies[entry]]
    else_said = [entry for entry in range(len(act.ENTRIES)) if varies[entry]]
    about = (
        f"{tree.leaves} rules, asked once in {PERIODS_MS[1] / 1000:g} s, for each of {N_BUCKETS} levels of DRAM that "
        "is free above low, of which an allocation takes that of its moment. Of a class of kernel pages, *any* is what "
        "Linux does, *prefer fast* wakes kswapd and takes DRAM down to min before it spills, *require fast* reclaims, "
        "stalls and may kill, *slow first* asks the slow node first. The other modes: docs/reference/actions.md."
    )
    paragraphs = [about]
    if always:
        paragraphs.append(f"Always: {_words(always, usual)}.")
    if else_said:
        paragraphs.append(f"Unless a rule says otherwise: {_words(else_said, usual)}.")
    lines = [
        f"# The rules of {tree.name}",
        "",
        "\n\n".join(fill(paragraph, WIDTH) for paragraph in paragraphs),
        "",
        *_questions(tree, 0, "", usual),
        "",
        f"Until the first decision, and for {COOL_MS / 1000:g} s from when one of these last held, as Linux does:",
        "",
        *(f"- {guard.why}{'' if guard.always else ', while a rule requires DRAM of a class'}" for guard in GUARDS),
        "",
        f"A class, or another decision, changes at most once in {HOLD_MS / 1000:g} s.",
    ]
    return "\n".join(lines) + "\n"


def _questions(tree: TreePolicy, node: int, indent: str, usual: Sequence[int]) -> Iterator[str]:
    """A list in a list of the questions below a node; a leaf says what it has that is not usual."""
    if tree.is_leaf[node]:
        differing = [entry for entry in range(len(usual)) if tree.actions[node, entry] != usual[entry]]
        yield f"{indent}- " + (_words(differing, tree.actions[node].tolist()) if differing else "as usual")
        return
    less, more = conditions(int(tree.column[node]), int(tree.at_most[node]))
    for text, child in ((less, int(tree.yes[node])), (more, int(tree.no[node]))):
        if tree.is_leaf[child]:
            (rule,) = _questions(tree, child, "", usual)
            yield f"{indent}- {text}: **{rule.removeprefix('- ')}**"
        else:
            yield f"{indent}- {text}:"
            yield from _questions(tree, child, indent + "  ", usual)


def conditions(column: int, at_most: int) -> tuple[str, str]:
    """`x <= at_most` of an observation and its opposite, in words with units, such as `less than 2 % of DRAM is anon`
    and `2 % or more`."""
    name = NAMES[column]
    if name in _SWITCHES:
        return _SWITCHES[name]
    shown = (at_most + 1) / ONE  # what is as large as this, or larger, is more
    scale = float(SCALES[column])
    value = scale * shown / (1.0 - shown) if shown < 1 else float("inf")
    kind, _, rest = name.partition(".")
    what, _, tier = rest.rpartition(".")
    percent = f"{_number(100 * shown)} %"
    if kind == "free":
        return _pair(percent, f"of {_ZONES.get(rest, f'the zone {rest}')} is free")
    if kind == "above_low":
        return _pair(f"{_number(100 * ABOVE_LOW_SHARE * shown)} %", f"of {_ZONES[rest]} is free above low")
    if kind == "pages":
        return _pair(percent, f"of {_NODES[tier]} is {what}")
    if kind == "on_slow":
        return _pair(percent, f"of {rest} lies on the slow node")
    if kind == "blocks":
        return _pair(percent, f"of the slow node's blocks is {rest}")
    if kind == "psi":
        return _pair(percent, f"of the time {'some task' if rest == 'some' else 'every task'} waits for memory")
    if kind == "rate" and ENTRIES[column].doc == "pages per second":
        return _pair(f"{_number(value)} pages/s ({_number(value / PAGES_PER_MIB)} MiB/s)", f"of {rest}")
    if name == "kswapd_failures.fast":
        return _pair(f"{_number(EMPTY_RUNS * shown)} of {EMPTY_RUNS}", "empty runs of DRAM's kswapd")
    if name == "calm":
        return _pair(f"{_number(value)} s", "since a request found DRAM below low")
    if scale:
        return _pair(_number(value), ENTRIES[column].doc)
    return _pair(percent, f"of {name} ({ENTRIES[column].doc})")


def _pair(amount: str, what: str) -> tuple[str, str]:
    return f"less than {amount} {what}", f"{amount} or more"


def _number(value: float) -> str:
    """Three digits, with commas between thousands."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _words(entries: Sequence[int], action: Sequence[int]) -> str:
    """Entries with their modes; classes of pages that go to the same place together."""
    places: dict[str, list[str]] = {}
    others = []
    for entry in entries:
        known = act.ENTRIES[entry]
        if entry < n.N_PLACEMENTS:
            places.setdefault(PLACE_WORDS[action[entry]], []).append(known.name.removeprefix("place."))
        else:
            others.append(f"{known.name} {known.modes[action[entry]]}")
    return "; ".join([f"{', '.join(classes)} {place}" for place, classes in places.items()] + others)
