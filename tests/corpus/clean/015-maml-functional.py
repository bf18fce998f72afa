import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

torch.manual_seed(15)
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
meta_opt = torch.optim.Adam(model.parameters(), lr=2e-3)


def task():
    amp, phase = 0.5 + 2 * torch.rand(1), 3.14 * torch.rand(1)
    def sample(n):
        x = 6 * torch.rand(n, 1) - 3
        return x, amp * torch.sin(x + phase)
    return sample


def adapt(params, x, y, lr=0.05, steps=2):
    for _ in range(steps):
        loss = F.mse_loss(functional_call(model, params, (x,)), y)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {k: p - lr * g for (k, p), g in zip(params.items(), grads)}
    return params


for it in range(1, 61):
    meta_opt.zero_grad()
    meta_loss = 0.0
    for _ in range(4):
        sample = task()
        fast = adapt(dict(model.named_parameters()), *sample(10))
        xq, yq = sample(10)
        meta_loss = meta_loss + F.mse_loss(functional_call(model, fast, (xq,)), yq) / 4
    meta_loss.backward()
    meta_opt.step()
    if it % 20 == 0:
        print(f"meta iteration {it} loss {meta_loss.item():.4f}")
