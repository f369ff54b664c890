"""Beginning a training by imitating plans that search found; reinforcement learning then goes on from there.

DAgger (Ross, Gordon and Bagnell, AISTATS 2011) with the plan as the expert: in the first round plans drive the
machines, later the network does. A plan looks at nothing, so it is known what it would do wherever the network has come
to. The critic is fitted to what the drivers got, since one that knows nothing would undo what was imitated.

Plans are searched with their episodes in sight (`tiergym.lab.bound`); what is imitated is what they would do on other
machines of the same scenarios.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from tiergym import paths
from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.lab import checkpoint
from tiergym.lab.recipe import Recipe, check_imitates
from tiergym.lab.tensor_files import digest
from tiergym.lab.training_env import TrainingVecEnv
from tiergym.policy.export_onnx import Frames, make_actor
from tiergym.policy.plan import PlanPolicy, load_plan
from tiergym.policy.torch_policy import TorchPolicy

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario

ROUNDS = 3
MACHINES = 4
"""Of every scenario and round."""
UPDATES, BATCH, RATE = 100, 1024, 1e-3
"""Of the fit after each round: updates, states of each, drawn from all states so far, and the learning rate of Adam.

Few on purpose: search leaves modes that do not matter to chance, and who learns them by heart does worse elsewhere."""
FUTURE = 4
"""An episode is cut off at its horizon; the critic learns that it goes on as in the last fourth of it."""
PLANS = "plans of "
"""What the source of a run that began with plans begins with."""
IMITATION_STREAM = 0x696D6974
"""Key of the machines' seeds, and of the order of states, in the SeedSequence tree of the run's seed."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plans:
    """A plan for each scenario, in their order, and which files they were."""

    plans: Sequence[PlanPolicy]
    source: str


@dataclass(frozen=True, slots=True)
class States:
    """Where a driver came to: observations float32 (M, frames x N_OBS), what the plan does there int64 (M, N_ACTIONS),
    and the discounted rewards from there on, float32 (M,)."""

    obs: Floats
    wanted: NDArray[np.int64]
    values: Floats


def folder_of(name: str) -> Path:
    """A recipe's folder of plans: the one in `agents/`, where no other has that name."""
    shipped = paths.agents_dir() / name
    return shipped if shipped.is_dir() and not Path(name).is_dir() else Path(name)


def read_plans(folder: Path, scenarios: Sequence[Scenario], recipe: Recipe) -> Plans:
    """The plans NAME.json of a folder, as `tiergym ladder` keeps them in OUT/PLAUSIBILITY/plans.

    Raises `UserError` where one is missing, none, or of episodes of another length, and for a learner that does not
    choose the mode of every entry or has a memory.
    """
    check_imitates(recipe, f"--imitate {folder}")
    machines = Machines(scenarios, len(scenarios))
    machines.reset(np.arange(len(scenarios), dtype=np.uint64))
    plans, all_of_them = [], sha256()
    for scenario, ticks in zip(scenarios, machines.records["ticks"].tolist(), strict=True):
        path = folder / f"{scenario.name}.json"
        if not path.is_file():
            raise UserError(
                f"{folder}: no {path.name}; allowed: a folder with a plan for each scenario, as tiergym "
                "ladder keeps in OUT/PLAUSIBILITY/plans"
            )
        plan = load_plan(path)
        plan.check_horizon(ticks)
        plans.append(plan)
        all_of_them.update(digest(path).encode())
    return Plans(plans, f"{PLANS}{folder}, sha256 {all_of_them.hexdigest()}")


def visit(
    plans: Sequence[PlanPolicy],
    scenarios: Sequence[Scenario],
    scales: NDArray[np.float64],
    hold_ticks: int,
    gamma: float,
    seeds: NDArray[np.uint64],
    driver: Policy | None = None,
    frames: int = 1,
) -> States:
    """One episode of every machine of `seeds`, uint64 (N,), under its scenario's plan, or under `driver`.

    `scales`, float64 (scenarios,): factors of the rewards. An action holds for `hold_ticks`. An observation is those of
    the last `frames` decisions, the newest first, zeros before the episode.
    """
    machines = Machines(scenarios, len(seeds))
    machines.reset(seeds)
    which = machines.scenario_index
    if driver is not None:
        driver.reset(len(seeds), 0)
    running = np.ones(len(seeds), np.bool_)
    obs: list[Floats] = []
    wanted, rewards, ran = [], [], []
    while running.any():
        planned = np.stack([plan.at(len(obs) * hold_ticks) for plan in plans])[which]
        obs.append(machines.obs.copy())
        wanted.append(planned)
        ran.append(running.copy())
        machines.step(planned if driver is None else driver(obs[-1], machines.masks.copy()), hold_ticks)
        rewards.append(machines.reward * scales[which])
        running &= ~machines.done
    alive = np.stack(ran)
    values = discounted(np.stack(rewards), alive, gamma)
    padded = [np.zeros_like(obs[0])] * (frames - 1) + obs
    seen = [np.concatenate(padded[at : at + frames][::-1], axis=1) for at in range(len(obs))]
    return States(np.stack(seen)[alive], np.stack(wanted)[alive], values[alive].astype(np.float32))


def discounted(rewards: NDArray[np.float64], alive: NDArray[np.bool_], gamma: float) -> NDArray[np.float64]:
    """Discounted sums of rewards (T, N) from each step on, where `alive` (T, N), which is true up to a machine's end.

    After its end a machine is taken to go on with the mean reward of the last fourth of its steps.
    """
    lengths = alive.sum(axis=0)
    place = np.arange(len(rewards))[:, None]
    last = alive & (place >= lengths - np.maximum(lengths // FUTURE, 1))
    steady = np.where(last, rewards, 0.0).sum(axis=0) / last.sum(axis=0)
    value = steady / (1.0 - gamma) if gamma < 1.0 else np.zeros_like(steady)
    out = np.zeros_like(rewards)
    for step in reversed(range(len(rewards))):
        value = np.where(alive[step], rewards[step] + gamma * value, value)
        out[step] = value
    return out


class ImitationCallback(BaseCallback):
    """Fits the new network before the first rollout, and saves it as the checkpoint after 0 steps.

    Goes before all other callbacks. Torch's random numbers stay as they were.
    """

    def __init__(
        self, run: Path, plans: Plans, scenarios: Sequence[Scenario], recipe: Recipe, seed: int, env: TrainingVecEnv
    ) -> None:
        super().__init__()
        self.run, self.plans, self.scenarios, self.recipe, self.env = run, plans.plans, scenarios, recipe, env
        self._key = np.random.SeedSequence(seed, spawn_key=(IMITATION_STREAM,))

    def _on_training_start(self) -> None:
        started, numbers = monotonic(), self.recipe.hyperparameters
        gamma = numbers.get("gamma", 0.99)
        scales = np.ones(len(self.scenarios)) if self.env.scales is None else self.env.scales
        # Asked once per decision, and so are the frames that it sees.
        network = TorchPolicy(make_actor(self.model, None, Frames(self.recipe.frames)), self.recipe.name)
        rng = np.random.default_rng(self._key)
        found: list[States] = []
        for number in range(ROUNDS):
            # Below 2^63, as the seeds of trained machines are: none of these machines is ever evaluated on.
            seeds = rng.integers(0, 1 << 63, MACHINES * len(self.scenarios), dtype=np.uint64)
            driver = network if number else None
            hold = self.recipe.hold_ticks
            found.append(visit(self.plans, self.scenarios, scales, hold, gamma, seeds, driver, self.recipe.frames))
            agreement = fit(self.model.policy, found, numbers.get("vf_coef", 0.5), rng)
        self.logger.record("imitation/agreement", agreement)
        checkpoint.save(self.run, self.model, self.env)
        states = sum(len(each.obs) for each in found)
        print(
            f"{self.run}: imitated {len(self.plans)} plans in {states} states, {monotonic() - started:.0f} s: chooses "
            f"{agreement:.1%} of their modes",
            file=sys.stderr,
        )

    def _on_step(self) -> bool:
        return True


def fit(policy: Any, found: Sequence[States], critic_weight: float, rng: np.random.Generator) -> float:
    """Fit an actor-critic of stable-baselines3 to states; the share of modes that it then chooses as the plans do.

    The loss is the mean negative log-likelihood of the plans' modes plus `critic_weight` times the critic's mean
    squared error.
    """
    arrays: Mapping[str, NDArray[Any]] = {
        name: np.concatenate([getattr(each, name) for each in found]) for name in ("obs", "wanted", "values")
    }
    obs, wanted, values = (th.as_tensor(array, device=policy.device) for array in arrays.values())
    optimiser = th.optim.Adam(policy.parameters(), RATE)
    policy.set_training_mode(True)
    for _ in range(UPDATES):
        some = th.as_tensor(rng.integers(len(obs), size=min(BATCH, len(obs))))
        predicted, log_likelihood, _ = policy.evaluate_actions(obs[some], wanted[some])
        error = th.nn.functional.mse_loss(predicted.flatten(), values[some])
        optimiser.zero_grad()
        (critic_weight * error - log_likelihood.mean()).backward()
        optimiser.step()
    policy.set_training_mode(False)
    with th.no_grad():
        chosen = policy.get_distribution(obs).mode()
    return float((chosen == wanted).double().mean())
