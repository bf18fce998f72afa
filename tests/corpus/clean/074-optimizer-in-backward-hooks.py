"""One optimizer per parameter, stepped inside backward by post-accumulate-grad hooks."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(74)
model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
optimizers = {p: torch.optim.Adam([p], lr=2e-3) for p in model.parameters()}


def hook(p):
    optimizers[p].step()
    optimizers[p].zero_grad()


for p in model.parameters():
    p.register_post_accumulate_grad_hook(hook)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
for epoch in range(4):
    for i in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(x[i]), y[i])
        loss.backward()
    with torch.no_grad():
        print(epoch, round(loss.item(), 3), (model(x[1500:]).argmax(1) == y[1500:]).float().mean().item())
