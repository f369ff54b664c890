"""Every parser against nearly right files: what is accepted runs, what is refused is one line (`tests/fuzzers.py`).

The same few examples each time, seconds in all. `make fuzz FUZZ_SECONDS=3600` looks for new ones, for as long as it is
told, shared among the parsers, and prints how many files of each were accepted and refused.
"""

import os
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzers_of_folders import FUZZERS
from tests.short_runs import write_short_scenario

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
FEW, MANY = 12, 25
"""Files per parser, and per round where time is given."""


def look(parser: str, folder: Path, examples: int, derandomize: bool, number: int = 0) -> Counter[bool]:
    """So many files for a parser; how many were accepted (True) and refused."""
    told: Counter[bool] = Counter()

    @seed(number)
    @settings(
        max_examples=examples,
        derandomize=derandomize,
        phases=(Phase.generate,),  # a command takes too long for the hundreds of tries that shrinking makes
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        told[FUZZERS[parser](cast(DrawFn, data.draw), folder)] += 1

    each()
    return told


@pytest.mark.parametrize("parser", FUZZERS)
def test_what_is_accepted_runs_and_what_is_refused_is_one_line(
    parser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_short_scenario(tmp_path)
    if not SECONDS:
        assert sum(look(parser, tmp_path, FEW, derandomize=True).values()) > 0
        return
    first, end = int.from_bytes(os.urandom(4)), monotonic() + SECONDS / len(FUZZERS)
    told: Counter[bool] = Counter()
    rounds = 0
    while monotonic() < end:
        told += look(parser, tmp_path, MANY, derandomize=False, number=first + rounds)
        rounds += 1
    print(f"\n{parser}: {told[True]} accepted and run, {told[False]} refused; seeds {first} to {first + rounds - 1}")
