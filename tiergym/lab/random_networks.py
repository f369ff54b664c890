"""Random weight guessing: how good are small networks that nobody trained? (Oller, Glasmachers and Cuccu, AAMAS 2020.)

Where a few of ten thousand random networks are as good as what was trained, the task is trivial; where none comes near,
it is not. A network has one hidden layer of tanh, its weights are normal over the root of their number, and the largest
of each entry's logits is its mode. All of them meet the same machine of a scenario, each on a copy of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import DEFAULT, N_MASK, NVEC, OFFSETS
from tiergym.env.machines import Machines
from tiergym.env.model_hash import model_hash
from tiergym.env.observations import N_OBS
from tiergym.lab.engines import Engine
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.kept import Cell, fields, is_number, keep_all, numbers
from tiergym.specs import Scenario, scenario_digest
from tiergym.trust import check_plain

SCHEMA = 1
HIDDEN = 8
BATCH = 1000
"""Networks that run at once."""
NOTHING = 1e-9
QUANTILES = (0.5, 0.9, 0.99, 1.0)

OnScenario = Callable[[str], None]


@dataclass(frozen=True)
class Guesses:
    """Returns of random networks on one machine of a scenario, float64 (count,), and that of stock Linux on it."""

    scenario: str
    online: float
    returns: NDArray[np.float64]

    def quantiles(self) -> list[float]:
        """Returns at `QUANTILES`."""
        return [float(value) for value in np.quantile(self.returns, QUANTILES)]

    @property
    def better(self) -> float:
        """Share of the networks that do better than stock Linux."""
        return float((self.returns > self.online).mean())


def saved_by_network(guesses: Sequence[Guesses]) -> NDArray[np.float64]:
    """Of what stock Linux loses, what each network saves, as its mean over the scenarios, float64 (count,): the same
    networks run on all of them."""
    return np.mean([1.0 - each.returns / min(each.online, -NOTHING) for each in guesses], axis=0)


def guess(
    scenarios: Sequence[Scenario],
    count: int,
    seed: int,
    out: Path,
    on_scenario: OnScenario = lambda name: None,
    engine: Engine | None = None,
) -> list[Guesses]:
    """Evaluate `count` networks of `seed` on every scenario, as far as the folder `out` does not hold it.

    Raises `UserError` where it holds results of other settings or of another model, or a link.
    """
    check_plain(out)
    cells = []
    form = fields({"online": is_number, "returns": numbers(count)})
    for scenario in scenarios:
        asked = {"schema": SCHEMA, "model": model_hash(), "scenario": scenario.name, "count": count, "seed": seed}
        asked["digest"] = scenario_digest(scenario)
        cells.append(Cell(out / f"{scenario.name}.json", asked, form, _guess, (scenario, count, seed)))
    found = keep_all(cells, engine, lambda index, before: on_scenario(scenarios[index].name))
    names = (scenario.name for scenario in scenarios)
    return [Guesses(name, each["online"], np.array(each["returns"])) for name, each in zip(names, found, strict=True)]


def _guess(scenario: Scenario, count: int, seed: int) -> dict[str, object]:
    return {"online": stock_return(scenario, seed), "returns": network_returns(scenario, count, seed).tolist()}


def network_returns(scenario: Scenario, count: int, seed: int) -> NDArray[np.float64]:
    """Returns of the networks, float64 (count,)."""
    parts = []
    for first in range(0, count, BATCH):
        rng = np.random.default_rng([seed, first])
        parts.append(_returns(scenario, seed, _Networks(min(BATCH, count - first), rng)))
    return np.concatenate(parts)


def stock_return(scenario: Scenario, seed: int) -> float:
    """Return of stock Linux on the same machine."""
    return float(_returns(scenario, seed, None)[0])


class _Networks:
    """Networks of a batch: weights of both layers, float32 (N, N_OBS + 1, HIDDEN) and (N, HIDDEN + 1, N_MASK)."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.count = count
        self.first = self._layer(count, N_OBS, HIDDEN, rng)
        self.second = self._layer(count, HIDDEN, N_MASK, rng)

    @staticmethod
    def _layer(count: int, inputs: int, outputs: int, rng: np.random.Generator) -> NDArray[np.float32]:
        weights = rng.standard_normal((count, inputs + 1, outputs), dtype=np.float32)
        return weights / np.float32(np.sqrt(inputs + 1))

    def __call__(self, obs: NDArray[np.float32]) -> NDArray[np.int64]:
        """Modes, int64 (N, N_ACTIONS)."""
        hidden = np.tanh(obs[:, None, :] @ self.first[:, :-1] + self.first[:, -1:])
        logits = (hidden @ self.second[:, :-1] + self.second[:, -1:])[:, 0]
        return np.stack([logits[:, at : at + modes].argmax(axis=1) for at, modes in zip(OFFSETS, NVEC, strict=True)], 1)


def _returns(scenario: Scenario, seed: int, networks: _Networks | None) -> NDArray[np.float64]:
    count = 1 if networks is None else networks.count
    machines = Machines([scenario], count)
    machines.reset(np.repeat(evaluation_seeds(seed, 1), count))
    total = np.zeros(count)
    for _ in range(int(machines.records["ticks"][0])):
        machines.step(np.tile(DEFAULT, (count, 1)) if networks is None else networks(machines.obs))
        total += machines.reward
    return total
