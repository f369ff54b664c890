"""Drawing a machine's parameters: one row of the scenario's table becomes one number.

Row: [kind, a, b, c, d, e, f, g]. fixed: a. uniform, log_uniform: from a to b. normal: mean a, standard
deviation b, truncated to [c, d]. choice: a values, b onward, equally likely.
"""

import math

import numpy as np

from tiergym.sim import names as n
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.random_bits import uniform
from tiergym.sim.streams import PARAMETER_STREAMS, RESET_TICK


@jit_inline
def draw_row(row, key, number):
    """One value from its row, shape (ROW,); `number` tells the parameter from all others."""
    kind = int(row[0])
    if kind == n.DRAW_FIXED:
        return row[1]
    u = uniform(key, RESET_TICK, PARAMETER_STREAMS * number)
    if kind == n.DRAW_UNIFORM:
        return row[1] + (row[2] - row[1]) * u
    if kind == n.DRAW_LOG_UNIFORM:
        return math.exp(math.log(row[1]) + (math.log(row[2]) - math.log(row[1])) * u)
    if kind == n.DRAW_CHOICE:
        return row[2 + min(int(u * row[1]), int(row[1]) - 1)]
    # Box-Muller, clipped: the tails beyond the bounds become the bounds.
    radius = math.sqrt(-2.0 * math.log(1.0 - u))
    angle = 2.0 * math.pi * uniform(key, RESET_TICK, PARAMETER_STREAMS * number + 1)
    return min(max(row[1] + row[2] * radius * math.cos(angle), row[3]), row[4])


@jit
def draw_parameters(raw, places, table, key):
    """Draw every row of `table` (parameters, ROW) into its word of the record `raw`.

    `places` (parameters, 3): which word that is, 1 where a whole number is wanted, and the parameter's draw number.
    """
    for i in range(table.shape[0]):
        x = draw_row(table[i], key, places[i, 2])
        raw[places[i, 0]] = np.floor(x + 0.5) if places[i, 1] == 1 else x
