"""Places that no command can write to or read from: names that no file system has, loops."""

from pathlib import Path
from unittest import mock

import pytest

from tests.command_line import Cli
from tests.refusals import assert_refused
from tiergym import files
from tiergym.errors import UserError
from tiergym.lab import learner
from tiergym.lab.train import train

LONG = "x" * 300
COMMANDS: dict[str, str] = {
    "train": "train --agent ppo --scenario short.toml --steps 1 --out NAME",
    "train --resume": "train --resume NAME",
    "train --from": "train --agent ppo --scenario short.toml --from NAME",
    "train --imitate": "train --agent ppo --scenario short.toml --imitate NAME",
    "run": "run e.toml --out NAME",
    "run --resume": "run --resume NAME",
    "tune": "tune restrict --scenario short.toml --trials 1 --out NAME",
    "export": "export restrict --to tree --scenario short.toml --out NAME.json",
    "export of a run": "export NAME",
    "ladder": "ladder suite.toml --tuning suite.toml --out NAME",
    "leaderboard": "leaderboard suite.toml --policies online --against online --out NAME",
    "leaderboard --page": "leaderboard suite.toml --policies online --against online --out o --page NAME",
    "leaderboard --learned": "leaderboard suite.toml --policies online --learned a=NAME --out o",
    "stability": "stability suite.toml --out NAME",
    "networks": "networks suite.toml --out NAME",
    "bound": "bound --scenario short.toml --out NAME",
    "evaluate --json": "evaluate online --scenario short.toml --json NAME",
    "evaluate --parquet": "evaluate online --scenario short.toml --parquet NAME",
    "compare --png": "compare --policies online --scenario short.toml --png NAME",
    "show --html": "show online --scenario short.toml --html NAME",
    "report": "report suite.toml --out NAME.html",
    "report of a run": "report NAME --out r.html",
    "verify": "verify NAME",
    "record": "record --out NAME --seconds 0.1",
    "advise": "advise --policy online --root NAME",
    "validate recordings": "validate recordings NAME",
    "validate marks": "validate marks NAME",
    "workload": "workload from-recording NAME --out w.toml",
    "workload --out": "workload from-recording . --out NAME",
}


@pytest.mark.parametrize(
    "name", [LONG, "y/" * 2100 + "z", "loop/x", "bytes\udcff"], ids=["long", "deep", "loop", "bytes"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_no_file_can_have_is_one_line(
    command: str, name: str, cli: Cli, short_toml: Path, tmp_path: Path
) -> None:
    """Or that no JSON and no TOML can name."""
    (tmp_path / "suite.toml").write_text('scenarios = ["short.toml"]\n')
    (tmp_path / "e.toml").write_text('description = "x"\nscenarios = ["short.toml"]\npolicies = ["online"]\n')
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    assert_refused(cli(*(word.replace("NAME", name) for word in COMMANDS[command].split())))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "command",
    ["evaluate nobody --json NEW/e.json", "compare --policies online --scenario none --png NEW/c.png",
     "explain nobody --json NEW/e.json", "verify none.json --json NEW/v.json", "record --slow 1 --out NEW/r -- true"],
)  # fmt: skip
def test_a_refused_command_leaves_no_folder_for_what_it_would_have_written(
    command: str, cli: Cli, tmp_path: Path
) -> None:
    assert_refused(cli(*command.replace("NEW", "a/b").split()))
    assert list(tmp_path.iterdir()) == []


def test_a_deep_folder_is_made_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = files.make_folder(Path("a/" * 1200))
    assert len(made) == 1200
    files.remove_empty(made)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_leaves_none_of_those_it_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="File name too long"):
        files.make_folder(Path("a/b") / LONG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bytes\udcff", "nul\0", LONG, "there"])
def test_a_folder_that_cannot_be_a_run_s_is_refused_before_any_work(name: str, short_toml: Path) -> None:
    (short_toml.parent / "there").write_text("")
    with (
        mock.patch.object(learner, "build", side_effect=AssertionError("worked")),
        pytest.raises(UserError, match=name[:3]),
    ):
        train("ppo", str(short_toml), out=short_toml.parent / name)
