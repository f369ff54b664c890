"""`tiergym verify`: a file with a table that is none is refused before anything is replayed."""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Cli, captured
from tests.refusals import assert_refused
from tests.short_runs import write_short_scenario

MADE = {
    "leaderboard": "leaderboard mine.toml --against online --out kept",
    "compare": "compare --scenario short.toml",
    "suites": "compare --suite mine.toml",
}
"""By their name, results of one policy, and the command that makes them."""
TABLES = {
    "leaderboard": [
        "policies",
        "policies/online",
        "rows",
        "rows/mine",
        "rows/mine/online",
        "profile",
        "profile/mine",
        "profile/mine/online",
        "costs",
        "costs/online",
    ],
    "compare": ["agents", "agents/online", "policies", "policies/online", "modes", "modes/online"],
    "suites": [
        "scenarios",
        "scenarios/short",
        "scenarios/short/policies",
        "scenarios/short/modes",
        "scenarios/short/modes/online",
        "suites/mine",
        "suites/mine/rows",
        "suites/mine/rows/online",
        "suites/mine/profile",
        "suites/mine/profile/online",
    ],
}
DAMAGE: list[Any] = ["a text", 3, None, [], {}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all results, and what they are of."""
    folder = tmp_path_factory.mktemp("made")
    write_short_scenario(folder)
    (folder / "mine.toml").write_text('purpose = "train"\nscenarios = ["short.toml"]\n')
    with chdir(folder):
        for name, command in MADE.items():
            done = captured(*command.split(), "--policies", "online", "--episodes", 1, "--json", f"{name}.json")
            assert done.code == 0, done.err
            assert captured("verify", f"{name}.json").code == 0
    return folder


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
@pytest.mark.parametrize(("results", "place"), [(name, place) for name, places in TABLES.items() for place in places])
def test_a_table_that_is_none_is_refused_before_anything_is_replayed(
    results: str, place: str, damage: Any, made: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    document = json.loads((made / f"{results}.json").read_text())
    *outer, last = place.split("/")
    table = document
    for name in outer:
        table = table[name]
    if isinstance(table[last], type(damage)):
        table.pop(last)
    else:
        table[last] = damage
    Path("r.json").write_text(json.dumps(document))
    assert_refused(cli("verify", "r.json"), "r.json: ")  # and no line that says what is replayed
