"""Which modes are possible in a machine's present state, and the action that then holds."""

import numpy as np

from tiergym.env.actions import NVEC, OFFSETS
from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline

MODE_COUNTS = np.array(NVEC, dtype=np.int64)
MODE_OFFSETS = np.array(OFFSETS, dtype=np.int64)


@jit
def is_possible(m, entry, mode):
    """Whether the machine can do what a mode stands for; mode 0 always can.

    Without a slow tier nothing can be placed or moved; `prefer_slow` needs a NORMAL slow zone (or blocks that
    may still come online as one); stacks move only where the machine says that its kernel can.
    """
    if mode == 0:
        return True
    if m.blocks == 0:
        return False
    if entry <= n.A_KERNEL_OTHER and mode == n.PREFER_SLOW:
        return m.managed_pages[n.SLOW_NORMAL] > 0 or m.tick == 0
    if entry == n.A_MIGRATE_KSTACK:
        return m.stack_migration > 0.5
    return True


@jit_inline
def fill_mask(m, mask):
    """Write one machine's mask, bool (N_MASK,)."""
    for entry in range(n.N_ACTIONS):
        for mode in range(MODE_COUNTS[entry]):
            mask[MODE_OFFSETS[entry] + mode] = is_possible(m, entry, mode)


@jit_inline
def set_action(m, action):
    """The policy's choice, int64 (13,), takes force; an impossible mode becomes the default."""
    for entry in range(n.N_ACTIONS):
        mode = action[entry]
        inside = mode >= 0 and mode < MODE_COUNTS[entry]
        m.action[entry] = mode if inside and is_possible(m, entry, mode) else 0
