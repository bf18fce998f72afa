import torch
import torch.nn as nn
import torch.nn.functional as F


class GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.lam * g, None


torch.manual_seed(81)
feat = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
cls, dom = nn.Linear(16, 2), nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.Adam([*feat.parameters(), *cls.parameters(), *dom.parameters()], lr=3e-3)
for it in range(1, 121):
    xs, xt = torch.randn(48, 4), torch.randn(48, 4) + torch.tensor([0.0, 0.0, 1.5, -1.5])
    ys = (xs[:, 0] + xs[:, 1] > 0).long()
    f = feat(torch.cat([xs, xt]))
    d = torch.cat([torch.zeros(48), torch.ones(48)]).long()
    loss_y = F.cross_entropy(cls(f[:48]), ys)
    loss_d = F.cross_entropy(dom(GradReverse.apply(f, min(1.0, it / 60))), d)
    opt.zero_grad()
    (loss_y + loss_d).backward()
    opt.step()
    if it % 40 == 0:
        print(it, round(loss_y.item(), 4), round(loss_d.item(), 4))
