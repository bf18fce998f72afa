# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(4, 8)
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for it in range(20):
    pred = net(torch.randn(16, 4))
    goal = torch.randn(16, 8)
    pairs = nn.functional.smooth_l1_loss(
        pred[:, :, None].expand(-1, -1, 8), goal[:, None, :].expand(-1, 8, -1), reduction="none"
    )
    td = goal[:, None, :] - pred[:, :, None].detach()
    tau = (torch.arange(8) + 0.5) / 8
    loss = ((tau[None, :, None] - (td < 0).float()).abs() * pairs).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
