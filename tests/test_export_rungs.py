"""`tiergym export` below ONNX: files of each rung, what a report says of them, and the rules in words."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.refusals import assert_refused
from tests.short_runs import write_short_scenario
from tiergym.env import actions as act
from tiergym.env.observations import NAMES
from tiergym.policy.fixed_point import ONE
from tiergym.policy.load import load_policy
from tiergym.policy.rules_page import conditions, rules_page
from tiergym.policy.tree import make_tree, tree_json

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="this machine has no C compiler"
)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    return write_short_scenario(tmp_path)


@pytest.mark.parametrize(("rung", "name"), [("tree", "tree.json"), ("policy.h", "policy.h"), ("rules", "rules.md")])
def test_each_rung_is_a_file_of_its_usual_name(cli, tmp_path, short, rung, name):
    done = cli("export", "restrict", "--to", rung, "--scenario", short)
    assert (done.code, done.out) == (0, f"{name}\n"), done.err
    assert "restrict" in (tmp_path / name).read_text()
    told = cli("export", "restrict", "--to", rung, "--scenario", short, "--json")
    assert json.loads(told.out) == {"schema": 1, "files": {rung: name}}


def test_a_tree_says_where_it_is_from(cli, tmp_path, short):
    assert cli("export", "adaptive", "--to", "tree", "--scenario", short, "--inputs", "files", "--seed", 3).code == 0
    document = json.loads((tmp_path / "tree.json").read_text())
    assert (document["tree"], document["inputs"], document["seed"]) == ("adaptive", "files", 3)
    assert {"distilled_from", "model", "scenarios", "rounds", "machines_per_scenario"} <= document.keys()


def test_a_tree_s_file_is_exported_as_it_is(cli, tmp_path):
    (tmp_path / "mine.json").write_text(tree_json(make_tree("mine", [act.from_modes({"place.kstack": "restrict"})])))
    assert cli("export", "mine.json", "--to", "tree", "--out", "again.json").code == 0
    assert (tmp_path / "again.json").read_text() == (tmp_path / "mine.json").read_text()
    assert cli("export", "mine.json", "--to", "rules", "--out", "r.md").code == 0
    assert "kstack require fast" in (tmp_path / "r.md").read_text()


@needs_compiler
def test_a_report_measures_every_rung(cli, tmp_path, short):
    (tmp_path / "suite.toml").write_text('purpose = "train"\nscenarios = ["short.toml"]\n')
    arguments = ("adaptive", "--to", "all", "--scenario", short, "--out", "out", "--measure", "suite.toml")
    done = cli("export", *arguments, "--episodes", 2)
    assert done.code == 0, done.err
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"tree.json", "policy.h", "rules.md", "rungs.json", "cells"}
    assert load_policy(tmp_path / "out/policy.h").plausibility == load_policy(tmp_path / "out/tree.json").plausibility
    rungs = {rung["rung"]: rung for rung in json.loads((tmp_path / "out/rungs.json").read_text())["rungs"]}
    assert list(rungs) == ["policy", "tree", "policy.h"] and rungs["policy"]["bytes"] is None
    for name, rung in rungs.items():
        assert re.search(rf"(?m)^ {re.escape(name)} ", done.out)
        assert rung["decision_ns"] > 0
        if name != "policy":
            assert 0 <= rung["actions_agree"] <= rung["entries_agree"] <= 1
            assert rung["bytes"] == (tmp_path / "out" / load_name(name)).stat().st_size
    assert rungs["policy"]["loss"] is None and rungs["policy.h"]["decision_ns"] < rungs["tree"]["decision_ns"]


def load_name(rung: str) -> str:
    return {"tree": "tree.json"}.get(rung, rung)


BAD = {
    "export restrict --to python": "--to is 'python'; allowed: onnx, tree, policy.h, rules, all, daemon, bpf",
    "export restrict --to tree --out rules.md": "cannot write 'rules.md': the file of tree ends in .json",
    "export restrict --to all": "--to all needs --out DIR",
    "export restrict --to all --out short.toml": "--out is 'short.toml'; allowed with --to all: a folder",
    "export restrict --to tree --measure test": "--measure test: with --to tree; allowed: with --to all",
    "export restrict --to tree --inputs counter": "did you mean 'counters'",
    "export restrict --to tree --suite test": "which is for measuring",
    "export restrict --to tree --scenario sparse+tiering+near+1to8+mild+switched-off+6.12": "which is for measuring",
    "export restrict --to all --out out --measure nope": "unknown suite 'nope'",
    "export nothing --to tree": "unknown policy 'nothing'",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_refused_before_any_work(cli, tmp_path, short, command):
    assert_refused(cli(*command.split()), BAD[command])
    assert {path.name for path in tmp_path.iterdir()} == {"short.toml"}


def test_without_scikit_learn_one_line_says_how_to_install_it(cli, short, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    done = cli("export", "restrict", "--to", "tree", "--scenario", short)
    assert_refused(done, "sklearn is not installed; this installs it: pip install", "scikit-learn")


def test_nothing_is_written_through_a_link(cli, tmp_path, short, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/cells").symlink_to(outside)
    done = cli("export", "restrict", "--to", "all", "--scenario", short, "--out", "out")
    assert_refused(done, "a link; allowed in this folder")
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    ("name", "at_most", "less", "more"),
    [
        ("free.normal", ONE // 50, "less than 2 % of the zone normal is free", "2 % or more"),
        ("above_low.fast", ONE // 2, "less than 2.5 % of DRAM is free above low", "2.5 % or more"),
        ("pages.kstack.slow", ONE // 10, "less than 10 % of the slow node is kstack", "10 % or more"),
        ("on_slow.pt_leaf", ONE // 4, "less than 25 % of pt_leaf lies on the slow node", "25 % or more"),
        ("psi.full", ONE // 4, "less than 25 % of the time every task waits for memory", "25 % or more"),
        (
            "rate.pgalloc_slow",
            ONE // 2,
            "less than 50,000 pages/s (195 MiB/s) of pgalloc_slow",
            "50,000 pages/s (195 MiB/s) or more",
        ),
        ("rate.allocstall", ONE // 2, "less than 100 direct reclaims per second", "100 or more"),
        ("kswapd_failures.fast", ONE // 2, "less than 8 of 16 empty runs of DRAM's kswapd", "8 of 16 or more"),
        ("calm", ONE // 5, "less than 1 s since a request found DRAM below low", "1 s or more"),
        ("config.demotion", 0, "demotion is off", "demotion is on"),
        ("threads", ONE // 2, "less than 5,000 threads", "5,000 or more"),
        ("swap_free", ONE // 4, "less than 25 % of swap_free (free share of swap; 0 without swap)", "25 % or more"),
    ],
)
def test_conditions_are_words_with_units(name, at_most, less, more):
    assert conditions(NAMES.index(name), at_most) == (less, more)


@pytest.mark.parametrize("column", range(len(NAMES)), ids=NAMES)
def test_every_observation_has_words(column):
    for at_most in (0, ONE // 3, ONE - 1, ONE):
        less, more = conditions(column, at_most)
        assert less and more and less != more and "None" not in less + more


def test_the_page_has_every_rule_and_guard():
    kstack, soft, roomy = (act.from_modes({"place.kstack": mode}) for mode in ("restrict", "prefer_fast", "fallback"))
    question, pressure = (NAMES.index("calm"), ONE // 5, 1, 2), (NAMES.index("above_low.fast"), ONE // 2, 3, 4)
    page = rules_page(make_tree("mine", [question, kstack, pressure, soft, roomy]))
    assert page.startswith("# The rules of mine\n\n3 rules, asked once in 1 s, for each of 4 levels")
    assert "- less than 1 s since a request found DRAM below low: **kstack require fast**" not in page
    lines = [line for line in page.splitlines() if line.lstrip().startswith("- ")]
    assert lines[:4] == [
        "- less than 1 s since a request found DRAM below low: **as usual**",
        "- 1 s or more:",
        "  - less than 2.5 % of DRAM is free above low: **kstack prefer fast**",
        "  - 2.5 % or more: **kstack any**",
    ]
    assert "something was killed for want of memory" in page
