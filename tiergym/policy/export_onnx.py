"""From a trained stable-baselines3 model, or a torch module of one's own, to an ONNX file that needs nothing else.

The graph is the actor with its deterministic choice, observations and masks in, mode indices out, whatever the
algorithm and action form: the network, the argmax or the rescaled mean, the table of baselines, and the masks.
Observations are in [0, 1] by construction, so there is no scaling to store. The batch is dynamic; the opset is 17.

A mode that is masked becomes the entry's default, which is what the machine did with it in training too; a
MaskablePPO policy, trained with masks, chooses its best allowed mode instead.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from tiergym import files
from tiergym.env import actions as act
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.extras import require
from tiergym.policy.multi_categorical import MASKED_LOGIT, PADDING_LOGIT, padding_index
from tiergym.policy.onnx_layout import METADATA_KEY, layout_json

OPSET = 17


@dataclass(frozen=True, slots=True)
class Frames:
    """What a decision sees: observations of `count` decisions, the newest first, each `every_ticks` after the next."""

    count: int = 1
    every_ticks: int = 1


class ArgmaxModes(nn.Module):
    """Flat logits (N, N_MASK) to the largest of each entry; with `masked`, of the allowed ones."""

    index: th.Tensor

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.register_buffer("index", padding_index(act.NVEC.tolist()))

    def forward(self, logits: th.Tensor, masks: th.Tensor) -> th.Tensor:
        """Mode indices (N, N_ACTIONS) int64."""
        if self.masked:
            logits = logits.masked_fill(~masks, MASKED_LOGIT)
        padded = th.cat([logits, th.full_like(logits[:, :1], PADDING_LOGIT)], dim=1)
        table = padded.index_select(1, self.index)
        return table.view(-1, int(act.NVEC.max()), len(act.NVEC)).argmax(dim=1)


class BoxModes(nn.Module):
    """Numbers (N, N_ACTIONS), clipped to [-1, 1] and cut into equal bins, as in `tiergym.env.action_forms.BoxForm`."""

    bins_per_unit: th.Tensor
    last_mode: th.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bins_per_unit", th.tensor(act.NVEC / 2, dtype=th.float64))
        self.register_buffer("last_mode", th.tensor(act.NVEC - 1))

    def forward(self, numbers: th.Tensor, masks: th.Tensor) -> th.Tensor:
        """Mode indices (N, N_ACTIONS) int64."""
        modes = ((numbers.clamp(-1.0, 1.0) + 1.0).double() * self.bins_per_unit).long()
        return th.minimum(modes, self.last_mode)


class BaselineModes(nn.Module):
    """Scores (N, K) to the row of the best-scored of K static actions."""

    table: th.Tensor

    def __init__(self, table: NDArray[np.int64]) -> None:
        super().__init__()
        self.register_buffer("table", th.tensor(table))

    def forward(self, scores: th.Tensor, masks: th.Tensor) -> th.Tensor:
        """Mode indices (N, N_ACTIONS) int64."""
        return self.table[scores.argmax(dim=1)]


class Actor(nn.Module):
    """The deterministic decision of a policy: `forward(obs, masks)`, and `(obs, masks, state)` with a state."""

    offsets: th.Tensor
    default: th.Tensor
    state_width: int = 0
    """S of the state (N, S) that it carries from tick to tick; 0: none."""

    def __init__(self, policy: BasePolicy, to_modes: nn.Module) -> None:
        super().__init__()
        self.policy = policy
        self.to_modes = to_modes
        self.register_buffer("offsets", th.tensor(act.OFFSETS))
        self.register_buffer("default", th.tensor(act.DEFAULT))

    def scores(self, obs: th.Tensor) -> th.Tensor:
        """What the network says of observations (N, frames x N_OBS): logits, action values or mean actions."""
        policy: Any = self.policy
        out: th.Tensor
        if isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy):
            features = policy.pi_features_extractor(obs)
            out = policy.action_net(policy.mlp_extractor.forward_actor(features))
        elif isinstance(policy, DQNPolicy):
            out = policy.q_net(obs)
        elif isinstance(policy, SACPolicy):
            out = policy.actor(obs, deterministic=True)
        elif isinstance(policy, TD3Policy):
            out = policy.actor(obs)
        else:
            raise UserError(f"cannot export a {type(policy).__name__}; allowed: the policies of the seven algorithms")
        return out

    def decide(self, scores: th.Tensor, masks: th.Tensor) -> th.Tensor:
        """Mode indices (N, N_ACTIONS) int64, the default where a chosen mode is masked."""
        modes: th.Tensor = self.to_modes(scores, masks)
        return th.where(masks.gather(1, modes + self.offsets), modes, self.default)

    def forward(self, obs: th.Tensor, masks: th.Tensor) -> th.Tensor:
        """Mode indices (N, N_ACTIONS) int64."""
        return self.decide(self.scores(obs), masks)


class RecurrentActor(Actor):
    """The same with memory: state (N, S), an LSTM's hidden and cell states side by side, a GRU's hidden ones."""

    policy: RecurrentActorCriticPolicy

    def __init__(self, policy: RecurrentActorCriticPolicy, to_modes: nn.Module) -> None:
        super().__init__(policy, to_modes)
        self.layers, _, self.hidden = policy.lstm_hidden_state_shape
        cell: Any = policy.lstm_actor
        self.rows = self.layers if isinstance(cell, nn.GRU) else 2 * self.layers
        self.state_width = self.rows * self.hidden

    def forward(self, obs: th.Tensor, masks: th.Tensor, state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:  # type: ignore[override]
        """Mode indices (N, N_ACTIONS) int64 and the next state."""
        both = state.view(-1, self.rows, self.hidden).transpose(0, 1).contiguous()
        features = self.policy.pi_features_extractor(obs)
        out, states = self.policy.lstm_actor(features.unsqueeze(0), (both[: self.layers], both[-self.layers :]))
        scores = self.policy.action_net(self.policy.mlp_extractor.forward_actor(out.squeeze(0)))
        next_state = th.cat(states)[: self.rows].transpose(0, 1).reshape(-1, self.state_width)
        return self.decide(scores, masks), next_state


class FramedActor(Actor):
    """The same that looks back: state (N, S), the observations of the ticks before, the newest first.

    It decides every tick, so it sees what it has learned from: its observation and those `every_ticks` apart before it.
    """

    def __init__(self, policy: BasePolicy, to_modes: nn.Module, frames: Frames) -> None:
        super().__init__(policy, to_modes)
        self.frames = frames
        self.state_width = (frames.count - 1) * frames.every_ticks * N_OBS

    def forward(self, obs: th.Tensor, masks: th.Tensor, state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:  # type: ignore[override]
        """Mode indices (N, N_ACTIONS) int64 and the next state."""
        seen = th.cat([obs, state], dim=1)
        starts = (at * self.frames.every_ticks * N_OBS for at in range(self.frames.count))
        framed = th.cat([seen[:, start : start + N_OBS] for start in starts], dim=1)
        return self.decide(self.scores(framed), masks), seen[:, : self.state_width]


def make_actor(
    model: BaseAlgorithm,
    baselines: NDArray[np.int64] | Sequence[Sequence[int]] | None = None,
    frames: Frames = Frames(),
) -> Actor:
    """The exportable actor of a model; `baselines` (K, N_ACTIONS) are the rows of the `baseline` action form.

    Raises `UserError` for a model whose spaces are not those of the environment.
    """
    space, policy = model.action_space, model.policy
    width = frames.count * N_OBS
    if model.observation_space.shape != (width,):
        raise UserError(f"the model's observations have shape {model.observation_space.shape}; allowed: ({width},)")
    to_modes: nn.Module
    if baselines is not None:
        to_modes = BaselineModes(np.asarray(baselines, dtype=np.int64))
    elif space.shape == (len(act.ENTRIES),):
        discrete = np.issubdtype(space.dtype, np.integer)
        to_modes = ArgmaxModes(isinstance(policy, MaskableActorCriticPolicy)) if discrete else BoxModes()
    else:
        raise UserError(f"the model's actions are {space}; allowed: the action forms multidiscrete, box and baseline")
    actor: Actor
    if isinstance(policy, RecurrentActorCriticPolicy):
        actor = RecurrentActor(policy, to_modes)
    elif frames.count > 1:
        actor = FramedActor(policy, to_modes, frames)
    else:
        actor = Actor(policy, to_modes)
    return actor.to(model.device).eval()


class ModuleActor(nn.Module):
    """The decision of anybody's module: its logits' best allowed modes, or its own actions where they are allowed."""

    offsets: th.Tensor
    default: th.Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.to_modes = ArgmaxModes(masked=True)
        self.register_buffer("offsets", th.tensor(act.OFFSETS))
        self.register_buffer("default", th.tensor(act.DEFAULT))

    def forward(self, obs: th.Tensor, masks: th.Tensor) -> th.Tensor:
        """Mode indices (N, N_ACTIONS) int64."""
        out: th.Tensor = self.module(obs)
        if out.is_floating_point():
            return self.to_modes(out, masks)
        return th.where(masks.gather(1, out + self.offsets), out, self.default)


def export_onnx(
    model: BaseAlgorithm, path: Path, baselines: NDArray[np.int64] | Sequence[Sequence[int]] | None = None
) -> None:
    """Write the model's deterministic actor as an ONNX file, atomically; see `make_actor` for the errors."""
    export_actor(make_actor(model, baselines), path)


def export_actor(actor: Actor, path: Path) -> None:
    """Write an actor as an ONNX file, atomically."""
    device = actor.offsets.device
    example = {"obs": th.zeros(2, N_OBS), "masks": th.ones(2, act.N_MASK, dtype=th.bool)}
    outputs = ["actions"]
    if actor.state_width:
        example["state"] = th.zeros(2, actor.state_width)
        outputs.append("next_state")
    _write(actor, {name: tensor.to(device) for name, tensor in example.items()}, outputs, path)


def export_module(module: nn.Module, path: Path) -> None:
    """Write a torch module of your own as a policy file, atomically: `load_policy(path)` and every command take it.

    `module(obs)` gets observations (N, N_OBS) float32 in [0, 1] and returns either logits (N, N_MASK) float, the modes
    of all entries one after another, of which the best allowed one of each entry is chosen; or actions (N, N_ACTIONS)
    int64, where an impossible mode becomes the default. It is exported as in `module.eval()`, with its weights,
    and left as it was. It has no memory between steps, and its operations must be ones that ONNX has (opset 17).

    Raises `UserError` where it returns anything else, or cannot be traced.
    """
    parameter = next(module.parameters(), None)
    device = th.device("cpu") if parameter is None else parameter.device
    example = {"obs": th.zeros(2, N_OBS, device=device), "masks": th.ones(2, act.N_MASK, dtype=th.bool, device=device)}
    training = module.training
    module.eval()
    try:
        _check_output(module, example["obs"])
        actor = ModuleActor(module).to(device).eval()
        try:
            _write(actor, example, ["actions"], path)
        except (th.onnx.OnnxExporterError, RuntimeError, TypeError) as error:
            raise UserError(f"{type(module).__name__} cannot be exported as ONNX: {error}") from error
    finally:
        module.train(training)


def _check_output(module: nn.Module, obs: th.Tensor) -> None:
    """Raise `UserError` unless `module(obs)` returns logits or actions."""
    name = type(module).__name__
    try:
        with th.no_grad():
            out = module(obs)
    except Exception as error:
        raise UserError(f"{name} failed on observations {tuple(obs.shape)}: {type(error).__name__}: {error}") from error
    logits, actions = (len(obs), act.N_MASK), (len(obs), len(act.ENTRIES))
    if not isinstance(out, th.Tensor):
        raise UserError(f"{name} returns {type(out).__name__}; allowed: one tensor, logits or actions")
    if tuple(out.shape) != (logits if out.is_floating_point() else actions) or (
        not out.is_floating_point() and out.dtype != th.int64
    ):
        raise UserError(
            f"{name} returns {out.dtype} {tuple(out.shape)} for {len(obs)} observations; allowed: logits, float "
            f"{logits}, or actions, int64 {actions}"
        )


def _write(actor: nn.Module, example: dict[str, th.Tensor], outputs: list[str], path: Path) -> None:
    """Trace `actor` on the example inputs, by name, and write the file with its layout."""
    onnx = require("onnx")
    with TemporaryDirectory() as folder, warnings.catch_warnings(), th.no_grad():
        # The TorchScript exporter needs no onnxscript and keeps the batch dynamic; torch is pinned, so its
        # deprecation is not news. The tracer's warnings are about sizes that are constant here.
        warnings.simplefilter("ignore")
        target = Path(folder) / "actor.onnx"
        th.onnx.export(
            actor,
            tuple(example.values()),
            target,
            input_names=list(example),
            output_names=outputs,
            dynamic_axes={name: {0: "machines"} for name in (*example, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
        exported = onnx.load_model(target)
    exported.metadata_props.add(key=METADATA_KEY, value=layout_json())
    onnx.checker.check_model(exported)
    files.write_bytes(path, exported.SerializeToString())
