"""Commands that measure policies: evaluate, compare, matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.cli import options
from tiergym.errors import UserError
from tiergym.terminal import console

if TYPE_CHECKING:
    from tiergym.lab.compare import Comparison


def evaluate(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help=f"What to evaluate: {options.POLICY_HELP}.")],
    scenario: options.Scenario = options.DEFAULT_SCENARIO,
    changes: options.Changes = None,
    episodes: options.Episodes = 32,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
    parquet: options.ParquetFile = None,
) -> None:
    """Run one policy on fresh machines and print what it did.

    Every metric is a mean over episodes with its 95 % bootstrap interval; docs/reference/metrics.md explains each.
    """
    comparison = _compare([policy], scenario, changes, episodes, seed, (json, parquet))
    from tiergym.lab import tables

    console().print(tables.metrics_table(comparison, policy))
    _write(comparison, json, parquet)


def compare(
    policies: Annotated[
        str, typer.Option(metavar="A,B,...", help=f"Policies, separated by commas; each is {options.POLICY_HELP}.")
    ],
    scenario: options.Scenario = options.DEFAULT_SCENARIO,
    plausibility: options.Plausibility = None,
    changes: options.Changes = None,
    episodes: options.Episodes = 32,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
    parquet: options.ParquetFile = None,
    png: options.PictureFile = None,
) -> None:
    """Run several policies on the same machines and print them side by side, best return first.

    The machines and their workloads are the same for every policy, so differences are paired by episode.
    """
    named, outputs = options.names(policies, "--policies"), (json, parquet, png)
    comparison = _compare(named, scenario, changes, episodes, seed, outputs, plausibility)
    from tiergym.lab import plots, tables

    console().print(tables.comparison_report(comparison))
    _write(comparison, json, parquet)
    if png is not None:
        plots.write_comparison_png(png, comparison)


def matrix(
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="Scenarios of a suite (envs/suites).")] = None,
    scenarios: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Scenarios, separated by commas. Default: all.")
    ] = None,
    policies: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Policies, separated by commas. Default: all baselines.")
    ] = None,
    plausibility: options.Plausibility = None,
    changes: options.Changes = None,
    episodes: options.Episodes = 8,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
    parquet: options.ParquetFile = None,
) -> None:
    """Run every policy on every scenario: a table of mean throughput, one of mean return, and the overall means."""
    if suite is not None and scenarios is not None:
        raise UserError("--suite and --scenarios were both given; allowed: one of them")
    options.check_outputs(json, parquet)
    from tiergym import specs
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab import results, tables
    from tiergym.lab.compare import compare as compare_policies
    from tiergym.policy.load import list_policies

    if suite is not None:
        chosen = list(specs.load_suite(suite))
    else:
        chosen = list(specs.list_scenarios()) if scenarios is None else options.names(scenarios, "--scenarios")
    loaded = options.load_scenarios(chosen, changes)
    if len({scenario.name for scenario in loaded}) < len(loaded):
        raise UserError(f"two of the scenarios have one name: {', '.join(chosen)}; allowed: different names")
    named = list_policies() if policies is None else options.names(policies, "--policies")
    runs = options.load_policies(named, plausibility)
    comparisons = []
    for scenario in loaded:
        with episode_progress(scenario.name) as on_episodes:
            comparisons.append(compare_policies(runs, scenario, episodes, seed, on_episodes))
    out = console()
    for metric in ("throughput", "return"):
        out.print(tables.matrix_table(comparisons, metric))
    out.print(tables.overall_table(comparisons, "throughput"))
    if json is not None:
        results.write_json(json, results.matrix_json(comparisons))
    if parquet is not None:
        results.write_parquet(parquet, comparisons)


def bound(
    scenario: options.Scenario = options.DEFAULT_SCENARIO,
    changes: options.Changes = None,
    episodes: Annotated[
        int, typer.Option(min=1, max=64, help="Machines that every candidate runs on, drawn from the scenario.")
    ] = 8,
    seed: options.Seed = 0,
    pieces: Annotated[int, typer.Option(min=1, max=64, help="Pieces of the plan, equally long.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds of each search.")] = 10,
    out: Annotated[
        Path | None, typer.Option(metavar="PLAN.json", help="Write the plan; `tiergym evaluate PLAN.json` replays it.")
    ] = None,
) -> None:
    """Search the best constant action, and the best plan for these very episodes: what is there to be won?

    The plan is clairvoyant, so its return bounds from below what is possible on these machines. Its gain over the best
    constant is what reacting within an episode can bring.

    Example: tiergym bound --scenario sparse-1to2 --out plan.json
    """
    options.check_outputs(out)
    if out is not None and out.suffix != ".json":
        raise UserError(f"cannot write '{out}': a plan's file ends in .json")
    (loaded,) = options.load_scenarios([scenario], changes)
    from tiergym.cli.progress_bars import round_progress
    from tiergym.lab import tables
    from tiergym.lab.bound import bound as search
    from tiergym.policy.plan import write_plan

    with round_progress(2 * rounds) as on_round:
        found = search(loaded, episodes, seed, pieces, rounds, on_round)
    console().print(tables.bound_table(found))
    if out is not None:
        about = {
            "changes": loaded.changes,
            "seed": seed,
            "episodes": episodes,
            "return": found.plan_return,
            "best_constant_return": found.constant_return,
        }
        write_plan(out, found.plan, about)
        console().print(f"{out}: replay it with: tiergym evaluate {out} --scenario {scenario} --seed {seed}")


def ladder(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="The scenarios: a suite of envs/suites, or its file.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept; goes on with what is there.")],
    tuning: Annotated[
        str, typer.Option(metavar="SUITE", help="The scenarios that One, the constant for all, is searched on.")
    ] = "tuning",
    policy: Annotated[
        str | None, typer.Option(metavar="POLICY", help="A learned policy, for the rung A: a run directory or a file.")
    ] = None,
    changes: options.Changes = None,
    episodes: Annotated[int, typer.Option(min=1, max=64, help="Machines per scenario.")] = 4,
    seed: options.Seed = 0,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds of each search.")] = 10,
) -> None:
    """How much of what could be won do constants, rules and a learned policy win, against a clairvoyant plan?

    One is the constant that is best over the tuning suite, H the best rule, Ci the best constant of each scenario, P
    the best plan for its very episodes. An interrupted ladder goes on where it stopped.

    Example: tiergym ladder heldout --out runs/ladder
    """
    from tiergym import specs
    from tiergym.lab import tables
    from tiergym.lab.ladder import ladder as climb
    from tiergym.policy.load import list_policies, load_policy

    if out.is_file():
        raise UserError(f"cannot write into '{out}': it is a file; name a folder")
    chosen = options.load_scenarios(specs.load_suite(suite), changes)
    tuned = options.load_scenarios(specs.load_suite(tuning), changes)
    rules = {name: load_policy(name) for name in list_policies() if name != "random"}
    learned = None if policy is None else load_policy(policy)
    err = console(stderr=True)

    def tell(name: str, kept: bool) -> None:
        err.print(f"{name}: {'kept from before' if kept else 'done'}", style="dim", highlight=False)

    rungs = climb(chosen, tuned, rules, out, episodes, seed, learned, rounds, tell)
    console().print(tables.ladder_table(rungs))


def _compare(
    policies: list[str],
    scenario: str,
    changes: list[str] | None,
    episodes: int,
    seed: int,
    outputs: tuple[Path | None, ...],
    plausibility: options.Plausible | None = None,
) -> Comparison:
    """Check every input, then evaluate."""
    options.check_outputs(*outputs)
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab.compare import compare as compare_policies

    (loaded,), runs = options.load_scenarios([scenario], changes), options.load_policies(policies, plausibility)
    with episode_progress() as on_episodes:
        return compare_policies(runs, loaded, episodes, seed, on_episodes)


def _write(comparison: Comparison, json: Path | None, parquet: Path | None) -> None:
    from tiergym.lab import results

    if json is not None:
        results.write_json(json, results.comparison_json(comparison))
    if parquet is not None:
        results.write_parquet(parquet, [comparison])
