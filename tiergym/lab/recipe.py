"""Training recipes: one TOML file says which algorithm learns, in which form of the action, with which numbers.

    description = "..."
    algorithm = "ppo"              # ppo, a2c, dqn, sac, td3, maskable_ppo, recurrent_ppo
    policy = "fused"               # or stable-baselines3's own: "MlpPolicy", "MlpLstmPolicy"
    action_form = "multidiscrete"  # multidiscrete, box, baseline
    envs = 256                     # machines
    hold_ticks = 8                 # ticks that a choice holds while it learns; a policy in use decides every tick
    steps = 2_000_000              # decisions of all machines together
    checkpoint_steps = 500_000
    threads = 1                    # of torch; results depend on it, and two can be slower than one

    [hyperparameters]              # arguments of the algorithm's class
    learning_rate = { start = 1e-3, end = 1e-4 }  # a number, or a line over the training
    gamma = 0.99

    [network]                      # arguments of its policy's class, and these two
    hidden = [64, 64]
    activation = "tanh"            # tanh, relu, elu, silu

Everything is checked against the signatures of stable-baselines3 before a simulator exists.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tiergym import paths
from tiergym.env.action_forms import action_form
from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.lab.algorithms import ALGORITHMS, Algorithm
from tiergym.lab.hyperparameters import check_arguments
from tiergym.policy.load import list_policies

ACTIVATIONS = {"tanh": "Tanh", "relu": "ReLU", "elu": "ELU", "silu": "SiLU"}
"""Names of activations to those of their classes in `torch.nn`."""
_KINDS: dict[str, tuple[type, str]] = {
    "description": (str, "a text"),
    "algorithm": (str, "a text"),
    "policy": (str, "a text"),
    "action_form": (str, "a text"),
    "baselines": (list, "a list of names or TOML files"),
    "envs": (int, "a whole number from 1"),
    "hold_ticks": (int, "a whole number from 1"),
    "steps": (int, "a whole number from 1"),
    "checkpoint_steps": (int, "a whole number from 1"),
    "threads": (int, "a whole number from 1"),
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
    steps: int = 1_000_000
    checkpoint_steps: int = 500_000
    threads: int = 1
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def learner(self) -> Algorithm:
        """The algorithm itself."""
        return ALGORITHMS[self.algorithm]

    def document(self) -> dict[str, Any]:
        """The content of a TOML file that `make_recipe` reads back as the same recipe."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

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
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 1):
            raise UserError(f"{source}: {key} is {value!r}; allowed: {words}")
    if "algorithm" not in document:
        raise UserError(f"{source}: algorithm is missing; allowed: {', '.join(ALGORITHMS)}")
    if document["algorithm"] not in ALGORITHMS:
        raise UserError(f"{source}: {suggest(document['algorithm'], ALGORITHMS, 'algorithm')}")
    learner = ALGORITHMS[document["algorithm"]]
    recipe = Recipe(name, **{"policy": learner.policies[0], **document})
    _check_form(recipe, source)
    _check_numbers(recipe, source)
    return recipe


def _check_form(recipe: Recipe, source: str) -> None:
    forms = recipe.learner.forms
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
    if not all(isinstance(width, int) and 1 <= width <= 65536 for width in hidden):
        raise UserError(f"{source}: [network]: hidden is {hidden}; allowed: whole numbers from 1 to 65536")
    activation = recipe.network.get("activation", "tanh")
    if activation not in ACTIVATIONS:
        raise UserError(f"{source}: [network]: {suggest(activation, ACTIVATIONS, 'activation')}")
    numbers = recipe.hyperparameters
    if recipe.learner.on_policy and {"n_steps", "batch_size"} <= set(numbers):
        rollout = numbers["n_steps"] * recipe.envs
        if rollout % numbers["batch_size"]:
            raise UserError(
                f"{source}: [hyperparameters]: batch_size is {numbers['batch_size']}; allowed: a divisor of the "
                f"rollout's {rollout} steps (n_steps {numbers['n_steps']} x envs {recipe.envs})"
            )
