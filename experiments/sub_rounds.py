"""What coarse sub-rounds cost: throughput against rounds eight times as fine. `python experiments/sub_rounds.py`"""

import json
import subprocess
import sys

import numpy as np

from tiergym.env.machines import Machines
from tiergym.policy.load import load_policy
from tiergym.sim import compile as compiling
from tiergym.sim import faults
from tiergym.sim import names as n
from tiergym.specs import list_scenarios, load_scenario

EPISODES = 8
POLICIES = ("online", "online_movable", "restrict", "soft", "migrate_headroom", "adaptive", "metadata_slow")


@compiling.jit
def fine_rounds(m, wanted, births):
    """At least 16 sub-rounds, and four per low-to-high gap of what is wanted."""
    gap = 1
    for z in range(n.FIRST_SLOW_ZONE):
        gap += m.wmark_pages[n.WMARK_HIGH, z] - m.wmark_pages[n.WMARK_LOW, z]
    return min(max(4 * ((wanted + int(births / m.slab_objects_per_page)) // gap) + 1, 16), 256)


def throughput(scenario: str, policy_name: str) -> float:
    """Mean over an episode of every machine."""
    policy = load_policy(policy_name)
    policy.reset(EPISODES, 0)
    machines = Machines([load_scenario(scenario)], EPISODES, threads=1)
    machines.reset(np.arange(EPISODES, dtype=np.uint64))
    by_tick = []
    for _ in range(int(machines.records["ticks"].min())):
        machines.step(policy(machines.obs.copy(), machines.masks.copy()))
        by_tick.append(float(machines.throughput.mean()))
    return float(np.mean(by_tick))


def measure() -> np.ndarray:
    """Every scenario (rows) under every policy (columns)."""
    return np.array([[throughput(scenario, policy) for policy in POLICIES] for scenario in list_scenarios()])


def main() -> None:
    """Fine rounds are measured in a process of their own, which compiles them without the cache."""
    if sys.argv[1:] == ["fine"]:
        compiling.cache_dir = lambda: None
        faults.rounds_for = fine_rounds
        print(json.dumps(measure().tolist()))
        return
    fine = subprocess.run([sys.executable, __file__, "fine"], check=True, capture_output=True, text=True)
    off = np.abs(measure() / np.array(json.loads(fine.stdout)) - 1)
    row, column = np.unravel_index(off.argmax(), off.shape)
    print(f"mean {off.mean():.2%}, largest {off.max():.2%}: {POLICIES[column]} on {list_scenarios()[row]}")


if __name__ == "__main__":
    main()
