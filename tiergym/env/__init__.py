"""Floor 2, the environments: observations, actions and the batched engine over `tiergym.sim`.

Imports `tiergym.sim`, NumPy and Gymnasium; stable-baselines3 only in the module that adapts to it.
"""
