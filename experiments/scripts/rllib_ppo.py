"""PPO of RLlib's new API stack, before and after, on machines that it never saw. `python rllib_ppo.py [ITERATIONS]`

Its extra, `ray[rllib]`, asks for Gymnasium 1.2.2, which tiergym allows. With a newer one it runs too: `pip install ray
dm-tree pandas` beside `tiergym[all]` is all that is imported here.

Sampling and learning stay in this process, where small networks are quickest; for more cores, `num_env_runners`, each
with machines of its own. What was learned becomes a file that every tiergym command takes: RLlib's network is a torch
module, observations in and the logits of all entries out. RLlib leaves an empty folder in ~/ray_results.
"""

import os
import sys
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reports how it is used unless it is told not to

import gymnasium
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env
from torch import nn

from tiergym.lab.compare import compare
from tiergym.policy.export_onnx import export_module
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario

ITERATIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
MACHINES, HOLD = 32, 8  # a choice holds for 8 ticks, 2 s: its effect takes seconds
SCENARIO = "llama-1to2"

torch.set_num_threads(1)  # small networks: see plain_sb3.py


class Hold(gymnasium.Wrapper):
    """One decision for `HOLD` ticks, or until the episode ends; the reward is their sum."""

    def step(self, action):
        total = 0.0
        for _ in range(HOLD):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class Logits(nn.Module):
    """The actor of an RLModule; `forward` is what `export_module` asks for."""

    def __init__(self, module) -> None:
        super().__init__()
        self.encoder, self.head = module.encoder.actor_encoder, module.pi

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder({"obs": obs})["encoder_out"])


register_env("placement", lambda config: Hold(gymnasium.make("tiergym:tiergym/Placement-v3", **config)))
config = (
    PPOConfig()
    .environment("placement", env_config={"scenario": SCENARIO})
    .env_runners(num_env_runners=0, num_envs_per_env_runner=MACHINES, rollout_fragment_length=32)
    .learners(num_learners=0)
    .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], vf_share_layers=False))
    .training(train_batch_size=MACHINES * 32, minibatch_size=256, num_epochs=4, lr=1e-3, entropy_coeff=0.002)
    .debugging(seed=0)
)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
algorithm = config.build_algo()
before, after = Path("rllib_before.onnx"), Path("rllib_after.onnx")
export_module(Logits(algorithm.get_module()), before)
for iteration in range(ITERATIONS):
    sampled = algorithm.train()["env_runners"]
    if sampled.get("num_episodes"):  # that ended in this iteration
        print(f"iteration {iteration + 1} of {ITERATIONS}: return while exploring {sampled['episode_return_mean']:.2f}")
export_module(Logits(algorithm.get_module()), after)
algorithm.stop()
ray.shutdown()

policies = {name: [load_policy(name)] for name in ("online", str(before), str(after))}
comparison = compare(policies, load_scenario(SCENARIO), episodes=4, seed=1)
for name in comparison.ranking():
    print(f"{name}: return {comparison.intervals[name]['return'].mean:.2f}")
