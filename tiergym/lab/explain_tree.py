"""What a policy does as a few sentences: a shallow decision tree learned from a recorded run, in words.

It is for reading. It knows only what the policy looks at, so that it names no observation that happens to go along, and
not the policy's own past (`last.*`): rules about the machine say more. The first half of the episodes teaches it, the
other half says how often it agrees, and the simulator what it would save.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env import observations
from tiergym.extras import require
from tiergym.lab.explain import Importance, Recorded
from tiergym.lab.tuning_score import Arena, mean_saved
from tiergym.policy.plan import modes_of
from tiergym.terminal import number

LEAVES, DEPTH = 8, 4
LEAST_SHARE = 0.005
"""Of the recorded decisions, those that a leaf has at least."""
_UNITS = {"rate.": " a second", "pmu.": " a second", "calm": " s"}
"""Of observations that are no plain counts, by the beginning of their names."""
PAST = "last."


@dataclass(frozen=True)
class Leaf:
    """Modes, int64 (N_ACTIONS,), and the share of decisions that end here."""

    action: NDArray[np.int64]
    share: float


@dataclass(frozen=True)
class Fork:
    """Goes to `below` where the observation is at most `threshold` as it is shown, else to `above`."""

    observation: str
    threshold: float
    below: Fork | Leaf
    above: Fork | Leaf


@dataclass(frozen=True)
class Tree:
    """agreement: share of the other episodes' decisions, entry by entry, that are the policy's; `score` is the share of
    stock Linux's lost time that the tree itself saves."""

    root: Fork | Leaf
    agreement: float
    score: float


def distil(seen: Recorded, machines: Arena, matter: Sequence[Importance]) -> Tree:
    """The tree of a recorded run of two or more episodes of each scenario, over the observations that matter."""
    sklearn_tree = require("sklearn.tree")
    scenarios = len(machines.scenarios)
    taught = np.arange(seen.running.shape[1]) < machines.episodes // 2 * scenarios
    obs, actions = (each[:, taught][seen.running[:, taught]] for each in (seen.obs, seen.in_force))
    usual = np.array([np.bincount(column).argmax() for column in actions.T])
    varied = np.flatnonzero((actions != usual).any(axis=0))
    names = {each.observation for each in matter}
    columns = np.array([i for i, name in enumerate(observations.NAMES) if name in names and not name.startswith(PAST)])
    if not len(varied) or not len(columns):
        root: Fork | Leaf = Leaf(usual, 1.0)
    else:
        least = max(1, int(LEAST_SHARE * len(obs)))
        fitted = sklearn_tree.DecisionTreeClassifier(
            max_leaf_nodes=LEAVES, max_depth=DEPTH, min_samples_leaf=least, random_state=0
        ).fit(obs[:, columns], actions[:, varied])
        root = _read(fitted, 0, usual, varied, columns)
    others = seen.running[:, ~taught]
    told = act_by(root, seen.obs[:, ~taught][others])
    policy = _Acting(root)
    agreement = float((told == seen.in_force[:, ~taught][others]).mean())
    return Tree(root, agreement, mean_saved(list(machines.saved(policy))))


def act_by(node: Fork | Leaf, obs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Actions, int64 (N, N_ACTIONS), for observations (N, N_OBS)."""
    if isinstance(node, Leaf):
        return np.tile(node.action, (len(obs), 1))
    above = obs[:, observations.NAMES.index(node.observation)] > node.threshold
    return np.where(above[:, None], act_by(node.above, obs), act_by(node.below, obs))


def sentences(node: Fork | Leaf, depth: int = 0) -> list[tuple[int, str]]:
    """Lines with their depth; what is above a threshold comes first."""
    if isinstance(node, Leaf):
        return [(depth, f"{deeds(modes_of(node.action))} ({100 * node.share:.0f} %)")]
    threshold = in_units(node.observation, node.threshold)
    out = [(depth, f"if {node.observation} > {threshold}:"), *sentences(node.above, depth + 1)]
    return [*out, (depth, "else:"), *sentences(node.below, depth + 1)]


def in_units(observation: str, shown: float) -> str:
    """A shown value as what it stands for."""
    scale = float(observations.SCALES[observations.NAMES.index(observation)])
    if not scale:
        return number(round(shown, 4))
    unit = next((unit for start, unit in _UNITS.items() if observation.startswith(start)), "")
    return f"{number(scale * shown / max(1.0 - shown, 1e-6))}{unit}"


def deeds(modes: dict[str, str]) -> str:
    """Entries of one mode together: `restrict place.pt_leaf, place.kstack; idle migrate.slab`."""
    by_mode: dict[str, list[str]] = {}
    for entry, mode in modes.items():
        by_mode.setdefault(mode, []).append(entry)
    return "; ".join(f"{mode} {together(entries)}" for mode, entries in by_mode.items()) or "Linux's defaults"


def together(entries: Sequence[str]) -> str:
    """Entries in short: `place.*` where all that are placed are among them."""
    placed = [name for name in act.NAMES if name.startswith("place.")]
    if all(name in entries for name in placed):
        entries = ["place.*", *(name for name in entries if name not in placed)]
    return ", ".join(entries)


def document(node: Fork | Leaf) -> dict[str, Any]:
    """As JSON; thresholds as observations are shown."""
    if isinstance(node, Leaf):
        return {"modes": modes_of(node.action), "share": node.share}
    return {
        "observation": node.observation,
        "threshold": node.threshold,
        "above": document(node.above),
        "at_most": document(node.below),
    }


@dataclass
class _Acting:
    """The tree as a policy."""

    root: Fork | Leaf
    name: str = "tree"
    plausibility: str = act.COUNTERFACTUAL

    def reset(self, num_envs: int, seed: int) -> None:
        pass

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        return act_by(self.root, obs)


def _read(
    fitted: Any, index: int, usual: NDArray[np.int64], varied: NDArray[np.int64], columns: NDArray[np.int64]
) -> Fork | Leaf:
    """A node of scikit-learn's tree, over these columns of the observation; entries that never vary are as `usual`.

    Forks whose sides agree are one leaf.
    """
    tree = fitted.tree_
    if tree.children_left[index] < 0:
        action = usual.copy()
        for place, entry in enumerate(varied):
            classes = fitted.classes_[place] if len(varied) > 1 else fitted.classes_
            action[entry] = classes[int(tree.value[index, place, : len(classes)].argmax())]
        return Leaf(action, float(tree.n_node_samples[index] / tree.n_node_samples[0]))
    below, above = (
        _read(fitted, int(side[index]), usual, varied, columns) for side in (tree.children_left, tree.children_right)
    )
    if isinstance(below, Leaf) and isinstance(above, Leaf) and (below.action == above.action).all():
        return Leaf(below.action, below.share + above.share)
    name = observations.NAMES[columns[tree.feature[index]]]
    return Fork(name, float(tree.threshold[index]), below, above)
