"""A scenario and recipes so small that a training takes a second."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tiergym import specs
from tiergym.lab import checkpoint, tensor_files
from tiergym.lab.recipe import Recipe, load_recipe, make_recipe

SCENARIO = """
description = "Twice the size of DRAM is touched in two seconds."
[machine]
dram_mib = 4096
slow_mib = 8192
block_mib = 128
cpus = 4
[episode]
horizon_s = 3
[[workload.regions]]
name = "heap"
mib = { uniform = [6000, 7000] }
grow_s = 2
misses_per_page_s = 200
tlb_misses_per_page_s = 20
[workload.pools.threads]
count = 2000
"""
HORIZON_TICKS = 12
SMALL: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 2}
OFF: dict[str, Any] = {"learning_starts": 16, "buffer_size": 64, "batch_size": 16, "train_freq": 2, "gradient_steps": 1}
NUMBERS = {
    "ppo": SMALL,
    "maskable_ppo": SMALL,
    "recurrent_ppo": SMALL,
    "a2c": {"n_steps": 8},
    "dqn": {**OFF, "target_update_interval": 8},
    "sac": OFF,
    "td3": OFF,
}


def tiny_scenario(folder: Path) -> specs.Scenario:
    """`SCENARIO`, loaded from a file in the folder."""
    path = folder / "tiny.toml"
    path.write_text(SCENARIO)
    return specs.load_scenario(path)


def small(name: str, steps: int = 96) -> Recipe:
    """A shipped recipe with four machines, small networks and rollouts of 32 steps, without plans of other machines."""
    document = load_recipe(name).document()
    document |= {"envs": 4, "steps": steps, "checkpoint_steps": 64, "imitate": ""}
    document["evaluation"] = {"episodes": 2, "pictures": False}
    document["hyperparameters"] |= NUMBERS[document["algorithm"]]
    document["network"] |= {"hidden": [8]}
    return make_recipe(name, document, name)


def weights(run: Path) -> dict[str, np.ndarray]:
    """All that a run has learned: weights, states of the optimisers, tensors outside the policy."""
    return tensor_files.load(checkpoint.latest(run) / checkpoint.LEARNER)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether they are equal to the bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def logged_twice(run: Path) -> list[tuple[str, int]]:
    """Tags of scalars, and steps at which a run has more than one of them."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    steps = {tag: Counter(event.step for event in events.Scalars(tag)) for tag in events.Tags()["scalars"]}
    return [(tag, step) for tag, counts in steps.items() for step, times in counts.items() if times > 1]


def no_machines(*args: Any, **kwargs: Any) -> Any:
    """In the place of what builds machines."""
    raise AssertionError("machines were built before the input was checked")
