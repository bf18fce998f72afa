import torch
import torch.nn as nn

torch.manual_seed(54)
net = nn.Sequential(nn.Linear(3, 24), nn.Softplus(), nn.Linear(24, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=2, T_mult=2)
iters, losses = 20, []
for epoch in range(6):
    for i in range(iters):
        x = torch.randn(48, 3)
        loss = (net(x) - x.abs().sum(1, keepdim=True)).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step(epoch + (i + 1) / iters)
        losses.append(loss.item())
    print(epoch, f"{sum(losses[-iters:]) / iters:.4f}", f"{opt.param_groups[0]['lr']:.4f}")
