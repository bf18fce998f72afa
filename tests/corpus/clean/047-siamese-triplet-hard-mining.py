import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(47)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
embed = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
opt = torch.optim.Adam(embed.parameters(), lr=1e-3)


def batch_hard(e, lab, margin=0.5):
    dist = torch.cdist(e, e)
    same = lab[:, None] == lab[None]
    pos = (dist * same).amax(1)
    neg = (dist + 1e6 * same).amin(1)
    return torch.clamp(pos - neg + margin, min=0.0).mean()      # hinge


for step in range(1, 101):
    i = torch.randint(0, 1500, (64,))
    loss = batch_hard(embed(x[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 25 == 0:
        with torch.no_grad():
            q, g = embed(x[1500:]), embed(x[:1500])
            r1 = (y[:1500][torch.cdist(q, g).argmin(1)] == y[1500:]).float().mean().item()
        print(step, f"loss {loss.item():.4f} recall@1 {r1:.3f}")
