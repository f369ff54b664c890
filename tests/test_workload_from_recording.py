"""Recordings as workloads: curves as trapezoids, the TOML, and that a simulated machine is asked for the same."""

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.bad_recordings import BAD
from tests.builders import Lab, scenario
from tests.command_line import Cli
from tests.made_recordings import grown, made
from tests.places import FITTED
from tiergym.recordings.format import read_recording
from tiergym.recordings.heat import _from_accessed_bits
from tiergym.recordings.piecewise import Curve, decompose, simplify, value_at
from tiergym.recordings.request_curves import requests_of
from tiergym.recordings.workload import TOLERANCE, workload_toml
from tiergym.sim.demand import envelope
from tiergym.sim.units import LEAF_SPAN_PAGES, PAGES_PER_MIB
from tiergym.specs import load_scenario

RUNS = sorted(path.name for path in FITTED.iterdir())
DT_S = 0.05
Array = NDArray[Any]


def shape(part: Any, t_s: Array) -> Array:
    """A trapezoid's size over time by the simulator's own envelope."""
    hold = 1e6 if part.leave_s is None else part.leave_s - part.full_s
    shrink = 1.0 if part.leave_s is None else part.gone_s - part.leave_s
    grow = part.full_s - part.start_s
    return np.array([part.size * envelope(float(t), part.start_s, grow, hold, shrink, 0.0, 0.0) for t in t_s])


curves = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 1000)), min_size=1, max_size=12).map(
    lambda steps: [
        (0.0, 0.0),
        *zip(np.cumsum([s for s, _ in steps]).astype(float), [float(y) for _, y in steps], strict=True),
    ]
)


@given(curves)
def test_trapezoids_add_up_to_the_curve(curve: Curve):
    t_s = np.linspace(0, curve[-1][0], 97)
    total = sum((shape(part, t_s) for part in decompose(curve)), np.zeros(len(t_s)))
    np.testing.assert_allclose(total, value_at(curve, t_s), atol=1e-6)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60), st.integers(0, 300))
def test_a_simplified_curve_misses_no_sample_by_more_than_the_tolerance(sizes: list[int], tolerance: int):
    t_s: Array = np.arange(len(sizes)) * 0.2
    curve = simplify(t_s, np.array(sizes, float), float(tolerance))
    assert np.abs(value_at(curve, t_s) - sizes).max() <= tolerance + 1e-9
    assert (curve[0], curve[-1]) == ((0.0, sizes[0]), (t_s[-1], sizes[-1]))


def test_a_straight_line_needs_no_more_points():
    assert len(simplify(np.arange(100.0), np.arange(100.0) * 7, 0.0)) == 2


def test_what_leaves_is_what_grew_as_one_of_that_size():
    """A hog grows, something grows behind it, the hog leaves: the later one stays where it is."""
    parts = decompose([(0, 0), (1, 500), (2, 500), (3, 700), (4, 700), (5, 200)])
    assert [(part.size, part.start_s, part.leave_s) for part in parts] == [(500, 0, 4), (200, 2, None)]
    parts = decompose([(0, 0), (1, 500), (2, 500), (3, 700), (4, 700), (5, 600)])
    assert sorted((part.size, part.start_s, part.leave_s or 0) for part in parts) == [
        (100, 2, 0),
        (100, 2, 4),
        (500, 0, 0),
    ]


def simulated(text: str, seconds: float) -> tuple[Array, dict[str, Array], Array]:
    """Times, touched pages by kind of region (`anon` of `anon-1`), pages of stacks, with room for all."""
    workload = tomllib.loads(text)
    regions = [{**region, "process": "p0"} for region in workload["regions"]]
    kinds = [region.pop("name").rpartition("-")[0] for region in regions]
    quiet = {"access_hz": 0, "misses_per_page_s": 0, "tlb_misses_per_page_s": 0}
    spec = scenario(
        regions=[region | quiet for region in regions],
        pools=workload.get("pools", {}),
        dram_mib=65536,
        dt_s=DT_S,
        workers=workload["workers"],
    )
    lab = Lab(spec)
    steps = int(seconds / DT_S)
    pages = {kind: np.zeros(steps) for kind in kinds}
    stacks = np.zeros(steps, np.int64)
    for step in range(steps):
        lab.ticks(1)
        touched = lab.m["region"]["pages"].sum(axis=1) + lab.m["region"]["out_pages"]
        for kind, size in zip(kinds, touched, strict=False):
            pages[kind][step] += size
        stacks[step] = lab.m["used_pages"][4].sum()
    return (np.arange(steps) + 1) * DT_S, pages, stacks


@pytest.mark.parametrize("name", RUNS)
def test_a_simulated_machine_is_asked_for_what_was_recorded(name: str):
    recording = read_recording(FITTED / name)
    seconds = float(recording.t_s[-1] - recording.t_s[0])
    t_s, pages, _ = simulated(workload_toml(recording), seconds)
    asked = requests_of(recording)
    for kind in ("anon", "sparse", "kv", "mapped", "cache"):
        recorded = np.interp(t_s, recording.t_s - recording.t_s[0], getattr(asked, kind))
        if recorded.max() == 0:
            assert kind not in pages
            continue
        # Rounding of sizes and times to six digits, and regions below 64 KiB, beside the stated tolerance.
        assert np.abs(pages[kind] - recorded).max() <= (TOLERANCE + 0.002) * recorded.max() + 32, kind


def test_threads_become_stacks(tmp_path: Path):
    t_s = np.arange(0, 20, 0.2)
    threads = np.interp(t_s, [2, 6, 12, 14], [0, 2000, 2000, 500]).round().astype(np.int64)
    text = workload_toml(made(tmp_path, {"t_s": t_s, "threads": threads, "anon_touched_pages": threads * 3}))
    times, _, stacks = simulated(text, 19)
    assert np.abs(stacks / 4 - np.interp(times, t_s, threads)).max() <= 0.03 * 2000
    assert tomllib.loads(text)["pools"]["threads"]["low_share"] == pytest.approx(0.25, abs=0.02)


def test_a_pool_says_how_far_off_its_one_trapezoid_is():
    text = workload_toml(read_recording(FITTED / "c_threads_on"))
    assert "[pools.threads]  # a pool grows once: at most " in text
    assert tomllib.loads(text)["pools"]["threads"]["count"] == 3050


def test_kinds_of_memory_are_told_apart(tmp_path: Path):
    t_s = np.arange(0, 10, 0.2)
    up = np.linspace(0, 10000, len(t_s)).astype(np.int64)
    columns = {
        "t_s": t_s,
        "anon_touched_pages": up + 1000,
        "shmem_touched_pages": up // 2,
        "sparse_leaf_tables": np.minimum(up, 1000),
        "file_rss_pages": up,
        "procs": np.ones(len(t_s), np.int64),
        "n0.nr_file_pages": grown("n0.nr_file_pages", up * 3 + up // 2),
        "n0.nr_shmem": grown("n0.nr_shmem", up // 2),
        "mi.Shmem": grown("mi.Shmem", up // 2, 4),
        "mi.Mapped": grown("mi.Mapped", up + up // 2, 4),
    }
    regions = tomllib.loads(workload_toml(made(tmp_path, columns)))["regions"]
    mib: dict[str, float] = {}
    for region in regions:
        kind = region["name"].rpartition("-")[0]
        mib[kind] = mib.get(kind, 0) + region["mib"]
    # A recorder of processes counts the pages of sparse tables among the anonymous ones.
    expected = {
        "anon": 10000 / PAGES_PER_MIB,
        "sparse": 1000 / PAGES_PER_MIB,
        "shmem": 5000 / PAGES_PER_MIB,
        "mapped": 10000 / PAGES_PER_MIB,
        "cache": 20000 / PAGES_PER_MIB,
    }
    assert mib == pytest.approx(expected, rel=0.02)
    assert {region["kind"] for region in regions} == {"anon", "file_ro", "cache"}
    assert all(
        (region.get("density") == 1 / LEAF_SPAN_PAGES) == region["name"].startswith("sparse") for region in regions
    )


def test_larger_pages_are_counted_as_what_they_hold(tmp_path: Path):
    columns = {"t_s": np.arange(4.0), "anon_touched_pages": np.full(4, 1600)}
    (region,) = tomllib.loads(workload_toml(made(tmp_path, columns, page_size=16384)))["regions"]
    assert region["mib"] == 25


def test_heat_from_counted_accesses_accessed_bits_or_a_default(tmp_path: Path):
    t_s = np.arange(0, 10, 0.2)
    columns: dict[str, Array] = {"t_s": t_s, "anon_touched_pages": np.full(len(t_s), 1000)}

    def heat(where: str, more: dict[str, Array], **meta: Any) -> tuple[float, str]:
        text = workload_toml(made(tmp_path / where, columns | more, **meta))
        return tomllib.loads(text)["regions"][0]["access_hz"], text

    hz, text = heat("counted", {"page_accesses": (t_s * 5000).astype(np.int64)})
    assert hz == pytest.approx(5.0, rel=0.01) and "counted accesses" in text
    ages = np.where(t_s < 3, 0, 2000)  # one look, at the age of two seconds
    hz, text = heat("bits", {"referenced_pages": np.full(len(t_s), 632), "referenced_age_ms": ages})
    assert hz == pytest.approx(0.5, rel=0.01) and "63% of the pages within 2 s" in text
    hz, text = heat("none", {})
    assert hz == 0.1 and "these are defaults" in text


@given(st.floats(0, 0.9), st.floats(0, 0.3))
def test_hot_and_cold_are_told_apart_by_looks_at_three_ages(hot: float, cold_hz: float):
    """What is accessed all the time is seen at once; the rest comes with age."""
    looks = {age: min(1 - (1 - hot) * math.exp(-cold_hz * age), 0.99) for age in (0.5, 1.0, 2.0)}
    classes = _from_accessed_bits(looks).classes
    assert sum(of.share for of in classes) == pytest.approx(1)
    if max(looks.values()) < 0.99:
        assert classes[-1].access_hz == pytest.approx(cold_hz, abs=1e-9)
        assert (classes[0].share if len(classes) == 2 else 0) == pytest.approx(hot, abs=0.01)


def test_hot_pages_are_a_region_of_their_own(tmp_path: Path):
    t_s = np.arange(0, 10, 0.2)
    # Cleared at 2 s; looks at 2.4, 2.8 and 3.6 find a tenth of the pages, always the same.
    ages = np.select([t_s < 2.3, t_s < 2.7, t_s < 3.5], [0, 400, 800], 1600)
    pages = np.where(ages > 0, 1000, 0)
    columns = {"anon_touched_pages": np.full(len(t_s), 10000), "referenced_pages": pages, "referenced_age_ms": ages}
    regions = tomllib.loads(workload_toml(made(tmp_path, {"t_s": t_s, **columns})))["regions"]
    assert [(r["name"], round(r["mib"] * PAGES_PER_MIB)) for r in regions] == [
        ("anon-1-hot", 1000),
        ("anon-1-cold", 9000),
    ]
    assert regions[0]["access_hz"] > 10 and regions[1]["access_hz"] == 0


def test_looks_while_memory_grows_say_nothing(tmp_path: Path):
    t_s = np.arange(0, 10, 0.2)
    columns = {
        "anon_touched_pages": (t_s * 1000).astype(np.int64),
        "referenced_pages": (t_s * 1000).astype(np.int64),
        "referenced_age_ms": np.where(t_s < 3, 0, 2000),
    }
    assert "these are defaults" in workload_toml(made(tmp_path, {"t_s": t_s, **columns}))


def test_heat_that_no_machine_could_run_is_scaled_down(tmp_path: Path):
    t_s = np.arange(0, 10, 0.2)
    columns = {
        "t_s": t_s,
        "anon_touched_pages": np.full(len(t_s), 1_000_000),
        "page_accesses": (t_s * 1e9).astype(np.int64),
    }
    text = workload_toml(made(tmp_path, columns))
    region = tomllib.loads(text)["regions"][0]
    assert region["access_hz"] == pytest.approx(1000, rel=0.01) and region["misses_per_page_s"] < 100
    assert "# Misses are scaled by" in text


def test_curves_that_need_too_many_regions_are_simplified_further(tmp_path: Path):
    t_s = np.arange(0, 60, 0.2)
    noise = np.random.default_rng(0).integers(0, 1000, len(t_s))
    text = workload_toml(made(tmp_path, {"t_s": t_s, "anon_touched_pages": 10000 + noise}))
    assert 1 <= text.count("[[regions]]") <= 64
    assert f"at most {TOLERANCE:.1%}" not in text and "of each curve's peak" in text


def test_a_name_cannot_write_into_the_file(tmp_path: Path):
    columns = {"t_s": np.arange(3.0), "anon_touched_pages": np.full(3, 500)}
    recording = made(tmp_path, columns, kernel_release=r'6" \n[x]\n """ \x')
    workload = tomllib.loads(workload_toml(recording))
    assert set(workload) == {"description", "workers", "processes", "regions"}


SCENARIO = """
machine = "qemu_lab"
workload = "recorded.toml"
[episode]
horizon_s = 3
"""


def test_the_command_writes_a_workload_that_a_scenario_runs(cli: Cli, tmp_path: Path):
    done = cli("workload", "from-recording", FITTED / "e_phases_on", "--out", "recorded.toml")
    assert done.code == 0 and "name it in a scenario" in done.out
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    assert load_scenario(tmp_path / "scenario.toml").counts[0] == done_regions(tmp_path)
    assert cli("evaluate", "online", "--scenario", "scenario.toml", "--episodes", "1").code == 0


def done_regions(folder: Path) -> int:
    return (folder / "recorded.toml").read_text().count("[[regions]]")


@pytest.mark.parametrize("name", BAD)
def test_bad_recordings_end_with_exit_code_2(cli: Cli, unpacked: Path, name: str):
    spoil: Callable[[Path], object] = BAD[name][0]
    spoil(unpacked)
    done = cli("workload", "from-recording", unpacked, "--out", "out.toml")
    assert done.code == 2 and done.err.startswith("error: ") and str(unpacked) in done.err
    assert not Path("out.toml").exists()


def test_other_bad_input(cli: Cli, tmp_path: Path):
    assert "not a folder" in cli("workload", "from-recording", "nowhere", "--out", "x.toml").err
    done = cli("workload", "from-recording", FITTED / "e_phases_on", "--out", "x.txt")
    assert done.code == 2 and "ends in .toml" in done.err
    made(tmp_path, {"t_s": np.arange(5.0)})
    done = cli("workload", "from-recording", "made", "--out", "x.toml")
    assert done.code == 2 and "no workload in it" in done.err
