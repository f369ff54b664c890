"""Scenarios as TOML: presets, bases and overrides, distributions, and every refusal of bad input."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiergym import specs
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.sim import parameters as p
from tiergym.sim.draw import draw_row
from tiergym.sim.layout import REGION_SIZES, parameter_names
from tiergym.sim.units import PAGES_PER_MIB
from tiergym.specs.distributions import highest, lowest, parse, support
from tiergym.specs.reading import SCALARS, complete_sections
from tiergym.specs.writing import value_toml

SMALL = """
description = "a small one"

[machine]
dram_mib = 1024
slow_mib = 1024
block_mib = 128

[kernel]
thp = "off"

[workload]
workers = 4

[[workload.processes]]
name = "app"

[[workload.regions]]
name = "heap"
process = "app"
mib = 512
misses_per_page_s = 10
"""

ALL_FIELDS = [field for _, fields in p.SCALAR_SECTIONS for field in fields] + [*p.REGION, *p.POOL]


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> specs.Scenario:
    return specs.load_scenario(write(folder, text))


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, text)
    return str(caught.value)


def row(scenario: specs.Scenario, name: str) -> list[float]:
    return scenario.table[parameter_names(scenario.regions).index(name)].tolist()


# Presets


@pytest.mark.parametrize("name", specs.list_scenarios())
def test_a_preset_loads_and_its_complete_toml_loads_back_to_the_same(name: str, tmp_path: Path) -> None:
    scenario = specs.load_scenario(name)
    again = load(tmp_path, specs.scenario_toml(name))
    assert scenario.description
    assert scenario.table.shape == (len(parameter_names(scenario.regions)), p.ROW)
    assert np.isfinite(scenario.table).all()
    np.testing.assert_array_equal(again.table, scenario.table)
    assert (again.sections, again.counts, again.regions) == (scenario.sections, scenario.counts, scenario.regions)
    assert specs.scenario_toml(again) == specs.scenario_toml(scenario)


@pytest.mark.parametrize("machine", specs.list_machines())
def test_every_machine_takes_a_small_workload(machine: str, tmp_path: Path) -> None:
    text = SMALL.replace(SMALL[SMALL.index("[machine]") : SMALL.index("[workload]")], "")
    scenario = load(tmp_path, f'machine = "{machine}"\n{text}')
    assert specs.describe("machines", machine)
    assert scenario.slow_pages_max == scenario.sections["machine"]["slow_mib"] * PAGES_PER_MIB


@pytest.mark.parametrize("workload", specs.list_workloads())
def test_every_workload_fits_the_default_machine(workload: str, tmp_path: Path) -> None:
    scenario = load(tmp_path, f'machine = "spr_cxl_asic"\nworkload = "{workload}"')
    assert specs.describe("workloads", workload)
    assert scenario.counts == (len(scenario.sections["regions"]), len(scenario.sections["processes"]))


def test_the_presets_cover_what_users_were_promised() -> None:
    loaded = {name: specs.load_scenario(name) for name in specs.list_scenarios()}
    kinds = {event["kind"] for scenario in loaded.values() for event in scenario.sections["events"]}
    single = [name for name, scenario in loaded.items() if scenario.slow_pages_max == 0]
    assert len(loaded) >= 18
    assert kinds == {"hot_add", "hot_remove"}
    assert single == [name for name in loaded if name.startswith("traditional-")] != []
    assert {"spr_cxl_asic", "emr_cxl_x16", "spr_cxl_fpga", "genoa_4xcz120", "clx_numa", "haswell4s_numa"} < set(
        specs.list_machines()
    )


def test_suites_name_every_preset_once_and_keep_the_held_out_apart() -> None:
    tuning, heldout = specs.load_suite("tuning").scenarios, specs.load_suite("heldout").scenarios
    assert sorted(tuning + heldout) == list(specs.list_scenarios())


# Bases, overrides, defaults


def test_an_empty_table_gives_every_field_its_default(tmp_path: Path) -> None:
    scenario = load(tmp_path, "[machine]\n[workload]")
    fixed = {name: row(scenario, name)[:2] for name in parameter_names(16) if "[" not in name}
    assert fixed == {field.name: [n.DRAW_FIXED, field.default] for _, fields in p.SCALAR_SECTIONS for field in fields}
    assert scenario.counts == (0, 1)


def test_a_scenario_overrides_its_bases_by_name(tmp_path: Path) -> None:
    scenario = load(
        tmp_path,
        """
        [machine]
        base = "qemu_lab"
        cpus = 4
        [workload]
        base = "llama"
        workers = 2
        [workload.region.weights]
        mib = 820
        [workload.region.kv]
        mib = 64
        [workload.region]
        activations = { mib = 8 }
        runtime = { mib = 8 }
        [workload.process.llama]
        restart_s = 9
        [workload.pools.buffers]
        count = 16
        [[workload.processes]]
        name = "extra"
        [[workload.regions]]
        name = "more"
        process = "extra"
        mib = 1
        """,
    )
    base = specs.load_scenario("llama-1to4")
    names = [region["name"] for region in scenario.sections["regions"]]
    weights, inherited = scenario.sections["regions"][1], base.sections["regions"][1]
    assert names == ["runtime", "weights", "kv", "activations", "more"]
    assert weights == inherited | {"mib": 820}
    assert row(scenario, "cpus")[1] == 4 and row(scenario, "dram_mib")[1] == 512
    assert scenario.sections["kernel"]["thp"] == "off"  # of the machine's file
    assert scenario.sections["processes"][0]["restart_s"] == 9
    assert scenario.sections["pools"]["buffers"]["turnover_hz"] == base.sections["pools"]["buffers"]["turnover_hz"]
    assert row(scenario, "region_process[4]")[1] == 1
    assert scenario.counts == (5, 2)


def test_settings_come_from_defaults_then_machine_then_scenario(tmp_path: Path) -> None:
    write(tmp_path, "cpus = 2\n[kernel]\nthp = 'off'\nswap_mib = 7\n[costs]\nfault_us = 2", "box.toml")
    text = "machine = 'box.toml'\n[kernel]\nswap_mib = 8\n[workload]"
    kernel, costs = (load(tmp_path, text).sections[key] for key in ("kernel", "costs"))
    assert (kernel["thp"], kernel["swap_mib"], kernel["demotion"], costs["fault_us"]) == ("off", 8, "off", 2)


def test_a_users_workload_file_may_build_on_a_preset_and_not_on_itself(tmp_path: Path) -> None:
    write(tmp_path, "base = 'llama'\n[region.kv]\nmib = 64", "tiny_kv.toml")
    scenario = load(tmp_path, "machine = 'spr_cxl_asic'\nworkload = 'tiny_kv.toml'")
    assert [r["mib"] for r in scenario.sections["regions"] if r["name"] == "kv"] == [64]
    write(tmp_path, "base = 'b.toml'", "a.toml")
    write(tmp_path, "base = 'a.toml'", "b.toml")
    assert "not based on this one" in refusal(tmp_path, "machine = 'spr_cxl_asic'\nworkload = 'a.toml'")


def test_weights_are_spelled_without_their_prefix(tmp_path: Path) -> None:
    scenario = load(tmp_path, SMALL + "[weights]\noom = 3")
    assert row(scenario, "weight_oom")[1] == 3
    assert scenario.sections["weights"] == {"access_latency": 1, "premature_reclaim": 1, "migration": 1, "oom": 3}


def test_override_validates_and_leaves_the_original_alone(tmp_path: Path) -> None:
    scenario = load(tmp_path, SMALL)
    before = scenario.table.copy()
    changed = specs.override(
        scenario,
        {
            "machine.slow_latency_ns": {"uniform": [200, 300]},
            "kernel.demotion": "on",
            "workload.region.heap.mib": 100,
            "workload.pools.threads.count": 8,
            "events": [{"kind": "hot_add", "at_s": 5, "mib": 256}],
        },
    )
    assert row(changed, "slow_latency_ns")[:3] == [n.DRAW_UNIFORM, 200, 300]
    assert [row(changed, name)[1] for name in ("demotion", "region_mib[0]", "pool_count[0]", "event_at_s[0]")] == [
        1,
        100,
        8,
        5,
    ]
    np.testing.assert_array_equal(scenario.table, before)
    assert specs.override(changed, {"machine.slow_latency_ns.uniform": [200, 250]}).table is not None
    assert row(changed, "slow_latency_ns")[2] == 300
    for field, value in [("kernel.demotion", 1), ("machine.dram", 1), ("machine.dram_mib.x", 1), ("regions.heap", {})]:
        with pytest.raises(UserError, match=r"mine, overridden: .*"):
            specs.override(scenario, {field: value})


@pytest.mark.parametrize("regions", REGION_SIZES)
def test_a_larger_size_class_only_adds_unused_slots(regions: int) -> None:
    scenario = specs.load_scenario("colocated-1to2")
    table = specs.scenario_table(scenario, regions)
    small = dict(zip(parameter_names(scenario.regions), scenario.table.tolist(), strict=True))
    large = dict(zip(parameter_names(regions), table.tolist(), strict=True))
    assert {name: large[name] for name in small} == small
    assert all(large[f"region_mib[{i}]"][1] == 0 for i in range(scenario.counts[0], regions))
    assert all(large[f"process_work_share[{i}]"][1] == 0 for i in range(scenario.counts[1], p.N_PROCESSES))


def test_a_table_too_small_for_its_regions_is_a_programming_error() -> None:
    many = specs.override(
        specs.load_scenario("llama-1to2"), {"workload.regions": [{"name": f"r{i}"} for i in range(17)]}
    )
    assert many.regions == 32
    with pytest.raises(ValueError, match="17 regions"):
        specs.scenario_table(many, 16)


# Distributions


@st.composite
def toml_values(draw: st.DrawFn, field: p.Field) -> Any:
    """A valid TOML value of the field: fixed, or any distribution that it may have."""
    if field.choices:
        choice = st.sampled_from(field.choices)
        return draw(choice | st.fixed_dictionaries({"choice": st.lists(choice, min_size=1, max_size=6)}))
    if field.integer:
        number: st.SearchStrategy[Any] = st.integers(math.ceil(field.low), math.floor(field.high))
    else:
        number = st.floats(field.low, field.high)
    form = draw(st.sampled_from(["fixed", "uniform", "log_uniform", "normal", "choice"]))
    if form == "fixed":
        return draw(number)
    if form == "choice":
        return {"choice": draw(st.lists(number, min_size=1, max_size=6))}
    low, middle, high = sorted(draw(st.tuples(number, number, number)))
    if form == "normal":
        return {"normal": [middle, draw(st.floats(1e-6, 1e6))], "low": low, "high": high}
    return {"uniform" if low <= 0 else form: [low, high]}


@given(st.data())
def test_every_valid_value_survives_toml_and_draws_within_its_support(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(ALL_FIELDS))
    value = data.draw(toml_values(field))
    read = tomllib.loads(f"x = {value_toml(value)}")["x"]
    parsed = parse(value, field)
    assert read == value and parse(read, field) == parsed
    assert len(parsed) == p.ROW and all(field.low <= bound <= field.high for pair in support(parsed) for bound in pair)
    drawn = draw_row(np.array(parsed), np.uint64(data.draw(st.integers(0, 2**64 - 1))), 0)
    slack = 1e-12 * max(abs(lowest(parsed)), abs(highest(parsed)))  # of exp(log(x))
    assert any(low - slack <= drawn <= high + slack for low, high in support(parsed))


@given(st.text(max_size=20))
def test_any_description_survives(text: str) -> None:
    assert tomllib.loads(f"x = {value_toml(text)}")["x"] == text


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["uniform", "normal", "choice", "low", "name", "base", "mib"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.data())
def test_a_document_is_complete_or_refused_and_nothing_else(data: st.DataObject) -> None:
    document = tomllib.loads(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        table = document
        while True:
            key = data.draw(st.sampled_from([*table, "region", "pools", "events", "weights"]))
            if isinstance(table.get(key), dict) and table[key] and data.draw(st.booleans()):
                table = table[key]
                continue
            table[key] = data.draw(JUNK)
            break
    try:
        sections = complete_sections(document, "junk.toml", Path())
    except UserError:
        return
    for section, fields in SCALARS.items():
        assert set(sections[section]) == set(fields)


# Refusals: each names the file, the field, the value and what is allowed


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("dram_mib = 1024", "dram_mb = 1024"), ["machine: unknown key 'dram_mb'", "did you mean 'dram_mib'?"]),
        (("[kernel]", "[kernal]"), ["unknown key 'kernal'", "did you mean 'kernel'?"]),
        (("dram_mib = 1024", "dram_mib = '1 GiB'"), ["machine.dram_mib = '1 GiB'", "a number from 64"]),
        (("dram_mib = 1024", "dram_mib = true"), ["machine.dram_mib = True", "a number"]),
        (("dram_mib = 1024", "dram_mib = nan"), ["machine.dram_mib = nan", "from 64 to 1e+07"]),
        (("dram_mib = 1024", "dram_mib = inf"), ["machine.dram_mib = inf", "from 64"]),
        (("slow_mib = 1024", "slow_mib = -1"), ["machine.slow_mib = -1", "from 0 to"]),
        (("slow_mib = 1024", "cpus = 2.5"), ["machine.cpus = 2.5", "a whole number from 1 to 1024"]),
        (('thp = "off"', 'thp = "of"'), ["kernel.thp = 'of'", 'one of "off", "on"']),
        (('thp = "off"', "thp = 0"), ["kernel.thp = 0", 'one of "off", "on"']),
        (("mib = 512", "mib = -512"), ["workload.regions.heap.mib = -512"]),
        (('process = "app"', 'process = "ap"'), ["workload.regions.heap.process", "did you mean 'app'?"]),
        (('process = "app"', "process = 0"), ["workload.regions.heap.process = 0", "the name of one"]),
        (('name = "heap"', ""), ["workload.regions[0].name = None", "letters"]),
        (('name = "heap"', 'name = "a b"'), ["workload.regions[0].name = 'a b'"]),
        (("[[workload.regions]]", "[workload.regions]"), ["workload.regions = ", "array of tables"]),
        (("[kernel]", "[kernel]\nswap_mib = { uniform = [2, 1] }"), ["kernel.swap_mib", "low <= high"]),
        (("[kernel]", "[kernel]\nswap_mib = { uniform = [1] }"), ["kernel.swap_mib", "two numbers"]),
        (("[kernel]", "[kernel]\nswap_mib = { uniform = [0, 1e9] }"), ["kernel.swap_mib", "from 0 to 8e+06"]),
        (("[kernel]", "[kernel]\nswap_mib = { log_uniform = [0, 9] }"), ["kernel.swap_mib", "low > 0"]),
        (("[kernel]", "[kernel]\nswap_mib = { normal = [5, -1] }"), ["kernel.swap_mib", "standard deviation > 0"]),
        (("[kernel]", "[kernel]\nswap_mib = { normal = [5, 1], low = 6 }"), ["kernel.swap_mib", "low <= mean <= high"]),
        (("[kernel]", "[kernel]\nswap_mib = { normal = [5, 1], high = inf }"), ["kernel.swap_mib", "finite"]),
        (("[kernel]", "[kernel]\nswap_mib = { choice = [] }"), ["kernel.swap_mib", "1 to 6 values"]),
        (("[kernel]", "[kernel]\nswap_mib = { choice = [1, 2, 3, 4, 5, 6, 7] }"), ["kernel.swap_mib", "1 to 6 values"]),
        (("[kernel]", "[kernel]\nswap_mib = { choice = [1, -2] }"), ["kernel.swap_mib", "from 0"]),
        (("[kernel]", "[kernel]\nswap_mib = { uniform = [1, 2], low = 1 }"), ["kernel.swap_mib", "beside uniform"]),
        (("[kernel]", "[kernel]\nswap_mib = { gamma = [1, 2] }"), ["kernel.swap_mib", "exactly one of uniform"]),
        (("[kernel]", "[kernel]\ndemotion = { uniform = [0, 1] }"), ["kernel.demotion", "choice"]),
        (
            ("slow_mib = 1024", "slow_mib = 100"),
            ["machine.slow_mib = 100", "one memory block, machine.block_mib = 128"],
        ),
        (
            ("slow_mib = 1024", "slow_mib = { uniform = [0, 1024] }"),
            ["machine.slow_mib = 0", "0 (no slow tier) or at least one memory block"],
        ),
        (("slow_mib = 1024", "slow_mib = 1048576"), ["8192 memory blocks", "at most 4096"]),
        (("[kernel]", "[kernel]\nmin_free_kib = 900000"), ["kernel.min_free_kib = 900000", "high watermark", "MiB"]),
        (("[kernel]", "[kernel]\nwatermark_scale_factor = 3000"), None),
        (
            ("[kernel]", '[kernel]\nwatermark_scale_factor = 3000\nnuma_balancing = "tiering"'),
            ["kernel.watermark_scale_factor = 3000", "promo watermark"],
        ),
        (("dram_mib = 1024", "dram_mib = 270"), ["struct pages of machine.slow_mib", "at most DRAM's managed 266"]),
        (("misses_per_page_s = 10", 'mempolicy = "bind_slow"'), None),
        (("[kernel]", '[[events]]\nkind = "hot_add"\nmib = 64\n[kernel]'), ["events[0].mib = 64", "block_mib = 128"]),
        (("[kernel]", '[[events]]\nkind = "hot_remove"\nmib = 2048\n[kernel]'), ["events[0].mib = 2048", "1024"]),
        (
            ("[kernel]", '[[events]]\nkind = "hot_add"\nmib = 768\n' * 2 + "[kernel]"),
            ["events[1].mib = 768", "hot_add events together"],
        ),
        (("[kernel]", "[[events]]\n" * 9 + "[kernel]"), ["events: 9 of them", "at most 8"]),
        (("[kernel]", "[episode]\nhorizon_s = 0.5\ndt_s = 1\n[kernel]"), ["episode.horizon_s = 0.5", "dt_s = 1"]),
        (("misses_per_page_s = 10", "misses_per_page_s = 1e4\nmlp = 1"), ["would be stalls", "by heap", "below 95%"]),
        (
            ("workers = 4", "workers = 64\nregion.heap = { misses_per_page_s = 1e5, mlp = 256 }"),
            ["GB/s", "of DRAM's peak", "at most 300%"],
        ),
        (("misses_per_page_s = 10", "tlb_misses_per_page_s = 1e4\nthp_share = 1"), None),
        (("misses_per_page_s = 10", 'tlb_misses_per_page_s = 1e4\nkind = "cache"'), None),
        (('description = "a small one"', "description = 1"), ["description = 1", "a string"]),
        (("[workload]\nworkers = 4", '[workload]\nbase = "lama"'), ["workload.base", "did you mean 'llama'?"]),
    ],
    ids=lambda value: value[1][:40].replace("\n", " ") if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_by_name(tmp_path: Path, change: tuple[str, str], parts: list[str] | None) -> None:
    assert change[0] in SMALL
    text = SMALL.replace(change[0], change[1], 1)
    if parts is None:
        assert load(tmp_path, text).table.size
        return
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'mine.toml'}: ") and "\n" not in message
    assert [part for part in parts if part not in message] == []


def test_a_region_bound_to_a_tier_that_may_be_missing_is_refused(tmp_path: Path) -> None:
    text = SMALL.replace("slow_mib = 1024", "slow_mib = { choice = [0, 1024] }")
    text = text.replace("mib = 512", 'mib = 512\nmempolicy = { choice = ["default", "bind_slow"] }')
    assert 'workload.regions.heap.mempolicy = "bind_slow"' in refusal(tmp_path, text)


def test_too_many_of_anything_is_refused(tmp_path: Path) -> None:
    regions = "".join(f"[[workload.regions]]\nname = 'r{i}'\n" for i in range(64))
    assert "workload.regions: 65 of them; allowed: at most 64" in refusal(tmp_path, SMALL + regions)
    processes = "".join(f"[[workload.processes]]\nname = 'p{i}'\n" for i in range(8))
    assert "workload.processes: 9 of them; allowed: at most 8" in refusal(tmp_path, SMALL + processes)
    twice = '[[workload.regions]]\nname = "heap"\n'
    assert "[workload.region.heap]" in refusal(tmp_path, SMALL + twice)


def test_the_error_names_the_base_file_that_is_wrong(tmp_path: Path) -> None:
    box = write(tmp_path, "dram_mib = -1", "box.toml")
    assert refusal(tmp_path, "machine = 'box.toml'\n[workload]").startswith(f"{box}: dram_mib = -1; allowed: ")
    load_file = write(tmp_path, "[[regions]]\nname = 'a'\nmib = 'x'", "load.toml")
    message = refusal(tmp_path, "workload = 'load.toml'\n[machine]")
    assert message.startswith(f"{load_file}: regions.a.mib = 'x'; allowed: ")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert "workload is missing" in refusal(tmp_path, "[machine]")
    assert "machine is missing" in refusal(tmp_path, "[workload]")
    assert "not valid TOML" in refusal(tmp_path, "a = ")
    with pytest.raises(UserError, match="No such file"):
        specs.load_scenario(tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"unknown scenario 'llma-1to2'; did you mean 'llama-1to2'\?"):
        specs.load_scenario("llma-1to2")
    with pytest.raises(UserError, match="unknown suite 'held'"):
        specs.load_suite("held")
    with pytest.raises(UserError, match="unknown scenario 'nothing'"):
        specs.load_suite(write(tmp_path, 'scenarios = ["nothing"]'))
    with pytest.raises(UserError, match="each once"):
        specs.load_suite(write(tmp_path, 'scenarios = ["llama-1to2", "llama-1to2"]'))


def test_a_suite_of_a_user_names_files_beside_it(tmp_path: Path) -> None:
    mine = write(tmp_path, SMALL)
    suite = write(tmp_path, 'scenarios = ["llama-1to2", "mine.toml"]', "suite.toml")
    assert specs.load_suite(suite).scenarios == ("llama-1to2", str(mine))


@given(st.floats(0.5, 1.5))
def test_the_stall_limit_is_where_the_message_says(factor: float) -> None:
    """One region alone: pages x misses x latency / (mlp x workers) = 0.95, less the kernel's own touches."""
    base = specs.load_scenario("llama-1to2")
    kernel = sum(value for name, value in base.sections["workload"].items() if name.endswith("_touches_per_s"))
    pages, latency, mlp, workers = 65536, 100e-9, 2.0, 16
    limit = 0.95 * workers - kernel * latency / base.sections["workload"]["kernel_mlp"]
    misses = factor * limit * mlp / (pages * latency)
    changes = {
        "machine.dram_latency_ns": {"uniform": [50, 100]},
        "workload.workers": {"choice": [workers, 64]},
        "workload.regions": [{"name": "only", "mib": 256, "misses_per_page_s": misses, "mlp": mlp}],
    }
    if abs(factor - 1) < 1e-6:
        return
    if factor < 1:
        assert json.dumps(specs.override(base, changes).sections)
    else:
        with pytest.raises(UserError, match="by only"):
            specs.override(base, changes)


def test_slow_tier_must_not_be_faster_than_dram(tmp_path):
    path = tmp_path / "fast_cxl.toml"
    path.write_text('workload = "llama"\n[machine]\nbase = "spr_cxl_asic"\nslow_latency_ns = 100\n')
    with pytest.raises(
        UserError, match=r"machine\.slow_latency_ns = 100; allowed: from machine\.dram_latency_ns = 114"
    ):
        specs.load_scenario(path)
