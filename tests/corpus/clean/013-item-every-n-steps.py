import torch
import torch.nn as nn

torch.manual_seed(13)
model = nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 1))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
running = torch.zeros(())
for step in range(1, 201):
    x = torch.randn(32, 10)
    loss = (model(x) - x.sum(1, keepdim=True).tanh()).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    running += loss.detach()
    if step % 50 == 0:
        print(f"step {step} mean loss {running.item() / 50:.4f}")
        running.zero_()
