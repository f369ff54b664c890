"""Distilling a policy into a small decision tree that decides as it does, where the tree itself leads.

DAgger (Ross, Gordon and Bagnell, AISTATS 2011): in the first round the policy drives the machines, later the tree of
the round before does; the policy says what it would do in all of these states, and a tree is fitted to all of them.
Trees are scikit-learn's, grown best split first (Breiman et al. 1984), on whole numbers.

What a policy wants and a machine cannot do counts as wanted: the tree need not learn which modes are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.machines import Machines
from tiergym.extras import require
from tiergym.policy.fixed_point import columns_of, inputs_of, to_fixed
from tiergym.policy.tree import MAX_LEAVES, TreePolicy, make_tree
from tiergym.specs.suites import check_trainable

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

ROUNDS = 3
MACHINES = 4
"""Of every scenario and round."""
MIN_STATES = 20
"""Of a leaf: fewer states are no reason for a rule of their own."""
DISTILLING_STREAM = 0x64697374
"""Key of the machines' seeds in the SeedSequence tree of a seed."""

OnRound = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a tree may become and how it is fitted; `inputs` is a set of `tiergym.policy.fixed_point.INPUTS`."""

    leaves: int = MAX_LEAVES
    depth: int = 8
    inputs: str = "counters"


def in_force(actions: NDArray[np.int64], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """What machines make of actions (N, N_ACTIONS): the default where a mode is masked."""
    return np.where(np.take_along_axis(masks, actions + act.OFFSETS, axis=1), actions, act.DEFAULT)


def distil(
    load: Callable[[], Policy],
    scenarios: Sequence[Scenario],
    size: Size,
    seed: int,
    on_round: OnRound = lambda finished: None,
    about: dict[str, Any] | None = None,
) -> TreePolicy:
    """The tree of a policy on scenarios. `load` makes the policy anew: two of them are asked, one without masks.

    `about` becomes the tree's. Raises `UserError` for scenarios that are for measuring, an unknown set of inputs, and a
    missing scikit-learn.
    """
    require("sklearn")
    check_trainable(scenarios)
    columns = columns_of(inputs_of(size.inputs))
    states: list[NDArray[np.int32]] = []
    wanted: list[NDArray[np.int64]] = []
    tree: TreePolicy | None = None
    for number in range(ROUNDS):
        for fixed, actions in _episode(load, scenarios, tree, [seed, DISTILLING_STREAM, number]):
            states.append(fixed[:, columns])
            wanted.append(actions)
        tree = _fit(load().name, np.concatenate(states), np.concatenate(wanted), columns, size, seed)
        on_round(number + 1)
    assert tree is not None
    return replace(tree, about=about or {})


def _episode(
    load: Callable[[], Policy], scenarios: Sequence[Scenario], tree: TreePolicy | None, key: list[int]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """States int32 (N, N_OBS) and what the policy wants in them, int64 (N, N_ACTIONS), tick by tick."""
    count = MACHINES * len(scenarios)
    asked, unmasked = load(), load()
    machines = Machines(scenarios, count)
    # Below 2^63, as the seeds of trained machines are: none of these machines is ever evaluated on.
    machines.reset(np.random.default_rng(key).integers(0, 1 << 63, count, dtype=np.uint64))
    for policy in (asked, unmasked):
        policy.reset(count, key[0])
    for _ in range(int(machines.records["ticks"].max())):
        obs, masks = machines.obs.copy(), machines.masks.copy()
        given, free = asked(obs, masks), unmasked(obs, np.ones_like(masks))
        yield to_fixed(obs), np.where(in_force(free, masks) == in_force(given, masks), free, given)
        machines.step(given if tree is None else tree(obs, masks))


def _fit(
    name: str,
    states: NDArray[np.int32],
    wanted: NDArray[np.int64],
    columns: NDArray[np.int64],
    size: Size,
    seed: int,
) -> TreePolicy:
    from sklearn.tree import DecisionTreeClassifier

    varying = np.flatnonzero((wanted != wanted[0]).any(axis=0))
    if size.leaves == 1 or not len(varying):
        return make_tree(name, [np.array([np.bincount(modes).argmax() for modes in wanted.T])])
    fitted = DecisionTreeClassifier(
        max_leaf_nodes=size.leaves, max_depth=size.depth, min_samples_leaf=MIN_STATES, random_state=seed
    ).fit(states, wanted[:, varying])
    return _pruned(name, fitted.tree_, wanted[0], varying, fitted.classes_, columns)


def _pruned(
    name: str,
    found: Any,
    constant: NDArray[np.int64],
    varying: NDArray[np.int64],
    classes: Any,
    columns: NDArray[np.int64],
) -> TreePolicy:
    """Our tree of scikit-learn's: splits into leaves of one action are one leaf, nodes in preorder."""
    modes = [classes] if len(varying) == 1 else classes

    def action(node: int) -> NDArray[np.int64]:
        chosen = constant.copy()
        for output, entry in enumerate(varying):
            counts = found.value[node, output, : len(modes[output])]
            chosen[entry] = modes[output][int(counts.argmax())]
        return chosen

    def grow(node: int) -> list[Any]:
        """The nodes below, with ways counted from the first of them."""
        if found.children_left[node] < 0:
            return [action(node)]
        yes, no = grow(int(found.children_left[node])), grow(int(found.children_right[node]))
        if len(yes) == len(no) == 1 and (yes[0] == no[0]).all():
            return yes
        # Of whole numbers, x <= threshold as x <= its whole part.
        split = (int(columns[found.feature[node]]), int(np.floor(found.threshold[node])), 1, 1 + len(yes))
        return [split, *_moved(yes, 1), *_moved(no, 1 + len(yes))]

    return make_tree(name, grow(0))


def _moved(nodes: list[Any], by: int) -> list[Any]:
    return [node if isinstance(node, np.ndarray) else (*node[:2], node[2] + by, node[3] + by) for node in nodes]
