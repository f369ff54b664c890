"""The pages of docs/reference/environments: one per registered environment, made from what the code itself says.

The text is that of the classes' docstrings, the tables are those that the environments run on. `tiergym.lab.reference`
writes them.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from typing import Final

import gymnasium

import tiergym
from tiergym.env import actions, observations
from tiergym.env.action_forms import BaselineForm, BoxForm, MultiDiscreteForm
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.lab.reference_parts import page, table
from tiergym.sim import names as n
from tiergym.specs import Suite, load_suite
from tiergym.specs.reading import SCALARS
from tiergym.specs.suites import TRAIN

FOLDER: Final = "environments"
_SOURCES: Final = "../../sources.md"
_LEARNERS: Final = {
    "multidiscrete": "PPO, A2C, MaskablePPO, RecurrentPPO",
    "box": "SAC, TD3",
    "baseline": "DQN",
}


def sections(cls: type) -> dict[str, str]:
    """The parts of a class's docstring: the text under each `### Title`, what stands before the first under "", and
    the lines of `Args:`."""
    described, _, arguments = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    before, *parts = re.split(r"(?m)^### (.*)\n", described)
    titled = zip(["", *parts[::2]], [before, *parts[1::2]], strict=True)
    return {title: text.strip("\n") + "\n" for title, text in titled} | {"Args": arguments}


def arguments_table(cls: type) -> str:
    """What the constructor takes: name, default, meaning."""
    parameters = inspect.signature(cls).parameters
    rows = []
    for name, text in re.findall(r"(?ms)^    (\w+): (.*?)(?=^    \w+: |\Z)", sections(cls)["Args"]):
        default = parameters[name].default
        shown = "" if default is inspect.Parameter.empty else f"`{_plain(default)}`"
        rows.append((f"`{name}`", shown, " ".join(text.split())))
    return table(("argument", "default", "meaning"), rows)


def _plain(value: object) -> object:
    return getattr(value, "value", value)


def _actions_table() -> str:
    rows = [
        (i, f"`{e.name}`", ", ".join(f"`{mode}`" for mode in e.modes), e.doc) for i, e in enumerate(actions.ENTRIES)
    ]
    return table(("", "entry", "modes, the first is Linux's own", "decides"), rows)


def _forms_table() -> str:
    forms = (MultiDiscreteForm(), BoxForm(), BaselineForm())
    return table(
        ("`action_form`", "space of one machine", "for"),
        [(f"`{form.name}`", f"`{form.space}`".replace("\n", " "), _LEARNERS[form.name]) for form in forms],
    )


def _observations_table() -> str:
    """Neighbours of one kind and one source share a row."""

    def kind(pair: tuple[int, observations.ObservationEntry]) -> tuple[str, str]:
        before, dot, _ = pair[1].name.partition(".")
        return before + dot if dot else "", pair[1].source

    rows = []
    for (prefix, source), group in groupby(enumerate(observations.ENTRIES), kind):
        found = list(group)
        first, last = found[0][0], found[-1][0]
        names = ", ".join(f"`{entry.name.removeprefix(prefix)}`" for _, entry in found)
        rows.append((first if first == last else f"{first}-{last}", f"`{prefix}`" if prefix else "", names, source))
    return table(("", "kind", "entries", "source in Linux"), rows)


def _weights_table() -> str:
    weights = SCALARS["weights"].items()
    rows = [
        (f"`{term}`", f"`weights.{name}`", f"{field.default:g}")
        for term, (name, field) in zip(n.TERMS, weights, strict=True)
    ]
    return table(("term, seconds lost per second", "its weight in a scenario", "default"), rows)


def _episode_table() -> str:
    return table(
        ("field", "default", "meaning"),
        [(f"`episode.{name}`", f"{field.default:g}", field.doc) for name, field in SCALARS["episode"].items()],
    )


def placement_page() -> str:
    """The environment itself: everything that its suites share, too."""
    one, many = sections(PlacementEnv), sections(PlacementVectorEnv)
    return page(
        f"`{tiergym.ENV_ID}`",
        one[""],
        _MADE,
        "## Action\n",
        one["Action space"],
        _actions_table(),
        f"{actions.N_MASK} booleans say which modes are possible now. What each mode stands for in Linux, and how "
        "plausible it is: [actions](../actions.md).\n",
        _forms_table(),
        "## Observation\n",
        one["Observation space"],
        _observations_table(),
        "Scales and meanings of every entry: [observations](../observations.md).\n",
        "## Reward\n",
        one["Reward"],
        _weights_table(),
        "What each term counts: [the model](../../model.md), section 13.\n",
        "## Episode\n",
        one["Start and end"],
        _episode_table(),
        "A scenario may say otherwise ([scenario files](../scenario.md)); `max_episode_steps` truncates before.\n",
        "## Autoreset\n",
        many["Autoreset"],
        "`PlacementSB3VecEnv` starts the next episode in the same step, as stable-baselines3 expects.\n",
        "## Info\n",
        one["Info"],
        "Of a batch:\n",
        many["Info"].partition("\n\n")[2],
        "Order of the arrays' entries: [metrics](../metrics.md).\n",
        "## Arguments\n",
        "Of `gymnasium.make`:\n",
        arguments_table(PlacementEnv),
        "Of `gymnasium.make_vec`:\n",
        arguments_table(PlacementVectorEnv),
        "## Versions\n",
        one["Versions"],
        sources=_SOURCES,
    )


_MADE = f"""\
```python
import gymnasium

env = gymnasium.make("tiergym:{tiergym.ENV_ID}", scenario="llama-1to2")
envs = gymnasium.make_vec(
    "tiergym:{tiergym.ENV_ID}",
    num_envs=4,
    vectorization_mode="vector_entry_point",
    scenario="llama-1to2",
)
print(env.observation_space.shape, envs.single_action_space)
```
"""


def suite_page(name: str) -> str:
    """An environment whose episodes draw their scenarios from a suite."""
    suite = _suite(name)
    trained = suite.purpose == TRAIN
    scenarios = sorted(suite.drawn) if trained and suite.drawn else suite.scenarios
    may = "to train and tune on" if trained else "to measure on; training on what is in it is refused"
    text = f"""\
{suite.description.strip()}

Action, observation, reward, episode, autoreset, info and version are those of [`{tiergym.ENV_ID}`](placement.md), with
`suite="{suite.name}"`: the seed of every episode draws one of the scenarios below, seeds that follow one another in
turn. The suite is {may}. Modes that its policies may choose are at least *{suite.plausibility}*
([actions](../actions.md)). `tiergym.register_envs()` registers it.
"""
    if suite.drawn:
        # The digest with which a family was frozen.
        rows = table(("family", "digest"), [(f"`{each}`", f"`{suite.drawn[each]}`") for each in scenarios])
    else:
        rows = table(("scenario",), [(f"`{each}`",) for each in scenarios])
    return page(f"`{name}`", text, "## Scenarios\n", rows, sources=_SOURCES)


def index_page(files: Mapping[str, str]) -> str:
    """All environments, each with its page: `files` by id."""
    rows = [(f"[`{tiergym.ENV_ID}`](placement.md)", "One scenario, or one per machine of a batch.", "")]
    for name, file in files.items():
        suite = _suite(name)
        rows.append((f"[`{name}`]({file})", " ".join(suite.description.split()), suite.purpose))
    return page("Environments", _INDEX, table(("id", "its episodes", "for"), rows), sources=_SOURCES)


_INDEX = f"""\
There is one environment, `{tiergym.ENV_ID}`, and one per shipped suite of scenarios, which differs from it in what
its episodes run. `import tiergym` registers the first, `tiergym.register_envs()` all of them; a suite of yours is
`gymnasium.make("tiergym:{tiergym.ENV_ID}", suite="mine.toml")`. What is for *train* may be learned from, what is
for *test* is for measuring alone.
"""


def pages() -> dict[str, Callable[[], str]]:
    """File name below docs/reference to the function that makes its text."""
    suites = {name: f"placement-{_suite(name).name}.md" for name in tiergym.register_envs()[1:]}
    return {
        f"{FOLDER}/index.md": partial(index_page, suites),
        f"{FOLDER}/placement.md": placement_page,
        **{f"{FOLDER}/{file}": partial(suite_page, name) for name, file in suites.items()},
    }


def _suite(name: str) -> Suite:
    return load_suite(gymnasium.spec(name).kwargs["suite"])
