"""How many fields a stranger's ONNX file has, counted in its bytes before anything is built of them.

A parser of protobuf makes an object of a hundred bytes and more from a field of two: 64 MiB of empty attributes become
6 GiB. So the wire format (https://protobuf.dev/programming-guides/encoding/) is walked first, by ONNX's own schema, in
the memory that the file itself takes.
"""

from __future__ import annotations

from typing import Any

MAX_FIELDS = 1 << 18
"""Of all messages together, numbers of packed lists of whole numbers included. An LSTM of a hundred layers has half of
it; weights are one field, of raw bytes or packed floats."""
MAX_DEPTH = 16
"""Messages within one another; a plain graph has seven."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_PLAIN_BYTES = (1, 2, 9, 12)
"""FieldDescriptor's DOUBLE, FLOAT, STRING and BYTES: as long in memory as in the file."""


class FieldsError(ValueError):
    """What is not allowed in a file, and what is."""


def check_fields(data: bytes, descriptor: Any) -> None:
    """Raise `FieldsError` unless `data` is a message of bounded numbers of fields; `descriptor` is that of its type."""
    left, count = [(0, len(data), descriptor, 1)], 0
    while left:
        at, end, kind, depth = left.pop()
        if depth > MAX_DEPTH:
            raise FieldsError(f"messages within one another are more than {MAX_DEPTH}")
        while at < end:
            key, at = _number(data, at, end)
            count += 1
            field, wire = kind.fields_by_number.get(key >> 3), key & 7
            if wire == _VARINT:
                _, at = _number(data, at, end)
            elif wire in _WIDTHS:
                at += _WIDTHS[wire]
            elif wire == _BYTES:
                length, at = _number(data, at, end)
                if field is not None and field.message_type is not None:
                    left.append((at, min(at + length, end), field.message_type, depth + 1))
                elif field is not None and field.type not in _PLAIN_BYTES:
                    count += length  # a packed list: at least a byte for each number
                at += length
            else:
                raise FieldsError(f"not protobuf: wire type {wire}")
            if at > end:
                raise FieldsError("not protobuf: a field is longer than what it is in")
            if count > MAX_FIELDS:
                raise FieldsError(f"more than {MAX_FIELDS} fields; allowed: a graph of few, its weights as raw data")


def _number(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The varint at a place, and the place behind it."""
    value = 0
    for place in range(at, min(at + 10, end)):
        value |= (data[place] & 127) << 7 * (place - at)
        if data[place] < 128:
            return value, place + 1
    raise FieldsError("not protobuf: a number without an end")
