"""Intervals against known answers: coverage, pairing, zero width, and the interquartile mean."""

import numpy as np
import pytest

from tiergym.lab.statistics import Bootstrap, interquartile_mean, stratified_iqm


def test_constant_values_have_an_interval_of_zero_width():
    interval = Bootstrap(7).interval(np.full(7, 0.25))
    assert interval.low == interval.mean == interval.high == 0.25


def test_interval_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(1)
    bootstrap = Bootstrap(40, resamples=500)
    intervals = [bootstrap.interval(rng.normal(3.0, 2.0, 40)) for _ in range(400)]
    covered = np.mean([i.low <= 3.0 <= i.high for i in intervals])
    assert 0.90 <= covered <= 0.98


def test_interval_width_is_that_of_the_standard_error():
    values = np.random.default_rng(2).normal(0.0, 1.0, 400)
    interval = Bootstrap(400).interval(values)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert interval.mean == values.mean()


def test_same_seed_same_interval_other_seed_another():
    values = np.random.default_rng(3).normal(size=32)
    assert Bootstrap(32, seed=5).interval(values) == Bootstrap(32, seed=5).interval(values)
    assert Bootstrap(32, seed=5).interval(values) != Bootstrap(32, seed=6).interval(values)


def test_paired_difference_is_narrow_where_episodes_vary_more_than_policies():
    rng = np.random.default_rng(4)
    episodes = rng.normal(0.0, 10.0, 64)
    better = episodes + 1.0 + rng.normal(0.0, 0.1, 64)
    bootstrap = Bootstrap(64)
    paired = bootstrap.difference(better, episodes)
    assert paired.low > 0.9 and paired.high < 1.1
    assert bootstrap.interval(better).high - bootstrap.interval(better).low > 3.0


def test_training_runs_widen_the_interval():
    episodes = np.random.default_rng(5).normal(0.0, 0.01, 64)
    runs = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])[:, None] + episodes
    bootstrap = Bootstrap(64)
    width = bootstrap.interval(runs).high - bootstrap.interval(runs).low
    assert width == pytest.approx(2 * 1.96 * np.std([-1.0, -0.5, 0.0, 0.5, 1.0]) / np.sqrt(5), rel=0.15)
    assert bootstrap.difference(runs, episodes).low < 0 < bootstrap.difference(runs, episodes).high


def test_interquartile_mean_drops_a_quarter_at_either_end():
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0])) == pytest.approx(3.5)
    assert interquartile_mean(np.array([1.0, 5.0, 9.0])) == pytest.approx(5.0)


def test_stratified_iqm_resamples_within_scenarios():
    # Scenarios that differ but do not vary: nothing to resample, so no width.
    interval = stratified_iqm([np.full(8, 0.2), np.full(8, 0.6), np.full(8, 0.9)])
    assert interval.low == pytest.approx(interval.high)
    spread = stratified_iqm([np.linspace(0, 1, 8), np.linspace(0.5, 1, 8)])
    assert spread.low < spread.mean < spread.high
