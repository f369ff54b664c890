"""A plan: which modes are in force from which tick of an episode on. It looks at nothing, so it may know the future.

A JSON file that executes nothing (`tiergym bound` writes them):

    {"schema": 1, "plan": "llama-1to2", "horizon_ticks": 300,
     "pieces": [{"ticks": 150, "modes": {"zone": "movable"}}, ...]}

Entries that a piece does not name keep Linux's default; the pieces' ticks add up to the horizon.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiergym import files
from tiergym.env import actions as act
from tiergym.errors import UserError, shown
from tiergym.specs.feasibility import MAX_TICKS

SCHEMA = 1
MAX_PIECES = 10_000
"""As many are read in half a second; search makes 64 at most."""


@dataclass
class PlanPolicy:
    """Pieces of an episode with one action each: `ticks` int64 (pieces,), `actions` int64 (pieces, N_ACTIONS).

    `plan` names what it was made for. Every call is a tick of all machines since `reset`; the last piece goes on.
    """

    name: str
    plan: str
    ticks: NDArray[np.int64]
    actions: NDArray[np.int64]
    tick: int = field(default=0, repr=False)

    @property
    def horizon_ticks(self) -> int:
        """Ticks of the episode that it was made for."""
        return int(self.ticks.sum())

    @property
    def plausibility(self) -> str:
        """Of the least plausible mode of its pieces."""
        return act.plausibility(self.actions)

    def reset(self, num_envs: int, seed: int) -> None:
        """Begin again with the first piece."""
        self.tick = 0

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The action of the tick, (N, N_ACTIONS) int64; a mode that is masked becomes the default there."""
        action = self.at(self.tick)
        self.tick += 1
        return np.tile(action, (len(obs), 1))

    def at(self, tick: int) -> NDArray[np.int64]:
        """The action in force at a tick of the episode, int64 (N_ACTIONS,)."""
        piece = min(int(np.searchsorted(self.ticks.cumsum(), tick, side="right")), len(self.ticks) - 1)
        return self.actions[piece]

    def check_horizon(self, ticks: int) -> None:
        """Raise `UserError` where the episodes have another length."""
        if ticks != self.horizon_ticks:
            raise UserError(
                f"plan '{self.name}': made for {self.horizon_ticks} ticks ({self.plan}), the scenario has {ticks}; "
                "allowed: a scenario of as many"
            )


def load_plan(path: Path) -> PlanPolicy:
    """The plan in a JSON file. Raises `UserError` that names the file, the field and what is allowed."""
    document = files.read_json(path)
    if not isinstance(document, dict) or "plan" not in document:
        raise UserError(f"{path}: no plan; a plan has the fields schema, plan, horizon_ticks and pieces")
    if not files.same(document.get("schema"), SCHEMA):
        raise UserError(f"{path}: schema is {document.get('schema')!r}; allowed: {SCHEMA}")
    pieces = document.get("pieces")
    if not isinstance(pieces, list) or not pieces:
        raise UserError(f"{path}: pieces is {str(pieces)[:40]!r}; allowed: a list of one or more")
    if len(pieces) > MAX_PIECES:
        raise UserError(f"{path}: pieces are {len(pieces)}; allowed: 1 to {MAX_PIECES}")
    rows = [_piece(path, i, piece) for i, piece in enumerate(pieces)]
    policy = PlanPolicy(
        path.stem, str(document["plan"]), np.array([ticks for ticks, _ in rows]), np.stack([row for _, row in rows])
    )
    if not files.same(document.get("horizon_ticks"), policy.horizon_ticks):
        raise UserError(
            f"{path}: horizon_ticks is {document.get('horizon_ticks')!r}; allowed: {policy.horizon_ticks}, the sum of "
            "the pieces' ticks"
        )
    return policy


def _piece(path: Path, index: int, piece: Any) -> tuple[int, NDArray[np.int64]]:
    where = f"{path}: pieces[{index}]"
    if not isinstance(piece, Mapping):
        raise UserError(f"{where} is {shown(piece)}; allowed: an object with ticks and modes")
    ticks, modes = piece.get("ticks"), piece.get("modes", {})
    if not isinstance(ticks, int) or isinstance(ticks, bool) or not 1 <= ticks <= MAX_TICKS:
        raise UserError(f"{where}.ticks is {shown(ticks)}; allowed: a whole number from 1 to {MAX_TICKS}")
    if not isinstance(modes, Mapping):
        raise UserError(f"{where}.modes is {shown(modes)}; allowed: entries with their modes")
    return ticks, act.from_modes(modes, source=f"{where}.modes")


def write_plan(path: Path, policy: PlanPolicy, about: Mapping[str, Any]) -> None:
    """Write a plan; `about` holds further fields, of what is known of it."""
    files.write_text(path, json.dumps(plan_document(policy, about), indent=1, allow_nan=False) + "\n")


def plan_document(policy: PlanPolicy, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan's file says."""
    rows = zip(policy.ticks.tolist(), policy.actions, strict=True)
    pieces = [{"ticks": ticks, "modes": modes_of(action)} for ticks, action in rows]
    return {"schema": SCHEMA, "plan": policy.plan, "horizon_ticks": policy.horizon_ticks, **about, "pieces": pieces}


def modes_of(action: NDArray[np.int64]) -> dict[str, str]:
    """The entries of an action that are not Linux's default, with their modes."""
    return {
        entry.name: entry.modes[mode] for entry, mode in zip(act.ENTRIES, action.tolist(), strict=True) if mode != 0
    }
