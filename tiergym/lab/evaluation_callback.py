"""Evaluation while it trains: between two rollouts, beside the learning, which it must not touch.

The deterministic policy runs on machines of its own (`tiergym.lab.held_back`) and draws no random number, so that the
weights are those of a training without evaluation, to the bit. Of what was found, a checkpoint is kept where it is the
best so far.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from stable_baselines3.common.callbacks import BaseCallback

from tiergym.extras import missing
from tiergym.lab import checkpoint, evaluations, learner
from tiergym.lab.callbacks import MetricsCallback
from tiergym.lab.episode_log import log_episode
from tiergym.lab.held_back import HeldBack
from tiergym.lab.recipe import Recipe
from tiergym.lab.run_dir import PICTURES
from tiergym.lab.tensorboard_log import DETERMINISTIC, record_picture
from tiergym.lab.training_env import TrainingVecEnv
from tiergym.policy.torch_policy import TorchPolicy

PICTURE_TAG = "timeline"


class ConvergedError(Exception):
    """Leaves the learning loop between two rollouts: there is no more progress."""


class EvaluationCallback(BaseCallback):
    """Evaluates every so many steps and at the end, and before the first if `at_start`.

    Raises `ConvergedError` where the recipe wants to stop early. Goes before `MetricsCallback`, which writes what is
    recorded. Checkpoints of the best come besides the regular ones.
    """

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        held_back: HeldBack,
        metrics: MetricsCallback,
        env: TrainingVecEnv,
        start: int,
        at_start: bool = False,
    ) -> None:
        super().__init__()
        self.run, self.recipe, self.settings = run, recipe, recipe.evaluating
        self.held_back, self.metrics, self.env = held_back, metrics, env
        self._at_start = at_start
        self.found = [each for each in evaluations.read(run) if each.steps <= start]
        self._pictures = self.settings.pictures and "matplotlib" not in missing("lab")

    def _on_training_start(self) -> None:
        self._policy = TorchPolicy(learner.actor_of(self.model, self.recipe), self.recipe.name)

    def _on_rollout_start(self) -> None:
        last = self.found[-1].steps if self.found else 0
        first = self._at_start and not self.found
        if first or self.num_timesteps // self.settings.every_steps > last // self.settings.every_steps:
            self._evaluate()
            if self.is_over:
                raise ConvergedError

    def _on_training_end(self) -> None:
        complete = self.num_timesteps >= self.recipe.steps  # a callback may have stopped it in mid-rollout
        if complete and not (self.found and self.found[-1].steps == self.num_timesteps):
            self._evaluate()

    def _on_step(self) -> bool:
        return True

    @property
    def is_over(self) -> bool:
        """Whether the recipe stops early, and there was no progress for as long as it waits."""
        wanted, patience = self.settings.until_converged, self.settings.patience
        return wanted and evaluations.converged(self.found, self.recipe.kills_bound, patience)

    def _evaluate(self) -> None:
        started = monotonic()
        evaluated, logged = self.held_back.evaluate(self._policy, self.num_timesteps)
        self.found.append(evaluated)
        for name, value in logged.items():
            self.logger.record(name, value)
        self.metrics.latest[DETERMINISTIC] = logged[DETERMINISTIC]
        if self._pictures:
            self._draw()
        if evaluations.best(self.found, self.recipe.kills_bound) is evaluated:
            checkpoint.save(self.run, self.model, self.env)
        evaluations.write(self.run, self.found)
        took = monotonic() - started
        self.logger.record("time/evaluation_s", took)
        self.metrics.leave_out(took)

    def _draw(self) -> None:
        """The timeline that `tiergym show` draws of episode 0 of seed 0, on the first scenario."""
        from tiergym.lab.episode_plot import write_episode_png

        name = f"{self.recipe.name} after {self.num_timesteps} steps"
        log = log_episode(self._policy, name, self.held_back.scenarios[0], seed=0, episode=0)
        path = self.run / PICTURES / f"{self.num_timesteps:012d}.png"
        write_episode_png(path, [log])
        record_picture(self.logger, PICTURE_TAG, path)
