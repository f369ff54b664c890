"""One number of a scenario: as TOML spells it, and as the row of float64 that `tiergym.sim.draw` reads.

    latency_ns = 250                                              fixed
    latency_ns = { uniform = [180, 400] }
    latency_ns = { log_uniform = [100, 1000] }
    latency_ns = { normal = [250, 40], low = 180, high = 400 }    mean and standard deviation, clipped
    latency_ns = { choice = [214, 239, 394] }                     equally likely

A field with named values takes the names: `demotion = "on"`, or `{ choice = ["off", "on"] }`.
"""

import math
from typing import Any

from tiergym.sim import names as n
from tiergym.sim.parameters import ROW, Field

MAX_CHOICES = ROW - 2
"""A row holds its kind, the number of choices and as many values."""

Row = tuple[float, ...]
"""`ROW` numbers: the distribution's index in `names.DISTRIBUTIONS`, then its parameters, then zeros."""

FORMS = ("uniform", "log_uniform", "normal", "choice")
"""Keys of a TOML table that make it a distribution."""


def allowed(field: Field) -> str:
    """What a fixed value of the field may be, in words.

    >>> from tiergym.sim.parameters import MACHINE
    >>> allowed(next(field for field in MACHINE if field.name == "cpus"))
    'a whole number from 1 to 1024'
    """
    if field.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in field.choices)
    return f"a {'whole ' if field.integer else ''}number from {_short(field.low)} to {_short(field.high)}"


def parse(value: Any, field: Field) -> Row:
    """The row of a TOML value. Raises `ValueError` saying what is allowed."""
    if not isinstance(value, dict):
        return _row(n.DRAW_FIXED, _number(value, field))
    forms = [key for key in value if key in FORMS]
    if len(forms) != 1:
        raise ValueError(f"{allowed(field)}, or a table with exactly one of {', '.join(FORMS)}")
    form = forms[0]
    beside = ("low", "high") if form == "normal" else ()
    for key in value:
        if key != form and key not in beside:
            raise ValueError(f"beside {form} only {' and '.join(beside) or 'nothing'}, no {key}")
    if form == "choice":
        return _choice(value[form], field)
    if field.choices:
        raise ValueError(f"{allowed(field)}, or {{ choice = [...] }} of these")
    if form == "normal":
        return _normal(value, field)
    low, high = _pair(value[form], f"{form} = [low, high]")
    _check_range((low, high), field)
    if low > high:
        raise ValueError(f"low <= high in {form} = [low, high]")
    if form == "log_uniform" and low <= 0:
        raise ValueError("low > 0 in log_uniform = [low, high]")
    return _row(n.DRAW_UNIFORM if form == "uniform" else n.DRAW_LOG_UNIFORM, low, high)


def support(row: Row) -> tuple[tuple[float, float], ...]:
    """Intervals that hold every value the row can give: one, or a point for each choice."""
    kind = int(row[0])
    if kind == n.DRAW_FIXED:
        return ((row[1], row[1]),)
    if kind == n.DRAW_CHOICE:
        return tuple((value, value) for value in row[2 : 2 + int(row[1])])
    return ((row[3], row[4]),) if kind == n.DRAW_NORMAL else ((row[1], row[2]),)


def lowest(row: Row) -> float:
    """The smallest value the row can give."""
    return min(low for low, _ in support(row))


def highest(row: Row) -> float:
    """The largest value the row can give."""
    return max(high for _, high in support(row))


def _row(kind: int, *numbers: float) -> Row:
    return (float(kind), *numbers, *(0.0,) * (ROW - 1 - len(numbers)))


def _number(value: Any, field: Field) -> float:
    if field.choices:
        if not isinstance(value, str) or value not in field.choices:
            raise ValueError(allowed(field))
        return float(field.choices.index(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{allowed(field)}, or a distribution ({', '.join(FORMS)})")
    _check_range((value,), field)
    if field.integer and value != math.floor(value):
        raise ValueError(allowed(field))
    return float(value)


def _check_range(values: tuple[float, ...], field: Field) -> None:
    # Negated, so that NaN, which compares with nothing, is refused too.
    if not all(field.low <= value <= field.high for value in values):
        raise ValueError(allowed(field))


def _pair(value: Any, form: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"two numbers: {form}")
    for number in value:
        # Compared, not asked with isfinite: TOML's integers have no bound and would overflow there.
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e300:
            raise ValueError(f"two finite numbers: {form}")
    return float(value[0]), float(value[1])


def _normal(value: dict[str, Any], field: Field) -> Row:
    mean, deviation = _pair(value["normal"], "normal = [mean, standard deviation]")
    low, high = _pair([value.get("low", field.low), value.get("high", field.high)], "low and high")
    _check_range((low, high), field)
    if deviation <= 0:
        raise ValueError("a standard deviation > 0 in normal = [mean, standard deviation]")
    if not low <= mean <= high:
        raise ValueError(f"low <= mean <= high in a normal (low {_short(low)}, high {_short(high)})")
    return _row(n.DRAW_NORMAL, mean, deviation, low, high)


def _choice(values: Any, field: Field) -> Row:
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_CHOICES:
        raise ValueError(f"choice = [...] with 1 to {MAX_CHOICES} values, each {allowed(field)}")
    return _row(n.DRAW_CHOICE, len(values), *(_number(value, field) for value in values))


def _short(number: float) -> str:
    return f"{number:.6g}" if abs(number) < 1e7 else f"{number:.3g}"
