"""Over every scenario of every suite: a kill never shortens an episode, is never free, and never pays (docs/model.md
section 8)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tiergym import specs
from tiergym.env import static_actions
from tiergym.env.machines import Machines
from tiergym.sim import names as n

KILLERS = tuple(static_actions.shipped())


@dataclass(frozen=True, slots=True)
class Books:
    """Of each machine: ticks lived and of its horizon, kills, seconds of work lost to them, least price of a kill.

    returned_s: the return, in seconds of work.
    """

    lived: NDArray[np.int64]
    horizon: NDArray[np.int64]
    kills: NDArray[np.int64]
    lost_s: NDArray[np.float64]
    least_s: NDArray[np.float64]
    returned_s: NDArray[np.float64]


def least_price_s(machines: Machines) -> NDArray[np.float64]:
    """What the cheapest process of each machine loses by a kill at the end of the horizon: what it throws away."""
    prices = []
    for record in machines.records:
        processes = slice(int(record["processes"]))
        share, lost_s = record["process"]["share"][processes], record["process_seldom"]["lost_s"][processes]
        prices.append(float(np.min(share * lost_s)))
    return np.array(prices)


@pytest.fixture(scope="module")
def books() -> Mapping[tuple[str, str], Books]:
    """Of every suite under every constant baseline, one machine per scenario."""
    found = {}
    for suite in specs.list_suites():
        scenarios = specs.load_suite(suite).load_all()
        for policy in KILLERS:
            machines = Machines(scenarios, len(scenarios))
            machines.reset(np.arange(len(scenarios), dtype=np.uint64))
            least_s = least_price_s(machines)
            horizon, dt_s = machines.records["ticks"].astype(np.int64), machines.records["dt_s"].copy()
            alive = np.ones(len(scenarios), np.bool_)
            actions = np.tile(static_actions.find(policy).action, (len(scenarios), 1))
            lived, kills, lost_s = np.zeros_like(horizon), np.zeros_like(horizon), np.zeros(len(scenarios))
            returned_s = np.zeros(len(scenarios))
            while alive.any():
                machines.step(actions)
                returned_s += np.where(alive, machines.reward * dt_s, 0.0)
                lived += alive
                kills += np.where(alive, machines.counters[:, n.C_OOM_KILL], 0)
                lost_s += np.where(alive, machines.lost[:, n.LOST_OOM] * dt_s, 0.0)
                alive &= ~machines.done
            found[suite, policy] = Books(lived, horizon, kills, lost_s, least_s, returned_s)
    return found


def test_kills_happen_in_most_suites(books: Mapping[tuple[str, str], Books]) -> None:
    killed = {suite for (suite, _), book in books.items() if book.kills.any()}
    assert len(killed) > len(specs.list_suites()) / 2


def test_dying_never_ends_an_episode_early(books: Mapping[tuple[str, str], Books]) -> None:
    for key, book in books.items():
        assert (book.lived == book.horizon).all(), key


def test_every_kill_is_paid_for(books: Mapping[tuple[str, str], Books]) -> None:
    for key, book in books.items():
        assert (book.lost_s >= book.kills * book.least_s - 1e-9).all(), key
        assert (book.lost_s[book.kills > 0] > 0.0).all(), key
        assert (book.lost_s[book.kills == 0] == 0.0).all(), key


def test_killing_never_pays(books: Mapping[tuple[str, str], Books]) -> None:
    """Whoever kills more than stock Linux, on the same machine, returns less."""
    seen = 0
    for (suite, policy), book in books.items():
        online = books[suite, "online"]
        more = book.kills > online.kills
        assert (book.returned_s[more] < online.returned_s[more]).all(), (suite, policy)
        seen += int(more.sum())
    assert seen
