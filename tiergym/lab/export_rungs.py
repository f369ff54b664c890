"""The rungs below ONNX: a tree distilled from a policy, what is generated from the tree, and how that is packaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tiergym import files
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab.bpf_source import bpf_source
from tiergym.lab.daemon_source import daemon_source
from tiergym.lab.distil import MACHINES, ROUNDS, OnRound, Size, distil
from tiergym.policy.base import CheckedPolicy, Policy, digest_of
from tiergym.policy.c_header import header
from tiergym.policy.load import load_policy
from tiergym.policy.rules_page import rules_page
from tiergym.policy.tree import TreePolicy, tree_json
from tiergym.specs.suites import suite_digest
from tiergym.trust import check_plain

if TYPE_CHECKING:
    from tiergym.specs import Scenario

Writer = tuple[str, Callable[[TreePolicy], str]]
"""The usual name of a file, and what makes its text."""
RUNGS: Final[dict[str, Writer]] = {
    "tree": ("tree.json", tree_json),
    "policy.h": ("policy.h", header),
    "rules": ("rules.md", rules_page),
}
PACKAGED: Final[dict[str, Writer]] = {
    "daemon": ("tiergymd.c", daemon_source),
    "bpf": ("tiergym.bpf.c", bpf_source),
}
WRITERS: Final = RUNGS | PACKAGED


def as_tree(policy: Policy) -> TreePolicy | None:
    """The tree that a policy is, if it is one."""
    rule = policy.rule if isinstance(policy, CheckedPolicy) else policy
    return rule if isinstance(rule, TreePolicy) else None


def tree_of(source: str, scenarios: Sequence[Scenario], size: Size, seed: int, on_round: OnRound) -> TreePolicy:
    """The tree that a policy is, or else one distilled from it, with where it is from in `about`.

    Raises `UserError` as `tiergym.policy.load.load_policy` and `tiergym.lab.distil.distil` do.
    """
    policy = load_policy(source)
    if (given := as_tree(policy)) is not None:
        return given
    about: dict[str, Any] = {"distilled_from": digest_of(policy), "model": model_hash()}
    about |= {"scenarios": suite_digest(scenarios), "inputs": size.inputs, "seed": seed}
    about |= {"rounds": ROUNDS, "machines_per_scenario": MACHINES}
    return distil(lambda: load_policy(source), scenarios, size, seed, on_round, about)


def places_of(to: str, out: Path | None) -> dict[str, Path]:
    """By rung, the file of each that is written for `--to`: one, in `out` or under its usual name here, or all, in the
    folder `out`.

    Raises `UserError` for a file that could not be loaded again under its name, and for all without a folder.
    """
    if to == "all":
        if out is None or out.is_file():
            raise UserError(f"--out is '{out}'; allowed with --to all: a folder" if out else "--to all needs --out DIR")
        check_plain(out)
        return {rung: out / name for rung, (name, _) in RUNGS.items()}
    name, _ = WRITERS[to]
    path = Path(name) if out is None else out
    if path.suffix != Path(name).suffix:
        raise UserError(f"cannot write '{path}': the file of {to} ends in {Path(name).suffix}")
    return {to: path}


def write_rungs(tree: TreePolicy, places: Mapping[str, Path]) -> None:
    """Write rungs of a tree to their files: all of them, or none where one cannot be made."""
    texts = {path: WRITERS[rung][1](tree) for rung, path in places.items()}
    for path, text in texts.items():
        files.write_text(path, text)
