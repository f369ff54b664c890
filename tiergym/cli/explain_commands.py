"""The command that says why: explain."""

from __future__ import annotations

from typing import Annotated

import typer

from tiergym.cli import options
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.terminal import say


def explain(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help=f"What to explain: {options.POLICY_HELP}.")],
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="Where to watch it: a suite (envs/suites).")] = None,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml[,...]", help="In place of --suite. Default: llama-1to2."),
    ] = None,
    changes: options.Changes = None,
    episodes: Annotated[int, typer.Option(min=2, max=1000, help="Episodes of each scenario; half teach the tree.")] = 2,
    seed: options.Seed = 0,
    observations: Annotated[
        int, typer.Option(min=0, max=1000, help="Observations whose loss of score the simulator measures.")
    ] = 12,
    json: options.JsonFile = None,
    png: options.PictureFile = None,
) -> None:
    """What a policy looks at, what it does when, how often it changes its mind, and its rules in words.

    An observation matters where decisions change, and the score falls, once its values are those of other machines and
    moments. The rules in words are a shallow tree that imitates the policy, with how well it does so.

    Example: tiergym explain adaptive --suite train --png adaptive.png
    """
    options.check_outputs(json, picture=png)
    require("sklearn")
    if suite is not None and scenario is not None:
        raise UserError("--suite and --scenario were both given; allowed: one of them")
    from tiergym import specs
    from tiergym.cli.progress_bars import episode_progress
    from tiergym.lab import explain as explaining
    from tiergym.lab import explain_report, explain_tree, results
    from tiergym.policy.load import load_policy

    if suite is not None:
        scenarios = options.changed(specs.load_suite(suite).load(), changes)
    else:
        scenarios = options.load_scenarios(options.names(scenario or options.DEFAULT_SCENARIO, "--scenario"), changes)
    loaded = load_policy(policy)
    machines = explaining.machines_of(scenarios, episodes, seed)
    with episode_progress() as on_step:
        seen = explaining.record(loaded, machines)
        found = explaining.explain(policy, loaded, machines, seen, observations, on_step)
        tree = explain_tree.distil(seen, machines, found.importances)
    say(explain_report.text(found, tree))
    if json is not None:
        results.write_json(json, explain_report.document(found, tree))
    if png is not None:
        explain_report.write_png(png, found)
