"""PPO of stable-baselines3 on tiergym, with nothing of tiergym but the environment: `python plain_sb3.py [STEPS]`

torch gets one thread. The networks are two layers of 64: a matrix product takes microseconds, less than it takes to
wake a second thread and wait for it. With a thread per core, torch spends its time at barriers, most of all where other
programs, or the simulator's own threads, want the same cores: training can be many times as slow. One thread leaves the
other cores to the machines that are simulated.
"""

import sys

import numpy as np
import torch
from stable_baselines3 import PPO

from tiergym.env.sb3_vec import PlacementSB3VecEnv

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
MACHINES = 64

torch.set_num_threads(1)

# One vector environment steps all machines in one compiled call; no DummyVecEnv or Monitor is needed around it.
# A choice holds for 8 ticks (2 s): what keeps DRAM free pays only after seconds of doing it.
envs = PlacementSB3VecEnv("llama-1to2", num_envs=MACHINES, seed=0, hold_ticks=8)
model = PPO("MlpPolicy", envs, n_steps=32, batch_size=512, n_epochs=4, learning_rate=1e-3, seed=0, device="cpu")
model.learn(STEPS)

# Mean reward per decision over fresh machines: the trained policy, and an untouched Linux (mode 0 of every entry).
means = {}
for name in ("linux", "ppo"):
    fresh = PlacementSB3VecEnv("llama-1to2", num_envs=MACHINES, seed=1_000_000, hold_ticks=8)
    obs, rewards = fresh.reset(), []
    for _ in range(60):
        actions = (
            np.zeros((MACHINES, *envs.action_space.shape), int)
            if name == "linux"
            else model.predict(obs, deterministic=True)[0]
        )
        obs, reward, _, _ = fresh.step(actions)
        rewards.append(reward.mean())
    means[name] = float(np.mean(rewards))
print(", ".join(f"{name}: {mean:.3f} per decision" for name, mean in means.items()))
