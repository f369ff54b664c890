"""Floor 3, the policies: callables from batched observations and masks to actions, and their loading.

Imports `tiergym.env` and below.
"""
