"""The card of a shipped policy: what it was trained on, what it reaches, and what must be the same for that to hold.

    python -m tiergym.lab.policy_card agents/weights/NAME board.json "tiergym train --agent NAME --suite train"

writes card.json (digests, and returns that a test replays to the bit) and card.md (for people) beside policy.onnx, from
a leaderboard's file and the commands that trained it. Where the rungs below it lie there too (`tiergym export FOLDER
--to all --measure test`), the card has them: without a leaderboard, what stands of it in card.md is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from tiergym import files
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab.evaluate import evaluate
from tiergym.lab.export_rungs import RUNGS as BELOW_ONNX
from tiergym.lab.markdown import estimate, table
from tiergym.policy.base import Policy, digest_of
from tiergym.policy.controller import ControllerPolicy
from tiergym.policy.load import load_policy
from tiergym.policy.tree import load_tree
from tiergym.specs import load_suite, scenario_digest

CARD = "card.json"
TEXT = "card.md"
RUNGS = "rungs.json"
BELOW = "## Rungs below"
"""Heading of what follows the leaderboard's part."""
SLICE = "test"
FAMILIES, EPISODES, SEED = 3, 2, 0
"""Of the suite `SLICE`, what is replayed."""


def replay(folder: Path) -> dict[str, Any]:
    """Digests and returns of the policy in a folder, on the first families of `test`, as they are now."""
    policy = load_policy(folder)
    scenarios = load_suite(SLICE).load()[:FAMILIES]

    def returns(policy: Policy) -> dict[str, Any]:
        return {each.name: evaluate(policy, each, EPISODES, SEED).values["return"].tolist() for each in scenarios}

    found: dict[str, Any] = {
        "model": model_hash(),
        "policy": digest_of(policy),
        "families": {each.name: scenario_digest(each) for each in scenarios},
        "returns": returns(policy),
    }
    files_below = {rung: folder / name for rung, (name, _) in BELOW_ONNX.items()}
    if files_below["tree"].is_file():
        tree = load_tree(files_below["tree"])
        found["rungs"] = {rung: sha256(path.read_bytes()).hexdigest()[:16] for rung, path in files_below.items()}
        # Of policy.h, those of its twin: the same without a compiler.
        found["rung_returns"] = {
            "tree": returns(load_policy(tree)),
            "policy.h": returns(load_policy(ControllerPolicy(tree))),
        }
    return found


def check_card(folder: Path) -> None:
    """Raise `UserError` where a shipped policy is not the one of its card, or its card is of another model or suite."""
    said = files.read_json(folder / CARD)
    for name, value in replay(folder).items():
        if said.get(name) != value:
            raise UserError(
                f"{folder / CARD}: {name} is {str(said.get(name))[:60]}; allowed: {str(value)[:60]}, which is here "
                "now; train it again, or make its card anew"
            )


def card_text(name: str, board: Mapping[str, Any], commands: Sequence[str]) -> str:
    """The card for people: the commands that trained the policy, and what it saves on every suite of a leaderboard,
    beside the rule by configuration."""
    rows = []
    for suite, entries in board["rows"].items():
        cells = [suite]
        for policy in (name, board["against"]):
            saved = entries[policy]["saved"]
            cells.append(f"{saved['mean']:.3f} [{saved['low']:.3f}, {saved['high']:.3f}]")
        cells.append(f"{entries[name]['kills_per_hour']['mean']:.2f}")
        rows.append(cells)
    shown = table(("suite", "saved", f"`{board['against']}`", "kills per hour"), rows)
    return (
        f"# {name}\n\n"
        "Trained by these commands, and on no suite beside theirs:\n\n"
        + "".join(f"    {command}\n" for command in commands)
        + f"\nMeasured on {board['episodes']} episodes of every family, seed {board['seed']}. *Saved* is the "
        "interquartile mean of what it\nsaves of the time that stock Linux loses, with its 95 % interval "
        "(docs/leaderboard.md).\n\n"
        f"{shown}\n\n"
        f"Model `{board['model']}`. It may choose modes that no kernel has: it is counterfactual as a whole. Where a\n"
        "suite's number is negative it does harm there; do not use it on such workloads without a guard.\n"
    )


def rungs_text(report: Mapping[str, Any]) -> str:
    """What the rungs below the network keep, from the report of `tiergym export`."""
    rows = []
    for rung in report["rungs"]:
        cells = [f"`{rung['rung']}`", estimate(rung["saved"], 3)]
        if rung["loss"] is None:
            cells += ["", "", ""]
        else:
            agree = f"{100 * rung['entries_agree']:.1f} %, {100 * rung['actions_agree']:.1f} %"
            cells += [f"{100 * rung['kept']:.1f} %", estimate(rung["loss"], 4), agree]
        rows.append([*cells, f"{rung['bytes']:,}", f"{rung['decision_ns']:,.0f}"])
    shown = table(("rung", "saved", "kept", "loss", "agrees", "bytes", "ns per decision"), rows)
    return (
        f"{BELOW}\n\n"
        "tree.json is a decision tree distilled from the network on `train`, policy.h is C made of the tree, rules.md\n"
        f"the same in words (docs/export.md). Measured on `{report['suite']}`, {report['episodes']} episodes of every "
        f"family, seed {report['seed']}.\n*Kept* is of what the network saves; *loss* is the mean that it saves more, "
        "paired by episode; *agrees*, with the\nrung above, is of entries in force and of whole actions. A decision of "
        f"policy.h is an update in C, of the others a\ncall from Python.\n\n{shown}\n"
    )


def main(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With the policy.onnx of that name.")],
    board: Annotated[
        Path | None,
        typer.Argument(metavar="BOARD.json", help="A leaderboard in which it takes part; without, card.md keeps its."),
    ] = None,
    commands: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="Those that trained it.")] = None,
) -> None:
    """Write the card."""
    if board is None:
        above = (folder / TEXT).read_text(encoding="utf-8").partition(BELOW)[0].rstrip() + "\n"
    else:
        above = card_text(folder.name, files.read_json(board), commands or [])
    report = folder / RUNGS
    below = "\n" + rungs_text(files.read_json(report)) if report.is_file() else ""
    files.write_text(folder / CARD, json.dumps(replay(folder), indent=1) + "\n")
    files.write_text(folder / TEXT, above + below)


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
