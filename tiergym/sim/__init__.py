"""Floor 1, the model: one simulated machine and its tick, in NumPy and numba only.

Knows nothing of scenarios in TOML, observations, rewards' use or reinforcement learning.
"""
