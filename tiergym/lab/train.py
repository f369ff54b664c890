"""Training: one function, the same from Python and from the command line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from tiergym import specs
from tiergym.env.episodes import ScenarioLike, Scenarios
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.lab import checkpoint, learner, run_dir
from tiergym.lab.callbacks import CheckpointCallback, MetricsCallback, ProgressCallback, StoppedError, StopRequest
from tiergym.lab.constraint import ConstraintCallback
from tiergym.lab.evaluation_callback import ConvergedError, EvaluationCallback
from tiergym.lab.evaluation_settings import UNTIL_CONVERGED
from tiergym.lab.export import BEST, export_checkpoint, find
from tiergym.lab.extending import differences, extended
from tiergym.lab.held_back import HeldBack
from tiergym.lab.imitation import PLANS, ImitationCallback, folder_of, read_plans
from tiergym.lab.locking import check_new, locked
from tiergym.lab.recipe import OOM_PER_HOUR, Recipe, load_recipe
from tiergym.lab.reward_scales import RETURN, reward_scales
from tiergym.lab.run_dir import BEST_EXPORTED, RunConfig
from tiergym.lab.tensorboard_log import make_logger
from tiergym.lab.training_env import TrainingVecEnv
from tiergym.lab.warm_start import put_weights, read_weights
from tiergym.policy.export_onnx import export_actor
from tiergym.policy.load import EXPORTED
from tiergym.trust import TRUST

_LEARNER_STREAM, _MACHINES_STREAM = 0, 1
"""Keys of the seeds in the SeedSequence tree of a run's seed."""
MOST_NAMED = 4
"""Scenarios that a progress bar names."""


class TrainingInterruptedError(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during training; the checkpoint is saved, and the message says how to continue."""

    def __init__(self, run: Path, steps: int, total: int) -> None:
        super().__init__(f"stopped at {steps} of {total} steps; continue with: tiergym train --resume {run}")
        self.run = run
        self.steps = steps
        self.total = total

    def __reduce__(self) -> tuple[type["TrainingInterruptedError"], tuple[Path, int, int]]:
        """As its arguments: one that cannot be read from a worker breaks the pool, and kills the other workers."""
        return type(self), (self.run, self.steps, self.total)


def train(
    recipe: str | Path | Recipe | None = None,
    scenario: Scenarios | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    envs: int | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    start_from: str | Path | None = None,
    imitate: str | Path | None = None,
    until_converged: bool = False,
    progress: bool = True,
    callbacks: Sequence[BaseCallback] = (),
    trust: bool = False,
) -> Path:
    """Train a recipe on one scenario or several; returns the run directory, with `policy.onnx` in it.

    The same seed gives the same weights, on the same machine and software.

    Args:
        recipe: a name (`tiergym agents` lists them), a TOML file, or a loaded recipe.
        scenario: as for the environments: a list is dealt out to the machines in turn.
        steps: decisions of all machines together, instead of the recipe's; rounded up to whole rollouts. With `resume`:
            so many more than the run was to make.
        seed: of the machines, the weights and the exploration.
        envs: machines, instead of the recipe's; a rollout keeps its size.
        out: the run directory; default `runs/<recipe>-<scenario>-<seed>-<time>`.
        resume: continue this run to its own step count, or for `steps` more, from its newest checkpoint. Of the rest
            only `until_converged` may be given, with `steps`.
        start_from: begin with the networks of this run, or of an archive of stable-baselines3 where `trust` is given,
            whatever the recipe would imitate.
        imitate: begin with networks that do what the plans in this folder do (`tiergym.lab.imitation`), instead of
            those of the recipe's folder.
        until_converged: stop early (`tiergym.lab.evaluations` says when), whatever the recipe says.
        progress: show it on stderr.
        callbacks: called while it learns, after the run's own, with all that stable-baselines3 gives callbacks.
            One whose `_on_step` returns False ends training early: the run is exported with the weights of then, and
            goes on from the last checkpoint if it is resumed. An exception passes through, and nothing is exported.
        trust: go on with machines whose state this user did not write, instead of letting them start new episodes; and
            read an archive, which runs the code in it.

    May be called from any thread; signals stop it in the main thread only.

    Raises:
        UserError: before any work, for input that cannot be trained.
        TrainingInterruptedError: after Ctrl-C or SIGTERM, with a checkpoint saved.
    """
    for package in ("tensorboard", "onnx"):  # what torch needs for its events, and the export at the very end
        require(package)
    if resume is not None:
        if (recipe, scenario, envs, out, start_from, imitate, seed) != (None, None, None, None, None, None, 0):
            raise UserError(f"--resume {resume}: the run has its own agent, scenario, seed, envs, weights and folder")
        if until_converged and steps is None:
            raise UserError(
                f"--resume {resume}: the run says itself when it ends; allowed: --until-converged with --steps"
            )
        return _resume(Path(resume), steps, until_converged, progress, callbacks, trust)
    if recipe is None or scenario is None:
        raise UserError("training needs an agent and a scenario, or a run to resume")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"seed is {seed}; allowed: 0 to {(1 << 63) - 1}")
    if out is not None:
        check_new(Path(out))  # before minutes of work, as of imitation
    found = (recipe if isinstance(recipe, Recipe) else load_recipe(recipe)).resized(envs, steps)
    learner.check_device(found)
    if until_converged:
        found = found.changed({f"evaluation.{UNTIL_CONVERGED}": True}, "--until-converged")
    given: list[ScenarioLike] = [scenario] if isinstance(scenario, str | Path | specs.Scenario) else list(scenario)
    scenarios = [entry if isinstance(entry, specs.Scenario) else specs.load_scenario(entry) for entry in given]
    specs.check_trainable(scenarios)
    names = tuple(entry.name for entry in scenarios)
    if len(set(names)) != len(names) or not 1 <= len(names) <= found.envs:
        raise UserError(f"scenarios are {', '.join(names) or 'none'}; allowed: 1 to {found.envs} of different names")
    if start_from is not None and imitate is not None:
        raise UserError("--from and --imitate were both given; allowed: one, for both say what the networks begin with")
    weights = None if start_from is None else read_weights(Path(start_from), found, trust)
    if imitate is None and start_from is None and found.imitate:
        imitate = folder_of(found.imitate)
    plans = None if imitate is None else read_plans(Path(imitate), scenarios, found)
    begun = f"{weights.source}, sha256 {weights.sha256}" if weights is not None else plans.source if plans else ""
    config = RunConfig(seed, names, found, begun)
    with _torch_threads(found.threads):
        if weights is not None:
            put_weights(learner.build(found, seed % (1 << 32)), weights, found)  # refused before there are machines
        env, model = _assemble(config, scenarios, done=0)
        run = run_dir.new_name(config) if out is None else Path(out)
        with locked(run, new=True):
            if weights is not None:
                put_weights(model, weights, found)
            run_dir.create(run, config, scenarios)
            imitation = None if plans is None else ImitationCallback(run, plans, scenarios, found, seed, env)
            return _learn(run, config, env, model, progress, callbacks, imitation)


def _resume(
    run: Path,
    more: int | None,
    until_converged: bool,
    progress: bool,
    callbacks: Sequence[BaseCallback],
    trust: bool,
) -> Path:
    config = before = run_dir.read(run)
    learner.check_device(config.recipe)
    same_simulator = run_dir.check_versions(run)
    with locked(run), _torch_threads(before.recipe.threads):
        newest = checkpoint.latest(run)
        done = checkpoint.steps(newest)
        if more is not None:
            config = extended(before, done, more, until_converged)
        scenarios = run_dir.load_scenarios(run, config)
        env, model = _assemble(config, scenarios, done)
        checkpoint.restore(newest, model)
        if not checkpoint.has_episodes(newest):
            print(f"{run}: {newest.name} is an older checkpoint; its machines start new episodes", file=sys.stderr)
        elif not same_simulator:
            print(f"{run}: the simulator has changed since; its machines start new episodes", file=sys.stderr)
        elif trust or checkpoint.is_own(newest):
            checkpoint.restore_episodes(newest, model, env)
        else:
            why = f"its machines' state was not written by this user, or not here; with {TRUST} they go on from it"
            print(f"{run}: its machines start new episodes: {why}", file=sys.stderr)
        if more is not None:
            _lengthen(run, before, config, newest)
        return _learn(run, config, env, model, progress, callbacks)


def _lengthen(run: Path, before: RunConfig, config: RunConfig, newest: Path) -> None:
    """Write the longer run's configuration, which the seal of its machines is of; say what its length changes."""
    if checkpoint.has_episodes(newest) and checkpoint.is_own(newest):
        checkpoint.seal_also(newest, config)
    run_dir.write(run, config)
    for sentence in differences(before.recipe, config.recipe, checkpoint.steps(newest)):
        print(f"{run}: not as a run of {config.recipe.steps} steps would be: {sentence}", file=sys.stderr)


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
        frames=recipe.frames,
    )
    model = learner.build(recipe, _seed(config.seed, _LEARNER_STREAM) >> 32, env)
    if recipe.learner.on_policy and not recipe.learner.recurrent:
        env.gamma, env.values = recipe.hyperparameters.get("gamma", 0.99), learner.values_of(model)
    if recipe.reward != RETURN:
        env.scales = reward_scales(scenarios, recipe.reward, recipe.least_loss)
    env.seed(_seed(config.seed, _MACHINES_STREAM, done) >> 2)  # after the model, which seeds its machines itself
    return env, model


def _learn(
    run: Path,
    config: RunConfig,
    env: TrainingVecEnv,
    model: BaseAlgorithm,
    progress: bool,
    callbacks: Sequence[BaseCallback],
    imitation: ImitationCallback | None = None,
) -> Path:
    recipe = config.recipe
    start = model.num_timesteps
    metrics = MetricsCallback(recipe.steps)
    checkpoints = CheckpointCallback(run, recipe.checkpoint_steps, env)
    at_start = start == 0 and config.started_from.startswith(PLANS)  # also where a kill came before it
    evaluation = _evaluation(run, config, env, metrics, start, at_start)
    bar = ProgressCallback(f"{recipe.name} on {_shortened(config.scenarios)}", recipe.steps, metrics)
    model.set_logger(make_logger(run, config, start))
    learn: Any = model.learn  # the base class wants a log interval; the metrics callback logs instead
    try:
        if start < recipe.steps and not (evaluation is not None and evaluation.is_over):
            with _diverging(run, model), StopRequest() as stop:
                own: list[BaseCallback] = [metrics, checkpoints, stop, *([bar] if progress else [])]
                if evaluation is not None:
                    own.insert(0, evaluation)
                if recipe.constraint:
                    own.insert(0, ConstraintCallback(recipe.constraint[OOM_PER_HOUR]))
                if imitation is not None:
                    own.insert(0, imitation)
                anew = start == 0 and model._last_obs is None  # else machines of a checkpoint go on
                try:
                    learn(recipe.steps - start, [*own, *callbacks], log_interval=None, reset_num_timesteps=anew)
                except ConvergedError:
                    checkpoints.save()
                    bar.stop()
                    print(_converged(run, config, model.num_timesteps), file=sys.stderr)
            if model.num_timesteps >= recipe.steps:  # a callback may have stopped it in the middle of a rollout
                checkpoints.save()
            metrics.finish()
        export_actor(learner.actor_of(model, recipe), run / EXPORTED)
        if evaluation is not None and evaluation.found:
            export_checkpoint(find(run, config, BEST), config, run / BEST_EXPORTED)
    except StoppedError:
        checkpoints.save()
        metrics.finish()
        raise TrainingInterruptedError(run, model.num_timesteps, recipe.steps) from None
    finally:
        bar.stop()
        model.logger.close()
        env.close()
    return run


@contextmanager
def _diverging(run: Path, model: BaseAlgorithm) -> Iterator[None]:
    """Where networks are no numbers any more, say so in place of whatever fails of it."""
    try:
        yield
    except Exception:
        checkpoint.check_sound(run, model)
        raise


def _evaluation(
    run: Path, config: RunConfig, env: TrainingVecEnv, metrics: MetricsCallback, start: int, at_start: bool
) -> EvaluationCallback | None:
    """What evaluates the policy meanwhile, and before it if `at_start`; None where the recipe wants none."""
    recipe = config.recipe
    if not recipe.evaluating.every_steps:
        return None
    scenarios = run_dir.load_scenarios(run, config)
    scales = np.ones(len(scenarios)) if env.scales is None else env.scales
    held_back = HeldBack(scenarios, recipe.evaluating.episodes, config.seed, scales)
    return EvaluationCallback(run, recipe, held_back, metrics, env, start, at_start)


def _converged(run: Path, config: RunConfig, steps: int) -> str:
    patience = config.recipe.evaluating.patience
    return (
        f"{run}: converged at {steps} of {config.recipe.steps} steps: none of the last {patience} evaluations was "
        "better than the best one before them, by more than the standard error of their difference"
    )


def _shortened(scenarios: Sequence[str]) -> str:
    return ", ".join(scenarios) if len(scenarios) <= MOST_NAMED else f"{len(scenarios)} scenarios"


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
