"""MaskablePPO of sb3-contrib: modes that a machine cannot use now are never drawn. `python maskable.py [STEPS]`

`PlacementSB3VecEnv` answers `env_method("action_masks")`, which is how MaskablePPO asks. The trained model becomes a
file that every tiergym command takes, with the masks inside.
"""

import sys
from pathlib import Path

import torch
from sb3_contrib import MaskablePPO

from tiergym.env.sb3_vec import PlacementSB3VecEnv
from tiergym.lab.compare import compare
from tiergym.policy.export_onnx import export_onnx
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
OUT = Path("maskable.onnx")

torch.set_num_threads(1)  # small networks: see plain_sb3.py

envs = PlacementSB3VecEnv("graph-1to2", num_envs=64, seed=0, hold_ticks=8)
model = MaskablePPO("MlpPolicy", envs, n_steps=32, batch_size=512, n_epochs=4, learning_rate=1e-3, seed=0)
model.learn(STEPS)
export_onnx(model, OUT)

policies = {name: [load_policy(name)] for name in ("online", "restrict_pt", str(OUT))}
comparison = compare(policies, load_scenario("graph-1to2"), episodes=4, seed=1)
for name in comparison.ranking():
    print(f"{name}: return {comparison.intervals[name]['return'].mean:.2f}")
