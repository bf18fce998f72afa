import copy
import torch
import torch.nn as nn

torch.manual_seed(87)
net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
for outer in range(1, 41):
    before = copy.deepcopy(net.state_dict())
    amp, phase = 0.5 + 2 * torch.rand(1), 3.14 * torch.rand(1)
    inner = torch.optim.SGD(net.parameters(), lr=0.02)
    for _ in range(5):
        x = 6 * torch.rand(20, 1) - 3
        loss = (net(x) - amp * torch.sin(x + phase)).square().mean()
        inner.zero_grad()
        loss.backward()
        inner.step()
    after = net.state_dict()
    net.load_state_dict({k: before[k] + 0.3 * (after[k] - before[k]) for k in before})
    if outer % 10 == 0:
        print(outer, round(loss.item(), 4))
