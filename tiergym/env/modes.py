"""Which modes are possible in a machine's present state, and the action that then holds."""

import numpy as np

from tiergym.env.actions import N_MASK, NVEC, OFFSETS
from tiergym.sim import names as n
from tiergym.sim.compile import jit_inline

MODE_COUNTS = np.array(NVEC, dtype=np.int64)
MODE_OFFSETS = np.array(OFFSETS, dtype=np.int64)


@jit_inline
def possible_kinds(m):
    """What decides about modes: is there a slow tier, may kernel pages be asked from it, do stacks move.

    Without a slow tier nothing can be placed or moved, and every entry stays at mode 0; `prefer_slow` and a limit need
    a NORMAL slow zone (or blocks that may still come online as one); stacks move only where the kernel can
    (`stack_migration`).
    """
    slow = m.blocks > 0
    return slow, slow and (m.managed_pages[n.SLOW_NORMAL] > 0 or m.tick == 0), slow and m.stack_migration == n.ON


@jit_inline
def fill_mask(m, mask):
    """Write one machine's mask, bool (N_MASK,)."""
    slow, normal, stacks = possible_kinds(m)
    for k in range(N_MASK):
        mask[k] = slow
    for entry in range(n.N_ACTIONS):
        mask[MODE_OFFSETS[entry]] = True
    for entry in range(n.N_PLACEMENTS):
        mask[MODE_OFFSETS[entry] + n.PREFER_SLOW] = normal
    mask[MODE_OFFSETS[n.A_LIMIT_KERNEL] + n.LIMIT_PROPORTIONAL] = normal
    for mode in range(1, MODE_COUNTS[n.A_MIGRATE_KSTACK]):
        mask[MODE_OFFSETS[n.A_MIGRATE_KSTACK] + mode] = stacks


@jit_inline
def set_action(m, action):
    """The policy's choice, int64 (N_ACTIONS,), takes force; an impossible mode becomes the default."""
    slow, normal, stacks = possible_kinds(m)
    for entry in range(n.N_ACTIONS):
        mode = action[entry]
        possible = slow and mode >= 0 and mode < MODE_COUNTS[entry]
        if entry < n.N_PLACEMENTS and mode == n.PREFER_SLOW:
            possible = normal
        if entry == n.A_LIMIT_KERNEL and not normal:
            possible = False
        if entry == n.A_MIGRATE_KSTACK and not stacks:
            possible = False
        m.action[entry] = mode if possible else 0
