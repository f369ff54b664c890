"""One hash over all shipped scenarios: what they showed, paid and counted. `python experiments/trajectory_hash.py`

A change that is to leave the model's behaviour as it is leaves this line as it is. Each scenario is run for one episode
of every machine, once as an untouched Linux and once under random actions. A new action entry changes the line; with
`--without ENTRY`, and the counters that came with it, it stays at its default and out of what is hashed, so the line is
that from before. It is the same with `TIERGYM_PLAIN_NUMBA=1`, after some minutes.
"""

import argparse
import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tiergym.env.actions import DEFAULT, MASK_NAMES, NAMES, NVEC
from tiergym.env.machines import Machines
from tiergym.env.observations import NAMES as OBSERVATIONS
from tiergym.errors import UserError, suggest
from tiergym.sim.names import COUNTERS
from tiergym.specs import list_scenarios, load_scenario

MACHINES = 4


def others(names: Sequence[str], left_out: Collection[str]) -> NDArray[np.intp]:
    """Indices of the names of which `left_out` has none, before a `=` or after `last.` either."""
    return np.array([i for i, name in enumerate(names) if name.partition("=")[0].removeprefix("last.") not in left_out])


def trajectory(scenario: str, random_actions: bool, without: Collection[str] = ()) -> bytes:
    """Digest of observations (float32), rewards (float64) and counters (int64) of every step of an episode."""
    entries, seen, masked, counted = (others(names, without) for names in (NAMES, OBSERVATIONS, MASK_NAMES, COUNTERS))
    machines = Machines([load_scenario(scenario)], MACHINES, threads=1)
    machines.reset(np.arange(MACHINES, dtype=np.uint64))
    chosen = np.random.default_rng(0)
    digest = hashlib.sha256(machines.obs[:, seen].tobytes())
    for _ in range(int(machines.records["ticks"].max())):
        actions = np.tile(DEFAULT, (MACHINES, 1))
        if random_actions:
            actions[:, entries] = chosen.integers(0, NVEC[entries], (MACHINES, len(entries)))
        machines.step(actions)
        shown, counters, masks = machines.obs[:, seen], machines.counters[:, counted], machines.masks[:, masked]
        for array in (shown, machines.reward, counters, machines.lost, masks):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the hash of all scenarios, or each one's with `--each`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", action="store_true", help="a line for each scenario too")
    parser.add_argument("--without", nargs="*", default=(), metavar="NAME", help="action entries and counters left out")
    arguments = parser.parse_args(argv)
    each, without = arguments.each, arguments.without
    for name in without:
        if name not in (*NAMES, *COUNTERS):
            raise UserError(suggest(name, (*NAMES, *COUNTERS), "action entry or counter"))
    whole = hashlib.sha256()
    for scenario in list_scenarios():
        digest = b"".join(trajectory(scenario, random_actions, without) for random_actions in (False, True))
        whole.update(digest)
        if each:
            print(f"{hashlib.sha256(digest).hexdigest()[:16]}  {scenario}")
    print(whole.hexdigest())


if __name__ == "__main__":
    main()
