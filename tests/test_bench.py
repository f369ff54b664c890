"""`tiergym bench`: what is compared with what, its page, and that each part measures something."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="what is measured includes learning")

from tests.command_line import Cli
from tests.tiny_training import small
from tiergym import specs
from tiergym.bench import batch_curves, benchmark, learner_share, performance_page, start_up, steps
from tiergym.bench.learner_share import LearnerShare
from tiergym.bench.peers import NotInstalledError
from tiergym.env.actions import N_MASK
from tiergym.env.machines import Machines
from tiergym.env.observations import N_OBS


def test_bench_compares_medians_the_right_way_round(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def readings(*values: float) -> Callable[[], benchmark.Rate]:
        left = list(values)
        return lambda: lambda: left.pop(0)

    plan = (
        benchmark.Measurement(
            name="rate",
            unit="steps/s",
            build=readings(9, 40, 8),
            reference="slower",
            build_reference=readings(2, 3, 1),
        ),
        benchmark.Measurement(
            name="time",
            unit="us",
            target="at most 25",
            higher_is_better=False,
            build=readings(5, 5, 5),
            reference="slower",
            build_reference=readings(20, 10, 5),
        ),
    )
    monkeypatch.setattr(benchmark, "PLAN", plan)
    monkeypatch.setattr(benchmark, "points", lambda *arguments: iter(()))
    monkeypatch.setattr(benchmark, "roofline", lambda *arguments: None)
    monkeypatch.setattr(benchmark, "learner_share", lambda *arguments: None)
    done = cli("bench", "--repetitions", 3, "--json", "b.json")
    assert done.code == 0, done.err
    rate, time, state = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert (rate["value"], rate["low"], rate["high"], rate["ratio"]) == (9, 8, 40, 4.5)
    assert time["ratio"] == 2.0
    assert 0 < state["value"] <= 16384


def test_a_quick_bench_makes_a_page(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def missing() -> benchmark.Rate:
        raise NotInstalledError("envpool: no such module")

    def fast() -> benchmark.Rate:
        return lambda: 2e6

    plan = (
        benchmark.Measurement(
            name="engine",
            unit="ticks/s",
            target="at least 1,500,000",
            build=fast,
            reference="slower",
            build_reference=lambda: lambda: 1e6,
        ),
        benchmark.Measurement(name="engine", unit="ticks/s", build=fast, reference="EnvPool", build_reference=missing),
    )
    monkeypatch.setattr(benchmark, "PLAN", plan)
    assert cli("bench", "--quick", "--json", "b.json").code == 0
    document = json.loads((tmp_path / "b.json").read_text())
    assert document["repetitions"] == 1 and document["curves"] == [] and document["bounds"] is None
    assert document["learner"] is None
    text = performance_page.page(document)
    assert "| engine | 2M | 2M to 2M | ticks/s | slower | 1M | 2.00 | at least 1,500,000 |" in text
    assert "envpool: no such module" in text

    curves = [
        {"curve": curve, "x": x, "threads": threads, "ns": 1234.0, "bytes_per_machine": 13872}
        for curve, x, threads in (
            ("machines", 1, 1),
            ("machines", 1, 2),
            ("reset", 1, 1),
            ("snapshot", 1, 1),
            ("regions", 8, 1),
            ("blocks", 8, 1),
        )
    ]
    bounds = {
        "bytes_per_tick": 30000,
        "copy_gbps": 30.0,
        "bound_ticks_per_s": 1e6,
        "instructions": {"untouched": 1e4, "at_random": 2e4},
        "missing": "",
    }
    text = performance_page.page({**document, "curves": curves, "bounds": bounds})
    assert "| machines | tick, 1 thread | tick, 2 threads | reset, 1 thread | snapshot and restore, 1 thread |" in text
    assert "| 1 | 1,234 | 1,234 | 1,234 | 1,234 | 13.9kB |" in text
    assert "counts 10,000 of them per tick" in text and "810k were" in text.replace("\n", " ")
    times = {
        "agent": "ppo",
        "scenarios": ["llama-1to2"],
        "returns": {"online": -36.0, "restrict": -16.0},
        "reached_s": {"online": [1.0, 3.0, 2.0], "restrict": [None, None, None]},
        "final_return": [-15.0] * 3,
        "steps_per_s": [5e4] * 3,
    }
    share = LearnerShare("ppo", 8192, env_s=0.5, acting_s=0.25, update_s=0.25, flops=2 * 10**9, roof_gflops=40.0)
    text = performance_page.page({**document, "learner": asdict(share)}).replace("\n", " ")
    assert "the environment takes 50%, choosing actions 25%, the update 25%" in text
    assert "2.00 GFLOP" in text and "it would take 50 ms. It takes 250 ms: 20% of the roof" in text
    text = performance_page.page(document, [times])
    assert "| ppo | llama-1to2 | online | -36.00 | 2.0 s | 3 of 3 | 50,000 |" in text
    assert "| restrict | -16.00 | never | 0 of 3 |" in text


def test_the_share_of_a_learner_is_of_its_own_time_and_counts_its_products(monkeypatch: pytest.MonkeyPatch):
    recipe = small("ppo")  # one hidden layer of 8, four machines, 8 steps, two epochs
    monkeypatch.setattr(learner_share, "load_recipe", lambda name: recipe)
    share = learner_share.learner_share(2)
    assert share.decisions == 32 and min(share.env_s, share.acting_s, share.update_s) > 0
    first, last = 2 * N_OBS * 8, N_MASK * 8 + 8  # actor and critic
    assert share.flops == 2 * 32 * (first * 4 + last * 6)
    assert 0 < share.bound_s < share.update_s


def test_bench_curves_split_what_they_scale():
    base = specs.load_scenario(steps.SCENARIO)
    split = batch_curves.with_regions(base, 16)
    assert split.counts[0] == 16
    machines = Machines([base, split], 2)
    machines.reset(np.zeros(2, np.uint64))
    sizes = machines.records["region_seldom"]["mib"].sum(axis=1)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)  # sizes that vary are drawn per region
    for blocks in (8, 256):
        machine = batch_curves.with_blocks(base, blocks).sections["machine"]
        assert machine["slow_mib"] == blocks * machine["block_mib"]
    large = Machines([batch_curves.with_memory(base, 1 << 20, 8 << 20)], 1)
    large.reset(np.zeros(1, np.uint64))
    drawn = [m.records["region_seldom"][0] for m in (machines, large)]
    assert drawn[1]["mib"].sum() == pytest.approx(drawn[0]["mib"].sum() * (9 << 20) / (192 << 10))
    touched = [(region["mib"] * region["misses_per_page_s"]).sum() for region in drawn]
    assert touched[1] == pytest.approx(touched[0])


def test_the_slowest_help_is_named_and_every_command_asked(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, ...]] = []

    def seconds(*arguments: str) -> float:
        asked.append(arguments)
        return 2.0 if "agents" in arguments and "show" not in arguments else 1.0 / len(asked)

    monkeypatch.setattr(start_up, "_seconds", seconds)
    row = benchmark._measure(next(row for row in benchmark.PLAN if row.name.startswith("--help")), 3)
    assert (row.value, row.low, row.note) == (2.0, 2.0, "agents")
    assert benchmark.cells(row)[0] == "--help of the slowest command (agents)"
    helps = [words[2:-1] for words in asked if words[0] == "-m"]
    assert len(helps) == 3 * len(set(helps)) and {(), ("compare",), ("scenarios", "show")} < set(helps)


@pytest.mark.parametrize("name", ["engine", "vector_env", "single_env", "mixed", "reset", "snapshot"])
def test_bench_measures_something(name: str, monkeypatch: pytest.MonkeyPatch):
    for constant in ("BATCH", "ENGINE_TICKS", "SINGLE_STEPS", "VECTOR_STEPS"):
        monkeypatch.setattr(steps, constant, 4)
    assert getattr(steps, name)()() > 0
