"""Commands over whole suites: ladder, leaderboard, stability, verify, networks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tiergym.cli import completion, options
from tiergym.cli.command import INTERRUPTED
from tiergym.errors import UserError
from tiergym.terminal import console

Suites = Annotated[
    list[str],
    typer.Argument(metavar="SUITE...", help="Suites of envs/suites, or their files.", autocompletion=completion.suites),
]
Learned = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=RUN[,RUN...]", help="A policy trained once or several times; again for another."),
]
Kept = Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept; goes on with what is there.")]


def ladder(
    suites: Suites,
    out: Kept,
    tuning: Annotated[
        str, typer.Option(metavar="SUITE", help="What One, the constant for all, is searched on, and S chooses by.")
    ] = "train",
    policy: Annotated[
        str | None, typer.Option(metavar="POLICY", help="A learned policy, for the rung A: a run directory or a file.")
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Move families that decide nothing to the suite validation, in envs/suites.")
    ] = False,
    changes: options.Changes = None,
    episodes: Annotated[int, typer.Option(min=1, max=64, help="Machines per scenario.")] = 8,
    seed: options.Seed = 0,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds of each search.")] = 10,
    engine: options.EngineOption = options.EngineName.LOCAL,
    workers: options.Workers = None,
    address: options.Address = None,
    json: options.JsonFile = None,
    wide: options.Wide = False,
) -> None:
    """How much of what could be won do constants, rules and a learned policy win, against a clairvoyant plan?

    One is the constant that is best over the tuning suite, S the rule that was best there for this workload and
    configuration, H the best rule, Ci the best constant of each scenario, P the best plan for its very episodes. An
    interrupted ladder goes on where it stopped.

    Example: tiergym ladder test --out runs/ladder
    """
    options.check_outputs(json)
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import ladder_run, results, tables
    from tiergym.lab.engines import Engine
    from tiergym.lab.ladder import Search
    from tiergym.lab.locking import locked
    from tiergym.specs import read_assignments

    if out.is_file():
        raise UserError(f"cannot write into '{out}': it is a file; name a folder")
    runs_on = Engine(engine.value, workers, address)
    scenarios = sum(len(suite.load_all() if split else suite.load()) for suite in map(options.load_suite, suites))
    search = Search(episodes, seed, rounds)
    assigned = read_assignments(changes or [], options.SET)
    with locked(out), _kept(out), steps(f"ladder, after rules and constants on {tuning}", scenarios) as step:

        def tell(name: str, kept: bool) -> None:
            step(f"{name}: {'kept from before' if kept else 'done'}", done=True)

        climbed = ladder_run.climb(suites, tuning, policy, out, search, assigned, split, tell, runs_on)
    for suite, rungs in climbed.items():
        console().print(tables.ladder_table(rungs, suite, wide=wide))
    if json is not None:
        results.write_json(json, ladder_run.document(climbed))


def leaderboard(
    suites: Suites,
    out: Kept,
    policies: options.Policies = None,
    learned: Learned = None,
    against: Annotated[str, typer.Option(metavar="POLICY", help="What improvement is over.")] = "selector",
    episodes: options.Episodes = 16,
    seed: options.Seed = 0,
    engine: options.EngineOption = options.EngineName.LOCAL,
    workers: options.Workers = None,
    address: options.Address = None,
    json: options.JsonFile = None,
    png: options.PictureFile = None,
    page: Annotated[
        Path | None, typer.Option(metavar="PAGE.md", help="Put the tables between the marks of a page.")
    ] = None,
) -> None:
    """Policies over suites: what each saves of stock Linux's loss, with intervals, worst decile and kills.

    With the suite train among them, the gap to each other suite is shown. `tiergym verify FILE.json` replays it.

    Example: tiergym leaderboard train test --policies online,restrict,selector --out runs/board --json board.json
    """
    options.check_outputs(json, png)
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import leaderboard_page, results
    from tiergym.lab.engines import Engine
    from tiergym.lab.leaderboard import count_cells
    from tiergym.lab.leaderboard import leaderboard as evaluate_all
    from tiergym.lab.locking import locked
    from tiergym.policy.load import list_policies

    if out.is_file():
        raise UserError(f"cannot write into '{out}': it is a file; name a folder")
    if page is not None and not page.is_file():
        raise UserError(f"--page {page}: no such file; allowed: a page with the marks of a leaderboard")
    runs_on = Engine(engine.value, workers, address)
    names = list(list_policies()) if policies is None else options.names(policies, "--policies")
    spelled = {name: [name] for name in names} | dict(map(_learned, learned or []))
    loaded = [options.load_suite(name) for name in suites]
    with locked(out), _kept(out), steps("leaderboard", count_cells(loaded, spelled)) as step:
        board = evaluate_all(
            loaded,
            spelled,
            out,
            episodes,
            seed,
            against,
            lambda policy, scenario: step(f"{policy} on {scenario}", done=True),
            runs_on,
        )
    for suite in board.rows:
        console().print(leaderboard_page.terminal_table(board, suite))
    if json is not None:
        results.write_json(json, board.document())
    if png is not None:
        leaderboard_page.write_profile_png(png, board)
    if page is not None:
        leaderboard_page.write_page(page, board)


def stability(
    suite: Annotated[
        str,
        typer.Argument(metavar="SUITE", help="Of envs/suites, or its file.", autocompletion=completion.suites),
    ],
    out: Kept,
    policies: options.Policies = None,
    learned: Learned = None,
    draws: Annotated[int, typer.Option(min=1, max=1000, help="Draws of what is not known of the machine.")] = 20,
    episodes: options.Episodes = 4,
    seed: options.Seed = 0,
    engine: options.EngineOption = options.EngineName.LOCAL,
    workers: options.Workers = None,
    address: options.Address = None,
    json: options.JsonFile = None,
) -> None:
    """Does the order of policies survive other prices of memory and of the kernel's work, and other releases of Linux?

    Latencies, bandwidths and costs are drawn from how far sources leave them open, for all scenarios at once, and every
    scenario is run on each release. Policies are ranked by what they save, as on the leaderboard.

    Example: tiergym stability test --policies online,restrict,selector,adaptive --out runs/stability
    """
    options.check_outputs(json)
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import results, tables
    from tiergym.lab.engines import Engine
    from tiergym.lab.locking import locked
    from tiergym.lab.rank_stability import RELEASES
    from tiergym.lab.rank_stability import stability as rank_all
    from tiergym.policy.load import list_policies

    if out.is_file():
        raise UserError(f"cannot write into '{out}': it is a file; name a folder")
    runs_on = Engine(engine.value, workers, address)
    names = list(list_policies()) if policies is None else options.names(policies, "--policies")
    spelled = {name: [name] for name in names} | dict(map(_learned, learned or []))
    loaded = options.load_suite(suite)
    cells = sum(map(len, spelled.values())) * len(loaded.load()) * (1 + draws + len(RELEASES))
    with locked(out), _kept(out), steps("stability", cells) as step:
        found = rank_all(
            loaded,
            spelled,
            out,
            draws,
            episodes,
            seed,
            lambda variant, policy, scenario: step(f"{policy} on {scenario}, {variant}", done=True),
            runs_on,
        )
    console().print(tables.stability_table(found))
    if json is not None:
        results.write_json(json, found.document())


def verify(
    result: Annotated[
        Path, typer.Argument(metavar="FILE.json", help="What --json of leaderboard, compare or matrix wrote.")
    ],
    policy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this policy's rows; again for another.")
    ] = None,
    trust: options.Trust = False,
    json: options.JsonFile = None,
) -> None:
    """Replay a leaderboard, a comparison or a matrix: exits with 1 where a bit differs, with 2 for another model's.

    Everything but the time of a decision must be the same: model, suites and policies are compared by their digests,
    then every episode is run again.
    """
    options.check_outputs(json)
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import results as files_of_results
    from tiergym.lab.verifying import verify as replay

    with steps("verifying") as step:
        differing = replay(result, policy, lambda policy, scenario: step(f"{policy} on {scenario}"), trust=trust)
    for name, suites in differing.items():
        verdict = f"differs on {', '.join(suites)}" if suites else "the same to the bit"
        console().print(f"{name}: {verdict}", highlight=False, markup=False)
    if json is not None:
        files_of_results.write_json(json, {"schema": files_of_results.SCHEMA, "differing": differing})
    if any(differing.values()):
        raise typer.Exit(1)


def _learned(text: str) -> tuple[str, list[str]]:
    name, equals, runs = text.partition("=")
    if not equals or not name or not runs:
        raise UserError(f"--learned {text}: allowed: NAME=RUN[,RUN...], as ppo=runs/ppo-0,runs/ppo-1")
    return name, options.names(runs, "--learned")


def networks(
    suites: Suites,
    out: Kept,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Random networks per scenario.")] = 10_000,
    seed: options.Seed = 0,
    json: options.JsonFile = None,
) -> None:
    """Is it trivial? How well networks do whose weights nobody trained, on one machine of every scenario.

    Example: tiergym networks test --out runs/networks
    """
    options.check_outputs(json)
    from tiergym.cli.progress_bars import steps
    from tiergym.lab import results, tables
    from tiergym.lab.locking import locked
    from tiergym.lab.random_networks import guess

    if out.is_file():
        raise UserError(f"cannot write into '{out}': it is a file; name a folder")
    loaded = {name: options.load_suite(name).load() for name in suites}
    with locked(out), _kept(out), steps("networks", sum(map(len, loaded.values()))) as step:
        guessed = {name: guess(scenarios, count, seed, out, step) for name, scenarios in loaded.items()}
    for name, guesses in guessed.items():
        console().print(tables.networks_table(guesses, name))
    if json is not None:
        results.write_json(json, results.networks_json(guessed, count, seed))


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Where Ctrl-C ends the work, say that what is done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on with what is in {out}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
