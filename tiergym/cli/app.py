"""The command line: `tiergym COMMAND`. Each command imports what it needs when it runs, so that help is instant."""

from typing import Annotated

import typer

from tiergym import __version__
from tiergym.cli import (
    advise_commands,
    evaluate_commands,
    explain_commands,
    record_commands,
    report_commands,
    show_commands,
    suite_commands,
    timeline_commands,
    train_commands,
    tuning_commands,
    validate_commands,
)
from tiergym.cli.command import Commands

app = Commands(
    name="tiergym",
    help="A research gym for one question of the Linux kernel: on a server with fast DRAM and slow CXL memory, "
    "where should kernel pages live, and what should be moved?",
    epilog="Start with: tiergym scenarios, tiergym agents, tiergym compare --policies online,online_movable,restrict",
    no_args_is_help=True,
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


WORK, MEASURE, SEE, REAL, LOOK = "Train", "Measure", "See", "Real machines", "Look around"
app.command("run", rich_help_panel=WORK, simulates=True)(train_commands.run)
app.command("train", rich_help_panel=WORK, simulates=True)(train_commands.train)
app.command("tune", rich_help_panel=WORK, simulates=True)(tuning_commands.tune)
app.command("export", rich_help_panel=WORK)(train_commands.export)
app.command("evaluate", rich_help_panel=MEASURE, simulates=True)(evaluate_commands.evaluate)
app.command("compare", rich_help_panel=MEASURE, simulates=True)(evaluate_commands.compare)
app.command("matrix", rich_help_panel=MEASURE, simulates=True)(evaluate_commands.matrix)
app.command("bound", rich_help_panel=MEASURE, simulates=True)(evaluate_commands.bound)
app.command("ladder", rich_help_panel=MEASURE, simulates=True)(suite_commands.ladder)
app.command("leaderboard", rich_help_panel=MEASURE, simulates=True)(suite_commands.leaderboard)
app.command("stability", rich_help_panel=MEASURE, simulates=True)(suite_commands.stability)
app.command("verify", rich_help_panel=MEASURE, simulates=True)(suite_commands.verify)
app.command("networks", rich_help_panel=MEASURE, simulates=True)(suite_commands.networks)
app.command("report", rich_help_panel=SEE, simulates=True)(report_commands.report)
app.command("explain", rich_help_panel=MEASURE, simulates=True)(explain_commands.explain)
app.command("bench", rich_help_panel=MEASURE, simulates=True)(show_commands.bench)
app.command("show", rich_help_panel=SEE, simulates=True)(timeline_commands.show)
app.command("watch", rich_help_panel=SEE, simulates=True)(timeline_commands.watch)
app.command("advise", rich_help_panel=REAL)(advise_commands.advise)
app.add_typer(validate_commands.validate, name="validate", rich_help_panel=REAL)
app.command("record", rich_help_panel=REAL, context_settings={"allow_interspersed_args": False})(record_commands.record)
app.add_typer(record_commands.workload, name="workload", rich_help_panel=REAL)
app.add_typer(show_commands.scenarios, name="scenarios", rich_help_panel=LOOK)
app.add_typer(show_commands.agents, name="agents", rich_help_panel=LOOK)
app.command("doctor", rich_help_panel=LOOK, simulates=True)(show_commands.doctor)
