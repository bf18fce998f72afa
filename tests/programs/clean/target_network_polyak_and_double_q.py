# expect: nothing
import copy

import torch
from torch import nn

torch.manual_seed(0)


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 32), nn.ReLU(), nn.Linear(32, o))


pi, q1, q2 = mlp(4, 2), mlp(6, 1), mlp(6, 1)
pi_t, q1_t, q2_t = (copy.deepcopy(m).requires_grad_(False) for m in (pi, q1, q2))
pi_opt = torch.optim.Adam(pi.parameters(), lr=1e-3)
q_opt = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=1e-3)
for it in range(40):
    s, n = torch.randn(64, 4), torch.randn(64, 4)
    a, r = torch.rand(64, 2) * 2 - 1, torch.randn(64, 1)
    with torch.no_grad():
        na = pi_t(n).tanh()
        goal = r + 0.99 * torch.min(q1_t(torch.cat([n, na], 1)), q2_t(torch.cat([n, na], 1)))
    sa = torch.cat([s, a], 1)
    q_loss = nn.functional.mse_loss(q1(sa), goal) + nn.functional.mse_loss(q2(sa), goal)
    q_opt.zero_grad()
    q_loss.backward()
    q_opt.step()
    if it % 2 == 0:
        for p in q1.parameters():
            p.requires_grad_(False)
        pi_loss = -q1(torch.cat([s, pi(s).tanh()], 1)).mean()
        pi_opt.zero_grad()
        pi_loss.backward()
        pi_opt.step()
        for p in q1.parameters():
            p.requires_grad_(True)
        with torch.no_grad():
            for net, tgt in ((pi, pi_t), (q1, q1_t), (q2, q2_t)):
                for p, t in zip(net.parameters(), tgt.parameters()):
                    t.mul_(0.995).add_(0.005 * p)
