"""Every kind of addition to the model has one list of places, and a test fails where one of them misses a member.

`PLACES` is that list: per kind what there is of it, and where each must stand. A place is a file, or a file and a name
in it, with a function that finds the members there: in a table, in a page, or in what the model does.
"""

import ast
import re
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests import test_observations
from tests.builders import Lab, scenario
from tests.places import ROOT
from tiergym.env import actions, observations, palette, render
from tiergym.env.engine import reward_of
from tiergym.lab import metrics
from tiergym.sim import account, cost
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.validation import replay

SIM = sorted((ROOT / "tiergym" / "sim").glob("*.py"))
KERNEL_CLASSES = n.CLASSES[n.FIRST_KERNEL_CLASS :]
COUNTED_BY_REGIONS = {"pt_leaf": "leaf", "pt_upper": "upper"}
"""Classes whose pages each region counts for itself, and where."""

REPLAYED_OTHERWISE = {"kernel_other", "memmap"}
"""Classes of a replay that no counter of a recording has: what the others leave, and what the blocks need."""

Found = Callable[[], Collection[str]]


def words(path: Path, function: str = "") -> set[str]:
    """Names that a Python file mentions, or one function in it, keywords of its calls included."""
    tree: ast.AST = ast.parse(path.read_text())
    if function:
        tree = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


@cache
def used_by_the_model(prefix: str, names: tuple[str, ...]) -> set[str]:
    """Of `names`, those whose constant some module of the simulator uses."""
    used = set().union(*(words(path) for path in SIM if path.name != "names.py"))
    return {name for name in names if f"{prefix}{name.replace('.', '_').upper()}" in used}


def cut(names: Collection[str], prefix: str = "", suffix: str = "") -> set[str]:
    """What stands between `prefix` and `suffix` in those of `names` that have both."""
    found = (re.fullmatch(f"{re.escape(prefix)}(.+){re.escape(suffix)}", name) for name in names)
    return {match[1] for match in found if match}


def in_page(page: str, pattern: str) -> set[str]:
    """First groups of `pattern` in the lines of a page."""
    return set(re.findall(pattern, (ROOT / page).read_text(), re.MULTILINE))


def numbered(page: str) -> set[str]:
    """Names in the second column of a page's tables, after a number."""
    return in_page(page, r"^\| \d+ \| `([\w.]+)` \|")


def busy() -> np.void:
    """A machine that asks for pages of every class, and has a slow tier for all of them."""
    pools = {pool: {"count": 20_000, "grow_s": 0} for pool in n.POOLS}
    region = {"kind": "anon", "mib": 100, "grow_s": 0, "tlb_misses_per_page_s": 10}
    return Lab(scenario(regions=[region], pools=pools)).ticks(2).m


def asked_for() -> set[str]:
    """Classes that a workload, or the machine for it, asks for."""
    return {name for name, pages in zip(n.CLASSES, busy()["used_pages"].sum(axis=1), strict=True) if pages > 0}


def stall_with(cls: str, zone: int) -> float:
    """Stalled share of time of a busy machine that has all pages of a class in one zone."""
    m = busy()
    counts = [m["used_pages"][n.CLASSES.index(cls)]]
    counts += [m["region"][field][0] for name, field in COUNTED_BY_REGIONS.items() if name == cls]
    for pages in counts:
        pages[:] = np.where(np.arange(n.N_ZONES) == zone, pages.sum(), 0)
    m["memmap_slow_share"] = m["boot_memmap"] = float(cls == "memmap" and zone == n.SLOW_NORMAL)
    cost.sum_accesses(m)
    return float(m["stall"].sum())


def replayed() -> set[str]:
    """Classes of a replayed machine."""
    return {n.CLASSES[cls] for classes in replay.MEMBERS.values() for cls in classes} | REPLAYED_OTHERWISE


def lettered() -> set[str]:
    """Classes with a letter of their own in a picture."""
    letters = render._LETTERS
    return {name for name, letter in zip(n.CLASSES, letters, strict=False) if letters.count(letter) == 1}


def acting() -> set[str]:
    """Action entries that the model reads, by their constant or by the class that they place."""
    return used_by_the_model("A_", n.ACTIONS) | {n.ACTIONS[entry] for entry in n.PLACEMENT_ENTRIES if entry >= 0}


def dearer_on_the_slow_tier() -> set[str]:
    """Kernel classes whose pages cost more time there than in DRAM."""
    return {cls for cls in KERNEL_CLASSES if stall_with(cls, n.SLOW_NORMAL) > stall_with(cls, n.NORMAL)}


def weighted() -> set[str]:
    """Terms that lower the reward, by their weight."""
    m, found = busy(), set()
    for i, term in enumerate(n.TERMS):
        m["terms"][:] = 0.0
        m["terms"][i], m[f"weight_{term}"] = 0.25, 3.0
        if reward_of(m) == -0.75:
            found.add(term)
    return found


def engines(suffix: str = "_promotes") -> set[str]:
    """What promotes pages: `<engine>_promotes` of its module says whether it may, `<engine>_promote` does it."""
    modules = [path for path in SIM if path.stem != "promotion"]  # which calls them all
    return {engine for path in modules for engine in re.findall(rf"(?m)^def (\w+){suffix}\(", path.read_text())}


def called(function: str, suffix: str) -> set[str]:
    """Engines of which `function` of tiergym/sim/promotion.py calls the function with this suffix."""
    return cut(words(ROOT / "tiergym/sim/promotion.py", function), suffix=suffix)


def switched(names: Collection[str]) -> set[str]:
    """Engines that one of `names` begins with."""
    return {engine for engine in engines() if any(name.startswith(f"{engine}_") for name in names)}


def written_settings() -> set[str]:
    """Knobs whose field some function of settings.py assigns."""
    tree = ast.parse((ROOT / "tiergym/sim/settings.py").read_text())
    stores = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return {node.attr for node in stores} & set(n.KNOBS)


def in_cell(page: str, field: str) -> set[str]:
    """Names that the row of a field of a page allows."""
    (allowed,) = in_page(page, rf"^\| `{field}` \| `[^`]*` \| one of ([^|]*) \|")
    return set(re.findall(r'"(\w+)"', allowed))


PLACES: dict[str, tuple[Collection[str], dict[str, Found]]] = {
    "kernel class": (
        KERNEL_CLASSES,
        {
            "tiergym/sim/names.py:ACTIONS": lambda: [c for c in KERNEL_CLASSES if {c, f"place.{c}"} & set(n.ACTIONS)],
            "tiergym/sim/faults.py:serve_demand": lambda: asked_for() & set(KERNEL_CLASSES),
            "tiergym/sim/cost.py:sum_accesses": dearer_on_the_slow_tier,
            "tiergym/validation/replay.py:MEMBERS": lambda: replayed() & set(KERNEL_CLASSES),
            "tiergym/env/observations.py:_entries": lambda: cut(observations.NAMES, "on_slow."),
            "tiergym/env/render.py:_LETTERS": lambda: lettered() & set(KERNEL_CLASSES),
            "tiergym/env/palette.py:CLASS_COLOURS": lambda: set(palette.CLASS_COLOURS) & set(KERNEL_CLASSES),
            "tiergym/lab/metrics.py:METRICS": lambda: cut(metrics.NAMES, "slow_", "_pages") - {"kernel"},
        },
    ),
    "action entry": (
        n.ACTIONS,
        {
            "tiergym/env/actions.py:ENTRIES": lambda: actions.NAMES,
            "tiergym/sim": acting,
            "tiergym/env/observations.py:_entries": lambda: cut(observations.NAMES, "last."),
            "docs/reference/actions.md": lambda: numbered("docs/reference/actions.md") & set(n.ACTIONS),
        },
    ),
    "observation": (
        observations.NAMES,
        {
            "tests/test_observations.py:CASES": lambda: test_observations.CASES,
            "docs/reference/observations.md": lambda: numbered("docs/reference/observations.md"),
        },
    ),
    "cost cause": (
        n.CAUSES,
        {
            "tiergym/sim": lambda: used_by_the_model("LOST_", n.CAUSES),
            "tiergym/sim/account.py:CAUSE_TERMS": lambda: account.CAUSE_TERMS,
            "tiergym/env/palette.py:CAUSE_COLOURS": lambda: palette.CAUSE_COLOURS,
            "tiergym/lab/metrics.py:METRICS": lambda: cut(metrics.NAMES, "lost_"),
            "docs/reference/metrics.md": lambda: in_page("docs/reference/metrics.md", r"^\| `lost_(\w+)` \|"),
        },
    ),
    "reward term": (
        n.TERMS,
        {
            "tiergym/sim/account.py:CAUSE_TERMS": lambda: account.CAUSE_TERMS.values(),
            "tiergym/sim/parameters.py:WEIGHTS": lambda: cut([field.name for field in p.WEIGHTS], "weight_"),
            "tiergym/env/engine.py:reward_of": weighted,
            "tiergym/lab/metrics.py:METRICS": lambda: cut(metrics.NAMES, "term_"),
            "docs/reference/scenario.md": lambda: in_page("docs/reference/scenario.md", r"the reward term (\w+)"),
            "docs/model.md": lambda: in_page("docs/model.md", r"^\| `(\w+)` \|") & set(n.TERMS),
        },
    ),
    "knob": (
        n.KNOBS,
        {
            "tiergym/sim/names.py:KNOBS": lambda: set(n.KNOBS) & {field.name for field in p.KERNEL},
            "tiergym/sim/settings.py:write_setting": lambda: written_settings(),
            "docs/reference/scenario.md": lambda: set(n.KNOBS) & in_cell("docs/reference/scenario.md", "knob"),
        },
    ),
    "promotion engine": (
        engines(),
        {
            "tiergym/sim/parameters.py:KERNEL": lambda: switched([field.name for field in p.KERNEL if field.choices]),
            "tiergym/sim/promotion.py:anybody_promotes": lambda: called("anybody_promotes", "_promotes"),
            "tiergym/sim/promotion.py:promote_all": lambda: called("promote_all", "_promote"),
            "tests/builders.py:random_scenario": lambda: switched(words(ROOT / "tests/builders.py", "random_scenario")),
            "docs/model.md": lambda: in_page("docs/model.md", r"`\w+:(\w+)_promote`"),
        },
    ),
}
"""Of every kind of addition: what there is, and each place with what of it stands there."""


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, (_, places) in PLACES.items() for place in places])
def test_a_place_holds_every_member(kind: str, place: str) -> None:
    members, places = PLACES[kind]
    assert set(places[place]()) == set(members)


@pytest.mark.parametrize("kind", PLACES)
def test_a_place_can_be_found(kind: str) -> None:
    for place in PLACES[kind][1]:
        path, _, name = place.partition(":")
        assert (ROOT / path).exists()
        assert not name or re.search(rf"(?m)^(def )?{name}\b", (ROOT / path).read_text())


@pytest.mark.parametrize("kind", PLACES)
def test_contributing_names_every_place(kind: str) -> None:
    (row,) = in_page("CONTRIBUTING.md", rf"^\| an? {kind} \|(.*)$")
    assert set(PLACES[kind][1]) <= set(re.findall(r"`([^`]+)`", row))


def test_an_engine_has_both_functions_by_which_it_is_found() -> None:
    assert engines() == engines("_promote") >= {"numa", "damon"}
