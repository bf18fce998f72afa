import torch
import torch.nn as nn

torch.manual_seed(77)
N_STATE, N_ACT = 6, 3


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(N_STATE, 32), nn.Tanh())
        self.pi = nn.Linear(32, N_ACT)
        self.v = nn.Linear(32, 1)

    def forward(self, s):
        h = self.shared(s)
        probs = torch.softmax(self.pi(h), dim=0)
        return probs, self.v(h).squeeze(-1)


def reward(states, actions):
    # the right action is the index of the largest of the first three features
    return (states[:, :N_ACT].argmax(1) == actions).float()


net = ActorCritic()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for it in range(1, 201):
    states = torch.randn(64, N_STATE)
    probs, values = net(states)
    actions = torch.multinomial(probs.detach(), 1).squeeze(1)
    r = reward(states, actions)
    log_p = torch.log(probs.gather(1, actions[:, None]).squeeze(1) + 1e-8)
    adv = (r - values).detach()
    entropy = -(probs * torch.log(probs + 1e-8)).sum(1).mean()
    loss = -(log_p * adv).mean() + 0.5 * (values - r).pow(2).mean() - 0.01 * entropy
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        print(f"iter {it} mean reward {r.mean().item():.3f} loss {loss.item():.3f}")
