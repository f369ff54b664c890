"""From tables to verdicts: every row's runs are made once, measured, and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario, override
from tiergym.validation.published.judge import SUMMARIES
from tiergym.validation.published.measures import MEASURES
from tiergym.validation.published.published_table import Experiment, Row, Summary, Variant
from tiergym.validation.published.running import Run, run

MET, MISSED, FITTED, SHOWN = "met", "MISSED", "fitted", "shown"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table: a row or a summary of an experiment, and what the simulator says."""

    name: str
    measure: str
    low: float
    high: float
    simulated: float
    tolerance: str
    verdict: str


class Runs:
    """The runs of one experiment, each made once: rows share what they have in common."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._done: dict[str, Run] = {}

    def of(self, row: Row, variant: Variant) -> Run:
        """The run of a row's scenario with its changes and a variant's. Raises `UserError`."""
        changes = deepcopy({**row.changes, **variant.changes})
        key = repr((str(row.scenario), variant.policy, sorted(changes.items())))
        if key not in self._done:
            scenario = override(load_scenario(row.scenario), changes)
            policy = load_policy(variant.policy)
            self._done[key] = run(scenario, policy, self._experiment.episodes, self._experiment.from_s)
        return self._done[key]


def simulate(row: Row, runs: Runs) -> float:
    """The row's number: its measure, over the same measure of the variant that it is relative to."""
    value = MEASURES[row.measure].value
    number = value(runs.of(row, row.variant), row.region)
    return number if row.over is None else number / value(runs.of(row, row.over), row.region)


def summarise(summary: Summary, rows: Sequence[tuple[Row, float]], runs: Runs) -> float:
    """The judgement over the experiment's rows of the summary's measure that are not fitted."""
    chosen = [(row, simulated) for row, simulated in rows if row.measure == summary.measure and not row.fitted]
    x = [MEASURES[summary.x].value(runs.of(row, row.variant), summary.region) for row, _ in chosen] if summary.x else []
    published = np.array([(row.low + row.high) / 2 for row, _ in chosen])
    return SUMMARIES[summary.of](published, np.array([simulated for _, simulated in chosen]), np.array(x))


def results_of(experiment: Experiment) -> list[Result]:
    """Every row, then every summary. Raises `UserError` where a scenario cannot be simulated."""
    runs = Runs(experiment)
    rows = [(row, simulate(row, runs)) for row in experiment.rows]
    lines = []
    for row, simulated in rows:
        verdict = FITTED if row.fitted else SHOWN
        if row.tolerance is not None:
            verdict = MET if row.tolerance.met(simulated, row.low, row.high) else MISSED
        words = row.tolerance.words() if row.tolerance is not None else ""
        lines.append(Result(row.name, row.measure, row.low, row.high, simulated, words, verdict))
    for summary in experiment.summaries:
        simulated = summarise(summary, rows, runs)
        verdict = MET if summary.tolerance.met(simulated, summary.low, summary.high) else MISSED
        lines.append(
            Result(summary.name, summary.of, summary.low, summary.high, simulated, summary.tolerance.words(), verdict)
        )
    return lines


def validate(
    experiments: Sequence[Experiment], on_experiment: Callable[[str], None] | None = None
) -> dict[Experiment, list[Result]]:
    """The lines of every test, in order; `on_experiment` hears each test's name before it is run."""
    out = {}
    for experiment in experiments:
        if on_experiment is not None:
            on_experiment(f"{experiment.id}: {experiment.title}")
        out[experiment] = results_of(experiment)
    return out
