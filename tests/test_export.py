"""The exported policy: the same decisions as the model's, everything inside, and nothing else accepted."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch as th
from onnx import TensorProto, helper, numpy_helper

from tests.short_runs import random_masks, random_observations
from tiergym.env import actions as act
from tiergym.env.action_forms import BaselineForm, BoxForm
from tiergym.env.observations import LAYOUT_VERSION, N_OBS
from tiergym.errors import UserError
from tiergym.lab import learner
from tiergym.lab.recipe import Recipe, list_recipes, load_recipe, make_recipe
from tiergym.policy.export_onnx import BoxModes, export_actor, export_module, export_onnx
from tiergym.policy.load import load_policy
from tiergym.policy.onnx_layout import METADATA_KEY, current_layout, layout_json
from tiergym.policy.onnx_policy import OnnxPolicy
from tiergym.policy.torch_policy import TorchPolicy
from tiergym.sim import names as n

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo-box": ("ppo", {"action_form": "box"}),
    "ppo-baseline": ("ppo", {"action_form": "baseline", "baselines": ["soft", "online", "restrict"]}),
    "ppo-stock": ("ppo", {"policy": "MlpPolicy", "network": {}}),
    "recurrent-box": ("recurrent_ppo", {"action_form": "box"}),
    "recurrent-two-layers": ("recurrent_ppo", {"network": {"n_lstm_layers": 2, "lstm_hidden_size": 8}}),
    "gru-box": ("recurrent_gru", {"action_form": "box"}),
    "gru-two-layers": ("recurrent_gru", {"network": {"n_lstm_layers": 2, "lstm_hidden_size": 8}}),
    "maskable-baseline": ("maskable_ppo", {"action_form": "baseline"}),
}


def recipe_of(case: str) -> Recipe:
    name, change = FORMS.get(case, (case, {}))
    document = {**load_recipe(name).document(), **change}
    for key in ("buffer_size", "learning_starts"):
        if key in document["hyperparameters"]:
            document["hyperparameters"][key] = 100
    return make_recipe(case, document, case)


def random_model(recipe: Recipe, seed: int = 0) -> Any:
    """A model whose outputs are spread out, as an untrained network's are not."""
    model: Any = learner.build(recipe, seed)
    generator = th.Generator().manual_seed(seed)
    with th.no_grad():
        for parameter in model.policy.parameters():
            spread = th.randn(parameter.shape, generator=generator) / max(parameter.shape[-1], 1) ** 0.5
            # Observations are all positive: rows that add up to 0 answer to their differences.
            parameter.copy_(spread - spread.mean(-1, keepdim=True) if parameter.ndim > 1 else 0.0 * spread)
    return model


def allowed(modes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """What machines make of modes: the default where one is masked."""
    return np.where(np.take_along_axis(masks, modes + act.OFFSETS, axis=1), modes, act.DEFAULT)


def predicted(model: Any, recipe: Recipe, obs: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """SB3's own deterministic prediction, through the environment's action form."""
    form = learner.form_of(recipe)
    extra = {"action_masks": form.to_masks(masks)} if recipe.algorithm == "maskable_ppo" else {}
    chosen, _ = model.predict(obs, deterministic=True, **extra)
    return allowed(form.to_modes(chosen, len(obs)), masks)


@pytest.mark.parametrize("case", [*(name for name in list_recipes() if load_recipe(name).frames == 1), *FORMS])
def test_the_file_decides_as_the_model(case, tmp_path):
    recipe = recipe_of(case)
    model = random_model(recipe)
    path = tmp_path / "policy.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(model, path, learner.baseline_table(learner.form_of(recipe)))
    policy = load_policy(path)
    for num_envs in (1, 300):
        obs, mask = random_observations(num_envs), random_masks(num_envs)
        policy.reset(num_envs, 0)
        ours, theirs = policy(obs, mask), predicted(model, recipe, obs, mask)
        assert ours.dtype == np.int64 and (ours == theirs).all()
    if case != "td3":  # its random network saturates
        assert len(np.unique(ours, axis=0)) > 1


def test_a_maskable_policy_takes_its_best_allowed_mode(tmp_path):
    model = random_model(recipe_of("maskable_ppo"))
    export_onnx(model, tmp_path / "policy.onnx")
    obs, every = random_observations(200), np.ones((200, act.N_MASK), np.bool_)
    policy = load_policy(tmp_path / "policy.onnx")
    free = policy(obs, every)
    forbidden = every.copy()
    np.put_along_axis(forbidden, free + act.OFFSETS, False, axis=1)
    second = policy(obs, forbidden)
    assert (second != free).all() and (second != act.DEFAULT).any()


@pytest.mark.parametrize("case", ["recurrent_ppo", "recurrent-two-layers", "recurrent_gru", "gru-two-layers"])
def test_a_recurrent_policy_remembers_until_it_is_reset(tmp_path, case):
    model = random_model(recipe_of(case))
    export_onnx(model, tmp_path / "policy.onnx")
    policy = load_policy(tmp_path / "policy.onnx")
    mask = np.ones((40, act.N_MASK), np.bool_)
    state, starts = None, np.ones(40, np.bool_)
    policy.reset(40, 0)
    steps = []
    for tick in range(6):
        steps.append(policy(random_observations(40, seed=tick), mask))
        expected, state = model.predict(random_observations(40, seed=tick), state, starts, deterministic=True)
        assert (steps[-1] == expected).all()
        starts = np.zeros(40, np.bool_)
    assert (policy(random_observations(40), mask) != steps[0]).any()
    policy.reset(40, 0)
    assert (policy(random_observations(40), mask) == steps[0]).all()


@pytest.mark.parametrize(("algorithm", "form"), [("ppo", "multidiscrete"), ("a2c", "box"), ("dqn", "baseline")])
def test_a_policy_with_frames_sees_every_tick_what_it_learned_from(tmp_path, algorithm, form):
    """Its own observation, and those of the ticks that were decisions while it learned; none before the episode."""
    frames, hold, machines = 3, 2, 40
    document = load_recipe(algorithm).document() | {"action_form": form, "frames": frames, "hold_ticks": hold}
    recipe = make_recipe("framed", document, "framed")
    model = random_model(recipe)
    actor = learner.actor_of(model, recipe)
    export_actor(actor, tmp_path / "policy.onnx")
    observed = [random_observations(machines, seed=tick) for tick in range(8)]
    before = [np.zeros_like(observed[0])] * (frames - 1) * hold
    mask = random_masks(machines)
    for policy in (load_policy(tmp_path / "policy.onnx"), TorchPolicy(actor, "framed")):
        for _ in range(2):
            policy.reset(machines, 0)
            for tick, obs in enumerate(observed):
                window = [*before, *observed[: tick + 1]][::-hold][:frames]
                expected = predicted(model, recipe, np.concatenate(window, axis=1), mask)
                assert (policy(obs, mask) == expected).all(), tick
    assert len(np.unique(expected, axis=0)) > 1


def test_the_box_is_cut_as_the_environment_cuts_it():
    edges = np.concatenate([2 * np.arange(-1, 6) / width - 1 for width in (2, 3, 4)])
    numbers = np.concatenate([edges, np.nextafter(edges, 9), np.nextafter(edges, -9), np.linspace(-1.5, 1.5, 400)])
    numbers = np.tile(numbers.astype(np.float32)[:, None], (1, n.N_ACTIONS))
    ours = BoxModes()(th.tensor(numbers), th.ones(len(numbers), act.N_MASK, dtype=th.bool))
    assert (ours.numpy() == BoxForm().to_modes(numbers, len(numbers))).all()


def test_baselines_are_rows_of_the_table(tmp_path):
    recipe = recipe_of("ppo-baseline")
    form = learner.form_of(recipe)
    assert isinstance(form, BaselineForm) and form.baseline_names == ("soft", "online", "restrict")
    export_onnx(random_model(recipe), tmp_path / "policy.onnx", learner.baseline_table(form))
    actions = load_policy(tmp_path / "policy.onnx")(random_observations(100), np.ones((100, act.N_MASK), np.bool_))
    assert {tuple(row) for row in actions} <= {tuple(baseline.action) for baseline in form.baselines}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "policy.onnx"
    export_onnx(random_model(recipe_of("ppo")), path)
    return path


def test_the_file_says_what_it_is(exported):
    model = onnx.load(exported)
    assert {prop.key: json.loads(prop.value) for prop in model.metadata_props} == {METADATA_KEY: current_layout()}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert current_layout()["layout_version"] == LAYOUT_VERSION
    assert [path.name for path in exported.parent.iterdir()] == ["policy.onnx"]


def test_a_file_that_was_moved_still_works_from_anywhere(exported, tmp_path, monkeypatch):
    (tmp_path / "mine.onnx").write_bytes(exported.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert load_policy("mine.onnx").name == "mine"


def test_loading_a_policy_imports_neither_torch_nor_sb3(exported):
    code = (
        "import sys; from tiergym.policy.load import load_policy; "
        f"load_policy({str(exported)!r}); "
        "print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def with_layout(**changes: Any) -> Any:
    def edit(model: onnx.ModelProto) -> None:
        model.metadata_props[0].value = json.dumps({**current_layout(), **changes})

    return edit


def _external(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def _custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)


def _control_flow(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=body, else_branch=body))


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="com.example")


def _float_output(model: onnx.ModelProto) -> None:
    last = model.graph.node[-1]
    last.output[0] = "whole"
    model.graph.node.append(helper.make_node("Cast", ["whole"], ["actions"], to=TensorProto.FLOAT))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _huge_modes(model: onnx.ModelProto) -> None:
    last = model.graph.node[-1]
    last.output[0] = "small"
    model.graph.initializer.append(numpy_helper.from_array(np.array(7, np.int64), "seven"))
    model.graph.node.append(helper.make_node("Add", ["small", "seven"], ["actions"]))


def _unknown_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("weather", TensorProto.FLOAT, [1]))


def _narrow(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3


def _no_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_no_metadata, "no 'tiergym' metadata; allowed: a policy written by `tiergym export`"),
        (with_layout(layout_version=99), "layout_version is 99; this tiergym has"),
        (with_layout(observations=["free.dma", "free.other"]), r"observations\[1\] is 'free.other', in this tiergym"),
        (
            with_layout(observations=[*current_layout()["observations"], "more"]),
            "is 'more', in this tiergym",
        ),
        (
            with_layout(actions=current_layout()["actions"][:-1]),
            r"actions\[16\] is None, in this .*memmap",
        ),
        (
            with_layout(
                layout_version=3,
                actions=[entry for entry in current_layout()["actions"] if entry["name"] != "limit.kernel"],
                observations=[name for name in current_layout()["observations"] if name != "last.limit.kernel"],
            ),
            r"actions\[12\] is .*'reclaim.pt_empty'.*, in this tiergym it is .*'limit.kernel'.* train it again",
        ),
        (with_layout(actions="none"), "actions is 'none'"),
        (_custom_operator, "is of domain 'com.example'; allowed: standard ONNX operators"),
        (_function, "has functions"),
        (_control_flow, "operator If is control flow"),
        (_external, "lies in another file"),
        (_float_output, "no output 'actions' of int64"),
        (_unknown_input, "unknown input 'weather'"),
        (_narrow, r"mine\.onnx"),
        (_huge_modes, "is 7 on machine 0|is 8 on machine 0|is 9 on machine 0|is 10 on machine 0"),
    ],
)
def test_another_file_is_refused(exported, tmp_path, edit, message):
    model = onnx.load(exported)
    edit(model)
    path = tmp_path / "mine.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=message):
        load_policy(path)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:500], lambda data: b"PK\x03\x04" + data])
def test_a_damaged_file_is_refused(exported, tmp_path, damage):
    path = tmp_path / "mine.onnx"
    path.write_bytes(damage(exported.read_bytes()))
    with pytest.raises(UserError, match=r"mine\.onnx"):
        load_policy(path)


def test_a_giant_file_is_refused_unread(tmp_path):
    path = tmp_path / "giant.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UserError, match="allowed: at most"):
        OnnxPolicy(path)


def test_a_model_of_another_environment_is_not_exported(tmp_path):
    from gymnasium import spaces
    from stable_baselines3 import PPO

    for observation_shape, action_space in (((3,), spaces.MultiDiscrete(act.NVEC)), ((N_OBS,), spaces.Discrete(2))):
        model: Any = PPO("MlpPolicy", "CartPole-v1", _init_setup_model=False)
        model.observation_space, model.action_space = spaces.Box(0, 1, observation_shape), action_space
        model.n_envs = 1
        model._setup_model()
        with pytest.raises(UserError, match="allowed"):
            export_onnx(model, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_layout_is_plain_json():
    assert json.loads(layout_json()) == current_layout()


class Logits(th.nn.Module):
    """A stranger's network: logits of all modes."""

    def __init__(self, width: int = act.N_MASK) -> None:
        super().__init__()
        self.layers = th.nn.Sequential(th.nn.Linear(N_OBS, 16), th.nn.Dropout(0.5), th.nn.Linear(16, width))

    def forward(self, obs: th.Tensor) -> th.Tensor:
        out: th.Tensor = self.layers(obs)
        return out


def test_a_module_of_ones_own_takes_its_best_allowed_modes(tmp_path):
    th.manual_seed(0)
    module = Logits()
    export_module(module, tmp_path / "mine.onnx")
    assert module.training and load_policy(tmp_path / "mine.onnx").name == "mine"
    obs, masks = random_observations(200), random_masks(200)
    with th.no_grad():
        logits = module.eval()(th.tensor(obs)).numpy()
    logits[~masks] = -np.inf
    best = [logits[:, at : at + count].argmax(axis=1) for at, count in zip(act.OFFSETS, act.NVEC, strict=True)]
    assert np.array_equal(OnnxPolicy(tmp_path / "mine.onnx")(obs, masks), np.stack(best, axis=1))


def test_a_module_may_return_actions_and_a_masked_one_becomes_the_default(tmp_path):
    class Restrict(th.nn.Module):
        def forward(self, obs: th.Tensor) -> th.Tensor:
            first = th.tensor([1] + [0] * (len(act.ENTRIES) - 1))
            return 2 * first * (obs[:, :1] > 0.5).long()

    export_module(Restrict(), tmp_path / "mine.onnx")
    obs, masks = random_observations(50), random_masks(50)
    actions = OnnxPolicy(tmp_path / "mine.onnx")(obs, masks)
    assert np.array_equal(actions[:, 0], np.where((obs[:, 0] > 0.5) & masks[:, 2], 2, 0))
    assert not actions[:, 1:].any() and actions[:, 0].any()


class Untraceable(th.nn.Module):
    def forward(self, obs: th.Tensor) -> th.Tensor:
        return th.linalg.svdvals(obs.T @ obs)[:1].expand(len(obs), act.N_MASK) * 1.0


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            Logits(width=50),
            rf"Logits returns torch.float32 \(2, 50\) for 2 observations; allowed: logits, float \(2, {act.N_MASK}\)",
        ),
        (th.nn.Linear(3, 49), rf"Linear failed on observations \(2, {N_OBS}\)"),
        (th.nn.LSTM(N_OBS, act.N_MASK), "LSTM returns tuple; allowed: one tensor"),
        (Untraceable(), "Untraceable cannot be exported as ONNX"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_module_that_is_no_policy_is_not_exported(tmp_path, module, message):
    with pytest.raises(UserError, match=message):
        export_module(module, tmp_path / "mine.onnx")
    assert not list(tmp_path.iterdir())
