"""The command line: `tiergym COMMAND`. Each command imports what it needs when it runs, so that help is instant."""

from typing import Annotated

import typer

from tiergym import __version__
from tiergym.lab import cli_evaluate, cli_record, cli_show, cli_train, cli_validate

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
app.command("run", rich_help_panel=WORK)(cli_train.run)
app.command("train", rich_help_panel=WORK)(cli_train.train)
app.command("export", rich_help_panel=WORK)(cli_train.export)
app.command("evaluate", rich_help_panel=MEASURE)(cli_evaluate.evaluate)
app.command("compare", rich_help_panel=MEASURE)(cli_evaluate.compare)
app.command("matrix", rich_help_panel=MEASURE)(cli_evaluate.matrix)
app.command("bench", rich_help_panel=MEASURE)(cli_show.bench)
app.add_typer(cli_validate.validate, name="validate", rich_help_panel=REAL)
app.command("record", rich_help_panel=REAL, context_settings={"allow_interspersed_args": False})(cli_record.record)
app.add_typer(cli_record.workload, name="workload", rich_help_panel=REAL)
app.add_typer(cli_show.scenarios, name="scenarios", rich_help_panel=LOOK)
app.command("agents", rich_help_panel=LOOK)(cli_show.agents)
app.command("doctor", rich_help_panel=LOOK)(cli_show.doctor)
