"""The compiled step over a batch: action, tick, reward, observation, autoreset; one function per machine.

A machine's trajectory depends neither on its neighbours nor on the thread that steps it.
"""

import numpy as np

from tiergym.env.modes import fill_mask, set_action
from tiergym.env.observations import fill
from tiergym.env.step_results import COUNTERS, KERNEL_SLOW, LOST, PREMATURE_BY_CLASS, TERMS, THROUGHPUT, TICKS
from tiergym.env.threads import take
from tiergym.sim import names as n
from tiergym.sim.build import build
from tiergym.sim.compile import jit, jit_inline
from tiergym.sim.draw import draw_parameters
from tiergym.sim.pages import class_on_tier
from tiergym.sim.prefetch import NOTHING, parts_of
from tiergym.sim.random_bits import first_key, next_key, seed_of_next
from tiergym.sim.tick import tick

SHARE = 32
"""Machines that a thread takes at a time: long against the taking, and every thread is done at about the same time."""

NOISELESS, NEXT_STEP, AHEAD, LIMIT, DRAWN, N_OPTIONS = range(6)
"""What holds for a batch, int64 (N_OPTIONS,).

Whether observations go without the PMU's sampling noise; whether a finished machine stays until the next step, which
only restarts it; how many bytes of the next record to fetch ahead; after how many ticks an episode ends whatever its
horizon, 0: none; whether the seed of each episode draws its scenario.
"""

_TO_NEXT_SEED = seed_of_next(np.zeros(1, np.uint64))[0]
"""What a key lacks to the seed of the episode after it."""


@jit
def reset_machine(m, raw, places, tables, counts, scenario, key, limit):
    """Start an episode: clear the record, draw the parameters of `tables[scenario]`, build the machine.

    `raw` is the record as float64; for `places` see `draw_parameters`, for `limit` `LIMIT`.
    """
    for j in range(raw.shape[0]):
        raw[j] = 0.0
    draw_parameters(raw, places, tables[scenario], key)
    build(m, key, scenario, counts[scenario, 0], counts[scenario, 1])
    if limit > 0:
        m.ticks = min(m.ticks, limit)


@jit
def reward_of(m):
    """The weighted sum of the terms, negated: seconds of work lost per second."""
    return -(
        m.weight_access_latency * m.terms[n.TERM_ACCESS_LATENCY]
        + m.weight_premature_reclaim * m.terms[n.TERM_PREMATURE_RECLAIM]
        + m.weight_migration * m.terms[n.TERM_MIGRATION]
        + m.weight_oom * m.terms[n.TERM_OOM]
    )


@jit_inline
def put(out, i, column, value, first):
    """Write the `first` tick's value; add a later one's."""
    out[i, column] = value if first else out[i, column] + value


@jit_inline
def report(m, i, out_floats, out_counts, first):
    """This tick's results into the buffers of `step_results`, upon those of the same step's earlier ticks."""
    put(out_floats, i, THROUGHPUT, m.throughput, first)
    for k in range(n.N_TERMS):
        put(out_floats, i, TERMS + k, m.terms[k], first)
    for k in range(n.N_CAUSES):
        put(out_floats, i, LOST + k, m.lost[k], first)
    for k in range(n.N_COUNTERS):
        put(out_counts, i, COUNTERS + k, m.counters[k], first)
    for cls in range(n.N_CLASSES):
        out_counts[i, KERNEL_SLOW + cls] = class_on_tier(m, cls, n.SLOW)
        put(out_counts, i, PREMATURE_BY_CLASS + cls, m.premature_by_class[cls], first)


@jit_inline
def close_report(i, ticks, out_floats, out_counts):
    """Means are over the ticks made."""
    if ticks > 1:
        for k in range(out_floats.shape[1]):
            out_floats[i, k] /= ticks
    out_counts[i, TICKS] = ticks


@jit
def drawn_scenario(seed, tables):
    """Seeds that follow one another draw the scenarios in turn."""
    return np.int64(seed % np.uint64(tables.shape[0]))


@jit
def restart_machine(m, raw, places, tables, counts, options):
    """The machine's next episode: of the same scenario, or of the one that its seed draws."""
    s = np.int64(m.scenario)
    if options[DRAWN] == 1:
        s = drawn_scenario(m.key + _TO_NEXT_SEED, tables)
    reset_machine(m, raw, places, tables, counts, s, next_key(m.key), options[LIMIT])


@jit
def step_batch(turn, ticks, machines, raw, places, tables, counts, options, actions, obs, final_obs, reward,
               done, masks, out_floats, out_counts):  # fmt: skip
    """Step the machines from `turn` on, together with other threads that have the same `turn`, until none is left.

    An action holds for `ticks` ticks, or until the episode ends. `options` are the batch's (`N_OPTIONS`). The body is
    not a function of its own, because numba passes every array as ten values: fifteen of them cost as much as the tick.
    """
    noiseless, next_step, fetched = options[NOISELESS] == 1, options[NEXT_STEP] == 1, options[AHEAD]
    start, size, count = raw.ctypes.data, raw.strides[0], machines.shape[0]
    first = take(turn, SHARE)
    while first < count:
        for i in range(first, min(first + SHARE, count)):
            ahead = parts_of(start + (i + 1) * size, fetched) if i + 1 < count else NOTHING
            m = machines[i]
            ended = done[i] and next_step  # in the last step: this one only restarts
            done[i], reward[i], made = False, 0.0, 0
            if ended:
                restart_machine(m, raw[i], places, tables, counts, options)
                report(m, i, out_floats, out_counts, True)
            else:
                while made < ticks and not done[i]:
                    set_action(m, actions[i])
                    tick(m, ahead)
                    reward[i] += reward_of(m)
                    report(m, i, out_floats, out_counts, made == 0)
                    ahead = NOTHING
                    made += 1
                    done[i] = m.tick >= m.ticks
            close_report(i, made, out_floats, out_counts)
            if done[i] and not next_step:
                fill(m, final_obs[i], noiseless)
                restart_machine(m, raw[i], places, tables, counts, options)
            fill(m, obs[i], noiseless)
            fill_mask(m, masks[i])
        first = take(turn, SHARE)


@jit
def reset_batch(turn, machines, raw, places, tables, counts, options, seeds, scenario, mask, obs, done, masks,
                out_floats, out_counts):  # fmt: skip
    """Start new episodes on the machines of `mask` (bool (N,)) with seeds (uint64 (N,)); `turn` as in `step_batch`.

    What is reported of them is that nothing has happened yet.
    """
    count = machines.shape[0]
    first = take(turn, SHARE)
    while first < count:
        for i in range(first, min(first + SHARE, count)):
            if mask[i]:
                m = machines[i]
                s = drawn_scenario(seeds[i], tables) if options[DRAWN] == 1 else scenario[i]
                reset_machine(m, raw[i], places, tables, counts, s, first_key(seeds[i]), options[LIMIT])
                done[i] = False
                report(m, i, out_floats, out_counts, True)
                close_report(i, 0, out_floats, out_counts)
                fill(m, obs[i], options[NOISELESS] == 1)
                fill_mask(m, masks[i])
        first = take(turn, SHARE)
