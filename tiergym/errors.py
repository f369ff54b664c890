"""The error that means "the input is wrong", the message for a misspelt name, and values of any size in one line."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_SHOWN = 80
_HEAD, _TAIL = 3000, 1000


class UserError(Exception):
    """Bad input: a name, a file's field, a value. The message says what is allowed.

    Raised before any work starts. The command line prints `error: <message>` and exits with 2, without
    a traceback; any other exception is a defect of ours and keeps its traceback.
    """


def suggest(name: str, known: Iterable[str], what: str = "name") -> str:
    """Message for an unknown `name`, with the nearest of `known` if one is near.

    >>> suggest("llma", ["graph", "llama"], "workload")
    "unknown workload 'llma'; did you mean 'llama'? (known: graph, llama)"
    """
    names = sorted(known)
    asked = name[:_SHOWN]
    near = get_close_matches(asked, names, n=1) or get_close_matches(asked, names, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {what} {shown(name)}{hint} (known: {', '.join(names)})"


def shown(value: Any) -> str:
    """`repr(value)` for a message, cut where it is long; also of what has no repr, such as an int of too many digits.

    >>> shown("llma")
    "'llma'"
    """
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    try:
        text = repr(value[: 2 * _SHOWN] if isinstance(value, str | bytes) else value)
    except Exception as error:  # of a stranger's object, or of a list that holds such an int
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def one_line(text: str) -> str:
    r"""A message as one line of printable characters, without its middle where it is very long.

    >>> one_line("a\nb\x00")
    'a b\\x00'
    """
    flat = " ".join(text.split())
    if len(flat) > _HEAD + _TAIL:
        flat = f"{flat[:_HEAD]} ... {flat[-_TAIL:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)
