import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(10)
trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
head_a, head_b = nn.Linear(32, 1), nn.Linear(32, 3)
params = [*trunk.parameters(), *head_a.parameters(), *head_b.parameters()]
opt = torch.optim.Adam(params, lr=5e-3)
for step in range(1, 151):
    x = torch.randn(48, 6)
    ya, yb = x[:, :3].sum(1, keepdim=True), x[:, 3:].argmax(1)
    h = trunk(x)
    loss_a, loss_b = F.mse_loss(head_a(h), ya), F.cross_entropy(head_b(h), yb)
    opt.zero_grad()
    loss_a.backward(retain_graph=True)          # the trunk's graph is needed for the second loss
    ga = trunk[0].weight.grad.norm().item()
    loss_b.backward()
    opt.step()
    if step % 50 == 0:
        print(f"{step} a {loss_a.item():.4f} b {loss_b.item():.4f} trunk grad of a {ga:.3f}")
