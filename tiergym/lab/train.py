"""Training: one function, the same from Python and from the command line."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, make_output_format

from tiergym import specs
from tiergym.env.episodes import ScenarioLike, Scenarios
from tiergym.errors import UserError
from tiergym.lab import checkpoint, learner, run_dir
from tiergym.lab.callbacks import CheckpointCallback, MetricsCallback, ProgressCallback, StoppedError, StopRequest
from tiergym.lab.recipe import Recipe, load_recipe
from tiergym.lab.run_dir import RunConfig
from tiergym.lab.training_env import TrainingVecEnv
from tiergym.policy.export_onnx import export_onnx
from tiergym.policy.load import EXPORTED

_LEARNER_STREAM, _MACHINES_STREAM = 0, 1
"""Keys of the seeds in the SeedSequence tree of a run's seed."""


class TrainingInterruptedError(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during training; the checkpoint is saved, and the message says how to continue."""

    def __init__(self, run: Path, steps: int, total: int) -> None:
        super().__init__(f"stopped at {steps} of {total} steps; continue with: tiergym train --resume {run}")
        self.run = run
        self.steps = steps


def train(
    recipe: str | Path | Recipe | None = None,
    scenario: Scenarios | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    envs: int | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Train a recipe on one scenario or several; returns the run directory, with `policy.onnx` in it.

    The same seed gives the same weights, on the same machine and software.

    Args:
        recipe: a name (`tiergym agents` lists them), a TOML file, or a loaded recipe.
        scenario: as for the environments: a list is dealt out to the machines in turn.
        steps: decisions of all machines together, instead of the recipe's; rounded up to whole rollouts.
        seed: of the machines, the weights and the exploration.
        envs: machines, instead of the recipe's; a rollout keeps its size.
        out: the run directory; default `runs/<recipe>-<scenario>-<seed>-<time>`.
        resume: continue this run to its own step count, from its newest checkpoint. Nothing else may be given.
        progress: show it on stderr.

    Raises:
        UserError: before any work, for input that cannot be trained.
        TrainingInterruptedError: after Ctrl-C or SIGTERM, with a checkpoint saved.
    """
    if resume is not None:
        if (recipe, scenario, steps, envs, out, seed) != (None, None, None, None, None, 0):
            raise UserError(f"--resume {resume}: the run has its own agent, scenario, steps, seed, envs and folder")
        return _resume(Path(resume), progress)
    if recipe is None or scenario is None:
        raise UserError("training needs an agent and a scenario, or a run to resume")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"seed is {seed}; allowed: 0 to {(1 << 63) - 1}")
    found = (recipe if isinstance(recipe, Recipe) else load_recipe(recipe)).resized(envs, steps)
    given: list[ScenarioLike] = [scenario] if isinstance(scenario, str | Path | specs.Scenario) else list(scenario)
    scenarios = [entry if isinstance(entry, specs.Scenario) else specs.load_scenario(entry) for entry in given]
    names = tuple(entry.name for entry in scenarios)
    if len(set(names)) != len(names) or not 1 <= len(names) <= found.envs:
        raise UserError(f"scenarios are {', '.join(names) or 'none'}; allowed: 1 to {found.envs} of different names")
    config = RunConfig(seed, names, found)
    with _torch_threads(found.threads):
        env, model = _assemble(config, scenarios, done=0)
        run = run_dir.create(None if out is None else Path(out), config, scenarios)
        return _learn(run, config, env, model, progress)


def _resume(run: Path, progress: bool) -> Path:
    config = run_dir.read(run)
    same_simulator = run_dir.check_versions(run)
    newest = checkpoint.latest(run)
    scenarios = run_dir.load_scenarios(run, config)
    with _torch_threads(config.recipe.threads):
        env, model = _assemble(config, scenarios, checkpoint.steps(newest))
        checkpoint.restore(newest, model)
        if same_simulator:
            checkpoint.restore_episodes(newest, model, env)
        else:
            print(f"{run}: the simulator has changed since; its machines start new episodes", file=sys.stderr)
        return _learn(run, config, env, model, progress)


def _assemble(
    config: RunConfig, scenarios: Sequence[specs.Scenario], done: int
) -> tuple[TrainingVecEnv, BaseAlgorithm]:
    """Machines and model. Where machines cannot go on, their seeds depend on the steps `done`."""
    recipe = config.recipe
    env = TrainingVecEnv(
        scenarios,
        recipe.envs,
        action_form=recipe.action_form,
        baselines=recipe.baselines or None,
        hold_ticks=recipe.hold_ticks,
    )
    model = learner.build(recipe, _seed(config.seed, _LEARNER_STREAM) >> 32, env)
    if recipe.learner.on_policy and not recipe.learner.recurrent:
        env.gamma, env.values = recipe.hyperparameters.get("gamma", 0.99), learner.values_of(model)
    env.seed(_seed(config.seed, _MACHINES_STREAM, done) >> 2)  # after the model, which seeds its machines itself
    return env, model


def _learn(run: Path, config: RunConfig, env: TrainingVecEnv, model: BaseAlgorithm, progress: bool) -> Path:
    recipe = config.recipe
    start = model.num_timesteps
    metrics = MetricsCallback(recipe.steps)
    checkpoints = CheckpointCallback(run, recipe.checkpoint_steps, env)
    bar = ProgressCallback(f"{recipe.name} on {', '.join(config.scenarios)}", recipe.steps, metrics)
    model.set_logger(_logger(run, config, start))
    learn: Any = model.learn  # the base class wants a log interval; the metrics callback logs instead
    try:
        if start < recipe.steps:
            with StopRequest() as stop:
                callbacks = [metrics, checkpoints, stop, *([bar] if progress else [])]
                learn(recipe.steps - start, callbacks, log_interval=None, reset_num_timesteps=start == 0)
            checkpoints.save()
        export_onnx(model, run / EXPORTED, learner.baseline_table(env.form))
    except StoppedError:
        checkpoints.save()
        raise TrainingInterruptedError(run, model.num_timesteps, recipe.steps) from None
    finally:
        bar.stop()
        model.logger.close()
        env.close()
    return run


def _logger(run: Path, config: RunConfig, start: int) -> Logger:
    """TensorBoard and CSV in the run's folder; a resumed run's table has a file of its own."""
    suffix = f"-{start:012d}" if start else ""
    logger = Logger(
        str(run), [make_output_format("tensorboard", str(run)), make_output_format("csv", str(run), suffix)]
    )
    text = f"```toml\n{(run / run_dir.CONFIG).read_text(encoding='utf-8')}```"
    logger.record("config", text, exclude=("stdout", "log", "json", "csv"))
    versions = json.dumps(run_dir.versions()["packages"], indent=2)
    logger.record("versions", f"```json\n{versions}\n```", exclude=("stdout", "log", "json", "csv"))
    logger.dump(start)
    return logger


def _seed(seed: int, *key: int) -> int:
    """64 bits for one stream of a run."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """The recipe's, whatever the machine has: sums are split by thread, so weights would differ between machines."""
    before = th.get_num_threads()
    th.set_num_threads(threads)
    try:
        yield
    finally:
        th.set_num_threads(before)
