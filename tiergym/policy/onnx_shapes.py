"""What a stranger's graph would compute, followed by shapes alone before onnxruntime gets to see it.

Only the operators, and their attributes, that exported policies have: no control flow, nothing that divides integers
(the smallest by -1 kills the process), and no shape that depends on an observation, which could ask for any amount of
memory in the thousandth tick. Shapes depend on the number of machines alone, so following them once for a number says
what every decision of as many machines takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tiergym.memory import check_bytes

Shape = tuple[int, ...]

MAX_NODES = 10_000
"""An LSTM of a hundred layers has a fourth of it."""
_RECURRENT = ("GRU", "LSTM")
MAX_RANK = 6
MOST_MULTIPLIED = 1 << 26
"""Multiplications per machine and decision: four times the weights that a file can hold."""
MOST_CONSTANT, MOST_MADE = 1 << 26, 1 << 20
"""Numbers in all tensors of a decision: so many, as of weights that are transposed, and so many per machine, which are
kept for a hundred machines when a file is looked at; the longest look back that an export has makes a fifth."""
MOST_STATE = 1 << 18
"""Numbers that a machine remembers; the longest look back has 96,256."""
_WIDEST = 8
_MOST_KNOWN = 64


class GraphError(ValueError):
    """What is not allowed in a graph, and what is."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph: its shape and, where neither observation nor mask can change them, its few numbers."""

    shape: Shape
    known: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator with its attributes as Python values."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph of allowed operators: `widths` are those of its inputs (N, width), `constants` its weights."""

    nodes: tuple[Node, ...]
    widths: Mapping[str, int]
    constants: Mapping[str, Value]
    outputs: tuple[str, ...]

    def shapes(self, machines: int) -> dict[str, Shape]:
        """Shapes of the outputs for a number of machines.

        Raises `GraphError` where an operator does not fit its inputs or one decision would compute too much, and
        `UserError` where it would not fit into memory.
        """
        values = dict(self.constants)
        values |= {name: Value((machines, width)) for name, width in self.widths.items()}
        made, multiplied = 0, 0
        most_made = MOST_CONSTANT + machines * MOST_MADE
        for node in self.nodes:
            inputs = [values.get(name) for name in node.inputs]
            for name, value in zip(node.inputs, inputs, strict=True):
                if name and value is None:
                    raise GraphError(f"operator {node.op} reads '{name}', which nothing has made")
            results = _results(node, inputs)
            if len(results) < len(node.outputs):
                raise GraphError(f"operator {node.op} has {len(node.outputs)} outputs; allowed: {len(results)}")
            for name, value in zip(node.outputs, results, strict=False):
                if len(value.shape) > MAX_RANK:
                    raise GraphError(
                        f"operator {node.op} makes a tensor of {len(value.shape)} axes; allowed: {MAX_RANK}"
                    )
                made += value.size
                values[name] = value
            multiplied += _multiplications(node, inputs)
            if made > most_made or multiplied > machines * MOST_MULTIPLIED:
                raise GraphError(
                    f"operator {node.op} brings what is computed for {machines} machines above {most_made} numbers, "
                    f"or {MOST_MULTIPLIED} multiplications each; allowed: at most that"
                )
        check_bytes(made * _WIDEST, f"one decision of {machines} machines")
        return {name: values[name].shape for name in self.outputs if name in values}


def _results(node: Node, inputs: Sequence[Value | None]) -> list[Value]:
    _, rule = OPERATORS[node.op]
    try:
        return rule(node.attributes, inputs)
    except GraphError as error:
        raise GraphError(f"operator {node.op}: {error}") from error
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError) as error:
        shapes = ", ".join("none" if value is None else str(value.shape) for value in inputs)
        raise GraphError(f"operator {node.op} does not fit inputs of shapes {shapes or 'none'}") from error


def _multiplications(node: Node, inputs: Sequence[Value | None]) -> int:
    first = inputs[0] if inputs else None
    if first is None or node.op not in ("Gemm", "MatMul", *_RECURRENT):
        return 0
    if node.op in _RECURRENT:
        return first.shape[1] * sum(value.size for value in inputs[1:3] if value is not None)
    second = inputs[1]
    assert second is not None
    return first.size * max(second.shape)


Rule = Callable[[Mapping[str, Any], Sequence[Value | None]], list[Value]]


def _given(value: Value | None) -> Value:
    if value is None:
        raise GraphError("an input is missing")
    return value


def _numbers(value: Value | None) -> tuple[int, ...]:
    """The numbers of a shape or of axes, which must stand in the file or be another tensor's shape."""
    found = _given(value).known
    if found is None:
        raise GraphError("its shape depends on what is observed; allowed: constants and shapes")
    return found


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise GraphError(f"axis {axis} of {rank}")
    return axis % rank


def _same(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return [Value(_given(inputs[0]).shape)]


def _identity(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return [_given(inputs[0])]


def _broadcast(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return [Value(np.broadcast_shapes(*(_given(value).shape for value in inputs)))]


def _clip(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    if any(value is not None and value.size != 1 for value in inputs[1:]):
        raise GraphError("its limits are no single numbers")
    return _same(attributes, inputs)


def _constant(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return [known_value(attributes["value"])]


def _shape(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape = _given(inputs[0]).shape
    return [Value((len(shape),), shape)]


def _constant_of_shape(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return [Value(_positive(_numbers(inputs[0])))]


def _expand(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return [Value(np.broadcast_shapes(_given(inputs[0]).shape, _positive(_numbers(inputs[1]))))]


def _positive(shape: tuple[int, ...]) -> Shape:
    if any(not 0 <= size < 1 << 40 for size in shape):
        raise GraphError(f"shape {list(shape)}")
    return shape


def _reshape(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    value, wanted = _given(inputs[0]), list(_numbers(inputs[1]))
    if attributes.get("allowzero", 0) == 0:
        wanted = [value.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    rest = [size for size in wanted if size != -1]
    filled = prod(_positive(tuple(rest)))
    if wanted.count(-1) > 1 or (filled == 0 and -1 in wanted):
        raise GraphError(f"shape {wanted}")
    if -1 in wanted:
        wanted[wanted.index(-1)] = value.size // filled
    if prod(wanted) != value.size:
        raise GraphError(f"{value.size} numbers do not fill the shape {wanted}")
    return [Value(tuple(wanted))]


def _flatten(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape, axis = _given(inputs[0]).shape, attributes.get("axis", 1)
    axis = axis if axis == len(shape) else _axis(axis, len(shape))
    return [Value((prod(shape[:axis]), prod(shape[axis:])))]


def _transpose(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape = _given(inputs[0]).shape
    order = attributes.get("perm", range(len(shape))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise GraphError(f"perm {list(order)[:9]}")
    return [Value(tuple(shape[axis] for axis in order))]


def _unsqueeze(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape, axes = list(_given(inputs[0]).shape), _numbers(inputs[1])
    rank = len(shape) + len(axes)
    places = sorted({_axis(axis, rank) for axis in axes})
    if len(places) < len(axes):
        raise GraphError(f"axes {list(axes)}")
    for place in places:
        shape.insert(place, 1)
    return [Value(tuple(shape))]


def _squeeze(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape = _given(inputs[0]).shape
    axes = {_axis(axis, len(shape)) for axis in _numbers(inputs[1])}
    if any(shape[axis] != 1 for axis in axes):
        raise GraphError(f"axes {sorted(axes)} of {shape}")
    return [Value(tuple(size for axis, size in enumerate(shape) if axis not in axes))]


def _slice(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape = list(_given(inputs[0]).shape)
    starts, ends, axes = (_numbers(value) for value in inputs[1:4])
    steps = _numbers(inputs[4]) if len(inputs) > 4 else (1,) * len(axes)
    if not len(starts) == len(ends) == len(axes) == len(steps) or set(steps) != {1}:
        raise GraphError(f"steps {list(steps)}; allowed: 1, as many as axes")
    places = [_axis(axis, len(shape)) for axis in axes]
    if len(set(places)) < len(places):
        raise GraphError(f"axes {list(axes)}")
    for start, end, place in zip(starts, ends, places, strict=True):
        shape[place] = len(range(*slice(start, end).indices(shape[place])))
    return [Value(tuple(shape))]


def _concat(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shapes = [list(_given(value).shape) for value in inputs]
    axis = _axis(attributes["axis"], len(shapes[0]))
    total = sum(shape[axis] for shape in shapes)
    rest = {tuple(shape[:axis] + shape[axis + 1 :]) for shape in shapes}
    if len(rest) != 1:
        raise GraphError("its inputs differ in another axis")
    return [Value((*shapes[0][:axis], total, *shapes[0][axis + 1 :]))]


def _gather(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape, indices = _given(inputs[0]).shape, _given(inputs[1]).shape
    axis = _axis(attributes.get("axis", 0), len(shape))
    return [Value((*shape[:axis], *indices, *shape[axis + 1 :]))]


def _gather_elements(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape, indices = _given(inputs[0]).shape, _given(inputs[1]).shape
    axis = _axis(attributes.get("axis", 0), len(shape))
    if len(indices) != len(shape) or any(indices[i] > shape[i] for i in range(len(shape)) if i != axis):
        raise GraphError(f"indices of shape {indices} into {shape}")
    return [Value(indices)]


def _reduced(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    shape = list(_given(inputs[0]).shape)
    axis = _axis(attributes.get("axis", 0), len(shape))
    if shape[axis] == 0:
        raise GraphError("the largest of nothing")
    shape[axis : axis + 1] = [1] if attributes.get("keepdims", 1) else []
    return [Value(tuple(shape))]


def _gemm(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    first, second = _given(inputs[0]).shape, _given(inputs[1]).shape
    (rows, inner), (other, columns) = (
        shape[::-1] if attributes.get(name, 0) else shape for name, shape in (("transA", first), ("transB", second))
    )
    if inner != other:
        raise GraphError(f"matrices of shapes {first} and {second}")
    if len(inputs) > 2 and np.broadcast_shapes(_given(inputs[2]).shape, (rows, columns)) != (rows, columns):
        raise GraphError(f"{_given(inputs[2]).shape} does not fit {(rows, columns)}")
    return [Value((rows, columns))]


def _lstm(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return _recurrent(attributes, inputs, 4, ("initial_h", "initial_c"))


def _gru(attributes: Mapping[str, Any], inputs: Sequence[Value | None]) -> list[Value]:
    return _recurrent(attributes, inputs, 3, ("initial_h",))


def _recurrent(
    attributes: Mapping[str, Any], inputs: Sequence[Value | None], gates: int, states: tuple[str, ...]
) -> list[Value]:
    if len(inputs) != 5 + len(states) or inputs[4] is not None:
        raise GraphError(f"its inputs are others; allowed: X, W, R, B, none, {', '.join(states)}")
    steps, batch, width = _given(inputs[0]).shape
    hidden = attributes["hidden_size"]
    wanted = ((1, gates * hidden, width), (1, gates * hidden, hidden), (1, 2 * gates * hidden), None)
    for value, shape in zip(inputs[1:], (*wanted, *((1, batch, hidden),) * len(states)), strict=True):
        if shape is not None and _given(value).shape != shape:
            raise GraphError(f"an input of shape {_given(value).shape}; allowed: {shape}")
    if steps != 1 or hidden < 1:
        raise GraphError(f"{steps} steps; allowed: 1")
    state = Value((1, batch, hidden))
    return [Value((steps, 1, batch, hidden)), *(state,) * len(states)]


OPERATORS: dict[str, tuple[tuple[str, ...], Rule]] = {
    "Add": ((), _broadcast),
    "And": ((), _broadcast),
    "ArgMax": (("axis", "keepdims", "select_last_index"), _reduced),
    "Cast": (("to",), _same),
    "Clip": ((), _clip),
    "Concat": (("axis",), _concat),
    "Constant": (("value",), _constant),
    "ConstantOfShape": (("value",), _constant_of_shape),
    "Equal": ((), _broadcast),
    "Elu": (("alpha",), _same),
    "Exp": ((), _same),
    "Expand": ((), _expand),
    "Flatten": (("axis",), _flatten),
    "Gather": (("axis",), _gather),
    "GatherElements": (("axis",), _gather_elements),
    "GRU": (("hidden_size", "linear_before_reset"), _gru),
    "Gemm": (("alpha", "beta", "transA", "transB"), _gemm),
    "Greater": ((), _broadcast),
    "GreaterOrEqual": ((), _broadcast),
    "Identity": ((), _identity),
    "LSTM": (("hidden_size",), _lstm),
    "Less": ((), _broadcast),
    "LessOrEqual": ((), _broadcast),
    "Max": ((), _broadcast),
    "Min": ((), _broadcast),
    "Mul": ((), _broadcast),
    "Neg": ((), _same),
    "Not": ((), _same),
    "Or": ((), _broadcast),
    "Relu": ((), _same),
    "Reshape": (("allowzero",), _reshape),
    "Shape": ((), _shape),
    "Sigmoid": ((), _same),
    "Slice": ((), _slice),
    "Softplus": ((), _same),
    "Squeeze": ((), _squeeze),
    "Sub": ((), _broadcast),
    "Tanh": ((), _same),
    "Transpose": (("perm",), _transpose),
    "Unsqueeze": ((), _unsqueeze),
    "Where": ((), _broadcast),
}
"""Allowed operators: names of their attributes, and the rule for the shapes of what they make."""


def known_value(array: np.ndarray) -> Value:
    """A constant; its numbers are kept where they can be a shape or axes."""
    small = array.ndim <= 1 and array.size <= _MOST_KNOWN and array.dtype == np.int64
    return Value(array.shape, tuple(int(number) for number in array.ravel()) if small else None)


def read_graph(graph: Any, numpy_helper: Any, attribute_value: Callable[[Any], Any]) -> Graph:
    """The graph of an `onnx.GraphProto`. Raises `GraphError` for operators, attributes and tensors not allowed."""
    if len(graph.node) > MAX_NODES:
        raise GraphError(f"{len(graph.node)} operators; allowed: at most {MAX_NODES}")
    constants = {tensor.name: known_value(_array(tensor, numpy_helper)) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type not in OPERATORS:
            raise GraphError(f"operator {node.op_type}; allowed: {', '.join(OPERATORS)}")
        attributes: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.name not in OPERATORS[node.op_type][0]:
                names = ", ".join(OPERATORS[node.op_type][0]) or "none"
                raise GraphError(f"operator {node.op_type} has the attribute '{attribute.name}'; allowed: {names}")
            is_tensor = attribute.name == "value"
            value = _array(attribute.t, numpy_helper) if is_tensor else attribute_value(attribute)
            attributes[attribute.name] = value
        nodes.append(Node(node.op_type, tuple(node.input), tuple(node.output), attributes))
    widths = {entry.name: _width(entry) for entry in graph.input}
    if widths.get("state", 1) > MOST_STATE:
        raise GraphError(f"input 'state' is {widths['state']} wide; allowed: at most {MOST_STATE}")
    return Graph(tuple(nodes), widths, constants, tuple(entry.name for entry in graph.output))


def _array(tensor: Any, numpy_helper: Any) -> np.ndarray:
    if tensor.data_type not in (1, 6, 7, 9, 11):  # TensorProto's FLOAT, INT32, INT64, BOOL, DOUBLE
        raise GraphError(
            f"tensor '{tensor.name}' is of type {tensor.data_type}; allowed: float, double, int32, int64, bool"
        )
    try:
        array: np.ndarray = numpy_helper.to_array(tensor)
    except Exception as error:  # of a size that its bytes do not have
        raise GraphError(f"tensor '{tensor.name}': {error}") from error
    return array


def _width(entry: Any) -> int:
    dims = entry.type.tensor_type.shape.dim
    if len(dims) != 2 or not 1 <= dims[1].dim_value <= 1 << 24:
        raise GraphError(f"input '{entry.name}' has {len(dims)} axes; allowed: (N, width) with a fixed width from 1")
    return int(dims[1].dim_value)
