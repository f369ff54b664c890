"""Documents and bytes that are nearly right: what a person mistypes, a transfer damages, an attacker tries."""

import datetime
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

HOSTILE: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 255, 65536, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**30),
    *(0.0, -0.0, 0.5, 1e-9, 5e-324, 1e15, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *(
        True,
        False,
        "",
        " ",
        "x",
        "online",
        "llama-1to2",
        "..",
        "../x",
        "/",
        "/dev/zero.toml",
        "a" * 300,
        "é\u202e",
        "0",
    ),
    *("0", "train", "6.12", "+", "a+b+c+d+e+f+g", "%s{0}", "os:system", "nan", "1e999", ".toml", "x.py"),
    *([], [[]], [0], [""], [1, 2, 3], {}, {"": 0}, {"base": "x"}, {"uniform": [1, 2]}, {"uniform": [2, 1]}),
    *({"choice": []}, {"choice": [0, 1]}, {"uniform": [math.nan, 1]}, {"normal": [1, 0]}, {"log_uniform": [0, 1]}),
    *({"uniform": [0, 1e308]}, {"choice": ["on", 3]}, datetime.date(2026, 1, 1)),
)
"""Values that some field somewhere does not expect; those that JSON lacks are written as texts there."""
FACTORS = (0, -1, 0.5, 0.9, 2, 3, 10, 1000, 1e-3, 1e9)
Place = tuple[Any, Any]
"""A table or list, and a key or index of it."""


def places(document: Any) -> Iterator[Place]:
    """Every value of a document, however deep, by where it stands."""
    left = [document]
    while left:
        table = left.pop()
        keys: Any = table if isinstance(table, dict) else range(len(table))
        for key in keys:
            yield table, key
            if isinstance(table[key], dict | list):
                left.append(table[key])


def donors(documents: Sequence[Any]) -> dict[str, list[Any]]:
    """What good documents say, by key."""
    found: dict[str, list[Any]] = {}
    for document in documents:
        for table, key in places(document):
            if isinstance(key, str) and table[key] not in found.setdefault(key, []):
                found[key].append(table[key])
    return found


@st.composite
def mutated(draw: DrawFn, document: Mapping[str, Any], known: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A document with one to four edits; `known` are values of other good documents, by key."""
    changed = deepcopy(dict(document))
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(changed))
        if not found:
            break
        table, key = found[draw(st.integers(0, len(found) - 1))]
        _edit(draw, table, key, known)
    return changed


def _edit(draw: DrawFn, table: Any, key: Any, known: Mapping[str, Sequence[Any]]) -> None:
    kind = draw(st.sampled_from(("donor", "scale", "hostile", "delete", "insert", "range", "repeat")))
    value = table[key]
    if kind == "donor" and key in known:
        table[key] = deepcopy(draw(st.sampled_from(known[key])))
    elif kind == "scale" and isinstance(value, int | float) and not isinstance(value, bool):
        table[key] = value * draw(st.sampled_from(FACTORS))
    elif kind == "delete":
        del table[key]
    elif kind == "insert" and isinstance(table, dict):
        name = draw(st.sampled_from(sorted(known)))
        table[name] = deepcopy(draw(st.sampled_from(known[name])))
    elif kind == "range" and isinstance(value, int | float):
        table[key] = draw(st.sampled_from(({"uniform": [value, value * 2]}, {"choice": [value, value + 1]})))
    elif kind == "repeat" and isinstance(table, list):
        table.append(deepcopy(value))
    else:
        table[key] = deepcopy(draw(st.sampled_from(HOSTILE)))


@st.composite
def damaged(draw: DrawFn, data: bytes) -> bytes:
    """The bytes with one to eight of them changed, cut out, doubled or put in; or cut off."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, max(0, len(out) - 1)))
        end = start + draw(st.sampled_from((1, 1, 2, 16, 300)))
        kind = draw(st.sampled_from(("change", "change", "cut", "double", "put", "end")))
        if kind == "change":
            out[start : start + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del out[start:end]
        elif kind == "double":
            out[end:end] = out[start:end]
        elif kind == "put":
            out[start:start] = draw(st.sampled_from((b"\0", b"\n", b'"', b"[", b"{", b"=", b"\xff", b"-", b"9" * 40)))
        else:
            del out[start:]
    return bytes(out)


def maybe_damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Mostly the bytes as they are."""
    return st.one_of(st.just(data), st.just(data), st.just(data), damaged(data))


def toml(document: Mapping[str, Any]) -> bytes:
    """A document as TOML, tables inline; also where a value is none that TOML allows."""
    return "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in document.items()).encode()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date) else repr(value)


def as_json(document: Any) -> bytes:
    """A document as JSON; NaN and infinities as Python writes them."""
    return json.dumps(document, default=str).encode()
