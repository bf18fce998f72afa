# expect: nothing
import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
outer = torch.optim.Adam(model.parameters(), lr=1e-3)
for it in range(20):
    total = 0.0
    for task in range(4):
        a = torch.rand(1) * 3
        x = torch.rand(20, 1)
        fast = dict(model.named_parameters())
        for _ in range(2):
            inner = nn.functional.mse_loss(functional_call(model, fast, (x[:10],)), a * x[:10])
            grads = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
            fast = {k: p - 0.1 * g for (k, p), g in zip(fast.items(), grads)}
        total = total + nn.functional.mse_loss(functional_call(model, fast, (x[10:],)), a * x[10:])
    outer.zero_grad()
    (total / 4).backward()
    outer.step()
