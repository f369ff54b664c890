"""A little of `make soak`: random machines, every tick looked at, memory and bits compared."""

from tests.soak import WARM, soak


def test_random_machines_hold_what_holds_and_memory_does_not_grow() -> None:
    told = soak(seconds=10, seed=11, batch=300)  # from 256 on, threads share them
    assert told.rounds >= WARM + 2 and told.compared == told.rounds * 301
    assert 0 < told.most_mib
