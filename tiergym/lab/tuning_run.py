"""One tuning from its target to the file of what was found: budget, search, check on fresh draws, provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tiergym import files, specs
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab.engines import Engine
from tiergym.lab.locking import locked
from tiergym.lab.run_dir import toml_text
from tiergym.lab.statistics import Interval
from tiergym.lab.tuning import Measure, OnTrial, Report, Search, Trial, best_of, search
from tiergym.lab.tuning_score import CHECKING, TUNING, Arena, difference, mean_saved, steps_of_one, tuning_arena
from tiergym.lab.tuning_targets import Target, Values, find_target
from tiergym.policy.rule_parameters import Parameter
from tiergym.specs import Scenario, suite_digest
from tiergym.trust import check_plain

SCHEMA = 1
EPISODES = 2
"""Of each scenario and trial, where no budget is given: many scenarios make up for few machines."""
CHECKED = 16
"""Fresh machines of each scenario that the result is checked on."""

OnBudget = Callable[["Budget"], None]
"""Called before the search with what it will cost."""


@dataclass(frozen=True)
class Budget:
    """What a search costs: `trials` of `episodes` on each of `scenarios`, `steps` simulator steps in all."""

    trials: int
    episodes: int
    scenarios: int
    steps: int


@dataclass(frozen=True)
class Tuned:
    """What was found. Scores are shares of stock Linux's lost time that are saved; `gain` is of the best values over
    the untuned ones, on machines that none was chosen by; it is None where there is no check."""

    target: str
    suite: str
    suite_digest: str
    search: Search
    parameters: Mapping[str, Parameter]
    trials: list[Trial]
    untuned: Trial
    best: Trial
    gain: Interval | None
    checked: tuple[float, float] | None
    budget: Budget
    file: Path

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "schema": SCHEMA,
            "model": model_hash(),
            "target": self.target,
            "suite": self.suite,
            "suite_digest": self.suite_digest,
            "study": self.search.study,
            "seed": self.search.seed,
            "sampler": self.search.sampler,
            "batch": self.search.batch,
            "episodes": self.budget.episodes,
            "steps": sum(trial.steps for trial in self.trials),
            "untuned": {"values": self.untuned.values, "score": self.untuned.score},
            "best": {"trial": self.best.number, "values": self.best.values, "score": self.best.score},
            "gain_on_fresh_machines": None if self.gain is None else self.gain.as_dict(),
            "trials": [
                {"number": each.number, "score": each.score, "steps": each.steps, "values": each.values}
                for each in self.trials
            ],
            "file": self.file.name,
        }


def budget_of(scenarios: Sequence[Scenario], trials: int, steps: int | None) -> Budget:
    """As many episodes as `steps` pay for. Raises `UserError` where they do not pay for one."""
    one = steps_of_one(scenarios)
    episodes = EPISODES if steps is None else steps // (trials * one)
    if episodes < 1:
        raise UserError(
            f"--steps is {steps}; allowed: at least {trials * one}, one episode on each of {len(scenarios)} scenarios "
            f"for each of {trials} trials"
        )
    return Budget(trials, episodes, len(scenarios), trials * episodes * one)


def tune_rule(
    target: Target,
    scenarios: Sequence[Scenario],
    suite: str,
    how: Search,
    steps: int | None,
    out: Path,
    on_budget: OnBudget = lambda budget: None,
    on_trial: OnTrial = lambda trial, count: None,
    engine: Engine | None = None,
) -> Tuned:
    """Search the target's parameters on scenarios that may be tuned on, and write its file into `out`.

    Raises `UserError` where they may not, where another process works in `out`, and as `tiergym.lab.tuning.search`
    does.
    """
    specs.check_trainable(scenarios)
    budget = budget_of(scenarios, how.trials, steps)

    def prepare() -> Measure:
        machines = tuning_arena(scenarios, budget.episodes, how.seed, TUNING)
        return partial(_measure, target.spec, target.plausibility, target.digest, machines)

    asked = {
        "target": f"{target.name} {target.digest}",
        "parameters": {name: each.allowed for name, each in target.parameters.items()},
        **asked_of(scenarios, budget, how),
    }
    file = out / f"{target.name.removesuffix('_tuned')}_tuned.toml"
    with working_in(out):
        files.check_place(file)
        on_budget(budget)
        trials = search(target.parameters, target.starts, prepare, asked, how, out, on_trial, engine)
        best, fresh = best_of(trials), tuning_arena(scenarios, CHECKED, how.seed, CHECKING)
        found, untuned = (fresh.saved(target.policy(each.values)) for each in (best, trials[0]))
        tuned = Tuned(
            target.name,
            suite,
            suite_digest(scenarios),
            how,
            target.parameters,
            trials,
            trials[0],
            best,
            difference(found, untuned, how.seed),
            (mean_saved(list(found)), mean_saved(list(untuned))),
            budget,
            file,
        )
        described = {"description": f"{target.name} with what tiergym tune found on {suite}."}
        write_tuned(tuned, described | target.document(best.values))
    return tuned


def _measure(
    spec: str, plausibility: str, digest: str, machines: Arena, values: Values, number: int, report: Report
) -> tuple[float, int]:
    """A trial of a rule, in whichever process works at it: the rule is loaded there, by its spelling."""
    return mean_saved(list(machines.saved(_target(spec, plausibility, digest).policy(values)))), machines.steps


@lru_cache(maxsize=8)
def _target(spec: str, plausibility: str, digest: str) -> Target:
    target = find_target(spec, plausibility)
    if target.digest != digest:
        raise UserError(
            f"'{spec}': its digest is {target.digest[:60]} where a worker runs; allowed: {digest[:60]}, as here: the "
            "machines of a cluster need the same files"
        )
    return target


@contextmanager
def working_in(out: Path) -> Iterator[None]:
    """Hold the output folder. Raises `UserError` where it is a file, has links in it or is held by another process."""
    if out.is_file():
        raise UserError(f"cannot write into '{out}': it is a file; name a folder")
    with locked(out):
        check_plain(out)
        yield


def asked_of(scenarios: Sequence[Scenario], budget: Budget, how: Search) -> dict[str, Any]:
    """What a study must agree in to go on, whatever is tuned; more trials may be asked for."""
    return {
        "model": model_hash(),
        "scenarios": suite_digest(scenarios),
        "episodes": budget.episodes,
        "seed": how.seed,
        "sampler": how.sampler,
    }


def write_tuned(tuned: Tuned, document: Mapping[str, Any]) -> None:
    """The file, with where it comes from in its first lines."""
    how, spent = tuned.search, sum(trial.steps for trial in tuned.trials)
    lines = [
        *([how.command] if how.command else []),
        f"{tuned.suite} {tuned.suite_digest}, model {model_hash()}",
        f"study {how.study}: {len(tuned.trials)} trials ({how.sampler}, seed {how.seed}), {spent:,} simulator steps",
        f"saved of stock Linux's lost time: {tuned.best.score:.4f}, untuned {tuned.untuned.score:.4f}",
    ]
    if tuned.gain is not None:
        gain = tuned.gain
        lines.append(f"on fresh draws of the same: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")
    text = "".join(f"# {line}\n" for line in lines)
    files.write_text(tuned.file, f"{text}\n{toml_text(document)}")
