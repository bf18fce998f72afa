# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
gen = nn.Linear(2, 1)
opt = torch.optim.Adam(gen.parameters(), lr=1e-2)
for it in range(30):
    fake, real = gen(torch.randn(32, 2)), torch.randn(32) * 0.5 + 1
    cross = (fake - real[None, :]).abs().mean()
    within = (fake - fake.T).abs().mean()
    loss = 2 * cross - within
    opt.zero_grad()
    loss.backward()
    opt.step()
