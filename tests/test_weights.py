"""Shipped policies are what their cards say: replayed on a slice of `test`, to the bit."""

import json
import shutil
from pathlib import Path

import pytest

from tests.places import ROOT
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab.export_rungs import RUNGS as BELOW_ONNX
from tiergym.lab.policy_card import CARD, check_card
from tiergym.policy.base import digest_of
from tiergym.policy.load import load_policy
from tiergym.policy.tree import load_tree

SHIPPED = sorted((ROOT / "agents" / "weights").iterdir())


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_policy_is_the_one_of_its_card(folder: Path) -> None:
    check_card(folder)
    assert load_policy(folder).name == folder.name
    text = (folder / "card.md").read_text()
    assert text.startswith(f"# {folder.name}\n") and "| test |" in text and f"Model `{model_hash()}`" in text


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_what_is_generated_from_the_tree_is_what_ships(folder: Path) -> None:
    """So that policy.h decides as the twin whose returns are replayed (tests/test_policy_header.py)."""
    tree = load_tree(folder / "tree.json")
    assert (
        tree.name == folder.name
        and tree.leaves <= 64
        and tree.about["distilled_from"] == digest_of(load_policy(folder))
    )
    for name, make in BELOW_ONNX.values():
        assert (folder / name).read_text() == make(tree), name


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_tree_in_c_keeps_95_percent_of_what_the_network_saves(folder: Path) -> None:
    report = json.loads((folder / "rungs.json").read_text())
    kept = {rung["rung"]: rung["kept"] for rung in report["rungs"]}
    assert report["model"] == model_hash() and report["suite"] == "test"
    assert kept["tree"] >= 0.95 and kept["policy.h"] >= 0.95
    text = (folder / "card.md").read_text()
    assert all(f"{100 * share:.1f} %" in text for share in kept.values() if share is not None)


@pytest.mark.parametrize("field", ["model", "policy", "families", "returns", "rungs", "rung_returns"])
def test_another_one_is_refused(field: str, tmp_path: Path) -> None:
    folder = tmp_path / SHIPPED[0].name
    shutil.copytree(SHIPPED[0], folder)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {field: "other"}))
    with pytest.raises(UserError, match=rf"card\.json: {field} is other; allowed: "):
        check_card(folder)
