"""Commands that look around: scenarios, agents, doctor, bench."""

from __future__ import annotations

from typing import Annotated

import typer

from tiergym.cli import options
from tiergym.terminal import console, listing

scenarios = typer.Typer(
    help="List machines, workloads, scenarios and suites; `scenarios show NAME` prints a complete TOML to start from.",
    invoke_without_command=True,
)


@scenarios.callback()
def list_all(context: typer.Context) -> None:
    """List machines, workloads, scenarios and suites; `scenarios show NAME` prints a complete TOML to start from."""
    if context.invoked_subcommand is not None:
        return
    from tiergym import specs

    out = console()
    for kind, presets in (
        ("machines", specs.list_machines()),
        ("workloads", specs.list_workloads()),
        ("scenarios", specs.list_scenarios()),
        ("suites", specs.list_suites()),
    ):
        out.print(listing(kind, {name: specs.describe(kind, name) for name in presets}))


@scenarios.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE.toml", help="A scenario, as `tiergym scenarios` lists it.")],
    changes: options.Changes = None,
) -> None:
    """Print a scenario with every number it uses: save it as a file, change it, and name the file.

    Example: tiergym scenarios show llama-1to2 > mine.toml; tiergym compare --scenario mine.toml --policies online,soft
    """
    from tiergym.specs import scenario_toml

    (scenario,) = options.load_scenarios([name], changes)
    print(scenario_toml(scenario), end="")


def agents(plausibility: options.Plausibility = None) -> None:
    """List the policies that every command takes by name, and the recipes that can be trained.

    A policy is as plausible as the least plausible mode that it may choose (docs/reference/actions.md).
    """
    from tiergym.lab.recipe import list_recipes
    from tiergym.policy.load import list_policies, shipped_plausibility

    out = console()
    policies = {
        name: f"{word}: {text}"
        for name, text in list_policies().items()
        if options.allowed(word := shipped_plausibility(name), plausibility)
    }
    out.print(listing("policies (evaluate, compare, matrix), by their plausibility", policies))
    if options.allowed("counterfactual", plausibility):  # a trained policy may choose any mode
        out.print(listing("recipes (train --agent)", list_recipes()))
    out.print(f"Also a policy: {options.POLICY_HELP.partition(', ')[2]}.")


def doctor() -> None:
    """Say what is installed and whether it works, by running it. Exits with 1 if something is broken."""
    from tiergym.cli.doctor import examine, report

    findings = examine()
    console().print(report(findings))
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def bench(
    repetitions: Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Each row once; no curves, no counted instructions.")] = False,
    json: options.JsonFile = None,
) -> None:
    """Measure the speed: simulator, environments, learner, start-up, other environments. Ratios of the same run.

    Close other programs first; a quarter of an hour on 2 cores. Make a page of the JSON:
    python -m tiergym.bench.performance_page bench.json > performance.md
    """
    options.check_outputs(json)
    from tiergym.bench import benchmark
    from tiergym.lab import results

    err = console(stderr=True)
    measured = benchmark.bench(repetitions, quick, lambda name: err.print(f"measuring: {name}", style="dim"))
    console().print(benchmark.report(measured))
    if json is not None:
        results.write_json(json, benchmark.document(measured))
