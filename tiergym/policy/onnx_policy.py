"""Policies from ONNX files, run by onnxruntime: no code of the file's author is executed.

Before it is parsed, its fields are counted (`tiergym.policy.onnx_fields`). Before a session is made, the file must be
a valid model of the operators that exports have, with all weights inside and shapes that depend on the number of
machines alone (`tiergym.policy.onnx_shapes`), and its layout must be this tiergym's. Then it is asked for decisions on
the extremes of what can be observed. Files may come from strangers.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.files import read_bytes
from tiergym.policy.base import check_actions
from tiergym.policy.onnx_fields import FieldsError, check_fields
from tiergym.policy.onnx_layout import METADATA_KEY, check_layout
from tiergym.policy.onnx_shapes import Graph, GraphError, read_graph

MAX_BYTES = 64 << 20
STANDARD_DOMAINS = ("", "ai.onnx")
_PLAIN_ATTRIBUTES = (1, 2, 3, 4, 6, 7, 8)
"""AttributeProto's FLOAT, INT, STRING, TENSOR and lists of them; not a GRAPH, which control flow has."""
_INPUTS = {"obs": ("tensor(float)", N_OBS), "masks": ("tensor(bool)", act.N_MASK)}


def _check_model(data: bytes, path: Path) -> Graph:
    onnx = require("onnx")
    try:
        check_fields(data, onnx.ModelProto.DESCRIPTOR)
        model = onnx.load_model_from_string(data)
    except FieldsError as error:
        raise UserError(f"{path}: not an ONNX file of a policy: {error}") from error
    except Exception as error:
        raise UserError(f"{path}: not an ONNX file: {error}") from error
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer:
        raise UserError(f"{path}: has functions, training graphs or sparse weights; allowed: one plain graph")
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.domain not in STANDARD_DOMAINS:
            raise UserError(
                f"{path}: operator {node.op_type} is of domain '{node.domain}'; allowed: standard ONNX operators"
            )
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise UserError(
                    f"{path}: operator {node.op_type} has {attribute.name} from a function's "
                    f"'{attribute.ref_attr_name}'; allowed: attributes with values"
                )
            if attribute.type not in _PLAIN_ATTRIBUTES:
                raise UserError(f"{path}: operator {node.op_type} is control flow or sparse; allowed: one plain graph")
            tensors += [attribute.t, *attribute.tensors]
    for tensor in tensors:
        # onnxruntime would read such a file relative to the working directory
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise UserError(f"{path}: weight '{tensor.name}' lies in another file; allowed: all weights in the file")
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise UserError(f"{path}: not a valid ONNX model: {error}") from error
    unknown = {entry.name for entry in graph.input} - {*_INPUTS, "state"}
    if unknown:
        raise UserError(f"{path}: unknown input '{min(unknown)}'; allowed: obs, masks, state")
    try:
        read = read_graph(graph, onnx.numpy_helper, onnx.helper.get_attribute_value)
    except GraphError as error:
        raise UserError(f"{path}: {error}") from error
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    check_layout(metadata.get(METADATA_KEY), str(path))
    return read


class OnnxPolicy:
    """A batched policy from an ONNX file; microseconds per call: about 12 for one machine, 400 for 1024.

    A recurrent one keeps its state (N, S) between calls, from `reset` on; each row belongs to one machine, and
    machines that start a new episode in the middle of a batch need a `reset` of all.
    """

    def __init__(self, path: Path) -> None:
        """Raises `UserError` where the file is unsafe, damaged, or made for another layout."""
        self.name = path.stem
        data = read_bytes(path, MAX_BYTES)
        self._path = path
        self._graph = _check_model(data, path)
        for machines in (1, 2, 3):
            self._follow(machines)
        self._session = _session(data, path)
        self._state_width = _check_interface(self._session, path)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._state: NDArray[np.float32] | None = None
        self._probe()

    def reset(self, num_envs: int, seed: int) -> None:
        """Blank state for `num_envs` new episodes; the seed plays no part, the export is deterministic."""
        self._state = np.zeros((num_envs, self._state_width), dtype=np.float32)

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions (N, N_ACTIONS) int64 for observations (N, N_OBS) float32 and masks (N, N_MASK) bool."""
        feed: dict[str, NDArray[Any]] = {
            "obs": np.ascontiguousarray(obs, dtype=np.float32),
            "masks": np.ascontiguousarray(masks, dtype=np.bool_),
        }
        feed = {name: array for name, array in feed.items() if name in self._inputs}
        if len(obs) != self._followed:
            self._follow(len(obs))
        try:
            if not self._state_width:
                return np.asarray(self._session.run(["actions"], feed)[0])
            if self._state is None or len(self._state) != len(obs):
                self.reset(len(obs), 0)
            actions, self._state = self._session.run(["actions", "next_state"], {**feed, "state": self._state})
        except Exception as error:  # onnxruntime's own, such as of an index that has no row
            raise UserError(f"{self._path}: onnxruntime cannot go on: {error}") from error
        return np.asarray(actions)

    def _follow(self, machines: int) -> None:
        """Raise `UserError` unless a decision of as many machines is of bounded size and of the shape of actions."""
        try:
            shapes = self._graph.shapes(machines)
        except GraphError as error:
            raise UserError(f"{self._path}: {error}") from error
        wanted = (machines, len(act.ENTRIES))
        if shapes.get("actions") != wanted:
            raise UserError(f"{self._path}: output 'actions' is of shape {shapes.get('actions')}; allowed: {wanted}")
        state = self._graph.widths.get("state")
        if state is not None and shapes.get("next_state") != (machines, state):
            raise UserError(
                f"{self._path}: 'next_state' is of shape {shapes.get('next_state')}; allowed: {(machines, state)}"
            )
        self._followed = machines

    def _probe(self) -> None:
        """Decide on the extremes of observations and masks; raises `UserError` where that fails or is no action."""
        random = np.random.default_rng(0)
        noise = random.random((64, N_OBS), dtype=np.float32)
        none, ones, each = np.zeros((1, N_OBS), np.float32), np.ones((2, N_OBS), np.float32), np.eye(N_OBS, dtype="f4")
        for obs in (none, ones, each, 1 - each, noise, np.round(noise)):
            masks = random.random((len(obs), act.N_MASK)) < 0.5
            masks[:, act.OFFSETS + act.DEFAULT] = True
            for allowed in (masks, np.ones_like(masks)):
                self.reset(len(obs), 0)
                for _ in range(2 if self._state_width else 1):
                    check_actions(self(obs, allowed), len(obs), self.name)


def _session(data: bytes, path: Path) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported: 1.29 and later write files else
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # two small matrix products: a second thread costs more than it brings
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # it would write errors to stderr, of which each is an exception besides
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: onnxruntime cannot run it: {error}") from error


def _check_interface(session: Any, path: Path) -> int:
    """Width of the recurrent state, 0 without one."""
    inputs = {entry.name: entry for entry in session.get_inputs()}
    outputs = {entry.name: entry for entry in session.get_outputs()}
    for name, (kind, width) in _INPUTS.items():
        if name in inputs and (inputs[name].type != kind or inputs[name].shape[1:] != [width]):
            raise UserError(
                f"{path}: input '{name}' is {inputs[name].type} {inputs[name].shape}; allowed: {kind} (N, {width})"
            )
    if "actions" not in outputs or outputs["actions"].type != "tensor(int64)":
        raise UserError(f"{path}: no output 'actions' of int64; outputs: {', '.join(outputs)}")
    if "state" not in inputs:
        return 0
    shapes = [entry.shape for entry in (inputs["state"], outputs.get("next_state")) if entry is not None]
    if len(shapes) != 2 or shapes[0][1:] != shapes[1][1:] or not isinstance(shapes[0][-1], int):
        raise UserError(f"{path}: 'state' and 'next_state' must both be (N, S) with the same fixed S")
    return int(shapes[0][-1])
