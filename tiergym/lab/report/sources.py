"""What `tiergym report` takes: a results file, an experiment's folder, a training run's folder, a suite.

Files and experiments are read. Of a training run and of a suite policies are measured here, as `tiergym compare` does.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiergym import files
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab import experiment_folder, results, run_dir
from tiergym.lab.compare import REFERENCE, OnEpisodes, base_name, compare
from tiergym.lab.report import training
from tiergym.lab.report.parts import Entry, Part, Replayable, Standing, SuitePart
from tiergym.lab.report.results_reading import check_alike, read_part
from tiergym.lab.suite_comparison import compare_suites, load_members, rows_of
from tiergym.lab.suite_rows import ABOVE, INTERVALS, Row, profile
from tiergym.policy.load import EXPORTED, load_policy
from tiergym.specs import Scenario, load_scenario, load_suite, override, suite_digest
from tiergym.specs.writing import value_toml
from tiergym.trust import check_plain

if TYPE_CHECKING:
    from tiergym.lab.experiment import Experiment
    from tiergym.policy.base import Policy

OVER_ALL = "all scenarios"
"""Of what is no suite: the name of the rows over all of its scenarios."""
OTHER_MODEL = "These results are of another model ({}; here is {}): they are shown as they are, nothing is replayed."
NO_MODEL = "These results do not say of which model they are: they are shown as they are, nothing is replayed."

Progress = Callable[[str], AbstractContextManager[OnEpisodes | None]]


@dataclass(frozen=True)
class Asked:
    """How a training run or a suite is measured; `trust`: whether Python code may run that results name."""

    policies: Sequence[str]
    episodes: int
    seed: int
    trust: bool = False
    progress: Progress = lambda scenario: nullcontext()


def read_source(source: str, asked: Asked) -> Part:
    """The part of what is named. Raises `UserError` where there is none such, and for a malformed file."""
    path = Path(source)
    if files.is_dir(path):
        if (path / experiment_folder.EXPERIMENT).is_file() or (path / experiment_folder.RESULTS).is_file():
            return _experiment(path, source, asked)
        if (path / run_dir.CONFIG).is_file():
            return _run(path, source, asked)
        raise UserError(
            f"{source}: neither {experiment_folder.RESULTS} nor {run_dir.CONFIG}; allowed: a folder of run or train"
        )
    if path.suffix == ".json":
        return _file(path, source, asked)
    return _suite(source, asked)


def _file(path: Path, source: str, asked: Asked) -> Part:
    document = files.read_json(path)
    part = _of_this_model(read_part(document, source))
    facts = {"file of": _date(path)}
    commands = [
        *_commands(part),
        *([] if part.kind in ("ladder", "networks") else [f"tiergym verify {shlex.quote(source)}"]),
    ]
    spelled = _spelled(document) if part.kind == "leaderboard" else {}
    loaded = Replayable(
        lambda name, scenario: load_policy(spelled.get(name, name), "" if asked.trust else source),
        lambda entry: _named_scenario(entry, part.suites),
    )
    return replace(part, facts=facts, commands=commands, replayable=_replayable(part, loaded))


def _experiment(folder: Path, source: str, asked: Asked) -> Part:
    check_plain(folder)
    top = folder / experiment_folder.RESULTS
    found = [top] if top.is_file() else sorted(folder.glob(f"*/{experiment_folder.RESULTS}"))
    if not found:
        raise UserError(f"{source}: no {experiment_folder.RESULTS} yet; allowed: an experiment with one scenario done")
    read = [read_part(files.read_json(path), str(path)) for path in found]
    again = f"tiergym run {shlex.quote(source)}/experiment.toml"
    if read[0].kind == "leaderboard":  # it is on suites
        return replace(_file(top, source, asked), commands=[again, f"tiergym verify {shlex.quote(str(top))}"])
    entries = [entry for each in read for entry in each.entries]
    if not entries:
        raise UserError(f"{found[0]}: a {read[0].kind}; allowed: what an experiment wrote")
    check_alike(entries, source)
    part = _of_this_model(replace(read[0], source=source, kind="experiment", entries=entries))
    if not top.is_file():
        part.warnings.append(f"The experiment is not finished: {len(found)} of its scenarios are here.")
    part = replace(part, facts={"results of": _date(found[0])}, commands=[again])
    cells = sorted(folder.rglob(experiment_folder.EPISODES))
    if cells and REFERENCE in part.policies():
        rows, scores = rows_of(results.read_cells(cells, part.policies(), part.seed, part.episodes), part.seed)
        part = replace(part, above=ABOVE.tolist(), suites=[_rows_part(OVER_ALL, rows, profile(scores))])
    if (folder / run_dir.CONFIG).is_file():
        part = replace(part, training=training.read_training(folder))
    return replace(part, replayable=_replayable(part, _of_experiment(folder, asked)))


def _of_experiment(folder: Path, asked: Asked) -> Replayable:
    def reopened() -> Experiment:
        return experiment_folder.reopen(folder)

    def policy(name: str, scenario: str) -> Policy:
        experiment = reopened()
        if name in (rules := experiment.load_policies(asked.trust)):
            return rules[name]
        for run in (folder, *(folder / f"{name}-{scenario}-{seed}" for seed in experiment.training_seeds)):
            if (run / EXPORTED).is_file():
                return load_policy(run)
        raise UserError(f"{folder}: no {EXPORTED} of {name}")

    def scenario(entry: Entry) -> Scenario:
        for each in reopened().load_scenarios():
            if each.name == entry.scenario:
                return each
        raise UserError(f"{folder}: its experiment has no scenario {entry.scenario}")

    return Replayable(policy, scenario)


def _run(folder: Path, source: str, asked: Asked) -> Part:
    config, trained = run_dir.read(folder), training.read_training(folder)
    paths = ",".join(shlex.quote(str(folder / run_dir.SCENARIOS / f"{name}.toml")) for name in config.scenarios)
    agent = f"--agent {shlex.quote(config.recipe.name)} --steps {config.recipe.steps}"
    commands = [f"tiergym train {agent} --scenario {paths} --seed {config.seed}"]
    about = Part(source, "training run", training=trained, commands=commands)
    try:
        same = run_dir.check_versions(folder)
        learned = load_policy(folder)
        scenarios = run_dir.load_scenarios(folder, config)
    except UserError as error:
        about.warnings.append(f"Not measured: {error}")
        return about
    if not same:
        about.warnings.append("It was trained on another model than the one here, on which it is measured below.")
    name = learned.name if learned.name not in asked.policies else f"{learned.name} (trained)"
    policies = {name: [learned]} | {each: [load_policy(each)] for each in (*asked.policies, REFERENCE)}
    comparisons = []
    for scenario in scenarios:
        with asked.progress(scenario.name) as on_episodes:
            comparisons.append(compare(policies, scenario, asked.episodes, asked.seed, on_episodes))
    part = read_part(results.matrix_json(comparisons), source)
    rows, scores = rows_of(comparisons, asked.seed)
    over_all = _rows_part(OVER_ALL, rows, profile(scores), suite_digest(scenarios))
    by_name = {scenario.name: scenario for scenario in scenarios}
    return replace(
        part,
        kind=about.kind,
        training=trained,
        above=ABOVE.tolist(),
        suites=[over_all],
        commands=[*commands, _measured_again(source, asked)],
        warnings=about.warnings,
        replayable=Replayable(lambda each, _: policies[each][0], lambda entry: by_name[entry.scenario], name),
    )


def _suite(source: str, asked: Asked) -> Part:
    try:
        suite = load_suite(source)
    except UserError as error:
        raise UserError(f"{error}; also allowed: a folder of run or train, a .json file of results") from error
    members = load_members([suite], {}, source)
    policies = {name: [load_policy(name)] for name in dict.fromkeys((*asked.policies, REFERENCE))}
    found = compare_suites([suite], members, policies, {}, asked.episodes, asked.seed, asked.progress)
    part = read_part(found.document(), source)
    by_name = {scenario.name: scenario for scenario in members[suite.name]}
    return replace(
        part,
        kind="suite",
        suites=[_without_times(each) for each in part.suites],
        facts={"suite": suite.description} if suite.description else {},
        commands=[_measured_again(source, asked)],
        replayable=Replayable(lambda each, _: policies[each][0], lambda entry: by_name[entry.scenario]),
    )


def _rows_part(name: str, rows: Mapping[str, Row], shares: dict[str, list[float]], digest: str = "") -> SuitePart:
    standings = {
        policy: Standing({each: getattr(row, each) for each in INTERVALS}, row.gap, None)
        for policy, row in rows.items()
    }
    return SuitePart(name, "", digest, standings, shares)


def _without_times(suite: SuitePart) -> SuitePart:
    """What a page must not depend on: how fast this machine was just now."""
    return replace(suite, rows={name: replace(row, decision_us=None) for name, row in suite.rows.items()})


def _of_this_model(part: Part) -> Part:
    here = model_hash()
    if part.model != here:
        part.warnings.append(OTHER_MODEL.format(part.model, here) if part.model else NO_MODEL)
    return part


def _replayable(part: Part, loaded: Replayable) -> Replayable | None:
    return loaded if part.model == model_hash() else None


def _named_scenario(entry: Entry, suites: Sequence[SuitePart]) -> Scenario:
    for suite in suites:
        for scenario in load_suite(suite.spec).load() if suite.spec else ():
            if scenario.name == entry.scenario:
                return override(scenario, entry.changes) if entry.changes else scenario
    loaded = load_scenario(base_name(entry.scenario, entry.variant))
    return override(loaded, entry.changes) if entry.changes else loaded


def _spelled(board: Any) -> dict[str, str]:
    """By the names of a leaderboard's policies, how the first run of each is spelled."""
    return {
        name: runs[0]["spec"]
        for name, runs in board.get("policies", {}).items()
        if runs and isinstance(runs[0].get("spec"), str)
    }


def _commands(part: Part) -> list[str]:
    """What made a file of results, as far as it says so."""
    policies = shlex.quote(",".join(part.policies()))
    numbers = f"--episodes {part.episodes} --seed {part.seed}"
    if part.kind == "leaderboard":
        suites = " ".join(shlex.quote(suite.spec or suite.name) for suite in part.suites)
        against = shlex.quote(part.against)
        asked = f"--policies {policies} --against {against} {numbers}"
        return [f"tiergym leaderboard {suites} {asked} --out DIR --json FILE.json"]
    if part.kind == "ladder":
        return [f"tiergym ladder {' '.join(map(shlex.quote, part.ladders))} --out DIR --json FILE.json"]
    if part.networks:
        suites, counts = " ".join(map(shlex.quote, part.networks)), {each.count for each in part.networks.values()}
        return [f"tiergym networks {suites} --count {max(counts)} --seed {part.seed} --out DIR --json FILE.json"]
    if part.suites:
        named = " ".join(f"--suite {shlex.quote(suite.spec)}" for suite in part.suites)
        changes = _set(part.entries[0].changes)
        return [f"tiergym compare {named} --policies {policies} {changes}{numbers} --json FILE.json"]
    if any(entry.variant for entry in part.entries):
        return []
    changes = _set(part.entries[0].changes)
    names = shlex.quote(",".join(entry.scenario for entry in part.entries))
    command = f"compare --scenario {names}" if part.kind == "comparison" else f"matrix --scenarios {names}"
    return [f"tiergym {command} --policies {policies} {changes}{numbers} --json FILE.json"]


def _set(changes: Mapping[str, Any]) -> str:
    return "".join(f"--set {shlex.quote(f'{field}={value_toml(value)}')} " for field, value in changes.items())


def _measured_again(source: str, asked: Asked) -> str:
    policies = shlex.quote(",".join(asked.policies))
    return f"tiergym report {shlex.quote(source)} --policies {policies} --episodes {asked.episodes} --seed {asked.seed}"


def _date(path: Path) -> str:
    return f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}"
