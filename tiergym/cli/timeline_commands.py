"""Commands that look at one episode: show draws all of it, watch follows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiergym.cli import completion, options
from tiergym.errors import UserError
from tiergym.terminal import console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Policy = Annotated[
    str,
    typer.Argument(metavar="POLICY", help=f"Whose episode: {options.POLICY_HELP}.", autocompletion=completion.policies),
]
Episode = Annotated[int, typer.Option(min=0, help="Which of the episodes that evaluate measures, from 0.")]


def show(
    policy: Policy,
    scenario: options.Scenario = options.DEFAULT_SCENARIO,
    changes: options.Changes = None,
    episode: Episode = 0,
    seed: options.Seed = 0,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="A second policy beside it, on the same machine.", autocompletion=completion.policies
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw it as a picture.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw it as a page, one file for any browser.")
    ] = None,
    json: options.JsonFile = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE.parquet", help="Write one row per tick as Parquet.")
    ] = None,
) -> None:
    """Show one episode from its first tick to its last: pages, free memory, what was moved, lost time, modes.

    Without a file it is drawn in the terminal, 80 columns wide. A mode that the machine's state makes impossible is
    marked, and mode 0 counts in its place.

    Example: tiergym show adaptive --against online --html episode.html
    """
    files = {"--png": png, "--html": html, "--json": json, "--log": log}
    options.check_outputs(*files.values())
    if against == policy:
        raise UserError(f"--against: '{against}' is the policy itself; allowed: another one")
    from tiergym.cli.progress_bars import waiting
    from tiergym.lab import episode_html, episode_log, episode_plot, episode_text, results

    (loaded,) = options.load_scenarios([scenario], changes)
    runs = options.load_policies([policy, *([against] if against is not None else [])])
    with waiting(f"running episode {episode} of {loaded.name}"):
        logs = [episode_log.log_episode(each, name, loaded, seed, episode) for name, (each,) in runs.items()]
    if png is not None:
        episode_plot.write_episode_png(png, logs)
    if html is not None:
        episode_html.write_episode_html(html, logs)
    if json is not None:
        results.write_json(json, episode_log.document(logs))
    if log is not None:
        episode_log.write_parquet(log, logs)
    if not any(files.values()):
        console().print(episode_text.render(logs), highlight=False)


def watch(
    policy: Policy,
    scenario: options.Scenario = options.DEFAULT_SCENARIO,
    changes: options.Changes = None,
    episode: Episode = 0,
    seed: options.Seed = 0,
    speed: Annotated[float, typer.Option(min=0.01, help="Seconds of the machine per second of yours.")] = 1.0,
) -> None:
    """Follow one episode in the terminal, tick by tick. Ctrl-C ends it.

    Example: tiergym watch adaptive --scenario sparse-1to2 --speed 4
    """
    from time import monotonic, sleep

    from rich.live import Live
    from rich.text import Text

    from tiergym.env import render
    from tiergym.lab.episode_log import run_ticks

    (loaded,) = options.load_scenarios([scenario], changes)
    ((each,),) = options.load_policies([policy]).values()
    out = console()
    head = f"{policy} on {loaded.name}, episode {episode} of seed {seed}; Ctrl-C ends it\n"
    width = max(1, min(render.WIDTH, out.width - render.BESIDE_BAR))
    due = monotonic()
    try:
        with Live(console=out, auto_refresh=False) as live:
            for machines, chosen, in_force in run_ticks(each, loaded, seed, episode):
                record = machines.records[0]
                live.update(Text(f"{head}{render.ansi(record, width)}{_modes(chosen, in_force)}"), refresh=True)
                due += float(record["dt_s"]) / speed
                sleep(max(0.0, due - monotonic()))
    except KeyboardInterrupt:
        raise typer.Exit from None


def _modes(chosen: NDArray[np.int64], in_force: NDArray[np.int64]) -> str:
    """The entries that leave Linux's default, or were to."""
    from tiergym.env.actions import ENTRIES

    words = []
    for entry, wanted, mode in zip(ENTRIES, chosen.tolist(), in_force.tolist(), strict=True):
        if wanted != entry.default:
            words.append(f"{entry.name}={entry.modes[wanted]}{'' if wanted == mode else ' (impossible)'}")
    return f"modes: {'  '.join(words) or 'all at their defaults'}"
