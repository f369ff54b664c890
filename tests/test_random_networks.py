"""Random networks: reproducible, masked like any policy, kept, and shown beside stock Linux."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.command_line import Cli
from tests.places import ROOT
from tests.short_runs import short_scenario
from tiergym.env.actions import NVEC
from tiergym.env.observations import N_OBS
from tiergym.lab import random_networks
from tiergym.lab.locking import locked
from tiergym.lab.random_networks import Guesses, guess, network_returns, saved_by_network, stock_return


def test_the_same_seed_gives_the_same_networks_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = short_scenario()
    first = network_returns(scenario, 30, 0)
    assert np.array_equal(first, network_returns(scenario, 30, 0))
    assert not np.array_equal(first, network_returns(scenario, 30, 1))
    assert len(np.unique(first)) > 10 and (first <= 0).all()
    monkeypatch.setattr(random_networks, "BATCH", 10)
    assert np.array_equal(network_returns(scenario, 30, 0)[:10], network_returns(scenario, 10, 0))


def test_a_network_chooses_modes_by_what_it_sees() -> None:
    networks = random_networks._Networks(200, np.random.default_rng(0))
    low, high = (networks(np.full((200, N_OBS), value, np.float32)) for value in (0.0, 1.0))
    assert low.shape == (200, len(NVEC)) and ((low >= 0) & (low < NVEC)).all()
    assert (low != high).any(axis=1).mean() > 0.9
    assert all(len(np.unique(low[:, entry])) == modes for entry, modes in enumerate(NVEC))


def test_guesses_are_kept_and_read_against_stock_linux(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = short_scenario()
    (first,) = guess([scenario], 20, 0, tmp_path)
    assert first.online == stock_return(scenario, 0)
    monkeypatch.setattr(random_networks, "network_returns", lambda *args: pytest.fail("evaluated again"))
    (again,) = guess([scenario], 20, 0, tmp_path)
    assert np.array_equal(first.returns, again.returns)


def test_quantiles_and_the_share_that_is_better() -> None:
    guesses = Guesses("s", -5.0, np.array([-10.0, -6.0, -4.0, -2.0]))
    assert guesses.better == 0.5
    assert guesses.quantiles()[-1] == -2.0 and guesses.quantiles()[0] == -5.0


def test_a_network_is_worth_what_it_saves_on_all_scenarios() -> None:
    """The second is the best on one and worthless on the other; the first is good on both."""
    both = [Guesses("a", -10.0, np.array([-6.0, -2.0])), Guesses("b", -1.0, np.array([-0.5, -1.6]))]
    np.testing.assert_allclose(saved_by_network(both), [(0.4 + 0.5) / 2, (0.8 - 0.6) / 2])


def test_the_command_has_a_row_per_scenario(cli: Cli, short_toml, tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(f'scenarios = ["{short_toml.name}"]\n')
    done = cli("networks", "mine.toml", "--count", 5, "--out", "kept")
    assert done.code == 0 and "short" in done.out and "saved on all of them" in done.out, done.err
    assert cli("networks", "mine.toml", "--count", 6, "--out", "kept").code == 2


def test_a_second_process_is_told_who_works_in_the_folder(short_toml, tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(f'scenarios = ["{short_toml.name}"]\n')
    words = [sys.executable, "-m", "tiergym", "networks", "mine.toml", "--count", "5", "--out", "kept"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with locked(tmp_path / "kept"):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"process {os.getpid()} on" in done.stderr and "allowed: one at a time" in done.stderr
    assert not (tmp_path / "kept").exists()
