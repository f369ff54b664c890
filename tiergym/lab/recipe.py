"""Training recipes: one TOML file says which algorithm learns, in which form of the action, with which numbers.

    description = "..."
    algorithm = "ppo"              # ppo, a2c, dqn, sac, td3, maskable_ppo, recurrent_ppo
    policy = "fused"               # or stable-baselines3's own: "MlpPolicy", "MlpLstmPolicy"
    action_form = "multidiscrete"  # multidiscrete, box, baseline
    envs = 256                     # machines
    hold_ticks = 8                 # ticks that a choice holds while it learns; a policy in use decides every tick
    frames = 4                     # observations that a decision sees: its own, and those of the decisions before it
    steps = 2_000_000              # decisions of all machines together
    checkpoint_steps = 500_000
    threads = 1                    # of torch; results depend on it, and two can be slower than one
    imitate = "plans/train"        # a folder of plans to begin with (tiergym.lab.imitation), of agents/ or by its path
    reward = "saved"               # or "return", the default: as the environment gives it; saved: over what stock
                                   # Linux loses per tick on that scenario, so that on a suite all count alike
    least_loss = 0.02              # of the time, the least that "saved" is measured against (the default)
    [constraint]
    oom_per_hour = 0.5             # premature OOM kills per hour of a machine, bounded by a Lagrange multiplier

    [evaluation]                   # of the deterministic policy while it trains: tiergym.lab.evaluation_settings
    every_steps = 50_000
    episodes = 16

    [hyperparameters]              # arguments of the algorithm's class
    learning_rate = { start = 1e-3, end = 1e-4 }  # a number, or a line over the training
    gamma = 0.99

    [network]                      # arguments of its policy's class, and these two
    hidden = [64, 64]
    activation = "tanh"            # tanh, relu, elu, silu

Everything is checked against the signatures of stable-baselines3 before a simulator exists.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any

from tiergym import paths
from tiergym.env.action_forms import action_form
from tiergym.errors import UserError, shown, suggest
from tiergym.files import read_toml
from tiergym.lab.algorithms import ALGORITHMS, Algorithm
from tiergym.lab.evaluation_settings import EvaluationSettings, check_evaluation, settings
from tiergym.lab.hyperparameters import check_arguments
from tiergym.lab.reward_scales import LEAST_LOSS, RETURN, REWARDS
from tiergym.lab.sizes import check_frames, check_options, check_sizes
from tiergym.policy.load import list_policies
from tiergym.trust import check_inside

OOM_PER_HOUR = "oom_per_hour"
"""The constraint of a recipe: premature OOM kills."""
ACTIVATIONS = {"tanh": "Tanh", "relu": "ReLU", "elu": "ELU", "silu": "SiLU"}
"""Names of activations to those of their classes in `torch.nn`."""
MAX_ENVS = 1 << 20
"""Machines; as many records take 16 GiB."""
MAX_STEPS = 10**12 - 1
"""Twelve digits, as the names of checkpoints have."""
TABLES = ("constraint", "evaluation", "hyperparameters", "network")
"""Of a recipe; single fields of them can be changed by name."""
MAX_LAYERS, MAX_WIDTH = 100, 65536
_MOST: dict[str, int] = {
    "envs": MAX_ENVS,
    "hold_ticks": 10**6,
    "frames": 64,
    "steps": MAX_STEPS,
    "checkpoint_steps": MAX_STEPS,
    "threads": 256,
}
_KINDS: dict[str, tuple[type | UnionType, str]] = {
    "description": (str, "a text"),
    "algorithm": (str, "a text"),
    "policy": (str, "a text"),
    "action_form": (str, "a text"),
    "baselines": (list, "a list of names or TOML files"),
    **{name: (int, f"a whole number from 1 to {most}") for name, most in _MOST.items()},
    "imitate": (str, "a text"),
    "reward": (str, "one of " + ", ".join(REWARDS)),
    "least_loss": (int | float, "a number above 0, at most 1"),
    "constraint": (dict, "a table with oom_per_hour, a number from 0"),
    "evaluation": (dict, "a table"),
    "hyperparameters": (dict, "a table"),
    "network": (dict, "a table"),
}


@dataclass(frozen=True)
class Recipe:
    """A recipe as in its file; `load_recipe` and `make_recipe` give checked ones."""

    name: str
    algorithm: str
    policy: str
    description: str = ""
    action_form: str = "multidiscrete"
    baselines: list[str] = field(default_factory=list)
    envs: int = 256
    hold_ticks: int = 1
    frames: int = 1
    steps: int = 1_000_000
    checkpoint_steps: int = 500_000
    threads: int = 1
    imitate: str = ""
    reward: str = RETURN
    least_loss: float = LEAST_LOSS
    constraint: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def learner(self) -> Algorithm:
        """The algorithm itself."""
        return ALGORITHMS[self.algorithm]

    @property
    def evaluating(self) -> EvaluationSettings:
        """`[evaluation]` with its defaults."""
        return settings(self.evaluation, self.steps)

    @property
    def kills_bound(self) -> float:
        """Premature OOM kills per hour that `[constraint]` allows; infinite without one."""
        return float(self.constraint.get(OOM_PER_HOUR, math.inf))

    def document(self) -> dict[str, Any]:
        """The content of a TOML file that `make_recipe` reads back as the same recipe."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    def changed(self, fields: Mapping[str, Any], source: str) -> "Recipe":
        """The recipe with other values in its tables, by dotted names as `hyperparameters.gamma`, checked again.

        Raises `UserError`, naming `source`, for a field that no recipe has.
        """
        document = self.document()
        for name, value in fields.items():
            table, _, key = name.partition(".")
            if table not in TABLES:
                raise UserError(f"{source} {name}: {suggest(table, TABLES, 'table of a recipe')}")
            document[table] = {**document[table], key: value}
        return make_recipe(self.name, document, f"recipe '{self.name}' with {source}")

    def resized(self, envs: int | None, steps: int | None) -> "Recipe":
        """The recipe for other numbers of machines and steps, checked again.

        With other machines, `n_steps` of a rollout changes so that the rollout keeps its size, and the learning its
        character. Raises `UserError` where it does not divide.
        """
        envs, steps = self.envs if envs is None else envs, self.steps if steps is None else steps
        numbers = dict(self.hyperparameters)
        if envs != self.envs and self.learner.on_policy and "n_steps" in numbers:
            rollout = numbers["n_steps"] * self.envs
            if envs < 1 or rollout % envs:
                raise UserError(
                    f"recipe '{self.name}': envs is {envs}; allowed: a divisor of the rollout's {rollout} steps "
                    f"(n_steps {numbers['n_steps']} x envs {self.envs})"
                )
            numbers["n_steps"] = rollout // envs
        resized = replace(self, envs=envs, steps=steps, hyperparameters=numbers)
        return make_recipe(self.name, resized.document(), f"recipe '{self.name}'")


def list_recipes() -> dict[str, str]:
    """Names of the shipped recipes with their descriptions."""
    documents = {path.stem: read_toml(path) for path in sorted(paths.agents_dir().glob("*.toml"))}
    return {name: str(d.get("description", "")).strip() for name, d in documents.items() if "algorithm" in d}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A shipped recipe by name or a TOML file by path. Raises `UserError` for what it says and for what it is not."""
    spec = str(name_or_path)
    path = paths.agents_dir() / f"{spec}.toml" if spec in list_recipes() else Path(spec)
    if path.suffix != ".toml":
        if spec in list_policies():
            raise UserError(
                f"'{spec}' is a fixed policy, there is nothing to train; recipes: {', '.join(list_recipes())}"
            )
        raise UserError(suggest(spec, list_recipes(), "agent to train"))
    return make_recipe(path.stem, read_toml(path), str(path))


def make_recipe(name: str, document: Mapping[str, Any], source: str) -> Recipe:
    """A recipe from the content of its file. Raises `UserError`, naming `source`, the field and what is allowed."""
    for key, value in document.items():
        if key not in _KINDS:
            raise UserError(f"{source}: {suggest(key, _KINDS, 'key of a recipe')}")
        kind, words = _KINDS[key]
        if not isinstance(value, kind) or isinstance(value, bool) or not _in_range(key, value):
            raise UserError(f"{source}: {key} is {shown(value)}; allowed: {words}")
    if "algorithm" not in document:
        raise UserError(f"{source}: algorithm is missing; allowed: {', '.join(ALGORITHMS)}")
    if document["algorithm"] not in ALGORITHMS:
        raise UserError(f"{source}: {suggest(document['algorithm'], ALGORITHMS, 'algorithm')}")
    learner = ALGORITHMS[document["algorithm"]]
    recipe = Recipe(name, **{"policy": learner.policies[0], **document})
    if recipe.imitate:
        check_inside(recipe.imitate, f"{source}: imitate")
        check_imitates(recipe, f"{source}: imitate '{recipe.imitate}'")
    _check_reward(recipe, source)
    check_evaluation(recipe.evaluation, source)
    _check_form(recipe, source)
    _check_numbers(recipe, source)
    return recipe


def check_imitates(recipe: Recipe, source: str) -> None:
    """Raise `UserError` for a learner that does not choose the mode of every entry, as a plan does, or has a memory."""
    if not recipe.learner.on_policy or recipe.learner.recurrent or recipe.action_form != "multidiscrete":
        raise UserError(
            f"{source}: recipe '{recipe.name}' is {recipe.algorithm} on {recipe.action_form}; allowed: ppo, a2c and "
            "maskable_ppo on multidiscrete, since a plan names the mode of every entry"
        )


def _check_reward(recipe: Recipe, source: str) -> None:
    if recipe.reward not in REWARDS:
        raise UserError(f"{source}: reward is {shown(recipe.reward)}; allowed: {_KINDS['reward'][1]}")
    if not 0 < recipe.least_loss <= 1:
        raise UserError(f"{source}: least_loss is {shown(recipe.least_loss)}; allowed: {_KINDS['least_loss'][1]}")
    for name, value in recipe.constraint.items():
        if name != OOM_PER_HOUR:
            raise UserError(f"{source}: [constraint]: {suggest(name, (OOM_PER_HOUR,), 'constraint')}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"{source}: [constraint]: {name} is {shown(value)}; allowed: a number from 0")


def _in_range(key: str, value: Any) -> bool:
    return key not in _MOST or 1 <= value <= _MOST[key]


def _check_form(recipe: Recipe, source: str) -> None:
    forms = recipe.learner.forms
    for name in recipe.baselines:
        if not isinstance(name, str):
            raise UserError(f"{source}: baselines has {shown(name)}; allowed: {_KINDS['baselines'][1]}")
    try:
        action_form(recipe.action_form, recipe.baselines or None)
        recipe.learner.policy_class(recipe.policy)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if recipe.action_form not in forms:
        raise UserError(
            f"{source}: action_form is '{recipe.action_form}'; {recipe.algorithm} allows: {', '.join(forms)}"
        )


def _check_numbers(recipe: Recipe, source: str) -> None:
    check_frames(recipe, source)
    if recipe.learner.recurrent and recipe.hold_ticks != 1:
        raise UserError(
            f"{source}: hold_ticks is {recipe.hold_ticks}; {recipe.algorithm} allows: 1, for a memory moves on with "
            "every decision, and a policy in use decides every tick"
        )
    cls = recipe.learner.cls
    # The standard deviation of Gaussian noise on a Box action, in place of SB3's object.
    noise = {"action_noise": float} if recipe.algorithm in ("sac", "td3") else {"action_noise": None}
    check_arguments(recipe.hyperparameters, cls, f"{source}: [hyperparameters]", noise)
    policy_class = recipe.learner.policy_class(recipe.policy)
    check_arguments(recipe.network, policy_class, f"{source}: [network]", {"hidden": list, "activation": str})
    hidden = recipe.network.get("hidden", [])
    if len(hidden) > MAX_LAYERS or not all(type(width) is int and 1 <= width <= MAX_WIDTH for width in hidden):
        raise UserError(
            f"{source}: [network]: hidden is {shown(hidden)}; allowed: at most {MAX_LAYERS} whole numbers from 1 to "
            f"{MAX_WIDTH}"
        )
    activation = recipe.network.get("activation", "tanh")
    if activation not in ACTIVATIONS:
        raise UserError(f"{source}: [network]: {suggest(activation, ACTIVATIONS, 'activation')}")
    check_options(recipe, source)
    check_sizes(recipe, source)
    numbers = recipe.hyperparameters
    if recipe.learner.on_policy and {"n_steps", "batch_size"} <= set(numbers):
        rollout = numbers["n_steps"] * recipe.envs
        if rollout % numbers["batch_size"]:
            raise UserError(
                f"{source}: [hyperparameters]: batch_size is {numbers['batch_size']}; allowed: a divisor of the "
                f"rollout's {rollout} steps (n_steps {numbers['n_steps']} x envs {recipe.envs})"
            )
