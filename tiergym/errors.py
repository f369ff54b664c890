"""The error that means "the input is wrong", and the message for a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches


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
    near = get_close_matches(name, names, n=1) or get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {what} '{name}'; {hint}(known: {', '.join(names)})"
