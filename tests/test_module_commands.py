"""Commands of single modules, `python -m tiergym.lab.reference` and others: misuse is one line and exit code 2."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.command_line import Done
from tests.places import ROOT
from tests.refusals import assert_refused

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in sorted((ROOT / "tiergym").rglob("*.py"))
    if '\nif __name__ == "__main__":\n' in path.read_text()
]


def test_these_are_all_of_them() -> None:
    assert len(MODULES) > 10 and {"tiergym", "tiergym.kernel_lab", "tiergym.validation"} < set(MODULES)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("module", MODULES)
def test_an_option_that_there_is_not_is_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(_run(module, monkeypatch, capsys, "--nope"), "unknown option '--nope'")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("tiergym.validation", "is missing; allowed: with it"),
        ("tiergym.validation docs more", "unexpected extra argument"),
        ("tiergym.validation.published", "is missing; allowed: with it"),
        ("tiergym.kernel_lab --replicate 0", "--replicate 0: not a value of it; allowed: a whole number from 1"),
        ("tiergym.kernel_lab --release 6.13", "unknown release '6.13'"),
        ("tiergym.lab.markdown none.json", "none.json: No such file or directory"),
        ("tiergym.lab.markdown bad.json", "bad.json: not valid JSON"),
        ("tiergym.lab.citations none.md", "none.md: in no checkout"),
        ("tiergym.lab.selecting more", "unexpected extra argument"),
        ("tiergym.bench.performance_page none.json", "none.json: No such file or directory"),
        ("tiergym.bench.time_to_score nobody llama-1to2", "unknown agent to train 'nobody'"),
        ("tiergym.bench.time_to_score ppo llama-1to2 x", "SEEDS x: not a value of it; allowed: a whole number from 1"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    module, *rest = words.split()
    assert_refused(_run(module, monkeypatch, capsys, *rest), told)


def _run(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Done:
    """`python -m MODULE WORDS` in this process."""
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    told = capsys.readouterr()
    return Done(int(stopped.value.code or 0), told.out, told.err)
