"""Tuning: a search over parameters by Optuna, with every finished trial kept in a database and none counted twice.

Trials are proposed in batches of a size that is asked for, measured by an engine, and told to the sampler in the order
of their numbers once all of a batch are there. So the same settings and seed give the same trials, whichever engine
measures and whatever its workers: a trial's sampler is seeded by how many there were before it and knows the batches
before its own. What was measured is in the database at once, as an attribute of its trial; a search that was
interrupted takes up its trials with the values that they have. Commands that share a database propose by themselves,
so that only what they find together is of use, not who found it.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from tiergym.errors import UserError, one_line, shown, suggest
from tiergym.extras import require
from tiergym.lab.engines import Engine
from tiergym.lab.kept import MOST, fields, is_number
from tiergym.lab.tuning_targets import Values
from tiergym.policy.rule_parameters import Parameter

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random")
DATABASE = "study.db"
ASKED, STEPS = "asked", "steps"
"""Keys of what a study is of, and of what a trial cost, in Optuna's database."""
OWNER, KNOWN, MEASURED = "owner", "known", "measured"
"""Keys of a trial that is under way: whose it is, whether its values were known before, and what it came to."""
BATCH = "batch"
UNPRUNED = 4
"""Trials that are finished before any is stopped early."""

Report = Callable[[float], bool]
"""Told a score on the way; whether to stop, since others were better at that point."""
Measure = Callable[[Values, int, Report], tuple[float, int]]
"""Of values and the trial's number, the score and the simulator steps spent; raises `PrunedError`. Engines other than
the local one need one that can be pickled."""
OnTrial = Callable[["Trial", int], None]
"""Called after each trial with how many there are."""


@dataclass(frozen=True)
class Trial:
    """One set of values. `score` is None where it was stopped early; `steps` are simulator steps."""

    number: int
    values: dict[str, Any]
    score: float | None
    steps: int


@dataclass(frozen=True)
class Search:
    """How to search. `storage`: a database's URL, else a file in the output folder; `study`: its name there. `batch`:
    trials that are proposed before the first of them is known. `command`: how it was asked for, as the file of the
    result says."""

    trials: int
    seed: int
    study: str
    sampler: str = "tpe"
    storage: str | None = None
    command: str = ""
    batch: int = 1


class PrunedError(Exception):
    """Leaves a trial that others were better than; `steps` are those that it spent."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.steps = steps


class TuningInterruptedError(Exception):
    """Ctrl-C; `finished` trials are kept."""

    def __init__(self, finished: int) -> None:
        super().__init__(f"stopped with {finished} trials finished; the same command goes on from there")


def search(
    parameters: Mapping[str, Parameter],
    starts: Sequence[Values],
    prepare: Callable[[], Measure],
    asked: Mapping[str, Any],
    how: Search,
    out: Path,
    on_trial: OnTrial = lambda trial, count: None,
    engine: Engine | None = None,
) -> list[Trial]:
    """Measure `starts`, then what the sampler proposes, up to `how.trials` trials in all; those of before count.

    `prepare` makes what measures, once there is something to measure; `asked` says what the study is of. Raises
    `UserError` for a database that cannot be used or holds another study of that name, and as `Engine.run` does, and
    `TuningInterruptedError` after Ctrl-C.
    """
    require("optuna")
    engine = engine or Engine()
    study = _open(how, {**asked, BATCH: how.batch}, parameters, out)
    # A database in the folder is of whoever holds the folder; of another one, what was begun from this folder is ours.
    owner = "" if how.storage is None else f"{socket.gethostname()}:{out.resolve()}"
    space = {name: _distribution(parameter) for name, parameter in parameters.items()}
    try:
        if len(done := _finished(study)) < how.trials:
            measure = prepare()
            with engine.ready():
                while len(done) < how.trials:
                    batch = _batch(study, starts, space, how, owner, min(how.batch, how.trials - len(done)))
                    _measure_all(study, batch, measure, engine)
                    for trial in batch:
                        _tell(study, trial)
                        done = _finished(study)
                        on_trial(next(each for each in done if each.number == trial.number), len(done))
    except KeyboardInterrupt:
        kept = [trial for trial in _under_way(study, owner) if MEASURED in trial.user_attrs]
        raise TuningInterruptedError(len(_finished(study)) + len(kept)) from None
    done = _finished(study)[: how.trials]
    if done[0].score is None:
        raise UserError(
            f"{_place(how, out)}: trial {done[0].number}, the first, was stopped early; allowed: a study whose first "
            "trial is of the untuned values and has a score"
        )
    return done


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score; of equals the first."""
    return max((trial for trial in trials if trial.score is not None), key=lambda trial: trial.score or 0.0)


def _batch(
    study: optuna.Study, starts: Sequence[Values], space: Mapping[str, Any], how: Search, owner: str, size: int
) -> list[optuna.Trial]:
    """The trials to finish next: those that were under way when a search was interrupted, filled up to `size`."""
    import optuna

    state = optuna.trial.TrialState
    trials = []
    for trial in _under_way(study, owner):
        if trial.params.keys() == space.keys():
            trials.append(trial)
        else:  # interrupted while its values were proposed: the same will be again
            study.tell(trial, state=state.FAIL)
    if any(MEASURED in trial.user_attrs for trial in trials):
        return trials  # their batch was complete, and some of it may have been told
    counting = (state.COMPLETE, state.PRUNED, state.RUNNING)
    while len(trials) < size:
        index = len(study.get_trials(deepcopy=False, states=counting))
        if index < len(starts):
            attributes = {OWNER: owner, KNOWN: True}
            known = optuna.trial.create_trial(
                state=state.RUNNING, params=dict(starts[index]), distributions=dict(space), user_attrs=attributes
            )
            study.add_trial(known)
            trials.append(_under_way(study, owner)[-1])
        else:
            trials.append(_proposed(study, space, how, owner))
    return trials


def _proposed(study: optuna.Study, space: Mapping[str, Any], how: Search, owner: str) -> optuna.Trial:
    """A new trial with values of the sampler's. The database numbers trials, so that commands that ask at the same
    moment have different seeds."""
    import optuna

    trial = study.ask()
    trial.set_user_attr(OWNER, owner)
    failed = optuna.trial.TrialState.FAIL
    before = [each for each in study.get_trials(deepcopy=False) if each.number < trial.number and each.state != failed]
    study.sampler = _sampler(how.sampler, np.random.SeedSequence(how.seed, spawn_key=(len(before),)))
    for name, known in space.items():
        if isinstance(known, optuna.distributions.CategoricalDistribution):
            trial.suggest_categorical(name, known.choices)
        elif isinstance(known, optuna.distributions.IntDistribution):
            trial.suggest_int(name, known.low, known.high, log=known.log)
        else:
            trial.suggest_float(name, known.low, known.high, log=known.log)
    return trial


def _under_way(study: optuna.Study, owner: str) -> list[optuna.Trial]:
    """Trials of this owner that are not finished, in order."""
    import optuna

    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    return [optuna.Trial(study, each._trial_id) for each in running if each.user_attrs.get(OWNER) == owner]


def _measure_all(study: optuna.Study, trials: Sequence[optuna.Trial], measure: Measure, engine: Engine) -> None:
    """Measure those that are not, and keep what each comes to as soon as it is there."""
    left = [trial for trial in trials if MEASURED not in trial.user_attrs]
    bars = _medians(study)
    cells = [(measure, trial.params, trial.number, [] if KNOWN in trial.user_attrs else bars) for trial in left]
    for index, result in engine.run(_measured, cells):
        left[index].set_user_attr(MEASURED, result)


def _measured(measure: Measure, values: Values, number: int, medians: Sequence[float]) -> dict[str, Any]:
    """What a trial comes to, as JSON; it is stopped where its best score so far is below the median of the others'."""
    reported: list[float] = []

    def report(score: float) -> bool:
        reported.append(score)
        return len(reported) <= len(medians) and max(reported) < medians[len(reported) - 1]

    try:
        score, steps = measure(values, number, report)
    except PrunedError as pruned:
        return {"score": None, STEPS: pruned.steps, "reported": reported}
    return {"score": score, STEPS: steps, "reported": reported}


def _medians(study: optuna.Study) -> list[float]:
    """Of trials that ran to their end, the median score at each point on the way; nothing while they are too few."""
    import optuna

    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(done) < UNPRUNED:
        return []
    points = range(min(len(each.intermediate_values) for each in done))
    return [float(np.median([each.intermediate_values[point] for each in done])) for point in points]


def _tell(study: optuna.Study, trial: optuna.Trial) -> None:
    """Finish a trial that was measured."""
    import optuna

    result = trial.user_attrs[MEASURED]
    for point, score in enumerate(result["reported"]):
        trial.report(score, point)
    trial.set_user_attr(STEPS, result[STEPS])
    if result["score"] is None:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, result["score"])


def _place(how: Search, out: Path) -> str:
    """What messages call the database: its URL may hold a password."""
    return "--storage" if how.storage else str(out / DATABASE)


def _open(how: Search, asked: Mapping[str, Any], parameters: Mapping[str, Parameter], out: Path) -> optuna.Study:
    """The study, made where there is none. Raises `UserError` where it is of something else, or damaged."""
    import optuna

    text, where = json.dumps(asked, sort_keys=True), _place(how, out)
    before_batches = {BATCH: 1}  # of a database that an earlier tiergym wrote
    if how.storage is not None and re.fullmatch(r"(sqlite[^:]*://(/(:memory:)?)?)?", how.storage):
        raise UserError(f"--storage is {shown(how.storage)}, which keeps nothing; allowed: as sqlite:///FILE")
    try:
        study = _create(how, how.storage or f"sqlite:///{out / DATABASE}")
        known = study.user_attrs.get(ASKED)
        if known is None:
            study.set_user_attr(ASKED, text)
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # of Optuna, SQLAlchemy, Alembic or the database's driver, and of JSON in it
        kind = type(error).__name__
        detail = kind if how.storage else f"{kind}: {one_line(str(error))[:200]}"
        urls = "sqlite:///FILE, postgresql+psycopg://USER@HOST/NAME (extra postgres)"
        raise UserError(f"{where}: no database that Optuna can use ({detail}); allowed: as {urls}") from error
    here = json.loads(text)
    try:
        there = before_batches | json.loads(text if known is None else known)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: study '{how.study}' does not say what it is of; name a new folder with --out"
        ) from error
    if there != here:
        raise UserError(_differing(how.study, there, here))
    if study.direction != optuna.study.StudyDirection.MAXIMIZE:
        raise UserError(f"{where}: study '{how.study}' is to be small; allowed: one that a search began")
    for trial in trials:
        _check_trial(trial, parameters, f"{where}: trial {trial.number}")
    return study


def _check_trial(trial: optuna.trial.FrozenTrial, parameters: Mapping[str, Parameter], where: str) -> None:
    """Raise `UserError` for a trial that no search wrote: a folder with its database may come from a stranger."""
    import optuna

    state = optuna.trial.TrialState
    if trial.state == state.FAIL:  # of which nothing is read
        return
    for name, value in trial.params.items():
        if name not in parameters:
            raise UserError(f"{where}: {suggest(name, parameters, 'parameter')}")
        if not parameters[name].accepts(value):
            raise UserError(f"{where}: {name} is {shown(value)}; allowed: {parameters[name].allowed}")
    if trial.state in (state.COMPLETE, state.PRUNED) and trial.params.keys() != parameters.keys():
        raise UserError(f"{where}: has no {min(parameters.keys() - trial.params.keys())}; allowed: all parameters")
    told: dict[str, tuple[Any, bool]] = {STEPS: (steps := trial.user_attrs.get(STEPS, 0), _is_steps(steps))}
    if trial.state == state.COMPLETE:
        told["score"] = trial.value, is_number(trial.value)
    told["scores on the way"] = trial.intermediate_values, all(map(is_number, trial.intermediate_values.values()))
    if MEASURED in trial.user_attrs:
        told[MEASURED] = trial.user_attrs[MEASURED], _MEASURED_FORM(trial.user_attrs[MEASURED])
    for name, (value, allowed) in told.items():
        if not allowed:
            raise UserError(f"{where}: {name} is {shown(value)}; allowed: what a search wrote")


def _is_steps(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


_MEASURED_FORM = fields(
    {
        "score": lambda value: value is None or is_number(value),
        STEPS: _is_steps,
        "reported": lambda value: isinstance(value, list) and all(map(is_number, value)),
    }
)
"""What `_measured` returns."""


def _create(how: Search, storage: str) -> optuna.Study:
    """Tried again where another worker makes the tables at the same moment."""
    import optuna
    from sqlalchemy.exc import DBAPIError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for wait_s in (0.5, 2.0, None):
        try:
            return optuna.create_study(storage=storage, study_name=how.study, direction="maximize", load_if_exists=True)
        except DBAPIError:
            if wait_s is None:
                raise
            sleep(wait_s)
    raise AssertionError("unreachable")


def _differing(study: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    name = next((each for each in here if there.get(each) != here[each]), "asked")
    return (
        f"study '{study}': its {name} is {str(there.get(name))[:60]!r}; allowed: {str(here.get(name))[:60]!r} as asked "
        "for now; name a new folder with --out"
    )


def _finished(study: optuna.Study) -> list[Trial]:
    """Trials that count, in order."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return [
        Trial(
            each.number,
            dict(each.params),
            each.value if each.state == optuna.trial.TrialState.COMPLETE else None,
            int(each.user_attrs.get(STEPS, 0)),
        )
        for each in study.get_trials(deepcopy=False, states=states)
    ]


def _sampler(name: str, entropy: np.random.SeedSequence) -> Any:
    import optuna

    seed = int(entropy.generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed) if name == "tpe" else optuna.samplers.RandomSampler(seed=seed)


def _distribution(parameter: Parameter) -> Any:
    import optuna

    distributions = optuna.distributions
    if parameter.options:
        return distributions.CategoricalDistribution(parameter.options)
    if isinstance(parameter.default, int):
        return distributions.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
