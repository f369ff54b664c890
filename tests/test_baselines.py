"""Hand-written rules: each does what its source says, on observations made for it and on small machines."""

from typing import Any

import numpy as np
import pytest

from tests.builders import PASSING_HOG, scenario
from tiergym.env import actions as act
from tiergym.env.observations import N_OBS, NAMES, SCALES
from tiergym.lab.evaluate import evaluate
from tiergym.lab.selecting import select
from tiergym.policy.load import load_policy
from tiergym.policy.rules import obs_index, raw
from tiergym.sim import names as n
from tiergym.specs import load_scenario, override

RULES = ("pt_walk_latency", "cost_benefit", "ping_pong_stop", "selector")
HOT = {"pmu.walks.slow": 2e7, "pmu.walks.fast": 2e7, "config.latency": 1.0, "config.slow_share": 0.67}
TABLES = {"kind": "anon", "mib": 600, "density": 1 / 64, "start_s": 2, "grow_s": 2, "misses_per_page_s": 20,
          "tlb_misses_per_page_s": 2000, "access_hz": 20}  # fmt: skip
"""Walked much, and born while the hog fills DRAM."""


def seen(*machines: dict[str, float]) -> np.ndarray:
    """Observations (N, N_OBS) that show these raw values, and 0 elsewhere."""
    obs = np.zeros((len(machines), N_OBS), np.float32)
    for row, values in zip(obs, machines, strict=True):
        for name, value in values.items():
            index = NAMES.index(name)
            row[index] = value / (value + SCALES[index]) if SCALES[index] > 0 else value
    return obs


def modes(policy: Any, *machines: dict[str, float]) -> list[dict[str, str]]:
    """What a policy decides, by entry, for machines that show these values."""
    masks = np.ones((len(machines), act.N_MASK), np.bool_)
    return [act.to_modes(row) for row in policy(seen(*machines), masks)]


def started(name: str, machines: int = 1) -> Any:
    policy = load_policy(name)
    policy.reset(machines, 0)
    return policy


def test_raw_values_come_back_from_what_is_shown() -> None:
    obs = seen({"pmu.walks.slow": 3e6, "swap_free": 0.25})
    assert raw(obs, obs_index("pmu.walks.slow"))[0] == pytest.approx(3e6, rel=1e-5)
    assert raw(obs, obs_index("swap_free"))[0] == 0.25


def test_tables_move_by_the_latency_of_their_walks() -> None:
    """Far tables move; those in DRAM have nowhere nearer to go, and a busy DRAM is no nearer than CXL [W-auto-ptm]."""
    near, busy = {**HOT, "pmu.walks.slow": 0}, {**HOT, "pmu.load.fast": 1.0}
    decided = modes(started("pt_walk_latency", 3), HOT, near, busy)
    assert [each["migrate.pt_leaf"] for each in decided] == ["idle", "off", "off"]


def test_a_measured_walk_is_slower_the_more_leaves_lie_on_cxl() -> None:
    rule = started("pt_walk_latency").rule
    now, near = rule.latency(seen(HOT, {**HOT, "pmu.walks.fast": 0}))
    assert now == pytest.approx([1.5, 2.0]) and near == pytest.approx([1.0, 1.0])


def test_walked_tables_come_back_and_cold_ones_stay() -> None:
    """After a hog has left DRAM, hot tables are fetched by both rules that measure walks, and online leaves them."""
    machine = scenario(regions=[PASSING_HOG, TABLES], horizon_s=15)
    cold = scenario(regions=[PASSING_HOG, TABLES | {"tlb_misses_per_page_s": 0.01}], horizon_s=15)
    slow = {
        name: evaluate(load_policy(name), machine, 1, 0).values
        for name in ("online", "pt_walk_latency", "cost_benefit")
    }
    for name in ("pt_walk_latency", "cost_benefit"):
        assert slow[name]["lost_page_tables"] < 0.8 * slow["online"]["lost_page_tables"], name
    nothing_to_gain = [evaluate(load_policy(name), cold, 1, 0).values["return"] for name in ("online", "cost_benefit")]
    assert nothing_to_gain[0] == nothing_to_gain[1]


def test_moves_wait_until_both_averages_expect_a_gain() -> None:
    """One hot tick is no reason, a hot minute is one for the highest rate, and a cold one ends it [W-arms]."""
    policy, warm = started("cost_benefit"), {**HOT, "pmu.walks.slow": 5e5}
    assert modes(policy, warm)[0]["migrate.pt_leaf"] == "off"
    for _ in range(240):
        (decided,) = modes(policy, HOT)
    assert (decided["migrate.pt_leaf"], decided["migrate.budget"]) == ("idle", "high")
    for _ in range(60):
        (decided,) = modes(policy, {**HOT, "pmu.walks.slow": 0})
    assert decided["migrate.pt_leaf"] == "off"


def test_the_rate_is_the_highest_that_pays() -> None:
    machines = [{**HOT, "pmu.walks.slow": walks} for walks in (1e4, 1e5, 1e6, 1e7)]
    policy = started("cost_benefit", 4)
    for _ in range(240):
        decided = modes(policy, *machines)
    assert [each["migrate.pt_leaf"] for each in decided] == ["off", "idle", "idle", "idle"]
    assert [each["migrate.budget"] for each in decided][1:] == ["low", "medium", "high"]


def test_migration_stops_where_promoted_pages_return_and_resumes_under_another_load() -> None:
    """Each machine for itself: the second promotes as much and nothing comes back [W-ping-pong]."""
    policy = started("ping_pong_stop", 2)
    moving = {"rate.pgpromote_success": 5000, "pmu.misses.slow": 1e7}
    returning = {**moving, "rate.pgdemote_kswapd": 4000}
    for _ in range(40):
        stopped, goes_on = modes(policy, returning, moving)
    assert (stopped["migrate.pt_leaf"], goes_on["migrate.pt_leaf"]) == ("off", "with_data")
    assert stopped["migrate.slab"] == "off" and goes_on["migrate.slab"] == "idle"
    quiet = {"pmu.misses.slow": 1e7}
    for _ in range(40):
        stopped, _ = modes(policy, quiet, moving)
    assert stopped["migrate.pt_leaf"] == "off", "nothing moves, so nothing returns: that is no reason to resume"
    for _ in range(40):
        resumed, _ = modes(policy, {"pmu.misses.slow": 3e7}, moving)
    assert resumed["migrate.pt_leaf"] == "with_data"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_can_be_repeated_and_needs_no_neighbours(name: str) -> None:
    """The same returns again, and for the first machines of a larger batch."""
    machine = override(load_scenario("graph-1to2"), {"episode.horizon_s": 10})
    policy = load_policy(name)
    first, second = (evaluate(policy, machine, 3, 1).values["return"] for _ in range(2))
    assert (first == second).all()
    assert (evaluate(policy, machine, 2, 1).values["return"] == first[:2]).all()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("traditional", ["traditional-llama", "traditional-kvstore"])
def test_without_cxl_a_rule_is_online(name: str, traditional: str) -> None:
    machine = load_scenario(traditional)
    mine, stock = (evaluate(load_policy(each), machine, 2, 0).values for each in (name, "online"))
    assert all((mine[metric] == stock[metric]).all() for metric in stock)


def test_the_selector_decides_by_configuration_and_keeps_to_it() -> None:
    """What changes after the second tick changes nothing, and the table's keys are configurations that it can tell."""
    policy = started("selector", 2)
    with_demotion = {"config.demotion": 1.0, "swap_free": 1.0, "config.slow_share": 0.67, "blocks.movable": 1.0}
    without = {"config.slow_share": 0.8, "blocks.normal": 1.0}
    modes(policy, with_demotion, without)
    chosen = modes(policy, with_demotion, without)
    assert chosen[0] != chosen[1] and modes(policy, without, with_demotion) == chosen
    table = policy.rule.table
    told = policy.rule.configurations(seen(with_demotion, without, {"swap_free": 1.0, "blocks.normal": 1.0}))
    assert told[0] != told[1] and all(key.count(", ") == told[0].count(", ") for key in table)
    assert told[2] == "no demotion, swap, no CXL, normal"


def test_a_table_is_the_best_rule_of_each_configuration_and_ties_are_onlines() -> None:
    """Restricting wins where demotion makes room for it and loses to everything where nothing can leave DRAM."""
    short = {"episode.horizon_s": 30}
    scenarios = [override(load_scenario(name), short) for name in ("graph-1to2", "sparse-1to2", "traditional-llama")]
    rules = {name: load_policy(name) for name in ("online", "restrict")}
    table, _ = select(scenarios, rules, load_policy("selector").rule, 2, 0)  # type: ignore[attr-defined]
    chosen = {tuple(key.split(", ")[::2]): name for key, name in table.items()}
    assert chosen["demotion", "to 1:3"] == "restrict" and chosen["no demotion", "to 1:3"] == "online"
    assert chosen["no demotion", "no CXL"] == "online"


@pytest.mark.parametrize("name", [*RULES, "adaptive"])
def test_a_rule_chooses_nothing_less_plausible_than_it_says(name: str) -> None:
    rng = np.random.default_rng(0)
    policy = started(name, 500)
    masks = np.ones((500, act.N_MASK), np.bool_)
    chosen = np.stack([policy(rng.random((500, N_OBS), np.float32), masks) for _ in range(20)])
    order = n.PLAUSIBILITIES.index
    assert order(act.plausibility(chosen)) <= order(policy.plausibility)
