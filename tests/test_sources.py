"""What is cited can be opened: facts of docs/sources.md, sections of docs/model.md, recordings, files."""

import re
from pathlib import Path

import pytest

from tests.places import EVIDENCE, FLOORS, ROOT
from tiergym.kernel_lab.runs import load_runs
from tiergym.lab.citations import SOURCES, citations, linked, way_to_sources

FOLDERS = ("tiergym", "tests", "envs", "agents", "experiments")
SUFFIXES = (".py", ".toml", ".md", ".sh", ".c", ".h")
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
SOURCE_FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES)
FILES = [path for path in [*PAGES, *SOURCE_FILES] if path != Path(__file__).resolve()]

FACTS = re.findall(r"(?m)^### (.*)\n\n((?:(?!#).*\n)+)", (ROOT / SOURCES).read_text())
"""(id, text) of every fact."""
IDS = {fact for fact, _ in FACTS}
SECTIONS = set(re.findall(r"(?m)^## (\d+)\.", (ROOT / "docs" / "model.md").read_text()))
RUNS = {path.name for path in EVIDENCE.glob("*/*")} | set(load_runs())
"""Recordings that are there, and those that `make kernel-lab` makes."""

BARE = re.compile(r"(?<![\w\[-])[KHWF]-[a-z]\w*(?:-\w+)*")
OUTSIDE = re.compile(r"\b(?:FACTS|ANCHORS|(?:MODEL|DECISION|STACK)\.md|F\d{1,2}|[ABC]\d(?: #\d+)?)\b")
"""Documents, and the tables and findings in them, that no reader of this repository has."""
VENUE = re.compile(r"\b(?:ASPLOS|ISMM|MICRO|OSDI|SIGMETRICS)[' ]|\blinux-mm\b")
"""Where facts are published: who names a paper cites what it says."""
SECTION = re.compile(r"\bmodel\.md\)?,?\s+section\s+(\d+)")
RUN = re.compile(r"\b(?:[a-z]|[nu]_k61|k61)_[a-z0-9_]+_(?:on|mov)(?:__r\d)?\b")
ENVIRONMENT = re.compile(r"tiergym/Placement(-[a-z-]+)?-v\d")
"""Ids of environments, which look like files."""
PATH = re.compile(rf"(?<![\w/.-])((?:docs|{'|'.join(FOLDERS)})/[\w./*-]*[\w*])(?::(\w+))?")
"""A path of the repository, with or without stars, and what is defined in it after a colon."""
ROOM = re.compile(rf"`((?:{'|'.join(FLOORS)})/[\w./]*\w)(?::(\w+))?`")
"""The same below tiergym/."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def problems(text: str) -> list[str]:
    """What `text` cites and nobody can open."""
    found = [f"no fact {fact} in docs/sources.md" for fact in citations(text) - IDS]
    found += [f"no brackets: {fact}" for fact in BARE.findall(re.sub(r"(?m)^### .*$", "", text))]
    found += [f"no document here: {outside}" for outside in OUTSIDE.findall(text)]
    found += [f"no section {number} in docs/model.md" for number in SECTION.findall(text) if number not in SECTIONS]
    found += [f"no recording {run}" for run in RUN.findall(text) if run not in RUNS]
    if VENUE.search(text) and not citations(text):
        found.append("a paper is named and no fact cited")
    return found


def missing(text: str) -> list[str]:
    """Files of the repository, and names in them, that `text` names and that are not there."""
    named = {(path, thing) for path, thing in PATH.findall(text) if not ENVIRONMENT.fullmatch(path)}
    named |= {(f"tiergym/{path}", thing) for path, thing in ROOM.findall(text)}
    return [f"{path} {thing}".strip() for path, thing in named if not defined(path, thing)]


def defined(path: str, thing: str) -> bool:
    """Whether the file is there and defines a function, class or constant of that name."""
    found = list(ROOT.glob(path))
    line = rf"(?m)^ *(?:def|class) {thing}\b|^{thing}\b"
    return len(found) > 0 and (not thing or re.search(line, found[0].read_text()) is not None)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_citation_leads_somewhere(path: Path) -> None:
    assert problems(path.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    assert missing(page.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "idle latency [H-no-such-device]",
        "kills [K-oom_killer]",
        "twice, [K-kswapd] and [K-kswapd2]",
        "kills (K-oom-killer)",
        "as in FACTS-kernel 1.9",
        "see MODEL.md section 4",
        "stays there (F9)",
        "[R] A1 #12",
        "docs/model.md section 99",
        "[model.md](model.md), section 99",
        "[model.md](model.md),\nsection 99",
        "Radiant (ISMM'21) binds them",
        "in `a_llama_anonymous_on`",
    ],
)
def test_a_bad_citation_is_seen(text: str) -> None:
    assert problems(text) != []


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("tiergym/lab/recordings/format.py", "tiergym/lab/recordings/format.py"),
        ("tests/test_rule_*.py", "tests/test_rule_*.py"),
        ("experiments/evidence/x", "experiments/evidence/x"),
        ("tiergym/sim/tick.py:tock", "tiergym/sim/tick.py tock"),
        ("tiergym/sim/names.py:CLASS", "tiergym/sim/names.py CLASS"),
        ("sim/tack.py", "tiergym/sim/tack.py"),
    ],
)
def test_a_file_or_function_that_is_not_there_is_seen(named: str, seen: str) -> None:
    assert missing(f"see `{named}`, or (`tests/test_rules_*.py`) and `tiergym/sim/tick.py:tick`") == [seen]


def test_what_can_be_opened_is_no_problem() -> None:
    text = "Radiant (ISMM'21) [W-radiant], [K-kswapd]: docs/model.md section 6, as in `e_phases_on__r2`"
    assert problems(text) == []
    assert citations(text) == {"W-radiant", "K-kswapd"}


def test_every_fact_has_an_id_of_its_own_a_source_and_how_it_was_read() -> None:
    assert len(IDS) == len(re.findall(r"(?m)^### ", (ROOT / SOURCES).read_text()))
    for fact, text in FACTS:
        assert re.fullmatch(r"[KHWF](-[a-z0-9]+)+", fact), fact
        said, source = re.split(r"(?m)^Source: ", text)
        assert said.strip() and re.search(r"\sRead:\s\w", source), fact


def test_every_fact_is_cited() -> None:
    cited = set[str]().union(*(citations(path.read_text()) for path in FILES if path != ROOT / SOURCES))
    assert sorted(IDS - cited) == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=name)
def test_citations_of_a_page_are_links(page: Path) -> None:
    text = page.read_text()
    assert linked(text, way_to_sources(page, ROOT)) == text, f"run: python -m tiergym.lab.citations {name(page)}"


def test_links_lead_to_the_headings_of_the_facts() -> None:
    page = linked("Off by [K-kswapd], on by [F-boosts].\n", "../sources.md")
    assert page.endswith("\n\n[F-boosts]: ../sources.md#f-boosts\n[K-kswapd]: ../sources.md#k-kswapd\n")
    assert linked(page, "../sources.md") == page
    assert linked("Nothing cited.\n\n[K-kswapd]: old.md#k-kswapd\n", "sources.md") == "Nothing cited.\n"
