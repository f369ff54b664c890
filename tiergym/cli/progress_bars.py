"""A progress bar on stderr, where stderr is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tiergym.lab.bound import OnRound
from tiergym.lab.compare import OnEpisodes
from tiergym.terminal import console


@contextmanager
def episode_progress(what: str = "evaluating") -> Iterator[OnEpisodes]:
    """Show which policy is being evaluated; yields the callback of `tiergym.lab.compare.compare`."""
    err = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} episodes"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def on_episodes(policy: str, finished: int, total: int) -> None:
            bar.update(task, description=f"{what} {policy}", completed=finished, total=total)

        yield on_episodes


@contextmanager
def round_progress(total: int) -> Iterator[OnRound]:
    """Show the rounds of a search; yields the callback of `tiergym.lab.bound.bound`."""
    err = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rounds"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("searching", total=total)

        def on_round(what: str, index: int, rounds: int, best: float) -> None:
            bar.update(task, description=f"searching the best {what}: {best:.2f}", advance=1)

        yield on_round
