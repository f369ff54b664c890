"""What distribution costs: cells that do nothing, and a suite's evaluations, here and on a Ray cluster of this machine.

    python -m tiergym.bench.distribution

Everything on one core and one worker, so that the difference is what distribution takes of it; docs/howto/scale.md.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter

import numba

from tiergym import specs
from tiergym.lab.engines import RAY, Engine
from tiergym.lab.leaderboard import leaderboard
from tiergym.lab.tuning_score import steps_of_one

EMPTY = 200
SUITE, POLICIES, EPISODES = "traditional", ("online", "restrict", "selector"), 64


def nothing(number: int) -> int:
    """A cell that only travels."""
    return number


def per_empty_cell_s(engine: Engine) -> float:
    """Seconds for each of `EMPTY` cells that do nothing; the engine has workers already."""
    list(engine.run(nothing, [(0,)]))
    started = perf_counter()
    list(engine.run(nothing, [(number,) for number in range(EMPTY)]))
    return (perf_counter() - started) / EMPTY


def board_s(engine: Engine, seed: int) -> tuple[float, list[int]]:
    """Seconds of a leaderboard's evaluations, and the bytes of each result that it keeps."""
    suite, spelled = specs.load_suite(SUITE), {name: [name] for name in POLICIES}
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        leaderboard([suite], spelled, Path(folder), EPISODES, seed, POLICIES[0], engine=engine)
        seconds = perf_counter() - started
        return seconds, [path.stat().st_size for path in Path(folder).rglob("*.json")]


def measure() -> dict[str, float]:
    """Everything, each engine warm: the first leaderboard compiles, and loads what it needs."""
    numba.set_num_threads(1)
    local, ray = Engine(), Engine(RAY, workers=1)
    out: dict[str, float] = {}
    with ray.ready():
        for name, engine in (("local", local), ("ray", ray)):
            out[f"empty_cell_ms_{name}"] = per_empty_cell_s(engine) * 1e3
            board_s(engine, 1)
        for name, engine in (("local", local), ("ray", ray), ("local_again", local), ("ray_again", ray)):
            out[f"board_s_{name}"], sizes = board_s(engine, 0)
    return out | {
        "cells": len(sizes),
        "machine_ticks": steps_of_one(specs.load_suite(SUITE).load()) * EPISODES * len(POLICIES),
        "bytes_of_a_result": sum(sizes) / len(sizes),
    }


def main() -> None:
    """Print what it costs as JSON."""
    print(json.dumps({name: round(value, 4) for name, value in measure().items()}, indent=1))


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
