"""Commands that measure policies: evaluate, compare, matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.cli import completion, options
from tiergym.errors import UserError
from tiergym.terminal import console, say

if TYPE_CHECKING:
    from tiergym import specs
    from tiergym.lab.bound import Bound
    from tiergym.lab.compare import Comparison
    from tiergym.lab.suite_comparison import SuiteComparison


def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY",
            help=f"What to evaluate: {options.POLICY_HELP}.",
            autocompletion=completion.policies,
        ),
    ],
    scenario: options.OptionalScenario = None,
    suite: options.SuiteNames = None,
    changes: options.Changes = None,
    episodes: options.Episodes = 32,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
    parquet: options.ParquetFile = None,
    trust: options.TrustArchive = False,
    wide: options.Wide = False,
) -> None:
    """Run one policy on fresh machines and print what came of it, and what it did.

    Every metric is a mean over episodes with its 95 % bootstrap interval; docs/reference/metrics.md explains each. On
    suites: what it saves of stock Linux's loss, over all and on each scenario.
    """
    if suite is not None:
        _compare_suites([policy], scenario, suite, changes, episodes, seed, (json, parquet, None), trust=trust)
        return
    comparison = _compare([policy], scenario, changes, episodes, seed, (json, parquet, None), trust=trust)
    from tiergym.lab import tables

    out = console()
    out.print(tables.metrics_table(comparison, policy, every=wide))
    out.print(tables.modes_table(comparison, policy, every=wide))
    if not wide:
        out.print("every metric, every entry: --wide", highlight=False)
    _write(comparison, json, parquet)


def compare(
    policies: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help=f"Policies, separated by commas; each is {options.POLICY_HELP}.",
            autocompletion=completion.several_policies,
        ),
    ],
    scenario: options.OptionalScenario = None,
    suite: options.SuiteNames = None,
    plausibility: options.Plausibility = None,
    changes: options.Changes = None,
    episodes: options.Episodes = 32,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
    parquet: options.ParquetFile = None,
    png: options.PictureFile = None,
    wide: options.Wide = False,
) -> None:
    """Run several policies on the same machines and print them side by side, best return first.

    The machines and their workloads are the same for every policy, so differences are paired by episode. On suites:
    what each saves of stock Linux's loss, over all scenarios and on each; --png draws performance profiles.

    Example: tiergym compare --suite test --policies restrict,selector --episodes 4 --json test.json
    """
    named, outputs = options.names(policies, "--policies"), (json, parquet, png)
    if suite is not None:
        _compare_suites(named, scenario, suite, changes, episodes, seed, outputs, plausibility)
        return
    comparison = _compare(named, scenario, changes, episodes, seed, outputs, plausibility)
    from tiergym.lab import plots, tables

    out = console()
    out.print(tables.comparison_report(comparison, wide=wide))
    if not wide:
        out.print("lost time by cause, pages, the worst tenth and more: --wide", highlight=False)
    _write(comparison, json, parquet)
    if png is not None:
        plots.write_comparison_png(png, comparison)


def matrix(
    suite: options.SuiteNames = None,
    scenarios: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Scenarios, separated by commas. Default: all.",
            autocompletion=completion.several_scenarios,
        ),
    ] = None,
    policies: options.Policies = None,
    plausibility: options.Plausibility = None,
    changes: options.Changes = None,
    episodes: options.Episodes = 8,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
    parquet: options.ParquetFile = None,
    wide: options.Wide = False,
) -> None:
    """Run every policy on every scenario: per scenario the best, and the overall means.

    With --wide a table of mean throughput and one of mean return, scenarios by policies.
    """
    if suite is not None and scenarios is not None:
        raise UserError("--suite and --scenarios were both given; allowed: one of them")
    if suite is not None:
        named = None if policies is None else options.names(policies, "--policies")
        found = _compare_suites(named, None, suite, changes, episodes, seed, (json, parquet, None), plausibility)
        _print_matrix(list(found.comparisons.values()), wide=wide)
        return
    options.check_outputs(json, parquet=parquet)
    from tiergym import specs
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab import results
    from tiergym.lab.compare import compare as compare_policies
    from tiergym.policy.load import list_policies

    chosen = list(specs.list_scenarios()) if scenarios is None else options.names(scenarios, "--scenarios")
    loaded = options.load_scenarios(chosen, changes)
    titles = [scenario.name for scenario in loaded]
    if len(set(titles)) < len(titles):
        raise UserError(f"two of the scenarios have one name: {', '.join(titles)}; allowed: different names")
    runs = options.load_policies(
        list_policies() if policies is None else options.names(policies, "--policies"), plausibility
    )
    comparisons = []
    for place, scenario in enumerate(loaded, 1):
        with episode_progress(f"{scenario.name} ({place} of {len(loaded)})") as on_episodes:
            comparisons.append(compare_policies(runs, scenario, episodes, seed, on_episodes))
    _print_matrix(comparisons, wide=wide)
    if json is not None:
        results.write_json(json, results.matrix_json(comparisons))
    if parquet is not None:
        results.write_parquet(parquet, comparisons)


def bound(
    scenario: options.OptionalScenario = None,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="All scenarios of a suite.", autocompletion=completion.suites),
    ] = None,
    changes: options.Changes = None,
    episodes: Annotated[
        int, typer.Option(min=1, max=64, help="Machines that every candidate runs on, drawn from the scenario.")
    ] = 8,
    seed: options.Seed = 0,
    pieces: Annotated[int, typer.Option(min=1, max=64, help="Pieces of the plan, equally long.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds of each search.")] = 10,
    plausibility: Annotated[
        options.Plausible,
        typer.Option(
            metavar="WORD", help="Leave out modes that are less plausible: available, proposed or counterfactual."
        ),
    ] = options.Plausible.COUNTERFACTUAL,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENTRY[=MODE,...]",
            help="Only this entry varies, among its default and these modes (default: all); again for another.",
        ),
    ] = None,
    json: options.JsonFile = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN.json|DIR",
            help="Write the plan, or of a suite one for each scenario; `tiergym evaluate PLAN.json` replays it.",
        ),
    ] = None,
) -> None:
    """Search the best constant action, and the best plan for these very episodes: what is there to be won?

    The plan is clairvoyant, so its return bounds from below what is possible on these machines. Its gain over the best
    constant is what reacting within an episode can bring. `relaxed` bounds every policy from above: all kernel pages
    and the hottest data in DRAM for nothing.

    Example: tiergym bound --scenario sparse-1to2 --out plan.json
    """
    if scenario is not None and suite is not None:
        raise UserError("--suite and --scenario were both given; allowed: one of them")
    options.check_outputs(json, out if suite is None else None)
    if out is not None and suite is None and out.suffix != ".json":
        raise UserError(f"cannot write '{out}': a plan's file ends in .json")
    if out is not None and suite is not None and (out.is_file() or out.suffix == ".json"):
        raise UserError(f"cannot write into '{out}': of a suite there are many plans; name a folder")
    if suite is None:
        loaded = options.load_scenarios([scenario or options.DEFAULT_SCENARIO], changes)
    else:
        loaded = options.changed(options.load_suite(suite).load(), changes)
    from tiergym.cli.progress_bars import round_progress
    from tiergym.lab import results, tables
    from tiergym.lab.bound import bound as search
    from tiergym.lab.bound import varying

    allowed = None if vary is None else varying(dict(map(_entry, vary)), source="--vary")
    found = []
    for each in loaded:
        with round_progress(2 * rounds) as on_round:
            found.append(search(each, episodes, seed, pieces, rounds, on_round, plausibility.value, allowed))
        if out is not None and suite is not None:
            _write_plan(out / f"{each.name}.json", found[-1], each, each.name)
    console().print(tables.bound_table(found[0]) if suite is None else tables.bounds_table(found, suite))
    if out is not None and suite is None:
        _write_plan(out, found[0], loaded[0], scenario or options.DEFAULT_SCENARIO)
    if json is not None:
        documents = [results.bound_json(each, of) for each, of in zip(found, loaded, strict=True)]
        results.write_json(json, documents[0] if suite is None else results.bounds_json(documents, suite))


def _write_plan(path: Path, found: Bound, scenario: specs.Scenario, called: str) -> None:
    """The plan, and how to replay it on the scenario that was `called` so."""
    from tiergym.policy.plan import write_plan

    about = {
        "changes": scenario.changes,
        "seed": found.seed,
        "episodes": found.episodes,
        "return": found.plan_return,
        "best_constant_return": found.constant_return,
        "relaxed_return": found.relaxed_return,
    }
    write_plan(path, found.plan, about)
    say(f"{path}: replay it with: tiergym evaluate {path} --scenario {called} --seed {found.seed}")


def _compare(
    policies: list[str],
    scenario: str | None,
    changes: list[str] | None,
    episodes: int,
    seed: int,
    outputs: tuple[Path | None, Path | None, Path | None],
    plausibility: options.Plausible | None = None,
    trust: bool = False,
) -> Comparison:
    """Check every input, then evaluate. `outputs`: JSON, Parquet, picture."""
    json, parquet, png = outputs
    options.check_outputs(json, parquet=parquet, picture=png)
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab.compare import compare as compare_policies

    (loaded,) = options.load_scenarios([scenario or options.DEFAULT_SCENARIO], changes)
    runs = options.load_policies(policies, plausibility, trust=trust)
    with episode_progress() as on_episodes:
        return compare_policies(runs, loaded, episodes, seed, on_episodes)


def _compare_suites(
    policies: list[str] | None,
    scenario: str | None,
    suites: list[str],
    changes: list[str] | None,
    episodes: int,
    seed: int,
    outputs: tuple[Path | None, Path | None, Path | None],
    plausibility: options.Plausible | None = None,
    *,
    trust: bool = False,
) -> SuiteComparison:
    """Check every input, evaluate, print per suite and write the files. Without `policies`, all baselines."""
    if scenario is not None:
        raise UserError("--suite and --scenario were both given; allowed: one of them")
    json, parquet, png = outputs
    options.check_outputs(json, parquet=parquet, picture=png)
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab import leaderboard_page, results, tables
    from tiergym.lab.compare import REFERENCE
    from tiergym.lab.suite_comparison import compare_suites, load_members
    from tiergym.policy.load import list_policies
    from tiergym.specs import read_assignments

    loaded, assigned = [options.load_suite(name) for name in suites], read_assignments(changes or [], options.SET)
    members = load_members(loaded, assigned, f"with {options.SET}")
    named = [*(policies or list_policies()), REFERENCE]
    runs = options.load_policies(dict.fromkeys(named), plausibility, trust=trust)
    found = compare_suites(loaded, members, runs, assigned, episodes, seed, episode_progress)
    out = console()
    for suite in members:
        out.print(leaderboard_page.terminal_table(found.board, suite))
        out.print(tables.saved_table(found, suite))
    if json is not None:
        results.write_json(json, found.document())
    if parquet is not None:
        results.write_parquet(parquet, list(found.comparisons.values()))
    if png is not None:
        leaderboard_page.write_profile_png(png, found.board)
    return found


def _print_matrix(comparisons: list[Comparison], *, wide: bool) -> None:
    from tiergym.lab import tables

    out = console()
    for metric in ("throughput", "return"):
        out.print((tables.matrix_table if wide else tables.best_table)(comparisons, metric))
    out.print(tables.overall_table(comparisons, "throughput"))


def _entry(text: str) -> tuple[str, list[str]]:
    """`--vary`'s ENTRY[=MODE,...]."""
    name, equals, modes = text.partition("=")
    return name.strip(), options.names(modes, "--vary") if equals else []


def _write(comparison: Comparison, json: Path | None, parquet: Path | None) -> None:
    from tiergym.lab import results

    if json is not None:
        results.write_json(json, results.comparison_json(comparison))
    if parquet is not None:
        results.write_parquet(parquet, [comparison])
