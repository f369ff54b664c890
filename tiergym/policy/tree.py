"""A policy as a decision tree: whole numbers compared with whole numbers, one action at each leaf.

A JSON file that executes nothing (`tiergym export POLICY --to tree` writes them):

    {"schema": 1, "tree": "ppo_suite", "layout_version": 3,
     "nodes": [{"input": "free.normal", "at_most": 1311, "yes": 1, "no": 2},
               {"modes": {"place.pt_leaf": "restrict"}},
               {"modes": {}}]}

`at_most` is in 1/65536 of what is shown (`tiergym.policy.fixed_point`). Both ways lead to later nodes, and one way
leads to every node but the first, so every walk ends. Entries that a leaf does not name keep Linux's default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tiergym import files
from tiergym.env import actions as act
from tiergym.env.observations import LAYOUT_VERSION, NAMES
from tiergym.errors import UserError, shown, suggest
from tiergym.policy.fixed_point import ONE, to_fixed
from tiergym.policy.plan import modes_of

SCHEMA: Final = 1
MAX_LEAVES: Final = 64
MAX_DEPTH: Final = 16
"""Comparisons from the first node to a leaf, at most."""
MAX_NAME: Final = 100
_OWN = ("schema", "tree", "layout_version", "nodes")
_SPLIT = ("input", "at_most", "yes", "no")


@dataclass(frozen=True)
class TreePolicy:
    """Nodes in an order in which each stands before those that it leads to; the first is where every walk begins.

    column, at_most, yes, no: int32 (nodes,), of a leaf 0; where column's observation is at most `at_most`, `yes` is
    next. actions: int64 (nodes, N_ACTIONS), of a leaf. is_leaf: bool (nodes,). `about`: what its file says of where it
    is from.
    """

    name: str
    column: NDArray[np.int32]
    at_most: NDArray[np.int32]
    yes: NDArray[np.int32]
    no: NDArray[np.int32]
    actions: NDArray[np.int64]
    is_leaf: NDArray[np.bool_]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return int(self.is_leaf.sum())

    @cached_property
    def depth(self) -> int:
        """Comparisons on the longest way."""
        depths = np.zeros(len(self.column), np.int64)
        for node in np.flatnonzero(~self.is_leaf):
            depths[[self.yes[node], self.no[node]]] = depths[node] + 1
        return int(depths.max())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Observations that it compares, in their order."""
        return tuple(NAMES[column] for column in np.unique(self.column[~self.is_leaf]))

    @property
    def plausibility(self) -> str:
        """Of the least plausible mode of its leaves."""
        return act.plausibility(self.actions[self.is_leaf])

    def leaves_of(self, fixed: NDArray[np.int32]) -> NDArray[np.int64]:
        """The leaf that every row of `fixed`, int32 (N, N_OBS), comes to: int64 (N,), a node's number."""
        at, rows = np.zeros(len(fixed), np.int64), np.arange(len(fixed))
        for _ in range(self.depth):
            onwards = np.where(fixed[rows, self.column[at]] <= self.at_most[at], self.yes[at], self.no[at])
            at = np.where(self.is_leaf[at], at, onwards)
        return at

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions (N, N_ACTIONS) int64; a mode that is masked becomes the default there."""
        return self.actions[self.leaves_of(to_fixed(obs))]


Node = tuple[int, int, int, int] | NDArray[np.int64]


def plain_name(name: str) -> str:
    """A name that cannot be anything else in C, Markdown and JSON."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:MAX_NAME] or "_"


def make_tree(name: str, nodes: Sequence[Node], about: dict[str, Any] | None = None) -> TreePolicy:
    """A tree of splits (column, at_most, yes, no) and of leaves' actions, int64 (N_ACTIONS,). Of its name
    nothing but letters, digits and `_.+-` is left."""
    count = len(nodes)
    splits, actions = np.zeros((count, 4), np.int32), np.tile(act.DEFAULT, (count, 1))
    is_leaf = np.array([isinstance(node, np.ndarray) for node in nodes])
    for index, node in enumerate(nodes):
        (actions if is_leaf[index] else splits)[index] = node
    column, at_most, yes, no = splits.T
    return TreePolicy(plain_name(name), column, at_most, yes, no, actions, is_leaf, about or {})


def tree_json(tree: TreePolicy) -> str:
    """The text of a tree's file."""
    nodes: list[dict[str, Any]] = []
    for index in range(len(tree.column)):
        if tree.is_leaf[index]:
            nodes.append({"modes": modes_of(tree.actions[index])})
        else:
            numbers = (int(each[index]) for each in (tree.at_most, tree.yes, tree.no))
            nodes.append(dict(zip(_SPLIT, (NAMES[tree.column[index]], *numbers), strict=True)))
    head = {"schema": SCHEMA, "tree": tree.name, "layout_version": LAYOUT_VERSION, **tree.about}
    lines = ",\n".join(f"  {json.dumps(node)}" for node in nodes)
    return f'{json.dumps(head, indent=1, allow_nan=False)[:-2]},\n "nodes": [\n{lines}\n ]\n}}\n'


def is_tree(document: Any) -> bool:
    """Whether a JSON document means to be a tree."""
    return isinstance(document, dict) and "tree" in document


def load_tree(path: Path) -> TreePolicy:
    """The tree in a JSON file. Raises `UserError` that names the file, the field and what is allowed."""
    document = files.read_json(path)
    if not is_tree(document):
        raise UserError(f"{path}: no tree; a tree has the fields schema, tree, layout_version and nodes")
    for key, here in (("schema", SCHEMA), ("layout_version", LAYOUT_VERSION)):
        if not files.same(document.get(key), here):
            raise UserError(f"{path}: {key} is {shown(document.get(key))}; allowed: {here}")
    nodes, most = document.get("nodes"), 2 * MAX_LEAVES - 1
    if not isinstance(nodes, list) or not 0 < len(nodes) <= most:
        told = f"a list of {len(nodes)}" if isinstance(nodes, list) else shown(nodes)
        raise UserError(f"{path}: nodes is {told}; allowed: a list of 1 to {most} ({MAX_LEAVES} leaves)")
    name = document["tree"]
    if not isinstance(name, str) or name != plain_name(name):
        raise UserError(f"{path}: tree is {shown(name)}; allowed: a name of up to {MAX_NAME} letters, digits and _.+-")
    about = {key: value for key, value in document.items() if key not in _OWN and type(value) in (str, int)}
    read = [_node(path, index, node, len(nodes)) for index, node in enumerate(nodes)]
    tree = make_tree(name, read, about)
    ways = np.concatenate([tree.yes[~tree.is_leaf], tree.no[~tree.is_leaf]])
    led_to = np.bincount(ways, minlength=len(nodes))
    for index in range(1, len(nodes)):
        if led_to[index] != 1:
            raise UserError(f"{path}: nodes[{index}]: {led_to[index]} ways lead to it; allowed: one")
    if tree.depth > MAX_DEPTH:
        raise UserError(f"{path}: {tree.depth} comparisons on the longest way; allowed: at most {MAX_DEPTH}")
    return tree


def _node(path: Path, index: int, node: Any, count: int) -> Node:
    where = f"{path}: nodes[{index}]"
    if not isinstance(node, dict) or set(node) not in ({"modes"}, set(_SPLIT)):
        raise UserError(f"{where} is {shown(node)}; allowed: an object with {', '.join(_SPLIT)}, or with modes")
    if "modes" in node:
        if not isinstance(node["modes"], dict):
            raise UserError(f"{where}.modes is {shown(node['modes'])}; allowed: entries with their modes")
        return act.from_modes(node["modes"], source=f"{where}.modes")
    if not isinstance(node["input"], str) or node["input"] not in NAMES:
        raise UserError(f"{where}.input: {suggest(str(node['input']), NAMES, 'observation')}")
    bounds = {"at_most": (0, ONE), "yes": (index + 1, count - 1), "no": (index + 1, count - 1)}
    for key, (low, high) in bounds.items():
        if type(node[key]) is not int or not low <= node[key] <= high:
            what = "1/65536 of what is shown" if key == "at_most" else "a later node"
            raise UserError(f"{where}.{key} is {shown(node[key])}; allowed: {low} to {high}, {what}")
    return NAMES.index(node["input"]), node["at_most"], node["yes"], node["no"]
