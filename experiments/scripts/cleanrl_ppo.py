"""PPO in one file, in the manner of CleanRL: nothing hidden, everything to change. `python cleanrl_ppo.py [STEPS]`

One categorical choice per action entry, impossible modes masked out, generalised advantage estimation, clipped updates.
The agent is exported at the end and compared with rules on machines that it never saw.
"""

import sys
from pathlib import Path

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from torch import nn
from torch.distributions import Categorical

from tiergym.env.actions import N_MASK, NVEC
from tiergym.env.observations import N_OBS
from tiergym.lab.compare import compare
from tiergym.policy.export_onnx import export_module
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000  # decisions of all machines together
MACHINES, ROLLOUT, HOLD = 64, 32, 8  # a choice holds for 8 ticks, 2 s: its effect takes seconds
EPOCHS, MINIBATCHES = 4, 4
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE, MAX_NORM, RATE = 0.99, 0.95, 0.2, 0.002, 0.5, 0.5, 1e-3
SCENARIO, OUT = "llama-1to2", Path("cleanrl_ppo.onnx")

torch.set_num_threads(1)  # small networks: see plain_sb3.py
torch.manual_seed(0)


class Agent(nn.Module):
    """Actor and critic apart; `forward` is what `export_module` asks for: observations to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(N_OBS, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, N_MASK))
        self.critic = nn.Sequential(nn.Linear(N_OBS, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        nn.init.orthogonal_(self.actor[-1].weight, 0.01)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.actor(obs)

    def choices(self, obs: torch.Tensor, masks: torch.Tensor) -> list[Categorical]:
        """One distribution per action entry, over its possible modes."""
        logits = self.actor(obs).masked_fill(~masks, -1e8)
        return [Categorical(logits=group) for group in logits.split(NVEC.tolist(), dim=1)]


def log_prob(choices: list[Categorical], actions: torch.Tensor) -> torch.Tensor:
    return sum(choice.log_prob(actions[..., entry]) for entry, choice in enumerate(choices))


envs = gymnasium.make_vec(
    "tiergym:tiergym/Placement-v3",
    num_envs=MACHINES,
    vectorization_mode="vector_entry_point",
    scenario=SCENARIO,
    autoreset_mode=AutoresetMode.SAME_STEP,  # the step that ends an episode returns the next one's first observation
)
agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=RATE, eps=1e-5)
first, info = envs.reset(seed=0)
obs, masks = torch.as_tensor(first), torch.as_tensor(info["action_masks"])
updates = max(1, STEPS // (MACHINES * ROLLOUT))

for update in range(updates):
    optimizer.param_groups[0]["lr"] = RATE * (1 - update / updates)
    all_obs = torch.zeros(ROLLOUT, MACHINES, N_OBS)
    all_masks = torch.zeros(ROLLOUT, MACHINES, N_MASK, dtype=torch.bool)
    all_actions = torch.zeros(ROLLOUT, MACHINES, len(NVEC), dtype=torch.long)
    log_probs, rewards, values, ends = (torch.zeros(ROLLOUT, MACHINES) for _ in range(4))

    for t in range(ROLLOUT):
        with torch.no_grad():
            choices = agent.choices(obs, masks)
            actions = torch.stack([choice.sample() for choice in choices], dim=1)
            all_obs[t], all_masks[t], all_actions[t] = obs, masks, actions
            log_probs[t], values[t] = log_prob(choices, actions), agent.critic(obs).squeeze(1)
        running = torch.ones(MACHINES, dtype=torch.bool)
        for _ in range(HOLD):  # ticks after an episode's end belong to the next one: their rewards are left out
            step = envs.step(actions.numpy())
            rewards[t] += torch.as_tensor(step[1], dtype=torch.float32) * running
            running &= ~torch.as_tensor(step[2] | step[3])
        ends[t] = ~running
        obs, masks = torch.as_tensor(step[0]), torch.as_tensor(step[4]["action_masks"])

    with torch.no_grad():
        advantages, last, value = torch.zeros_like(rewards), torch.zeros(MACHINES), agent.critic(obs).squeeze(1)
        for t in reversed(range(ROLLOUT)):
            delta = rewards[t] + GAMMA * value * (1 - ends[t]) - values[t]
            advantages[t] = last = delta + GAMMA * LAMBDA * (1 - ends[t]) * last
            value = values[t]
        returns = advantages + values

    flat = [x.flatten(0, 1) for x in (all_obs, all_masks, all_actions, log_probs, advantages, returns)]
    for _ in range(EPOCHS):
        for rows in torch.randperm(MACHINES * ROLLOUT).chunk(MINIBATCHES):
            b_obs, b_masks, b_actions, b_log_probs, b_advantages, b_returns = (x[rows] for x in flat)
            choices = agent.choices(b_obs, b_masks)
            ratio = (log_prob(choices, b_actions) - b_log_probs).exp()
            scaled = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)
            policy_loss = -torch.min(ratio * scaled, ratio.clamp(1 - CLIP, 1 + CLIP) * scaled).mean()
            value_loss = 0.5 * (agent.critic(b_obs).squeeze(1) - b_returns).square().mean()
            entropy = sum(choice.entropy() for choice in choices).mean()
            loss = policy_loss + VALUE * value_loss - ENTROPY * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), MAX_NORM)
            optimizer.step()
    if update % max(1, updates // 10) == 0:
        print(f"update {update + 1} of {updates}: mean reward per decision {rewards.mean():.3f}")

envs.close()
export_module(agent, OUT)
policies = {name: [load_policy(name)] for name in ("online", "restrict", str(OUT))}
comparison = compare(policies, load_scenario(SCENARIO), episodes=4, seed=1)
for name in comparison.ranking():
    print(f"{name}: return {comparison.intervals[name]['return'].mean:.2f}")
