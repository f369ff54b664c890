"""tiergym: where should kernel pages live on a server with fast DRAM and slow CXL memory?

Importing it registers the environment `tiergym/Placement-v1` with Gymnasium, and nothing more: the
simulator, torch and stable-baselines3 are imported when they are first needed.

    env = gymnasium.make("tiergym:tiergym/Placement-v1", scenario="llama-1to2")
    envs = gymnasium.make_vec(
        "tiergym:tiergym/Placement-v1", num_envs=1024, vectorization_mode="vector_entry_point", scenario="llama-1to2"
    )

Keyword arguments go to `tiergym.env.placement_env.PlacementEnv` and
`tiergym.env.vector_env.PlacementVectorEnv`.
"""

import gymnasium

__version__ = "0.1.0"

ENV_ID = "tiergym/Placement-v1"
"""The one environment. An episode's length is its scenario's horizon, so the spec sets no limit."""

if ENV_ID not in gymnasium.registry:
    gymnasium.register(
        id=ENV_ID,
        entry_point="tiergym.env.placement_env:PlacementEnv",
        vector_entry_point="tiergym.env.vector_env:PlacementVectorEnv",
    )

__all__ = ["ENV_ID", "__version__"]
