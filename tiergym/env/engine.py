"""The compiled step over a batch: action, tick, reward, observation, autoreset; one function per machine.

A machine's trajectory depends neither on its neighbours nor on the thread that steps it.
"""

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
from tiergym.sim.random_bits import first_key, next_key
from tiergym.sim.tick import tick

SHARE = 32
"""Machines that a thread takes at a time: long against the taking, and every thread is done at about the same time."""


@jit
def reset_machine(m, raw, places, table, counts, scenario, key):
    """Start an episode: clear the record, draw its parameters from `table` (parameters, 8), build the machine.

    `raw` is the record as float64; for `places` see `draw_parameters`.
    """
    for j in range(raw.shape[0]):
        raw[j] = 0.0
    draw_parameters(raw, places, table, key)
    build(m, key, scenario, counts[0], counts[1])


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
def restart_machine(m, raw, places, tables, counts):
    """The machine's next episode, of the same scenario."""
    s = m.scenario
    reset_machine(m, raw, places, tables[s], counts[s], s, next_key(m.key))


@jit
def step_batch(turn, ticks, machines, raw, places, tables, counts, options, actions, obs, final_obs, reward,
               done, masks, out_floats, out_counts):  # fmt: skip
    """Step the machines from `turn` on, together with other threads that have the same `turn`, until none is left.

    An action holds for `ticks` ticks, or until the episode ends. `options` is (noiseless, next-step autoreset,
    bytes of the next record to fetch ahead). The body is not a function of its own, because numba
    passes every array as ten values: fifteen of them cost as much as the tick.
    """
    noiseless, next_step = options[0] == 1, options[1] == 1
    start, size, count = raw.ctypes.data, raw.strides[0], machines.shape[0]
    first = take(turn, SHARE)
    while first < count:
        for i in range(first, min(first + SHARE, count)):
            ahead = parts_of(start + (i + 1) * size, options[2]) if i + 1 < count else NOTHING
            m = machines[i]
            ended = done[i] and next_step  # in the last step: this one only restarts
            done[i], reward[i], made = False, 0.0, 0
            if ended:
                restart_machine(m, raw[i], places, tables, counts)
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
                restart_machine(m, raw[i], places, tables, counts)
            fill(m, obs[i], noiseless)
            fill_mask(m, masks[i])
        first = take(turn, SHARE)


@jit
def reset_batch(turn, machines, raw, places, tables, counts, options, seeds, scenario, mask, obs, done, masks):
    """Start new episodes on the machines of `mask` (bool (N,)) with seeds (uint64 (N,)); `turn` as in `step_batch`."""
    count = machines.shape[0]
    first = take(turn, SHARE)
    while first < count:
        for i in range(first, min(first + SHARE, count)):
            if mask[i]:
                m = machines[i]
                s = scenario[i]
                reset_machine(m, raw[i], places, tables[s], counts[s], s, first_key(seeds[i]))
                done[i] = False
                fill(m, obs[i], options[0] == 1)
                fill_mask(m, masks[i])
        first = take(turn, SHARE)
