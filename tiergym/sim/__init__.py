"""Floor 1, the model: one simulated machine and its tick, in NumPy and numba only.

Knows nothing of scenarios in TOML, observations, rewards' use or reinforcement learning.

Compiled functions call the same things by the same letters everywhere:

    m  one machine's record (`layout`)          n  the module `names`
    r  a region, index into `m.region`          q  a process, index into `m.process`
    z  a zone (y, where there is a second)      tier, cls, pool, entry  indices of `names`, spelled out
    b  a memory block of the slow tier          e  an event of the scenario
    c  a cause of lost time                     x  throughput, where an equation is solved for it
    k  a population of `POOLS`, a sub-round, or whatever else is only counted; i, step likewise
"""
