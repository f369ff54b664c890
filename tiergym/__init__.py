"""tiergym: where should kernel pages live on a server with fast DRAM and slow CXL memory?

Importing it registers the environment `tiergym/Placement-v3` with Gymnasium, and nothing more: the
simulator, torch and stable-baselines3 are imported when they are first needed.

    env = gymnasium.make("tiergym:tiergym/Placement-v3", scenario="llama-1to2")
    envs = gymnasium.make_vec(
        "tiergym:tiergym/Placement-v3", num_envs=1024, vectorization_mode="vector_entry_point", scenario="llama-1to2"
    )

`tiergym.register_envs()` adds an environment per suite of scenarios, `tiergym/Placement-train-v3` and its like.

Keyword arguments go to `tiergym.env.placement_env.PlacementEnv` and
`tiergym.env.vector_env.PlacementVectorEnv`.
"""

import gymnasium

__version__ = "0.1.0"

ENV_ID = "tiergym/Placement-v3"
"""The one environment. An episode's length is its scenario's horizon, so the spec sets no limit."""


def _register(name: str, **kwargs: str) -> None:
    if name not in gymnasium.registry:
        gymnasium.register(
            id=name,
            entry_point="tiergym.env.placement_env:PlacementEnv",
            vector_entry_point="tiergym.env.vector_env:PlacementVectorEnv",
            kwargs=kwargs,
        )


def register_envs() -> tuple[str, ...]:
    """Register an environment per shipped suite, `tiergym/Placement-SUITE-v3`; returns their ids, `ENV_ID` first.

    Each episode of one runs a scenario of the suite, which its seed draws. Calling it again does nothing more.
    """
    from tiergym.specs import list_suites

    before, _, version = ENV_ID.rpartition("-")
    suites = {f"{before}-{suite}-{version}": suite for suite in list_suites()}
    for name, suite in suites.items():
        _register(name, suite=suite)
    return (ENV_ID, *suites)


_register(ENV_ID)

__all__ = ["ENV_ID", "__version__", "register_envs"]
