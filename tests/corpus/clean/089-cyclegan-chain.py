import itertools
import random
import torch
import torch.nn as nn

random.seed(89)
torch.manual_seed(89)
mk = lambda o: nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, o))
G_AB, G_BA, D_A, D_B = mk(2), mk(2), mk(1), mk(1)
opt_G = torch.optim.Adam(itertools.chain(G_AB.parameters(), G_BA.parameters()), lr=1e-3, betas=(0.5, 0.999))
opt_D = torch.optim.Adam(itertools.chain(D_A.parameters(), D_B.parameters()), lr=1e-3, betas=(0.5, 0.999))
mse, l1 = nn.MSELoss(), nn.L1Loss()


class Pool:
    def __init__(self, size=20):
        self.size, self.items = size, []

    def query(self, x):
        if len(self.items) < self.size:
            self.items.append(x)
            return x
        if random.random() > 0.5:
            i = random.randrange(self.size)
            old, self.items[i] = self.items[i], x
            return old
        return x


pool_A, pool_B = Pool(), Pool()
for it in range(1, 81):
    a, b = torch.randn(32, 2) + 1.0, 0.5 * torch.randn(32, 2) - 1.0
    for p in itertools.chain(D_A.parameters(), D_B.parameters()):
        p.requires_grad_(False)                       # the discriminators need no gradients here
    opt_G.zero_grad()
    fb, fa = G_AB(a), G_BA(b)
    sb, sa = D_B(fb), D_A(fa)
    loss_G = mse(sb, torch.ones_like(sb)) + mse(sa, torch.ones_like(sa)) + 5 * (l1(G_BA(fb), a) + l1(G_AB(fa), b))
    loss_G.backward()
    opt_G.step()
    for p in itertools.chain(D_A.parameters(), D_B.parameters()):
        p.requires_grad_(True)
    opt_D.zero_grad()
    loss_D = 0.0
    for D, real, fake in ((D_A, a, pool_A.query(fa.detach())), (D_B, b, pool_B.query(fb.detach()))):
        r, f = D(real), D(fake)
        l = 0.5 * (mse(r, torch.ones_like(r)) + mse(f, torch.zeros_like(f)))
        l.backward()
        loss_D += l.item()
    opt_D.step()
    if it % 20 == 0:
        print(it, f"G {loss_G.item():.3f} D {loss_D:.3f}")
