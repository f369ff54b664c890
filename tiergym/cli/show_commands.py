"""Commands that look around: scenarios, agents, doctor, bench."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiergym.cli import completion, options
from tiergym.cli.command import Commands
from tiergym.errors import UserError, suggest
from tiergym.terminal import console, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1


class Kind(Enum):
    """What `tiergym scenarios` lists."""

    MACHINES = "machines"
    KERNELS = "kernels"
    WORKLOADS = "workloads"
    SCENARIOS = "scenarios"
    SUITES = "suites"
    FAMILIES = "families"


KindAsked = Annotated[
    Kind | None,
    typer.Option(metavar="KIND", help="Machines, kernels, workloads, scenarios, suites, or families by their axes."),
]

scenarios = Commands(
    help="List machines, kernels, workloads, scenarios, suites; `scenarios show NAME` prints a TOML to start from.",
    invoke_without_command=True,
)


@scenarios.callback()
def list_all(
    context: typer.Context, kind: KindAsked = None, json: options.JsonFile = None, wide: options.Wide = False
) -> None:
    """List machines, kernels, workloads, scenarios, suites; `scenarios show NAME` prints a TOML to start from.

    The families, of which there are thousands, are listed by `--kind families`.
    """
    if context.invoked_subcommand is not None:
        return
    options.check_outputs(json)
    listed = {each.value: _described(each) for each in Kind if each is kind or (kind is None and each != Kind.FAMILIES)}
    out = console()
    for title, rows in listed.items():
        out.print(listing(title, rows, wide=wide))
    if not wide and kind is not Kind.FAMILIES:
        out.print("whole descriptions: --wide; all of one: tiergym scenarios show NAME", highlight=False)
    if json is not None:
        _write(json, {"schema": SCHEMA, **listed})


@scenarios.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="A scenario, machine, kernel, workload or suite, as `tiergym scenarios` lists it, a family or a file.",
            autocompletion=completion.presets,
        ),
    ],
    changes: options.Changes = None,
    kind: Annotated[
        Kind | None,
        typer.Option(metavar="KIND", help="Where several have the name: machines, kernels, ..."),
    ] = None,
    json: options.JsonFile = None,
) -> None:
    """Print a scenario with every number it uses, or a machine, kernel, workload or suite as its file has it.

    Save it as a file, change it, and name the file.

    Example: tiergym scenarios show llama-1to2 > mine.toml; tiergym compare --scenario mine.toml --policies online,soft
    """
    options.check_outputs(json)
    found = _kind_of(name) if kind is None else kind
    if found in (Kind.SCENARIOS, Kind.FAMILIES):
        from tiergym.specs import scenario_toml

        (scenario,) = options.load_scenarios([name], changes)
        text, found = scenario_toml(scenario), Kind.SCENARIOS
    elif changes:
        raise UserError(f"{options.SET} {changes[0]}: '{name}' is one of the {found.value}; allowed: with a scenario")
    else:
        from tiergym.files import MAX_TEXT_BYTES, read_bytes
        from tiergym.specs.reading import check_preset
        from tiergym.specs.scenario import named_path
        from tiergym.specs.suites import load_suite

        path = named_path(found.value, name)
        if found is Kind.SUITES:
            load_suite(path)
        else:
            check_preset(found.value, path)
        text = read_bytes(path, MAX_TEXT_BYTES).decode()
    if json is not None:
        from tiergym.files import parse_toml

        _write(json, {"schema": SCHEMA, "kind": found.value, "name": name, "content": parse_toml(text)})
    else:
        print(text, end="")


def _kind_of(name: str) -> Kind:
    """What a name or file is. Raises `UserError` where it is nothing, or several things."""
    from tiergym.cli import file_kinds
    from tiergym.specs.families import is_family
    from tiergym.specs.reading import preset_names

    if name.endswith(".toml"):
        of_file = f"{file_kinds.kind_of_file(Path(name))}s"
        return Kind(of_file) if of_file in {each.value for each in Kind} else Kind.SCENARIOS
    if is_family(name):
        return Kind.FAMILIES
    known = {each: preset_names(each.value) for each in Kind if each != Kind.FAMILIES}
    found = [each for each, names in known.items() if name in names]
    if not found:
        told = file_kinds.other_kind(name, "scenario", "scenarios show")
        names = {each for names in known.values() for each in names}
        raise told or UserError(suggest(name, names, "scenario, machine, workload or suite"))
    if len(found) > 1:
        kinds = " and ".join(each.value for each in found)
        raise UserError(f"'{name}' is among the {kinds}; allowed: one of them, by --kind")
    return found[0]


def _described(kind: Kind) -> dict[str, str]:
    """Names with descriptions; of families the axes with their levels."""
    from tiergym import specs
    from tiergym.specs.families import AXES, catalogue
    from tiergym.specs.reading import preset_names

    if kind is Kind.FAMILIES:
        return {axis: ", ".join(catalogue()[axis]) for axis in AXES}
    return {name: specs.describe(kind.value, name).strip() for name in preset_names(kind.value)}


agents = Commands(
    help="List the policies that every command takes by name, and the recipes that can be trained.",
    invoke_without_command=True,
)


@agents.callback()
def list_agents(
    context: typer.Context,
    plausibility: options.Plausibility = None,
    json: options.JsonFile = None,
    wide: options.Wide = False,
) -> None:
    """List the policies that every command takes by name, and the recipes that can be trained.

    A policy is as plausible as the least plausible mode that it may choose (docs/reference/actions.md).
    """
    if context.invoked_subcommand is not None:
        return
    options.check_outputs(json)
    from tiergym.lab.recipe import list_recipes
    from tiergym.policy.load import list_policies, shipped_plausibility

    out = console()
    words = {name: shipped_plausibility(name) for name in list_policies()}
    policies = {name: text for name, text in list_policies().items() if options.allowed(words[name], plausibility)}
    # A trained policy may choose any mode.
    recipes = list_recipes() if options.allowed("counterfactual", plausibility) else {}
    told = {name: f"{words[name]}: {text}" for name, text in policies.items()}
    out.print(listing("policies (evaluate, compare, matrix), by their plausibility", told, wide=wide))
    if recipes:
        out.print(listing("recipes (train --agent)", recipes, wide=wide))
    if not wide:
        out.print("whole descriptions: --wide; all of one: tiergym agents show NAME", highlight=False)
    out.print(f"Also a policy: {options.POLICY_HELP.partition(', ')[2]}.")
    if json is not None:
        rows = {name: {"plausibility": words[name], "description": text} for name, text in policies.items()}
        _write(json, {"schema": SCHEMA, "policies": rows, "recipes": recipes})


@agents.command("show")
def show_agent(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A policy or recipe, as `tiergym agents` lists it.", autocompletion=completion.agents
        ),
    ],
    json: options.JsonFile = None,
) -> None:
    """Say all of a policy or recipe: what it does, how plausible it is, the modes it holds, its file.

    Example: tiergym agents show restrict
    """
    options.check_outputs(json)
    from tiergym import paths
    from tiergym.env.static_actions import shipped
    from tiergym.files import read_toml
    from tiergym.lab.recipe import list_recipes
    from tiergym.policy.load import list_policies, shipped_plausibility
    from tiergym.policy.plan import modes_of

    policies, recipes = list_policies(), list_recipes()
    if name not in policies and name not in recipes:
        from tiergym.cli.file_kinds import other_kind

        raise other_kind(name, "policy", "agents show") or UserError(
            suggest(name, {*policies, *recipes}, "policy or recipe")
        )
    suffix = ".toml" if name in recipes or name in shipped() else ".py"
    path = paths.agents_dir() / f"{name}{suffix}"
    about: dict[str, Any] = {"schema": SCHEMA, "name": name, "kind": "recipe" if name in recipes else "policy"}
    if name in policies:
        about |= {"plausibility": shipped_plausibility(name), "description": policies[name]}
        about |= {"modes": modes_of(shipped()[name].action) if name in shipped() else None, "file": str(path)}
    else:
        about |= {"description": recipes[name], "recipe": read_toml(path), "file": str(path)}
    _tell(about, path)
    if json is not None:
        _write(json, about)


def _tell(about: Mapping[str, Any], path: Path) -> None:
    """For people: a recipe as its file has it; of a policy its modes, or where its code lies."""
    out = console()

    def say(text: str) -> None:
        out.print(text, highlight=False, markup=False)

    if about["kind"] == "recipe":
        out.print(path.read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
        say(f"train with it: tiergym train --agent {about['name']} --scenario NAME")
    else:
        paragraphs = about["description"].strip().split("\n\n")
        say(f"{about['name']}: {about['plausibility']}\n")
        for paragraph in paragraphs:
            say(" ".join(paragraph.split()) + "\n")
        modes = about["modes"]
        if modes is None:
            say("It chooses anew at every tick, by the observation.")
        else:
            say("It holds these modes, and Linux's defaults elsewhere:" if modes else "It holds Linux's defaults.")
            for entry, mode in modes.items():
                say(f"  {entry} = {mode}")
        say(f"\nevaluate it: tiergym evaluate {about['name']} --scenario NAME")
    out.print(f"file: {path}", highlight=False, markup=False, soft_wrap=True)


def doctor(json: options.JsonFile = None) -> None:
    """Say what is installed and whether it works, by running it. Exits with 1 if something is broken."""
    options.check_outputs(json)
    from tiergym.cli.doctor import examine, report
    from tiergym.cli.progress_bars import waiting

    with waiting("trying everything out: about 5 s"):
        findings = examine()
    console().print(report(findings))
    if json is not None:
        checks = {finding.check: {"state": finding.state, "detail": finding.detail} for finding in findings}
        _write(json, {"schema": SCHEMA, "checks": checks})
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def bench(
    repetitions: Annotated[int, typer.Option(min=1, help="Repetitions; the median is reported.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Each row once; no curves, no counted instructions.")] = False,
    json: options.JsonFile = None,
) -> None:
    """Measure the speed: simulator, environments, learner, start-up, other environments. Ratios of the same run.

    Close other programs first; a quarter of an hour on 2 cores.

    Make a page of the JSON: python -m tiergym.bench.performance_page bench.json > performance.md
    """
    options.check_outputs(json)
    from tiergym.bench import benchmark
    from tiergym.lab import results

    err = console(stderr=True)
    err.print(f"about {'three minutes' if quick else 'a quarter of an hour'} on 2 cores", style="dim")
    # Lines, no bar: one that is drawn anew ten times a second would be measured with the rest.
    measured = benchmark.bench(repetitions, quick, lambda name: err.print(f"measuring: {name}", style="dim"))
    console().print(benchmark.report(measured))
    if json is not None:
        results.write_json(json, benchmark.document(measured))


def _write(path: Path, document: dict[str, Any]) -> None:
    from tiergym.files import write_json

    write_json(path, document)
