"""Results that are computed once: a JSON file of each, with what it is a result of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiergym import files
from tiergym.errors import UserError, shown
from tiergym.lab.engines import Arguments, Engine, Function

MOST = 1e15
"""Of any number in a result."""
Form = Callable[[Any], bool]
"""Whether a value that was read is what a result is made of."""
OnKept = Callable[[int, bool], None]
"""Called with a cell's index when its result is there, and whether it was before."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A result in the file `path`. `asked` is what it is a result of: settings, and digests of model, scenario and
    policy; `form`: of what form the result is. `function` makes it of its arguments: JSON, in any process that can
    import it."""

    path: Path
    asked: Mapping[str, Any]
    form: Form
    function: Function
    arguments: Arguments


def kept(cell: Cell) -> Any:
    """The result in a cell's file, made and written where there is none.

    Raises `UserError` for a file whose result is another's, or none.
    """
    return keep_all([cell])[0]


def keep_all(
    cells: Sequence[Cell], engine: Engine | None = None, on_kept: OnKept = lambda index, before: None
) -> list[Any]:
    """The results of all cells, in their order; those that have no file yet are made by the engine and written, each as
    soon as it is there.

    Raises `UserError`, before anything is made, for a file whose result is another's or none, or that cannot be
    written, and as `Engine.run` does.
    """
    results = {index: _read(cell) for index, cell in enumerate(cells) if cell.path.is_file()}
    for index in results:
        on_kept(index, True)
    for index, cell in enumerate(cells):
        if index not in results:
            files.check_place(cell.path)
    left = [index for index in range(len(cells)) if index not in results]
    work = [(cells[index].function, *cells[index].arguments) for index in left]
    for place, result in (engine or Engine()).run(_call, work):
        cell = cells[left[place]]
        files.write_text(cell.path, json.dumps({**cell.asked, "result": result}, indent=1, allow_nan=False) + "\n")
        results[left[place]] = result
        on_kept(left[place], False)
    return [results[index] for index in range(len(cells))]


def _call(function: Function, *arguments: Any) -> Any:
    return function(*arguments)


def _read(cell: Cell) -> Any:
    document = files.read_json(cell.path)
    try:
        differing = [name for name, value in cell.asked.items() if document[name] != value]
        result = document["result"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{cell.path}: not a result that was kept here ({error}); name a new folder with --out"
        ) from error
    if differing:
        name = differing[0]
        raise UserError(
            f"{cell.path}: {name} is {str(document[name])[:60]!r}; allowed: {str(cell.asked[name])[:60]!r} as asked "
            "for now; name a new folder with --out"
        )
    if not cell.form(result):
        raise UserError(f"{cell.path}: result is {shown(result)}; allowed: what was written here; delete the file")
    return result


def is_number(value: Any) -> bool:
    """Whether it is a number that a result can have, `MOST` at most in magnitude: what is made of such is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def numbers(count: int) -> Form:
    """A list of so many finite numbers."""
    return lambda value: isinstance(value, list) and len(value) == count and all(map(is_number, value))


def fields(forms: Mapping[str, Form]) -> Form:
    """An object with these fields and no others."""
    return lambda value: (
        isinstance(value, dict) and value.keys() == forms.keys() and all(forms[key](value[key]) for key in forms)
    )
