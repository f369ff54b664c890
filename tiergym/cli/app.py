"""The command line: `tiergym COMMAND`. Each command imports what it needs when it runs, so that help is instant."""

from typing import Annotated

import typer

from tiergym import __version__
from tiergym.cli import evaluate_commands, record_commands, show_commands, train_commands, validate_commands

app = typer.Typer(
    name="tiergym",
    help="A research gym for one question of the Linux kernel: on a server with fast DRAM and slow CXL memory, "
    "where should kernel pages live, and what should be moved?",
    epilog="Start with: tiergym scenarios, tiergym agents, tiergym compare --policies online,online_movable,restrict",
    no_args_is_help=True,
    add_completion=False,
    # A defect keeps Python's own traceback, which can be pasted into an issue whole.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tiergym {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


WORK, MEASURE, REAL, LOOK = "Train", "Measure", "Real machines", "Look around"
app.command("run", rich_help_panel=WORK)(train_commands.run)
app.command("train", rich_help_panel=WORK)(train_commands.train)
app.command("export", rich_help_panel=WORK)(train_commands.export)
app.command("evaluate", rich_help_panel=MEASURE)(evaluate_commands.evaluate)
app.command("compare", rich_help_panel=MEASURE)(evaluate_commands.compare)
app.command("matrix", rich_help_panel=MEASURE)(evaluate_commands.matrix)
app.command("bound", rich_help_panel=MEASURE)(evaluate_commands.bound)
app.command("ladder", rich_help_panel=MEASURE)(evaluate_commands.ladder)
app.command("bench", rich_help_panel=MEASURE)(show_commands.bench)
app.add_typer(validate_commands.validate, name="validate", rich_help_panel=REAL)
app.command("record", rich_help_panel=REAL, context_settings={"allow_interspersed_args": False})(record_commands.record)
app.add_typer(record_commands.workload, name="workload", rich_help_panel=REAL)
app.add_typer(show_commands.scenarios, name="scenarios", rich_help_panel=LOOK)
app.command("agents", rich_help_panel=LOOK)(show_commands.agents)
app.command("doctor", rich_help_panel=LOOK)(show_commands.doctor)
