"""Random numbers that are drawn for different things differ."""

import ast
from itertools import pairwise

import numpy as np

from tests.builders import Lab, scenario
from tests.places import ROOT
from tiergym.sim import streams
from tiergym.sim.allocate import FEW_SLEEPS


def test_no_two_uses_share_a_stream():
    ranges = sorted(streams.RANGES.values(), key=lambda r: r.start)
    assert all(first.stop <= second.start for first, second in pairwise(ranges))


def test_every_stream_is_registered_and_drawn_from():
    starts = {name: value for name, value in vars(streams).items() if name.startswith("STREAM_")}
    assert starts == {f"STREAM_{use}": found.start for use, found in streams.RANGES.items()}
    sources = [path for floor in ("sim", "env") for path in (ROOT / "tiergym" / floor).glob("*.py")]
    named = {
        node.id
        for path in sources
        if path.name != "streams.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name)
    }
    assert set(starts) <= named


def test_a_reclaim_s_sleeps_stay_below_the_next_reclaim_s_streams():
    assert 1 + FEW_SLEEPS <= streams.THROTTLE_STREAMS


def test_no_machine_comes_to_the_tick_of_a_reset():
    assert streams.RESET_TICK > np.iinfo(Lab(scenario()).m["tick"].dtype).max
