# expect: step-before-backward @ opt.step()
import torch

torch.manual_seed(0)
w = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(w.parameters(), lr=0.1)
for i in range(12):
    x = torch.randn(8, 3)
    loss = (w(x) - x[:, :1]).pow(2).mean()
    opt.step()
    opt.zero_grad()
    loss.backward()
