import torch
import torch.nn as nn
import torch.nn.functional as F


class SelfAttention(nn.Module):
    def __init__(self, dim, heads, p):
        super().__init__()
        self.h, self.p = heads, p
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.h, d // self.h).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p)
        return self.proj(y.transpose(1, 2).reshape(b, t, d))


class SetClassifier(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.inp = nn.Linear(3, dim)
        self.a1, self.a2 = SelfAttention(dim, 4, 0.2), SelfAttention(dim, 4, 0.2)
        self.n1, self.n2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 2)

    def forward(self, pts):
        x = torch.relu(self.inp(pts))
        x = x + self.a1(self.n1(x))
        x = x + self.a2(self.n2(x))
        return self.head(x.mean(1))


def clouds(n, g):
    """sphere or cube surface"""
    y = torch.randint(0, 2, (n,), generator=g)
    p = torch.randn(n, 24, 3, generator=g)
    sphere = F.normalize(p, dim=-1)
    cube = p / p.abs().amax(-1, keepdim=True)
    return torch.where(y[:, None, None] == 0, sphere, 0.8 * cube), y


g = torch.Generator().manual_seed(31)
torch.manual_seed(31)
xtr, ytr = clouds(800, g)
xva, yva = clouds(200, g)
net = SetClassifier()
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for ep in range(5):
    net.train()
    for i in torch.randperm(800).split(40):
        loss = F.cross_entropy(net(xtr[i]), ytr[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        out = net(xva)
    print("ep", ep, "train %.3f" % loss.item(), "val %.3f" % F.cross_entropy(out, yva).item(),
          "acc %.3f" % (out.argmax(1) == yva).float().mean().item())
