"""The cases of `tests/faults_cases.py`, in processes of their own.

They fork: a child of a process with threads, as one that has run other tests is, may wait for ever for a lock that one
of them held.
"""

import ast
import subprocess
import sys

import pytest

from tests.places import ROOT

CASES = ROOT / "tests" / "faults_cases.py"
NAMES = [
    each.name
    for each in ast.parse(CASES.read_text()).body
    if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
]
pytestmark = pytest.mark.xdist_group("faults")  # their moments are those of a machine that does little else


@pytest.mark.parametrize("name", NAMES)
def test_nothing_saved_is_lost(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", f"{CASES}::{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:]
