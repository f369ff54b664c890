"""One hash over all shipped scenarios: what they showed, paid and counted. `python experiments/trajectory_hash.py`

A change that is to leave the model's behaviour as it is leaves this line as it is. Each scenario is run for one episode
of every machine, once as an untouched Linux and once under random actions.
"""

import argparse
import hashlib
from collections.abc import Sequence

import numpy as np

from tiergym.env.actions import DEFAULT, NVEC
from tiergym.env.machines import Machines
from tiergym.specs import list_scenarios, load_scenario

MACHINES = 4


def trajectory(scenario: str, random_actions: bool) -> bytes:
    """Digest of observations (float32), rewards (float64) and counters (int64) of every step of an episode."""
    machines = Machines([load_scenario(scenario)], MACHINES, threads=1)
    machines.reset(np.arange(MACHINES, dtype=np.uint64))
    chosen = np.random.default_rng(0)
    digest = hashlib.sha256(machines.obs.tobytes())
    for _ in range(int(machines.records["ticks"].max())):
        shape = (MACHINES, len(NVEC))
        machines.step(chosen.integers(0, NVEC, shape) if random_actions else np.broadcast_to(DEFAULT, shape))
        for array in (machines.obs, machines.reward, machines.counters, machines.lost, machines.masks):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the hash of all scenarios, or each one's with `--each`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", action="store_true", help="a line for each scenario too")
    each = parser.parse_args(argv).each
    whole = hashlib.sha256()
    for scenario in list_scenarios():
        digest = b"".join(trajectory(scenario, random_actions) for random_actions in (False, True))
        whole.update(digest)
        if each:
            print(f"{hashlib.sha256(digest).hexdigest()[:16]}  {scenario}")
    print(whole.hexdigest())


if __name__ == "__main__":
    main()
