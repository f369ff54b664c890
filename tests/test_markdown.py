"""Results as Markdown."""

from pathlib import Path

import pytest

from tiergym.errors import UserError
from tiergym.lab import markdown
from tiergym.sim.names import CAUSES


def interval(mean: float, half: float = 0.0) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def metrics(mean: float, half: float = 0.0) -> dict[str, dict[str, float]]:
    return {metric: interval(mean, half) for metric, _, _ in markdown.COLUMNS}


def test_comparison_is_sorted_by_return_and_shows_intervals():
    document = {
        "schema": 1,
        "scenario": "s",
        "seed": 3,
        "episodes": 2,
        "policies": {"worse": metrics(-4.0), "better": metrics(-1.0, 0.5)},
    }
    lines = markdown.page([document]).splitlines()
    assert lines[0] == "## s, 2 episodes per policy, seed 3"
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| better", "| worse"]
    assert "-1.00 [-1.50, -0.50]" in lines[4]
    assert "[" not in lines[5]


def test_titles_say_what_was_changed():
    document = {"scenario": "s", "changes": {"kernel.demotion": "on"}, "seed": 3, "episodes": 2, "policies": {}}
    assert markdown.page([document]).startswith('## s with kernel.demotion = "on", 2 episodes per policy, seed 3\n')
    policies = {"a": {"throughput": interval(0.5)}}
    rows = [{"changes": {"kernel.demotion": "on", "kernel.swap_mib": mib}, "policies": policies} for mib in (1, 2)]
    text = markdown.page([{"seed": 0, "episodes": 1, "scenarios": dict(zip("ab", rows, strict=True))}])
    assert text.startswith('## Mean throughput with kernel.demotion = "on", 1 episodes per scenario')


def test_matrix_marks_the_best_of_a_row():
    row = {"policies": {"a": {"throughput": interval(0.5)}, "b": {"throughput": interval(0.75)}}}
    text = markdown.page([{"schema": 1, "seed": 0, "episodes": 1, "scenarios": {"s": row}}])
    assert "| s | 0.5000 | **0.7500** |" in text


def test_variants_are_columns_and_what_stays_is_not_repeated():
    def entry(variant: str, a: float, b: float) -> dict[str, object]:
        policies = {"a": {"throughput": interval(a)}, "b": {"throughput": interval(b, 0.01)}}
        return {"variant": variant, "changes": {"kernel.release": variant}, "policies": policies}

    scenarios = {"s@old": entry("old", 0.5, 0.6), "s@new": entry("new", 0.5, 0.7)}
    text = markdown.page([{"schema": 1, "seed": 0, "episodes": 1, "scenarios": scenarios}])
    assert text.splitlines()[2:] == [
        "| scenario | policy | old | new |",
        "|---|---:|---:|---:|",
        "| s | b | 0.6000 [0.5900, 0.6100] | 0.7000 [0.6900, 0.7100] |",
        "| s | a | 0.5000 | = |",
    ]


def test_many_variants_are_rows():
    names = [f"v{i}" for i in range(markdown.MOST_COLUMNS + 1)]
    scenarios = {
        f"s@{name}": {
            "variant": name,
            "changes": {},
            "policies": {"a": {"throughput": interval(0.5)}, "b": {"throughput": interval(i / 8)}},
        }
        for i, name in enumerate(names)
    }
    lines = markdown.page([{"schema": 1, "seed": 0, "episodes": 1, "scenarios": scenarios}]).splitlines()
    assert lines[2] == "| scenario | variant | a | b |"
    assert lines[4:6] == ["| s | v0 | 0.5000 | 0.0000 |", "| s | v1 | 0.5000 | 0.1250 |"]


def test_causes_of_lost_time_stand_below_the_variants_where_asked_for():
    def entry(share: float) -> dict[str, object]:
        lost = {f"lost_{cause}": interval(share if cause == "refault" else 0.0) for cause in CAUSES}
        return {"variant": "v", "changes": {}, "policies": {"a": {"throughput": interval(1 - share)} | lost}}

    document = {"schema": 1, "seed": 0, "episodes": 1, "scenarios": {"s@v": entry(0.125)}}
    assert markdown.page([document], causes=True).splitlines()[-3:] == [
        "| scenario | policy | refault |",
        "|---|---:|---:|",
        "| s@v | a | 12.50 |",
    ]
    assert "refault" not in markdown.page([document])


def test_tables_are_put_between_the_marks_of_a_page(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    markdown.put_into(page, "new \\1\n")
    assert page.read_text() == "before\n<!-- results -->\nnew \\1\n<!-- /results -->\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(UserError, match=r"page\.md: 0 parts between"):
        markdown.put_into(page, "new")
