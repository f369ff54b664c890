"""The generator of suites: which families a suite's `[draw]` stands for.

Each axis deals its levels evenly, as often as its levels' weights say, in an order that the seed shuffles; the i-th
family takes the i-th card of every axis. Where the cards do not go together, or the family is taken, or no machine can
run it, one card is exchanged with a later one until they do. So each level occurs as often as it should, whatever goes
with what.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import product

from tiergym.errors import UserError
from tiergym.specs.families import AXES, catalogue, family_name, impossible
from tiergym.specs.scenario import load_scenario
from tiergym.specs.suites import Draw, load_suite

SPARE = 24
"""Cards beyond the families', so that the last ones have something to exchange with."""


def draw(asked: Draw) -> list[str]:
    """The names of the families, sorted. Raises `UserError` where there are not as many."""
    decks = {axis: _deck(axis, asked) for axis in AXES}
    taken = {name for suite in asked.not_in for name in load_suite(suite).drawn}
    drawn: list[str] = []
    for i in range(asked.count):
        if not _deal(i, decks, taken):
            raise UserError(
                f"draw.count is {asked.count}; allowed: up to {i}, as many families as go together of these levels"
            )
        name = family_name({axis: deck[i] for axis, deck in decks.items()})
        taken.add(name)
        drawn.append(name)
    return sorted(drawn)


def _deal(i: int, decks: dict[str, list[str]], taken: set[str]) -> bool:
    """Make the i-th cards a possible family, by exchanging as few as can be with later cards; False where none is."""
    length = len(decks[AXES[0]])
    for exchanged in range(1 + len(AXES)):
        for axes in _subsets(exchanged):
            for others in product(range(i + 1, length), repeat=min(len(axes), 2)):
                # Of more than two axes, the last ones follow the second.
                partners = dict(zip(axes, (*others, *(others[-1:] * len(axes)))[: len(axes)], strict=True))
                levels = {axis: deck[partners.get(axis, i)] for axis, deck in decks.items()}
                if _possible(levels, taken):
                    for axis, j in partners.items():
                        decks[axis][i], decks[axis][j] = decks[axis][j], decks[axis][i]
                    return True
    return False


def _subsets(size: int) -> list[tuple[str, ...]]:
    """Subsets of the axes of that size, those that constrain each other most first."""
    order = ("course", "configuration", "ratio", "pressure", "workload", "platform", "release")
    if size == 0:
        return [()]
    return [
        tuple(order[k] for k in range(len(order)) if bits >> k & 1)
        for bits in range(1, 1 << len(order))
        if bits.bit_count() == size
    ]


def _possible(levels: dict[str, str], taken: set[str]) -> bool:
    if impossible(levels) or family_name(levels) in taken:
        return False
    try:
        load_scenario(family_name(levels))
    except UserError:  # watermarks and struct pages beyond a small DRAM, for example
        return False
    return True


def _deck(axis: str, asked: Draw) -> list[str]:
    """Levels of an axis, round by round in the order of a hash of the seed: one for each family, and the spare ones."""
    weighted = [level for level in asked.axes[axis] for _ in range(int(catalogue()[axis][level].get("weight", 1)))]
    deck: list[int] = []
    while len(deck) < asked.count + SPARE:
        turn = len(deck)
        deck += sorted(range(len(weighted)), key=lambda k: sha256(f"{asked.seed} {axis} {turn} {k}".encode()).digest())
    return [weighted[k] for k in deck[: asked.count + SPARE]]
