"""Counter-based random numbers: a pure function of (key, tick, stream), so no state is carried.

A machine's trajectory is therefore independent of its position in the batch, of the batch's size and of
threads. The mixer is SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014), applied twice.
"""

import numpy as np

from tiergym.sim.compile import jit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_STREAM = np.uint64(0xD1B54A32D192ED03)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_R30, _R27, _R31, _R11, _R16 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11), np.uint64(16)
_MASK16 = np.uint64(0xFFFF)


@jit
def mix64(x):
    """SplitMix64's finaliser: uint64 to uint64, a bijection."""
    x = (x ^ (x >> _R30)) * _MIX1
    x = (x ^ (x >> _R27)) * _MIX2
    return x ^ (x >> _R31)


@jit
def first_key(seed):
    """Key of the first episode of a seed (uint64). The offset keeps seed 0 off the mixer's fixed point 0."""
    return mix64(seed + _GOLDEN)


@jit
def next_key(key):
    """Key of the episode after the one with `key`."""
    return mix64(key + _ONE)


def seed_of_next(keys: np.ndarray) -> np.ndarray:
    """Seeds whose first episode is the one after `keys` (uint64, any shape): `reset` can go on where a batch is."""
    return keys + _ONE - _GOLDEN


@jit
def bits64(key, tick, stream):
    """64 random bits for a machine's key (uint64), a tick and a stream (integers)."""
    return mix64(mix64(key + np.uint64(tick) * _GOLDEN) + np.uint64(stream) * _STREAM)


@jit
def uniform(key, tick, stream):
    """A float64 in [0, 1)."""
    return np.float64(bits64(key, tick, stream) >> _R11) * (1.0 / 9007199254740992.0)


@jit
def bell(key, tick, stream):
    """A float64 of mean 0 and standard deviation 1, bounded by 3.47 (four uniforms, Irwin-Hall)."""
    bits = bits64(key, tick, stream)
    total = np.float64(bits & _MASK16) + np.float64((bits >> _R16) & _MASK16)
    bits = bits >> _R16 >> _R16
    total += np.float64(bits & _MASK16) + np.float64((bits >> _R16) & _MASK16)
    return (total / 65535.0 - 2.0) * 1.7320508075688772
