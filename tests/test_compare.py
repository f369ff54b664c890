"""Evaluation on the real simulator: common seeds, masking of finished machines, tables, files and picture."""

import json
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest

from tiergym import specs
from tiergym.errors import UserError
from tiergym.lab import metrics, plots, results, tables
from tiergym.lab.compare import Comparison, compare
from tiergym.lab.evaluate import evaluate, evaluation_seeds, run_episodes
from tiergym.lab.statistics import Interval
from tiergym.lab.tables import interval
from tiergym.policy.load import load_policy
from tiergym.sim import names as n
from tiergym.terminal import new_table, number

EPISODES = 6


@pytest.fixture(scope="module")
def varied() -> specs.Scenario:
    """The llama-like scenario with a workload that differs between machines, for 2 to 6 seconds."""
    return specs.override(
        specs.load_scenario("llama-1to2"),
        {"episode.horizon_s": {"uniform": [2, 6]}, "machine.slow_latency_ns": {"uniform": [200, 500]}},
    )


@pytest.fixture(scope="module")
def comparison(varied: specs.Scenario) -> Comparison:
    names = ["restrict", "online", "random"]
    runs = {name: [load_policy(name)] for name in names}
    return compare(runs | {"two_runs": [load_policy("online"), load_policy("soft")]}, varied, EPISODES, seed=3)


def test_evaluation_seeds_are_no_training_seeds():
    seeds = evaluation_seeds(7, 1000)
    assert len(set(seeds.tolist())) == 1000
    assert seeds.min() >= 1 << 63, "seeds of machines in training fit a non-negative int64"
    assert not set(seeds.tolist()) & set(evaluation_seeds(8, 1000).tolist())
    assert np.array_equal(seeds[:10], evaluation_seeds(7, 10))


def test_each_episode_is_the_one_its_machine_makes_alone(varied: specs.Scenario):
    seeds = evaluation_seeds(3, EPISODES)
    policy = load_policy("restrict")
    together, _ = run_episodes(policy, [varied], seeds)
    assert len(set(together.ticks.tolist())) > 1, "the machines must finish at different times"
    for i in range(EPISODES):
        alone, _ = run_episodes(policy, [varied], seeds[i : i + 1])
        for name, values in metrics.per_episode(together).items():
            assert values[i] == metrics.per_episode(alone)[name][0], name


def test_a_policy_scores_the_same_in_any_company(varied: specs.Scenario, comparison: Comparison):
    for name in ("online", "random"):
        alone = evaluate(load_policy(name), varied, EPISODES, seed=3)
        for metric in metrics.NAMES:
            assert np.array_equal(comparison.values[name][metric][0], alone.values[metric])


def test_metrics_agree_with_each_other(varied: specs.Scenario, comparison: Comparison):
    totals, _ = run_episodes(load_policy("online"), [varied], evaluation_seeds(3, EPISODES))
    values = {name: array[0] for name, array in comparison.values["online"].items()}
    lost = sum(values[f"lost_{cause}"] for cause in n.CAUSES)
    terms = sum(values[f"term_{term}"] for term in n.TERMS)
    assert lost == pytest.approx(1 - values["throughput"], abs=1e-9)
    assert -terms * totals.ticks == pytest.approx(values["return"], rel=1e-9)
    assert (values["p99_tick_slowdown"] >= 1 / values["throughput"]).all()
    kernel = [values[f"slow_{name}_pages"] for name in n.CLASSES[n.FIRST_KERNEL_CLASS :]]
    assert values["slow_kernel_pages"] == pytest.approx(sum(kernel), abs=1e-6)


def test_differences_are_paired_and_from_online(comparison: Comparison):
    assert comparison.reference == "online"
    assert comparison.difference("online").mean == 0 == comparison.difference("online").high
    expected = comparison.values["restrict"]["return"].mean() - comparison.values["online"]["return"].mean()
    assert comparison.difference("restrict").mean == pytest.approx(expected)
    assert comparison.values["two_runs"]["return"].shape == (2, EPISODES)
    without = Comparison("s", 0, EPISODES, {"restrict": comparison.values["restrict"]})
    assert without.reference == "restrict"


def test_json_has_the_documented_keys(tmp_path: Path, comparison: Comparison):
    path = tmp_path / "new" / "results.json"
    results.write_json(path, results.comparison_json(comparison))
    document = json.loads(path.read_text())
    about = ["schema", "model", "scenario", "digest", "variant", "changes", "seed", "episodes", "agents"]
    assert list(document) == [*about, "policies", "modes"]
    assert (document["schema"], document["scenario"], document["seed"]) == (1, "llama-1to2", 3)
    assert document["changes"] == {
        "episode.horizon_s": {"uniform": [2, 6]},
        "machine.slow_latency_ns": {"uniform": [200, 500]},
    }
    for values in document["policies"].values():
        assert tuple(values) == metrics.NAMES
        for value in values.values():
            assert list(value) == ["mean", "low", "high"]
            assert value["low"] <= value["mean"] <= value["high"]


def test_json_refuses_numbers_that_are_none(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write_json(tmp_path / "x.json", {"mean": math.nan})
    assert not list(tmp_path.iterdir())


def test_parquet_has_a_row_per_run_and_episode(tmp_path: Path, comparison: Comparison):
    results.write_parquet(tmp_path / "episodes.parquet", [comparison])
    table = pq.read_table(tmp_path / "episodes.parquet")
    assert table.num_rows == 5 * EPISODES
    rows = [row for row in table.to_pylist() if row["policy"] == "two_runs" and row["run"] == 1]
    assert [row["return"] for row in rows] == comparison.values["two_runs"]["return"][1].tolist()
    assert [row["machine_seed"] for row in rows] == evaluation_seeds(3, EPISODES).tolist()
    changes = "episode.horizon_s = { uniform = [2, 6] }, machine.slow_latency_ns = { uniform = [200, 500] }"
    assert {row["changes"] for row in rows} == {changes}


def test_parquet_is_read_back(tmp_path: Path, varied: specs.Scenario, comparison: Comparison):
    path, names = tmp_path / "episodes.parquet", list(comparison.values)
    results.write_parquet(path, [comparison])
    again = results.read_parquet(path, varied, names, EPISODES, 3)
    assert (again.scenario, again.changes, list(again.values)) == (comparison.scenario, comparison.changes, names)
    assert again.intervals == comparison.intervals
    for policies, episodes, seed in ((names[1:], EPISODES, 3), (names, EPISODES - 1, 3), (names, EPISODES, 4)):
        with pytest.raises(UserError, match=r"episodes\.parquet: has other"):
            results.read_parquet(path, varied, policies, episodes, seed)


def test_tables_rank_by_return_and_name_the_reference(comparison: Comparison):
    table = tables.summary_table(comparison)
    column = list(table.columns[0].cells)
    assert column == comparison.ranking()
    returns = [comparison.values[policy]["return"].mean() for policy in comparison.ranking()]
    assert returns == sorted(returns, reverse=True)
    assert list(table.columns[2].cells)[column.index("online")] == "reference"


def test_matrix_stars_the_best_of_each_row(comparison: Comparison):
    row = [next(iter(column.cells)) for column in tables.matrix_table([comparison], "return").columns]
    assert row[0] == "llama-1to2"
    starred = {policy for policy, cell in zip(comparison.values, row[1:], strict=True) if "*" in str(cell)}
    assert comparison.ranking()[0] in starred
    assert comparison.ranking()[-1] not in starred


def test_picture_shows_every_policy(tmp_path: Path, comparison: Comparison):
    few = Comparison("few", 0, EPISODES, {"online": comparison.values["online"]})
    sizes = []
    for name, drawn in (("all", comparison), ("few", few)):
        plots.write_comparison_png(tmp_path / f"{name}.png", drawn, highlight=["online"])
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert image.std() > 0.02, "blank"
        sizes.append(image.shape[0])
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (-35.123, "-35.12"),
        (0.88291, "0.8829"),
        (1.0987, "1.099"),
        (12345.0, "12.3k"),
        (1_060_000.0, "1.06M"),
        (0.00012, "1.2e-04"),
        (999_960.0, "1M"),
        (123_456.0, "123k"),
        (5e12, "5000G"),
        (9999.4, "9999"),
    ],
)
def test_numbers_have_four_digits_at_most(value: float, text: str):
    assert number(value) == text


def test_intervals_show_two_digits_of_their_half_width():
    assert interval(Interval(-18.2534, -18.40, -18.10)) == "-18.25 ± 0.15"
    assert interval(Interval(0.25, 0.25, 0.25)) == "0.2500"
    assert interval(Interval(1234.0, 1000.0, 1400.0)) == "1234 ± 200"


def test_names_with_brackets_are_not_markup():
    assert str(new_table("[red]a").title) == "[red]a"
