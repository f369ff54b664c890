"""Bounds by search: the best constant action of a scenario, and the best plan for its very episodes.

Cross-entropy method (Rubinstein 1999) on the batch: candidates are drawn from independent categorical distributions,
one per piece of the episode and entry of the action; all of them run on the same machines at once; the distributions
move towards the best. The plan is clairvoyant, since it is searched on the episodes that it is measured on: a lower
bound of what is possible there, and nothing that a policy can be blamed for not reaching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.env import static_actions
from tiergym.env.actions import COUNTERFACTUAL, DEFAULT, ENTRIES, N_MASK, NAMES, NVEC, OFFSETS, at_least, from_modes
from tiergym.env.machines import Machines
from tiergym.errors import UserError, suggest
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.relaxed import relaxed
from tiergym.policy.plan import PlanPolicy
from tiergym.specs import Scenario

Actions = NDArray[np.int64]
OnRound = Callable[[str, int, int, float], None]
"""Called after each round with what is searched, the round, their number and the best return so far."""

CANDIDATES, ELITE, ROUNDS, PIECES = 96, 0.125, 10, 8
PROMOTED, FIRST = 1 / 3, 0.25
"""Of a round's candidates, those that run on all machines, after all of them have run on this share of the machines:
machines of one scenario are much alike, and the elite is an eighth."""
STEP = 0.7
"""How far the distributions move towards the elite in a round."""
LEAST = 0.01
"""Chance that every mode keeps, so that none is given up."""
BIAS = 0.7
"""Chance of the best constant's mode in the first round of the search for a plan."""


@dataclass(frozen=True)
class Bound:
    """What the search found for a scenario, on `episodes` machines of `seed`.

    returns: mean return of every shipped static rule by name, of the best constant (`constant`) and of the plan, and
    the mean return that no policy exceeds (`tiergym.lab.relaxed`).
    """

    scenario: str
    seed: int
    episodes: int
    statics: dict[str, float]
    constant: Actions
    constant_return: float
    plan: PlanPolicy
    plan_return: float
    relaxed_return: float


def bound(
    scenario: Scenario,
    episodes: int,
    seed: int,
    pieces: int = PIECES,
    rounds: int = ROUNDS,
    on_round: OnRound | None = None,
    plausibility: str = COUNTERFACTUAL,
    allowed: NDArray[np.bool_] | None = None,
) -> Bound:
    """Search the best constant action and the best plan of `pieces` equal pieces on the evaluation's machines.

    Only modes take part that are at least as plausible as `plausibility` (`tiergym.sim.names.PLAUSIBILITIES`), and of
    these only those of `allowed`, bool (N_MASK,), if it is given (`varying` makes one). Raises `ValueError` where that
    leaves out the default of an entry, which holds wherever the chosen mode is impossible.
    """
    possible = at_least(plausibility) if allowed is None else at_least(plausibility) & allowed
    if not possible[OFFSETS + DEFAULT].all():
        raise ValueError("allowed leaves out an entry's default; allowed: masks with the default of every entry")
    arena = Arena(scenario, episodes, seed)
    rng = np.random.default_rng(seed)
    static, modes = _statics(possible), _uniform(possible)
    known = np.stack(list(static.values()))[:, None, :]
    statics = dict(zip(static, arena.returns(known, by_tick=True).tolist(), strict=True))
    constant = _search("constant", arena.promising, modes, known, rounds, rng, on_round)
    biased = [_around(constant[0, entry], even, pieces) for entry, even in enumerate(modes)]
    start = np.repeat(constant[None], pieces, axis=1)
    plan = _search("plan", arena.promising, biased, start, rounds, rng, on_round)
    edges = arena.edges(pieces)
    policy = PlanPolicy(f"{scenario.name}-plan", scenario.name, edges[1:] - edges[:-1], plan)
    constant_return, plan_return = (float(arena.returns(found[None], by_tick=True)[0]) for found in (constant, plan))
    most = float(relaxed(scenario, episodes, seed).mean())
    return Bound(scenario.name, seed, episodes, statics, constant[0], constant_return, policy, plan_return, most)


def search_constant(
    arenas: Sequence[Arena], seed: int, rounds: int = ROUNDS, plausibility: str = COUNTERFACTUAL
) -> Actions:
    """The constant action, int64 (N_ACTIONS,), with the best mean return over several scenarios, each divided by what
    stock Linux loses there; of modes at least as plausible."""
    possible = at_least(plausibility)
    known = np.stack(list(_statics(possible).values()))[:, None, :]
    stock = np.zeros((1, 1, len(NVEC)), np.int64)
    scales = [max(-float(arena.returns(stock)[0]), 1e-9) for arena in arenas]

    def returns(plans: Actions, known: int) -> NDArray[np.float64]:
        return np.mean([arena.returns(plans) / scale for arena, scale in zip(arenas, scales, strict=True)], axis=0)

    rng = np.random.default_rng(seed)
    found = _search("constant", returns, _uniform(possible), known, rounds, rng, None)
    return found[0]


def varying(entries: Mapping[str, Sequence[str]], *, source: str = "entries") -> NDArray[np.bool_]:
    """Which modes may be chosen, bool (N_MASK,), where only these entries vary, each among its default and these modes,
    all of its modes if none is named.

    Raises `UserError`, naming `source`, for an unknown entry or mode.
    """
    allowed = np.zeros(N_MASK, np.bool_)
    allowed[OFFSETS + DEFAULT] = True
    for name, modes in entries.items():
        if name not in NAMES:
            raise UserError(f"{source}: {suggest(name, NAMES, 'action entry')}")
        index = NAMES.index(name)
        for mode in modes or ENTRIES[index].modes:
            allowed[OFFSETS[index] + from_modes({name: mode}, source=source)[index]] = True
    return allowed


def _statics(possible: NDArray[np.bool_]) -> dict[str, Actions]:
    """The shipped constants that choose only modes of `possible`, bool (N_MASK,)."""
    return {
        name: rule.action for name, rule in static_actions.shipped().items() if possible[OFFSETS + rule.action].all()
    }


def _uniform(possible: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Per entry the chances of its modes, float64 (1, modes): equal for those of `possible`, bool (N_MASK,), else 0."""
    allowed = np.split(possible.astype(np.float64), OFFSETS[1:])
    return [each[None] / each.sum() for each in allowed]


class Arena:
    """The episodes that every candidate is measured on."""

    def __init__(self, scenario: Scenario, episodes: int, seed: int) -> None:
        self.episodes = episodes
        self._scenario = scenario
        self._seeds = evaluation_seeds(seed, episodes)
        self._machines: dict[int, Machines] = {}
        self.ticks = int(self._ready(1, self._seeds).records["ticks"].max())

    def _ready(self, candidates: int, seeds: NDArray[np.uint64]) -> Machines:
        count = candidates * len(seeds)
        if count not in self._machines:
            self._machines[count] = Machines([self._scenario], count)
        self._machines[count].reset(np.tile(seeds, candidates))
        return self._machines[count]

    def edges(self, pieces: int) -> NDArray[np.int64]:
        """First ticks of equally long pieces, and the last one's end, int64 (pieces + 1,)."""
        return np.linspace(0, self.ticks, pieces + 1).round().astype(np.int64)

    def promising(self, plans: Actions, known: int) -> NDArray[np.float64]:
        """Mean returns of the first `known` plans and of those that are promising on the first machines; minus infinity
        for the others."""
        few, most = max(1, round(self.episodes * FIRST)), max(1, round(len(plans) * PROMOTED))
        if few == self.episodes:
            return self.returns(plans)
        first = self.returns(plans, self._seeds[:few])
        order = np.argsort(-first, kind="stable")
        chosen = np.concatenate([np.arange(known), order[order >= known][: max(0, most - known)]])
        rest = self.returns(plans[chosen], self._seeds[few:])
        out = np.full(len(plans), -np.inf)
        out[chosen] = (first[chosen] * few + rest * (self.episodes - few)) / self.episodes
        return out

    def returns(
        self, plans: Actions, seeds: NDArray[np.uint64] | None = None, *, by_tick: bool = False
    ) -> NDArray[np.float64]:
        """Mean returns, float64 (candidates,), of plans, int64 (candidates, pieces, N_ACTIONS), on machines of the
        evaluation's seeds, or of these. `by_tick` adds up as an evaluation does, to the bit, and takes longer."""
        candidates, pieces, _ = plans.shape
        seeds = self._seeds if seeds is None else seeds
        machines = self._ready(candidates, seeds)
        running = np.ones(machines.num_envs, np.bool_)
        total = np.zeros(machines.num_envs)
        for piece, ticks in enumerate(np.diff(self.edges(pieces)).tolist()):
            for held in [1] * ticks if by_tick else [ticks] * (ticks > 0):
                machines.step(np.repeat(plans[:, piece], len(seeds), axis=0), held)
                total += np.where(running, machines.reward, 0.0)
                running &= ~machines.done
        return total.reshape(candidates, len(seeds)).mean(axis=1)


def _around(mode: int, even: NDArray[np.float64], pieces: int) -> NDArray[np.float64]:
    """Chances per piece, float64 (pieces, modes), that lean towards one mode; `even` are those before."""
    others = np.where(np.arange(even.shape[1]) == mode, 0.0, even[0])
    chances = (1.0 - BIAS) * others / others.sum() if others.any() else np.zeros_like(others)
    chances[mode] = 1.0 - chances.sum()
    return np.repeat(chances[None], pieces, axis=0)


def _search(
    what: str,
    measure: Callable[[Actions, int], NDArray[np.float64]],
    chances: Sequence[NDArray[np.float64]],
    known: Actions,
    rounds: int,
    rng: np.random.Generator,
    on_round: OnRound | None,
) -> Actions:
    """The best plan, int64 (pieces, N_ACTIONS). `measure` takes plans and how many of the first were known before.
    `chances`: per entry, float64 (pieces, modes);
    `known` plans take part in the first round, and the best of each round in the next. Modes without a chance get
    none."""
    chances = [entry.copy() for entry in chances]
    least = [LEAST * (entry > 0) for entry in chances]
    best, best_return = known[0], -np.inf
    for index in range(rounds):
        drawn = np.stack([_draw(entry, CANDIDATES - len(known), rng) for entry in chances], axis=2)
        plans = np.concatenate([known, drawn])
        returns = measure(plans, len(known))
        order = np.argsort(-returns, kind="stable")
        if returns[order[0]] > best_return:
            best, best_return = plans[order[0]], float(returns[order[0]])
        elite = plans[order[: max(2, int(ELITE * len(plans)))]]
        for entry, modes in enumerate(NVEC):
            seen = (elite[:, :, entry, None] == np.arange(modes)).mean(axis=0)
            mixed = (1.0 - STEP) * chances[entry] + STEP * seen + least[entry]
            chances[entry] = mixed / mixed.sum(axis=1, keepdims=True)
        known = best[None]
        if on_round is not None:
            on_round(what, index + 1, rounds, best_return)
    return best


def _draw(chances: NDArray[np.float64], count: int, rng: np.random.Generator) -> Actions:
    """Modes, int64 (count, pieces), from chances, float64 (pieces, modes)."""
    edges = chances.cumsum(axis=1)
    # Scaled to the last edge: a rounding above it would be a mode that does not exist, or has no chance.
    drawn = rng.random((count, len(chances), 1)) * edges[None, :, -1:]
    return (drawn >= edges[None]).sum(axis=2).astype(np.int64)
