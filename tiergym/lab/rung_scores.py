"""What every rung of an export keeps: agreement with the rung above, score in the simulator, bytes and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from tiergym.env.actions import N_MASK
from tiergym.env.machines import Machines
from tiergym.env.model_hash import model_hash
from tiergym.env.observations import N_OBS
from tiergym.files import is_dir, is_file
from tiergym.lab.distil import in_force
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.leaderboard import OnCell, leaderboard
from tiergym.lab.rungs import REFERENCE
from tiergym.lab.statistics import Interval, stratified
from tiergym.lab.tables import interval
from tiergym.policy.base import CheckedPolicy
from tiergym.policy.header_policy import HeaderPolicy
from tiergym.policy.load import EXPORTED, load_policy
from tiergym.terminal import new_table

if TYPE_CHECKING:
    from tiergym.policy.base import Policy
    from tiergym.specs import Scenario, Suite

CALLS, REPEATS = 500, 7
"""Decisions of one machine that are timed together, and how often: the least disturbed counts."""


@dataclass(frozen=True, slots=True)
class RungScore:
    """One rung. saved: as on the leaderboard; loss: mean of what the first rung saves more, paired by episode; kept:
    saved, of what the first rung saves. agreement: share of entries in force that are as the rung above would have
    them, and of whole actions, in the states that the rung itself visits; None of the first. bytes: of its file, None
    where it is none."""

    rung: str
    bytes: int | None
    decision_ns: float
    saved: Interval
    loss: Interval | None
    kept: float | None
    entries_agree: float | None
    actions_agree: float | None


def measure(
    rungs: Mapping[str, str], suite: Suite, out: Path, episodes: int, seed: int, on_cell: OnCell
) -> list[RungScore]:
    """Scores of `rungs`, by name how each is spelled, from the first down; cells are kept in the folder `out`."""
    top = next(iter(rungs))
    spelled = {REFERENCE: [REFERENCE]} | {rung: [spec] for rung, spec in rungs.items()}
    board = leaderboard([suite], spelled, out, episodes, seed, top, on_cell)
    scores, scenarios = board.scores[suite.name], suite.load()
    found, above = [], None
    for rung, spec in rungs.items():
        policy, saved = load_policy(spec), board.rows[suite.name][rung].saved
        losses = [theirs - ours for theirs, ours in zip(scores[top], scores[rung], strict=True)]
        agreement = (None, None) if above is None else agree(above, policy, scenarios, episodes, seed)
        best = board.rows[suite.name][top].saved.mean
        file = Path(spec) / EXPORTED if is_dir(Path(spec)) else Path(spec)
        found.append(
            RungScore(
                rung,
                file.stat().st_size if is_file(file) else None,
                nanoseconds(policy),
                saved,
                None if above is None else stratified(_mean, losses, seed),
                saved.mean / best if above is not None and best > 0 else None,
                *agreement,
            )
        )
        above = policy
    return found


def agree(above: Policy, below: Policy, scenarios: Sequence[Scenario], episodes: int, seed: int) -> tuple[float, float]:
    """Shares of entries and of whole actions in force that are the same, where `below` decides."""
    entries = actions = decisions = 0.0
    for scenario in scenarios:
        machines = Machines([scenario], episodes)
        machines.reset(evaluation_seeds(seed, episodes))
        for policy in (above, below):
            policy.reset(episodes, seed)
        for _ in range(int(machines.records["ticks"].min())):
            obs, masks = machines.obs.copy(), machines.masks.copy()
            theirs, ours = above(obs, masks), below(obs, masks)
            same = in_force(theirs, masks) == in_force(ours, masks)
            entries, actions = entries + float(same.mean(axis=1).sum()), actions + float(same.all(axis=1).sum())
            decisions += episodes
            machines.step(ours)
    return entries / decisions, actions / decisions


def nanoseconds(policy: Policy) -> float:
    """Of a decision of one machine: of C, of an update alone; of others, of a call from Python."""
    obs = np.random.default_rng(0).random((1, N_OBS), dtype=np.float32)
    masks = np.ones((1, N_MASK), np.bool_)
    policy.reset(1, 0)
    policy(obs, masks)
    rule = policy.rule if isinstance(policy, CheckedPolicy) else policy
    if isinstance(rule, HeaderPolicy):
        return min(rule.nanoseconds(20 * CALLS) for _ in range(REPEATS))

    def timed() -> float:
        began = perf_counter()
        for _ in range(CALLS):
            policy(obs, masks)
        return 1e9 * (perf_counter() - began) / CALLS

    return min(timed() for _ in range(REPEATS))


def document(scores: Sequence[RungScore], suite: Suite, episodes: int, seed: int) -> dict[str, Any]:
    """As JSON."""
    head = {"schema": 1, "model": model_hash(), "suite": suite.name, "episodes": episodes, "seed": seed}
    return {**head, "rungs": [asdict(score) for score in scores]}


def table(scores: Sequence[RungScore], suite: Suite, episodes: int) -> Table:
    """The scores for people."""
    shown = new_table(
        f"{suite.name}: {episodes} episodes of every family",
        "saved: of what stock Linux loses. kept: saved, of what the first rung saves. loss: paired by episode. agrees: "
        "with the rung above, entries in force and whole actions. A decision of policy.h is an update in C, of the "
        "others a call from Python.",
    )
    for name in ("rung", "saved", "kept", "loss", "agrees", "bytes", "ns per decision"):
        shown.add_column(name, justify="left" if name == "rung" else "right")
    for score in scores:
        shown.add_row(*cells(score, interval))
    return shown


def cells(score: RungScore, show: Any) -> list[str]:
    """One row of a table; `show` makes a text of an interval."""
    first = score.entries_agree is None or score.actions_agree is None or score.loss is None
    return [
        score.rung,
        show(score.saved),
        "" if score.kept is None else f"{100 * score.kept:.1f} %",
        "" if score.loss is None else show(score.loss),
        "" if first else f"{100 * (score.entries_agree or 0):.1f} %, {100 * (score.actions_agree or 0):.1f} %",
        "" if score.bytes is None else f"{score.bytes:,}",
        f"{score.decision_ns:,.0f}",
    ]


def _mean(strata: Sequence[Any]) -> float:
    return float(np.mean([stratum.mean() for stratum in strata]))
