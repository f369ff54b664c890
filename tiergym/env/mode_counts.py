"""How often each mode was in force: counted in compiled code, so that evaluation stays as fast as it was."""

from tiergym.env.modes import MODE_OFFSETS
from tiergym.sim import names as n
from tiergym.sim.compile import jit


@jit
def count_modes(actions, masks, running, later, last, in_force, changes, overruled):
    """Add one tick of the machines that are `running`, bool (N,), under `actions`, int64 (N, N_ACTIONS).

    The mask, bool (N, N_MASK), says which mode is in force: the chosen one, or mode 0 where that is impossible.
    `in_force` int64 (N, N_MASK), `changes` and `overruled` int64 (N, N_ACTIONS) are added to: a change is a choice
    other than that of the tick before, `last`, which becomes this one; `later` says that there was one.
    """
    for i in range(actions.shape[0]):
        if not running[i]:
            continue
        for entry in range(n.N_ACTIONS):
            mode = actions[i, entry]
            first = MODE_OFFSETS[entry]
            if masks[i, first + mode]:
                in_force[i, first + mode] += 1
            else:
                in_force[i, first] += 1
                overruled[i, entry] += 1
            if later and last[i, entry] != mode:
                changes[i, entry] += 1
            last[i, entry] = mode
