"""How unevenly machines work in one tick: what a GPU's warps would wait for. `python experiments/divergence.py`

A tick's work grows with its sub-rounds (`faults:rounds_for`), plus about one round's worth for the rest. A warp of
32 machines takes as long as its slowest, so the factor is the mean over warps of the maximum, over that of machines.
"""

import numpy as np

from tiergym.env.machines import Machines
from tiergym.policy.load import load_policy
from tiergym.sim import names as n
from tiergym.sim.compile import jit
from tiergym.sim.faults import rounds_for
from tiergym.specs import load_scenario

MACHINES, WARP = 128, 32


@jit
def rounds_of(machines, out):
    """Sub-rounds that the demand left in the records would take again, int64 (N,)."""
    for i in range(machines.shape[0]):
        m = machines[i]
        wanted = m.kernel_want[n.KSTACK] + m.kernel_want[n.KERNEL_OTHER]
        for r in range(m.regions):
            wanted += m.region[r].want + m.region[r].refault
        births = m.slab_births[0] + m.slab_births[1]
        out[i] = 1 + (rounds_for(m, wanted, births) if wanted > 0 or births > 0.0 else 0)


def factor(work: np.ndarray) -> float:
    """Cost of lockstep for work (ticks, machines)."""
    return float(work.reshape(len(work), -1, WARP).max(axis=2).mean() / work.mean())


def main() -> None:
    """Print the factors."""
    rng = np.random.default_rng(0)
    for scenario in ("llama-1to2", "randomised-mix"):
        for name in ("online", "adaptive", "random"):
            machines = Machines([load_scenario(scenario)], MACHINES, threads=1)
            machines.reset(np.arange(MACHINES, dtype=np.uint64))
            policy = load_policy(name)
            policy.reset(MACHINES, 0)
            work = np.empty((machines.records["ticks"].min() - 1, MACHINES), np.int64)
            for row in work:
                machines.step(policy(machines.obs.copy(), machines.masks.copy()))
                rounds_of(machines.records, row)
            apart = np.stack([np.roll(work[:, i], rng.integers(len(work))) for i in range(MACHINES)], axis=1)
            print(f"{scenario} {name}: in step {factor(work):.2f}, at moments of their own {factor(apart):.2f}")


if __name__ == "__main__":
    main()
