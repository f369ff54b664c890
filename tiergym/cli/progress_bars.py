"""Progress on stderr: bars with the time left where it is a terminal, lines where it is not."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
)
from rich.text import Text

from tiergym.lab.bound import OnRound
from tiergym.lab.compare import OnEpisodes
from tiergym.terminal import console, manner


class _Bar(Progress):
    """What is done stands above the bar, so that names of any length are whole."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Lines of the display."""
        yield from (Text(task.description, overflow="fold") for task in self.tasks)
        yield self.make_tasks_table(self.tasks)


class _Left(ProgressColumn):
    """The time left, once it can be told."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The cell."""
        left = task.time_remaining
        return Text("" if left is None or task.finished else f"about {timedelta(seconds=ceil(left))} left")


class _Count(ProgressColumn):
    """So many of so many, or so many where nobody knows of how many; nothing before the first."""

    def __init__(self, unit: str = "") -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The cell."""
        if task.total is None:
            return Text(f"{task.completed:.0f}" if task.completed else "")
        return Text(f"{task.completed:.0f}/{task.total:.0f}{self.unit}")


class _Share(ProgressColumn):
    """Percent, once it is known of what."""

    def render(self, task: Task) -> Text:
        """The cell."""
        return Text("" if task.total is None else f"{task.percentage:>3.0f} %")


@contextmanager
def _bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """`columns` between a spinner and the times."""
    err = console(stderr=True)
    silent = manner.quiet or not err.is_terminal
    columns = (SpinnerColumn(), *columns, TimeElapsedColumn(), _Left())
    with _Bar(*columns, console=err, transient=True, disable=silent) as bar:
        yield bar


@contextmanager
def episode_progress(what: str = "evaluating") -> Iterator[OnEpisodes]:
    """Show which policy is being evaluated; yields the callback of `tiergym.lab.compare.compare`."""
    with _bar(BarColumn(32), _Share()) as bar:
        task = bar.add_task(what, total=None)

        def on_episodes(policy: str, done: float, total: int) -> None:
            bar.update(task, description=f"{what} {policy}", completed=done, total=total)

        yield on_episodes


@contextmanager
def round_progress(total: int) -> Iterator[OnRound]:
    """Show the rounds of a search; yields the callback of `tiergym.lab.bound.bound`."""
    with _bar(BarColumn(32), _Count(" rounds")) as bar:
        task = bar.add_task("searching", total=total)

        def on_round(what: str, index: int, rounds: int, best: float) -> None:
            bar.update(task, description=f"searching the best {what}: {best:.2f}", advance=1)

        yield on_round


@contextmanager
def count_progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done; yields what is told so."""
    with _bar(BarColumn(32), _Count(f" {unit}")) as bar:
        task = bar.add_task(what, total=total)
        yield lambda finished: bar.update(task, completed=finished)


@contextmanager
def steps(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show how many of `total` parts are behind; yields what is called with a part's name when it begins.

    Where parts are told of when they are done, it is called with `done=True`.
    """
    err = console(stderr=True)
    with _bar(BarColumn(32), _Count()) as bar:
        task, told = bar.add_task(what, total=total), 0

        def tell(part: str, *, done: bool = False) -> None:
            nonlocal told
            told += 1
            bar.update(task, description=f"{what}: {part}", completed=told if done else told - 1)
            if not err.is_terminal:
                err.print(f"{what}: {part}", style="dim", highlight=False)

        yield tell


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what takes so long, where nothing can be counted."""
    with _bar() as bar:
        bar.add_task(what, total=None)
        yield
