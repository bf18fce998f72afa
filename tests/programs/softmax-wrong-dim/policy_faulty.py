# expect: softmax-wrong-dim @ probabilities = policy(states)
import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3), nn.Softmax(dim=0))
optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
for step in range(20):
    states = torch.randn(32, 4)
    probabilities = policy(states)
    actions = torch.multinomial(probabilities.detach() + 1e-6, 1).squeeze(1)
    rewards = (actions == states[:, :3].argmax(1)).float()
    chosen = probabilities[torch.arange(32), actions]
    loss = -(torch.log(chosen) * (rewards - rewards.mean())).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
