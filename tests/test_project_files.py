"""The files that a public project has beside its code: hooks, the workflow, the citation, the changelog, addresses."""

import datetime
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.makefile import recipe
from tests.places import ROOT
from tiergym import __version__

HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASE = re.compile(r"(\d+\.\d+\.\d+) \(v(\d+\.\d+\.\d+), (\d{4}-\d\d-\d\d)\)")

CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
CFF_OPTIONAL = {
    "type",
    "abstract",
    "version",
    "date-released",
    "license",
    "keywords",
    "doi",
    "identifiers",
    "references",
}
"""Keys of the Citation File Format 1.2.0 that need no address of a repository."""
HOSTS = {"gymnasium.farama.org", "stable-baselines3.readthedocs.io", "semver.org"}
"""Other projects' pages. This one has no address of its own that could be named."""


def test_hooks_are_what_make_checks_and_fetch_nothing() -> None:
    assert [repo["repo"] for repo in HOOKS] == ["local"]
    hooks: list[dict[str, Any]] = HOOKS[0]["hooks"]
    assert [hook["entry"] for hook in hooks] == recipe("lint") + recipe("types")
    assert all((hook["language"], hook["pass_filenames"]) == ("system", False) for hook in hooks)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="pre-commit asks git which files there are")
def test_hooks_run_green(tmp_path: Path) -> None:
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"],
        cwd=ROOT,
        env=os.environ | {"PATH": tools, "PRE_COMMIT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"(?m)\.Passed$", done.stdout)) == len(HOOKS[0]["hooks"]), done.stdout


def test_the_workflow_does_what_ci_run_does_and_looks_up_vulnerabilities() -> None:
    """The latter needs data that a machine without a network has not."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run", "make audit"]
    assert re.search(r"(?m)^audit: setup\n.*\n.*pip_audit -r constraints\.txt", (ROOT / "Makefile").read_text())
    assert [step["uses"].split("@")[0] for step in steps if "uses" in step] == ["actions/checkout"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_citation_is_of_the_file_format_that_it_names() -> None:
    assert set(CITATION) >= CFF_REQUIRED
    assert set(CITATION) <= CFF_REQUIRED | CFF_OPTIONAL
    assert (CITATION["cff-version"], CITATION["type"]) == ("1.2.0", "software")
    assert all(author.get("name") or author.get("family-names") for author in CITATION["authors"])
    assert all(isinstance(CITATION[key], str) for key in ("message", "title", "abstract", "version", "date-released"))
    assert CITATION["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_changelog_citation_and_package_agree_on_the_release() -> None:
    headings = re.findall(r"(?m)^## (.*)$", CHANGELOG)
    if headings[0] == "Unreleased":
        headings = headings[1:]
    releases = [RELEASE.fullmatch(heading) for heading in headings]
    assert releases and all(release is not None and release[1] == release[2] for release in releases), headings
    assert releases[0] is not None
    assert releases[0][1] == __version__ == CITATION["version"]
    assert releases[0][3] == CITATION["date-released"]
    dates = [datetime.date.fromisoformat(release[3]) for release in releases if release is not None]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"])
def test_no_host_is_named_that_is_not_known_to_be_there(name: str) -> None:
    addresses = re.findall(r"https?://[^\s)\"'>]+", (ROOT / name).read_text())
    assert {urlsplit(address).hostname for address in addresses} <= HOSTS


def versions(file: str) -> dict[str, str]:
    """The exact versions of a file of constraints, by name in small letters."""
    found = re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / file).read_text())
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_tested_versions_are_the_lowest_that_are_allowed_and_newer_ones_within() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest, newest = versions("constraints-oldest.txt"), versions("constraints.txt")
    core = [Requirement(line) for line in project["dependencies"]]
    parts = [Requirement(line) for lines in project["optional-dependencies"].values() for line in lines]
    assert {each.name for each in core} <= set(oldest)
    for asked in core + parts:
        if asked.name == "tiergym":
            continue
        for bound in asked.specifier:
            if bound.operator == ">=" and asked.name in oldest:
                assert Version(oldest[asked.name]) == Version(bound.version), asked
        if asked.name in newest:
            assert newest[asked.name] in asked.specifier, asked


def test_the_interpreters_named_begin_with_the_lowest_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert project["requires-python"] == f">={named[0]}" and named == sorted(named, key=Version)
