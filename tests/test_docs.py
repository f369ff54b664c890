"""The documentation: every command and snippet runs, every name exists, generated pages are what the code makes.

A comment on the line before a block says what is special about it:

    <!-- file: NAME -->         the block is a file of the reader's; it is saved under this name
    <!-- small: A -> B -->      A is replaced by B, so that the test takes seconds
    <!-- slow -->               takes minutes, or changes the checkout: only its commands and options are checked
    <!-- checkout -->           runs in the root of the checkout, which it leaves as it is
    <!-- needs: A B -->         runs where these modules, which no extra brings, are installed

The other blocks of one page run in order, in one empty folder.
"""

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.places import ROOT
from tiergym.bench import performance_page
from tiergym.cli.app import app
from tiergym.env.actions import N_MASK, NVEC
from tiergym.env.observations import N_OBS
from tiergym.lab import reference

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS: Any = typer.main.get_command(app)
MODEL = (ROOT / "docs" / "model.md").read_text()
EXECUTED = ("bash", "python")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, text, and the comment before it as (what, rest)."""

    line: int
    language: str
    text: str
    what: str
    rest: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    for match in re.finditer(r"(?ms)^(?:<!-- (\w+)(?:: (.*?))? -->\n)?```(\w*)\n(.*?)^```$", text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, match[3], match[4], match[1] or "", match[2] or ""))
    return found


def is_module(name: str) -> bool:
    parts = name.split(".")
    packages = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return all(importlib.util.find_spec(package) is not None for package in packages)


def is_run(block: Block) -> bool:
    if block.what == "needs" and not all(map(is_module, block.rest.split())):
        return False
    return block.language in EXECUTED and block.what not in ("slow", "file")


def smaller(block: Block) -> str:
    """The block's text as the test runs it."""
    if block.what != "small":
        return block.text
    before, after = block.rest.split(" -> ")
    assert before in block.text, f"line {block.line}: '{before}' is not in the block"
    return block.text.replace(before, after)


def run(block: Block, folder: Path) -> None:
    command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, smaller(block)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"line {block.line}:\n{block.text}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if any(map(is_run, blocks(p.read_text())))], ids=page_id)
def test_commands_and_snippets_run(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text()):
        if block.what == "file":
            (tmp_path / block.rest).write_text(block.text)
        elif is_run(block):
            run(block, ROOT if block.what == "checkout" else tmp_path)


def test_every_block_is_understood() -> None:
    for page in PAGES:
        text = page.read_text()
        assert text.count("```") == 2 * len(blocks(text)), page
        for block in blocks(text):
            assert block.what in ("", "file", "small", "slow", "checkout", "needs"), (page, block.line)
            assert block.what == "file" or block.language in EXECUTED, (page, block.line)


def commands(text: str) -> list[list[str]]:
    """The words of every `tiergym`, `make` or `python` line."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words and words[0] in ("tiergym", "make", "python")]


def check_command(words: list[str]) -> None:
    """Command, subcommand and options of a `tiergym` line, the target of a `make` line, modules and files of a
    `python` line."""
    if words[0] == "python":
        assert words[1] != "-m" or is_module(words[2]), words
        files = [word for word in words[1:] if word.endswith(".py")]
        assert all(list(ROOT.glob(file)) for file in files), words
        return
    if words[0] == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
        assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        return
    command, rest = COMMANDS, words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    assert command is not COMMANDS or rest[0].startswith("-"), words
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options, words


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_that_are_only_mentioned_exist(page: Path) -> None:
    text = page.read_text()
    mentioned = commands("\n".join(re.findall(r"`((?:tiergym|make|python) [^`\n]+)`", text)))
    slow = [block for block in blocks(text) if block.what == "slow"]
    for block in slow:
        assert commands(block.text), f"line {block.line}: no command"
        mentioned += commands(block.text)
    for words in mentioned:
        check_command(words)


@pytest.mark.parametrize(
    "line",
    [
        "tiergym evalute online",
        "tiergym compare --polices a",
        "make tets",
        "tiergym scenarios show --all",
        "python -m tiergym.lab.referenec docs",
        "python -m tiergym.labs.reference docs",
        "python experiments/no.py",
        "python -m pytest -q tests/test_rule_*.py",
    ],
)
def test_the_check_of_commands_sees_mistakes(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.is_file(), target
        titles = re.findall(r"(?m)^#+ (.*)$", linked.read_text()) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_sizes_are_those_of_the_code(page: Path) -> None:
    text = page.read_text()
    for name, size in (("obs", N_OBS), ("masks", N_MASK), ("actions", len(NVEC))):
        assert set(re.findall(rf"`?\b{name}`? \(N, (\d+)\)", text)) <= {str(size)}, name


def test_reference_pages_are_what_the_code_makes() -> None:
    folder = ROOT / "docs" / "reference"
    committed = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.md")}
    assert committed == {name: make() for name, make in reference.PAGES.items()}, (
        "run: python -m tiergym.lab.reference docs/reference"
    )


def test_reference_is_written_by_its_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tiergym.lab.reference", str(tmp_path / "new")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    written = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*.md")}
    assert written == set(reference.PAGES)


def resolve(name: str) -> Any:
    """`module:attribute` of the simulator."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(f"tiergym.sim.{module}"), attribute)


def test_every_function_that_the_model_page_names_exists() -> None:
    names = set(re.findall(r"`(\w+:\w+)`", MODEL))
    assert len(names) > 60
    for name in names:
        resolve(name)


def test_the_model_page_leaves_no_phase_out() -> None:
    modules = {name.split(":")[0] for name in re.findall(r"`(\w+:\w+)`", MODEL)}
    infrastructure = {
        "__init__",
        "names",
        "numba_changes",
        "parameters",
        "compile",
        "compile_cache",
        "prefetch",
        "replaying",
        "streams",
        "units",
    }
    assert {path.stem for path in (ROOT / "tiergym" / "sim").glob("*.py")} - infrastructure <= modules


def test_constants_of_the_model_page_are_the_code_s() -> None:
    rows = re.findall(r"(?m)^\| `(\w+:[A-Z_]+)` \| ([^|]+) \|", MODEL)
    assert len(rows) > 20
    assert {name: ast.literal_eval(value.strip()) for name, value in rows} == {name: resolve(name) for name, _ in rows}


def test_results_of_the_readme_are_those_of_the_results_page() -> None:
    match = re.search(r"(?s)<!-- results -->(.*)<!-- /results -->", (ROOT / "README.md").read_text())
    assert match is not None
    for row in re.findall(r"(?m)^\|.*$", match[1]):
        assert row in (ROOT / "docs" / "results.md").read_text().splitlines(), row


def test_the_performance_page_is_made_of_its_measurements() -> None:
    measured = ROOT / "experiments" / "performance"
    times = [json.loads(path.read_text()) for path in sorted(measured.glob("times-*.json"))]
    page = performance_page.page(json.loads((measured / "bench.json").read_text()), times)
    assert (ROOT / "docs" / "performance.md").read_text() == page


def test_pages_name_no_place_of_one_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(work|root|home|Users)/|\.\./shared|localhost|127\.0\.0\.1", page.read_text()), page
