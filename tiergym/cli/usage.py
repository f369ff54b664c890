"""Words of the command line that it does not know, in one line: which, and what is allowed in their place."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, cast

import typer

from tiergym.errors import UserError, shown, suggest

_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""click's, or that of the copy of click which newer releases of Typer bring along."""
_LONG = 80


@contextmanager
def told_in_a_line(command: Any, context: Any, words: Sequence[str]) -> Iterator[None]:
    """Whoever reads `words` as those of `command` raises `UserError` where click has a usage error in a box."""
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help itself, not a word on what is wrong
            raise
        raise UserError(_line(error, command, context, words)) from None


def _line(error: Any, command: Any, context: Any, words: Sequence[str]) -> str:
    path = context.command_path
    parameter, option = getattr(error, "param", None), getattr(error, "option_name", None)
    known = {form: each for each in command.get_params(context) for form in (*each.opts, *each.secondary_opts)}
    if option is not None and option not in known:
        return f"{path}: {suggest(option, (form for form in known if form.startswith('-')), 'option')}"
    if option is not None:
        if known[option].is_flag:
            return f"{option}: it is given a value; allowed: without one"
        return f"{option}: no value is given; allowed: {_allowed(known[option], command)}"
    if parameter is not None and type(error).__name__ == "MissingParameter":
        return f"{path}: {_spelled(parameter)} is missing; allowed: with it; {_usage(context)}"
    if parameter is not None:
        given = command.make_parser(context).parse_args(args=list(words))[0].get(parameter.name)
        value = given if isinstance(given, str) and len(given) <= _LONG else shown(given)
        return f"{_spelled(parameter)} {value}: not a value of it; allowed: {_allowed(parameter, command)}"
    names: list[str] = command.list_commands(context) if hasattr(command, "list_commands") else []
    return f"{path}: {_flat(error.message)}; allowed: {', '.join(names) or 'without'}; {_usage(context)}"


def _allowed(parameter: Any, command: Any) -> str:
    """What the function behind the command says of a parameter: releases of Typer keep it in other places."""
    hints = typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    kind, *about = typing.get_args(hints.get(parameter.name)) or (str,)
    for each in (kind, *typing.get_args(kind)):
        if each in (int, float):
            least, most = about[0].min, about[0].max
            number = "a whole number" if each is int else "a number"
            return number + ("" if least is None else f" from {least}") + ("" if most is None else f" to {most}")
        if isinstance(each, type) and issubclass(each, Enum):
            return ", ".join(str(word.value) for word in each)
    return str(parameter.metavar or "a text")


def _spelled(parameter: Any) -> str:
    """An option by its longest form, an argument by what its help calls it."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper())


def _usage(context: Any) -> str:
    usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return f"usage: {usage}; more: {context.command_path} --help"


def _flat(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
