"""A torch module of your own as a policy: trained as you like, exported by one function. `python own_module.py [STEPS]`

Here it learns to imitate a rule, `adaptive`, from what the rule did on simulated machines. What matters is the contract
of `export_module`: observations (N, 94) in, logits (N, 53) out, the modes of all entries one after another.
"""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from torch import nn

from tiergym.env.actions import N_MASK, NVEC
from tiergym.env.observations import N_OBS
from tiergym.lab.compare import compare
from tiergym.policy.export_onnx import export_module
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 400
OUT = Path("own_module.onnx")
torch.set_num_threads(1)  # small networks: see plain_sb3.py
torch.manual_seed(0)


class Mine(nn.Module):
    """Two layers, and a logit for every mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(N_OBS, 64), nn.ReLU(), nn.Linear(64, N_MASK))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs)


teacher = load_policy("adaptive")
envs = gymnasium.make_vec(
    "tiergym:tiergym/Placement-v3", num_envs=64, vectorization_mode="vector_entry_point", scenario="llama-1to2"
)
obs, info = envs.reset(seed=0)
module = Mine()
optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
for step in range(STEPS):
    chosen = teacher(obs, info["action_masks"])
    logits = module(torch.as_tensor(obs)).split(NVEC.tolist(), dim=1)  # one group per entry
    targets = torch.as_tensor(chosen)
    loss = sum(nn.functional.cross_entropy(group, targets[:, entry]) for entry, group in enumerate(logits))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    obs, _, _, _, info = envs.step(chosen)
    if step % 100 == 0:
        print(f"step {step}: cross entropy {loss.item():.2f}")

export_module(module, OUT)
policies = {name: [load_policy(name)] for name in ("online", "adaptive", str(OUT))}
comparison = compare(policies, load_scenario("llama-1to2"), episodes=4, seed=1)
for name in comparison.ranking():
    print(f"{name}: return {comparison.intervals[name]['return'].mean:.2f}")
agree = np.mean(load_policy(OUT)(obs, info["action_masks"]) == teacher(obs, info["action_masks"]))
print(f"the module chooses as its teacher in {agree:.0%} of the entries")
