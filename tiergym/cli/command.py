"""What every command has beside its own options: help that flows, --quiet, --json without a file, word of compiling."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.models import CommandFunctionType

from tiergym.cli.usage import told_in_a_line
from tiergym.errors import UserError, shown, suggest
from tiergym.files import remove_empty
from tiergym.terminal import manner

JSON = "--json"
INTERRUPTED = 130
"""Exit code, as shells have it for SIGINT."""
made_folders: list[Path] = []
"""What the running command made for files to come; one that is refused leaves nothing."""


def _be_quiet(_context: Any, _option: Any, asked: bool) -> None:
    if asked:
        manner.quiet = True


def _quiet_option() -> TyperOption:
    """`--quiet`, as Typer makes it of a function's parameter."""
    made = typer.Typer(add_completion=False)

    @made.command()
    def _has_it(
        quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress on stderr; warnings and errors stay."),
    ) -> None:
        pass

    option = typer.main.get_command(made).params[0]
    assert isinstance(option, TyperOption)
    option.expose_value, option.callback = False, _be_quiet
    return option


def with_json_value(args: list[str]) -> list[str]:
    """`--json` at the end, or before another option, is `--json -`.

    >>> with_json_value(["--json", "--seed", "1"])
    ['--json', '-', '--seed', '1']
    """
    end = args.index("--") if "--" in args else len(args)
    out: list[str] = []
    for place, arg in enumerate(args[:end]):
        out.append(arg)
        following = args[place + 1 : end][:1]
        if arg == JSON and (not following or (following[0].startswith("-") and following != ["-"])):
            out.append("-")
    return out + args[end:]


def flowing(text: str) -> str:
    r"""Paragraphs without the line breaks of their source: the terminal, not the source, says where a line ends.

    >>> flowing("One.\n\nTwo lines\nof it.")
    'One.\n\nTwo lines of it.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _interrupted() -> typer.Exit:
    print("interrupted", file=sys.stderr)
    return typer.Exit(INTERRUPTED)


class _Mannered:
    """Mixed into a command or a group of them."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.help: str | None
        self.params: list[Any]
        self.help = flowing(self.help or "")
        self.params.append(_quiet_option())

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        own = any(JSON in parameter.opts for parameter in self.params)
        words = with_json_value(args) if own else args
        for word in words:
            try:
                word.encode()
            except UnicodeEncodeError:  # a file of such a name could be written, but is in no JSON and no TOML
                raise UserError(
                    f"{context.command_path}: {shown(word)} is not UTF-8; allowed: words that are"
                ) from None
        with told_in_a_line(self, context, list(words)):  # parsing takes words from the list
            parsed: list[str] = super().parse_args(context, words)  # type: ignore[misc]
        return parsed


class Command(_Mannered, TyperCommand):
    """A command; Ctrl-C ends it with one line and the exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        made_folders.clear()
        try:
            return self.run(ctx)
        except KeyboardInterrupt:
            remove_empty(made_folders)
            raise _interrupted() from None
        except (UserError, OSError):
            remove_empty(made_folders)
            raise

    def run(self, ctx: Any) -> Any:
        """Run its function."""
        return super().invoke(ctx)


class Group(_Mannered, TyperGroup):
    """Commands below one name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names. Raises `UserError` where it is none."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UserError(f"{ctx.command_path}: {suggest(args[0], self.list_commands(ctx), 'command')}")
        with told_in_a_line(self, ctx, args):
            return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **named: Any) -> Any:
        """Read the words before a command's name."""
        try:
            return super().make_context(*args, **named)
        except KeyboardInterrupt:  # of which Typer would say nothing
            raise _interrupted() from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for. Raises `UserError` where none was."""
        try:
            with told_in_a_line(self, ctx, []):
                return super().invoke(ctx)
        except KeyboardInterrupt:  # while the command's words are read, of which Typer would say nothing
            raise _interrupted() from None


class Simulating(Command):
    """A command that runs simulated machines; where that takes a compilation, it says so."""

    def run(self, ctx: Any) -> Any:
        """Run its function, while whoever compiles is heard."""
        from tiergym.cli.compiling import announced

        with announced():
            return super().run(ctx)


class Commands(typer.Typer):
    """A group whose commands are of these classes."""

    def __init__(self, **named: Any) -> None:
        super().__init__(cls=Group, **named)

    def command(
        self, *args: Any, simulates: bool = False, **named: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """As Typer's; `simulates`: it may have to compile the simulator first."""
        return super().command(*args, cls=Simulating if simulates else Command, **named)
