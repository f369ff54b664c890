"""Strangers' ONNX files that would allocate, divide or index without bounds: one line, exit code 2."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.command_line import Cli
from tests.places import ROOT
from tests.refusals import assert_refused
from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.policy.onnx_fields import MAX_DEPTH, MAX_FIELDS, FieldsError, check_fields
from tiergym.policy.onnx_layout import METADATA_KEY, layout_json
from tiergym.policy.onnx_policy import OnnxPolicy

WIDE = len(act.ENTRIES)


def model_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """A policy file of these operators, that must make `actions`."""
    graph = helper.make_graph(
        nodes,
        "policy",
        [
            helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["n", N_OBS]),
            helper.make_tensor_value_info("masks", TensorProto.BOOL, ["n", act.N_MASK]),
        ],
        [helper.make_tensor_value_info("actions", TensorProto.INT64, ["n", WIDE])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key=METADATA_KEY, value=layout_json())
    return model


def chain(*operators: tuple[str, list[str], str, Mapping[str, Any]]) -> list[onnx.NodeProto]:
    return [helper.make_node(op, inputs, [output], **dict(attributes)) for op, inputs, output, attributes in operators]


ZEROS = np.zeros(WIDE, np.int64)
FIRST: tuple[tuple[str, list[str], str, Mapping[str, Any]], ...] = (
    ("Cast", ["obs"], "whole", {"to": TensorProto.INT64}),
    ("Gather", ["whole", "zeros"], "picked", {"axis": 1}),
)


def allocates() -> onnx.ModelProto:
    nodes = chain(*FIRST, ("ConstantOfShape", ["huge"], "giant", {}), ("Identity", ["picked"], "actions", {}))
    return model_of(nodes, zeros=ZEROS, huge=np.array([1 << 35]))


def allocates_what_is_observed() -> onnx.ModelProto:
    nodes = chain(*FIRST, ("ConstantOfShape", ["picked"], "giant", {}), ("Identity", ["picked"], "actions", {}))
    return model_of(nodes, zeros=ZEROS)


def doubles() -> onnx.ModelProto:
    steps: list[tuple[str, list[str], str, Mapping[str, Any]]] = [
        ("Concat", [f"d{i}", f"d{i}"], f"d{i + 1}", {"axis": 1}) for i in range(40)
    ]
    nodes = chain(("Identity", ["obs"], "d0", {}), *steps, *FIRST, ("Identity", ["picked"], "actions", {}))
    return model_of(nodes, zeros=ZEROS)


def divides() -> onnx.ModelProto:
    nodes = chain(*FIRST, ("Div", ["least", "picked"], "actions", {}))
    return model_of(nodes, zeros=ZEROS, least=np.array(-(1 << 63)))


def indexes_what_is_observed() -> onnx.ModelProto:
    nodes = chain(*FIRST, ("Mul", ["picked", "far"], "row", {}), ("Gather", ["zeros", "row"], "actions", {}))
    return model_of(nodes, zeros=ZEROS, far=np.array(1 << 40))


def two_machines() -> onnx.ModelProto:
    nodes = chain(*FIRST, ("Reshape", ["picked", "two"], "actions", {}))
    return model_of(nodes, zeros=ZEROS, two=np.array([2, WIDE]))


def metadata(text: str) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        model = model_of(chain(*FIRST, ("Identity", ["picked"], "actions", {})), zeros=ZEROS)
        model.metadata_props[0].value = text
        return model

    return make


def stateful(width: int) -> onnx.ModelProto:
    """A policy that remembers so many numbers of each machine, and counts in the first."""
    nodes = chain(*FIRST, ("Add", ["state", "one"], "next_state", {}), ("Identity", ["picked"], "actions", {}))
    model = model_of(nodes, zeros=ZEROS, one=np.ones((), np.float32))
    for name, entries in (("state", model.graph.input), ("next_state", model.graph.output)):
        entries.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]))
    return model


def widens() -> onnx.ModelProto:
    """Two million numbers for each machine."""
    column = chain(("Unsqueeze", ["obs", "two"], "column", {}), ("Expand", ["column", "wide"], "giant", {}))
    nodes = column + chain(*FIRST, ("Identity", ["picked"], "actions", {}))
    return model_of(nodes, zeros=ZEROS, two=np.array([2]), wide=np.array([1, 1, (1 << 21) // N_OBS]))


def refers() -> onnx.ModelProto:
    """The attribute of a function's caller, where there is no function."""
    model = model_of(chain(*FIRST, ("Identity", ["picked"], "actions", {})), zeros=ZEROS)
    model.graph.node[0].attribute[0].ClearField("i")
    model.graph.node[0].attribute[0].ref_attr_name = "kind"
    return model


BAD: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "256 GiB of zeros": (allocates, "operator ConstantOfShape brings what is computed"),
    "as many zeros as are observed": (allocates_what_is_observed, "its shape depends on what is observed"),
    "forty doublings": (doubles, "operator Concat brings what is computed"),
    "the smallest integer divided": (divides, "operator Div; allowed: "),
    "a row that depends on the observation": (indexes_what_is_observed, "onnxruntime cannot go on"),
    "two machines and no other number": (two_machines, "numbers do not fill the shape"),
    "more memory than there are machines for": (lambda: stateful(1 << 19), "input 'state' is 524288 wide; allowed: "),
    "many numbers of every machine": (widens, "operator Expand brings what is computed for 94 machines"),
    "an attribute of no function": (refers, "operator Cast has to from a function's 'kind'"),
    "nested metadata": (metadata("[" * 100_000), "metadata is not JSON"),
    "metadata of many digits": (metadata("9" * 5000), "metadata is not JSON"),
    "metadata that is a list": (metadata("[]"), "metadata is not a JSON object"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_graph_without_bounds_is_refused(case: str, cli: Cli, tmp_path: Path) -> None:
    make, part = BAD[case]
    (tmp_path / "bad.onnx").write_bytes(make().SerializeToString())
    assert_refused(cli("evaluate", "bad.onnx", "--episodes", 1), "bad.onnx", part)


def zeros_of_two_values() -> onnx.ModelProto:
    two = helper.make_tensor("two", TensorProto.FLOAT, [2], [1.0, 2.0])
    nodes = chain(
        *FIRST, ("ConstantOfShape", ["one"], "filled", {"value": two}), ("Identity", ["picked"], "actions", {})
    )
    return model_of(nodes, zeros=ZEROS, one=np.array([1]))


@pytest.mark.parametrize("make", [indexes_what_is_observed, zeros_of_two_values])
def test_onnxruntime_writes_nothing_beside_what_it_raises(
    make: Callable[[], onnx.ModelProto], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(UserError, match="onnxruntime cannot"):
        OnnxPolicy(tmp_path / "bad.onnx")
    assert capfd.readouterr().err == ""


MIB = 1 << 20
MOST_MIB = 256
"""What reading a policy may take beyond the process that reads it, as SECURITY.md says of files that are refused."""


def message(number: int, *parts: bytes) -> bytes:
    """A length-delimited field."""
    inner = b"".join(parts)
    length, sizes = len(inner), bytearray()
    while length > 127:
        sizes.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *sizes, length]) + inner


def nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on."""
    inner = b""
    for _ in range(depth):
        inner = message(1, message(5, message(6, inner)))
    return message(7, inner)


SMALL = b"\x0a\x00"  # an empty field 1 in two bytes
MANY = 31 * MIB
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty nodes": (lambda: message(7, SMALL * MANY), f"more than {MAX_FIELDS} fields"),
    "empty attributes": (lambda: message(7, message(1, b"\x2a\x00" * MANY)), f"more than {MAX_FIELDS} fields"),
    "empty metadata": (lambda: b"\x72\x00" * MANY, f"more than {MAX_FIELDS} fields"),
    "packed numbers": (lambda: message(7, message(5, message(7, bytes(62 * MIB)))), f"more than {MAX_FIELDS} fields"),
    "unpacked numbers": (lambda: message(7, message(5, b"\x38\x01" * MANY)), f"more than {MAX_FIELDS} fields"),
    "graphs in graphs": (lambda: nested(200), f"are more than {MAX_DEPTH}"),
    "a group": (lambda: b"\x3b" * 100, "wire type 3"),
    "a field beyond the end": (lambda: b"\x3a\x7f", "longer than what it is in"),
    "half a number": (lambda: b"\x3a\xff", "a number without an end"),
}


def peak_mib(path: Path) -> tuple[float, str]:
    """By how much reading a policy raises the memory of a process, and what it says."""
    code = (
        "import resource, sys, onnx, onnxruntime; from tiergym.errors import UserError\n"
        "from tiergym.policy.onnx_policy import OnnxPolicy; from pathlib import Path\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before, said = peak(), 'read'\n"
        "try: OnnxPolicy(Path(sys.argv[1]))\n"
        "except UserError as error: said = str(error)\n"
        "print(peak() - before, said)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    grown, _, said = done.stdout.strip().partition(" ")
    return float(grown), said


@pytest.mark.parametrize("case", BOMBS)
def test_a_file_that_would_grow_is_refused_before_it_is_parsed(case: str, tmp_path: Path) -> None:
    make, part = BOMBS[case]
    path = tmp_path / "bomb.onnx"
    path.write_bytes(make())
    grown, said = peak_mib(path)
    assert part in said and "\n" not in said
    assert grown < MOST_MIB, f"{grown:.0f} MiB"


def test_the_largest_of_what_is_counted_stays_small_when_it_is_parsed(tmp_path: Path) -> None:
    """As many empty attributes as are allowed: refused for what they are, in little memory."""
    path = tmp_path / "bomb.onnx"
    path.write_bytes(message(7, message(1, b"\x2a\x00" * (MAX_FIELDS - 2))))
    check_fields(path.read_bytes(), onnx.ModelProto.DESCRIPTOR)
    grown, said = peak_mib(path)
    assert said != "read" and grown < MOST_MIB, f"{grown:.0f} MiB: {said}"


def test_a_policy_has_few_fields() -> None:
    data = (ROOT / "agents/weights/ppo_suite/policy.onnx").read_bytes()
    check_fields(data, onnx.ModelProto.DESCRIPTOR)
    with pytest.raises(FieldsError, match="longer than what it is in"):
        check_fields(data[:-1], onnx.ModelProto.DESCRIPTOR)
