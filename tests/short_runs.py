"""Short episodes of a shipped scenario, and random decisions and observations of many machines."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tiergym import specs
from tiergym.env.actions import N_MASK, NVEC, OFFSETS
from tiergym.env.observations import N_OBS
from tiergym.env.vector_env import PlacementVectorEnv

SCENARIO = "llama-1to2"
TICKS = 8


def short_scenario() -> specs.Scenario:
    """`llama-1to2` with episodes of eight ticks."""
    return specs.override(specs.load_scenario(SCENARIO), {"episode.horizon_s": TICKS * 0.25})


def write_short_scenario(folder: Path) -> Path:
    """A user's file `short.toml`: the complete TOML of `llama-1to2`, with episodes of two seconds."""
    path = folder / "short.toml"
    path.write_text(re.sub(r"(?m)^horizon_s = [^ ]+", "horizon_s = 2", specs.scenario_toml(SCENARIO)))
    return path


def random_modes(num_envs: int, steps: int, seed: int = 0) -> np.ndarray:
    """Modes for every entry of the action, int64 (steps, num_envs, entries)."""
    return np.random.default_rng(seed).integers(NVEC, size=(steps, num_envs, len(NVEC)))


def random_observations(num_envs: int, seed: int = 0) -> np.ndarray:
    """Observations that no machine need ever show, float32 (num_envs, N_OBS)."""
    return np.random.default_rng(seed).random((num_envs, N_OBS), dtype=np.float32)


def random_masks(num_envs: int, seed: int = 0) -> np.ndarray:
    """Random masks that, like the machines', always allow an entry's first mode, bool (num_envs, N_MASK)."""
    out = np.random.default_rng(seed).random((num_envs, N_MASK)) < 0.5
    out[:, OFFSETS] = True
    return out


def rollout(envs: PlacementVectorEnv, chosen: np.ndarray) -> list[tuple[Any, ...]]:
    """What every step returned."""
    return [envs.step(action) for action in chosen]
