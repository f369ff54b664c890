"""Bounds by search: the best constant action of a scenario, and the best plan for its very episodes.

Cross-entropy method (Rubinstein 1999) on the batch: candidates are drawn from independent categorical distributions,
one per piece of the episode and entry of the action; all of them run on the same machines at once; the distributions
move towards the best. The plan is clairvoyant, since it is searched on the episodes that it is measured on: a lower
bound of what is possible there, and nothing that a policy can be blamed for not reaching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.env import static_actions
from tiergym.env.actions import NVEC
from tiergym.env.machines import Machines
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.policy.plan import PlanPolicy
from tiergym.specs import Scenario

Actions = NDArray[np.int64]
OnRound = Callable[[str, int, int, float], None]
"""Called after each round with what is searched, the round, their number and the best return so far."""

CANDIDATES, ELITE, ROUNDS, PIECES = 96, 0.125, 10, 8
STEP = 0.7
"""How far the distributions move towards the elite in a round."""
LEAST = 0.01
"""Chance that every mode keeps, so that none is given up."""
BIAS = 0.7
"""Chance of the best constant's mode in the first round of the search for a plan."""


@dataclass(frozen=True)
class Bound:
    """What the search found for a scenario, on `episodes` machines of `seed`.

    returns: mean return of every shipped static rule by name, of the best constant (`constant`) and of the plan.
    """

    scenario: str
    seed: int
    episodes: int
    statics: dict[str, float]
    constant: Actions
    constant_return: float
    plan: PlanPolicy
    plan_return: float


def bound(
    scenario: Scenario,
    episodes: int,
    seed: int,
    pieces: int = PIECES,
    rounds: int = ROUNDS,
    on_round: OnRound | None = None,
) -> Bound:
    """Search the best constant action and the best plan of `pieces` equal pieces on the evaluation's machines."""
    arena = Arena(scenario, episodes, seed)
    rng = np.random.default_rng(seed)
    static = {name: rule.action for name, rule in static_actions.shipped().items()}
    known = np.stack(list(static.values()))[:, None, :]
    statics = dict(zip(static, arena.returns(known).tolist(), strict=True))
    constant, constant_return = _search("constant", arena.returns, _uniform(), known, rounds, rng, on_round)
    biased = [_around(constant[0, entry], modes, pieces) for entry, modes in enumerate(NVEC)]
    start = np.repeat(constant[None], pieces, axis=1)
    plan, plan_return = _search("plan", arena.returns, biased, start, rounds, rng, on_round)
    edges = arena.edges(pieces)
    policy = PlanPolicy(f"{scenario.name}-plan", scenario.name, edges[1:] - edges[:-1], plan)
    return Bound(scenario.name, seed, episodes, statics, constant[0], constant_return, policy, plan_return)


def search_constant(arenas: Sequence[Arena], seed: int, rounds: int = ROUNDS) -> Actions:
    """The constant action, int64 (N_ACTIONS,), with the best mean return over several scenarios, each divided by what
    stock Linux loses there."""
    known = np.stack([rule.action for rule in static_actions.shipped().values()])[:, None, :]
    stock = np.zeros((1, 1, len(NVEC)), np.int64)
    scales = [max(-float(arena.returns(stock)[0]), 1e-9) for arena in arenas]

    def returns(plans: Actions) -> NDArray[np.float64]:
        return np.mean([arena.returns(plans) / scale for arena, scale in zip(arenas, scales, strict=True)], axis=0)

    found, _ = _search("constant", returns, _uniform(), known, rounds, np.random.default_rng(seed), None)
    return found[0]


def _uniform() -> list[NDArray[np.float64]]:
    return [np.full((1, modes), 1.0 / modes) for modes in NVEC]


class Arena:
    """The episodes that every candidate is measured on."""

    def __init__(self, scenario: Scenario, episodes: int, seed: int) -> None:
        self.episodes = episodes
        self._scenario = scenario
        self._seeds = evaluation_seeds(seed, episodes)
        self._machines: Machines | None = None
        self.ticks = int(self._ready(1).records["ticks"].max())

    def _ready(self, candidates: int) -> Machines:
        count = candidates * self.episodes
        if self._machines is None or self._machines.num_envs != count:
            self._machines = Machines([self._scenario], count)
        self._machines.reset(np.tile(self._seeds, candidates))
        return self._machines

    def edges(self, pieces: int) -> NDArray[np.int64]:
        """First ticks of equally long pieces, and the last one's end, int64 (pieces + 1,)."""
        return np.linspace(0, self.ticks, pieces + 1).round().astype(np.int64)

    def returns(self, plans: Actions) -> NDArray[np.float64]:
        """Mean returns, float64 (candidates,), of plans, int64 (candidates, pieces, N_ACTIONS)."""
        candidates, pieces, _ = plans.shape
        machines = self._ready(candidates)
        running = np.ones(machines.num_envs, np.bool_)
        total = np.zeros(machines.num_envs)
        ends = self.edges(pieces)[1:]
        for tick in range(self.ticks):
            piece = int(np.searchsorted(ends, tick, side="right"))
            machines.step(np.repeat(plans[:, piece], self.episodes, axis=0))
            total += np.where(running, machines.reward, 0.0)
            running &= ~machines.done
        return total.reshape(candidates, self.episodes).mean(axis=1)


def _around(mode: int, modes: int, pieces: int) -> NDArray[np.float64]:
    """Chances per piece that lean towards one mode."""
    chances = np.full((pieces, modes), (1.0 - BIAS) / max(modes - 1, 1))
    chances[:, mode] = BIAS if modes > 1 else 1.0
    return chances


def _search(
    what: str,
    measure: Callable[[Actions], NDArray[np.float64]],
    chances: Sequence[NDArray[np.float64]],
    known: Actions,
    rounds: int,
    rng: np.random.Generator,
    on_round: OnRound | None,
) -> tuple[Actions, float]:
    """The best plan, int64 (pieces, N_ACTIONS), and its mean return. `chances`: per entry, float64 (pieces, modes);
    `known` plans take part in the first round, and the best of each round in the next."""
    chances = [entry.copy() for entry in chances]
    best, best_return = known[0], -np.inf
    for index in range(rounds):
        drawn = np.stack([_draw(entry, CANDIDATES - len(known), rng) for entry in chances], axis=2)
        plans = np.concatenate([known, drawn])
        returns = measure(plans)
        order = np.argsort(-returns, kind="stable")
        if returns[order[0]] > best_return:
            best, best_return = plans[order[0]], float(returns[order[0]])
        elite = plans[order[: max(2, int(ELITE * len(plans)))]]
        for entry, modes in enumerate(NVEC):
            seen = (elite[:, :, entry, None] == np.arange(modes)).mean(axis=0)
            mixed = (1.0 - STEP) * chances[entry] + STEP * seen + LEAST
            chances[entry] = mixed / mixed.sum(axis=1, keepdims=True)
        known = best[None]
        if on_round is not None:
            on_round(what, index + 1, rounds, best_return)
    return best, best_return


def _draw(chances: NDArray[np.float64], count: int, rng: np.random.Generator) -> Actions:
    """Modes, int64 (count, pieces), from chances, float64 (pieces, modes)."""
    edges = chances.cumsum(axis=1)
    modes = (rng.random((count, len(chances), 1)) > edges[None]).sum(axis=2)
    return np.minimum(modes, chances.shape[1] - 1).astype(np.int64)
