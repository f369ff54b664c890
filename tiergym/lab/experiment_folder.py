"""The folder of an experiment while it runs: what was asked for, what is finished, and whether it can go on.

A cell is one scenario, in one of its variants, with all policies. It is finished when its Parquet file is there, which
is written last and as a whole; what goes on reads it instead of running it again. On suites, `tiergym.lab.leaderboard`
keeps a file of each policy and training on each scenario instead, in the folder `CELLS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab import results, run_dir
from tiergym.lab.compare import Comparison
from tiergym.lab.experiment import Experiment, make_experiment
from tiergym.specs import Scenario, scenario_toml, suite_digest
from tiergym.trust import check_plain

EXPERIMENT, MADE_BY = "experiment.toml", "made_by.json"
RESULTS, EPISODES, PICTURE, VARIANTS_PICTURE = "results.json", "results.parquet", "comparison.png", "variants.png"
TABLES, VIEW_PICTURE = "tables.md", "picture.png"
CELLS, PROFILE = "cells", "profile.png"


def describe(out: Path, experiment: Experiment, scenarios: Sequence[Scenario]) -> None:
    """Write what was asked for, and a digest of what answers it."""
    document = {key: value for key, value in asdict(experiment).items() if value not in (None, {}, ())}
    files.write_text(out / MADE_BY, json.dumps(_made_by(experiment, scenarios), indent=2) + "\n")
    files.write_text(out / EXPERIMENT, run_dir.toml_text(document))


def reopen(folder: Path) -> Experiment:
    """The experiment that was begun in `folder`.

    Raises:
        UserError: none was, the simulator or a scenario is another one now, or there are links in the folder.
    """
    check_plain(folder)
    path = folder / EXPERIMENT
    if not path.is_file():
        raise UserError(
            f"{folder}: no {EXPERIMENT}; allowed: the folder of an experiment that was begun "
            "(one with a single training: tiergym train --resume)"
        )
    document = files.read_toml(path)
    experiment = make_experiment(str(document.pop("name", folder.name)), document, str(path))
    try:
        before = files.read_json(folder / MADE_BY)
    except UserError as error:
        raise UserError(f"{folder / MADE_BY}: missing or damaged") from error
    if before != _made_by(experiment, experiment.load_scenarios()):
        raise UserError(f"{folder}: the simulator, a scenario or a suite has changed since it was begun; run it anew")
    for name in (TABLES, PROFILE, VARIANTS_PICTURE, VIEW_PICTURE, f"{CELLS}/0.json"):
        files.check_place(folder / name)
    for place in (folder, *(folder / scenario.name for scenario in experiment.load_scenarios())):
        for name in (RESULTS, EPISODES, PICTURE):
            files.check_place(place / name)
    return experiment


def finished(folder: Path, experiment: Experiment, scenario: Scenario, policies: Sequence[str]) -> Comparison | None:
    """The comparison that is kept in a cell's folder; None where it has yet to run. Raises `UserError`."""
    path = folder / EPISODES
    if not path.is_file():
        return None
    return results.read_parquet(path, scenario, policies, experiment.episodes, experiment.seed)


def _made_by(experiment: Experiment, scenarios: Sequence[Scenario]) -> dict[str, object]:
    made_by = run_dir.versions()
    texts = {scenario.name: scenario_toml(scenario) for scenario in scenarios}
    document: dict[str, object] = {
        "simulator": made_by["simulator"],
        "layout": made_by["layout"],
        "scenarios": {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()},
    }
    if experiment.suites:
        document["suites"] = {suite.name: suite_digest(suite.load()) for suite in experiment.load_suites()}
    if experiment.train_on is not None:
        document["train_on"] = suite_digest(experiment.load_trained_on())
    return document
