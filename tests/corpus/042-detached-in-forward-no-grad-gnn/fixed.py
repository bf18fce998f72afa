# Two-layer GCN written by hand on a stochastic block model
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(7)

n_per, k = 30, 3
n = n_per * k
label = torch.arange(k).repeat_interleave(n_per)
prob = torch.where(label[:, None] == label[None, :], 0.25, 0.03)
upper = torch.triu(torch.rand(n, n) < prob, diagonal=1).float()
adj = upper + upper.T + torch.eye(n)
deg = adj.sum(1)
a_hat = adj / torch.sqrt(deg[:, None] * deg[None, :])
feats = 0.8 * F.one_hot((label + torch.randint(0, 2, (n,))) % k, k).float() + 0.6 * torch.randn(n, k)
mask = torch.rand(n) < 0.3


class GraphConv(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.lin = nn.Linear(d_in, d_out)

    def forward(self, a, h):
        return a @ self.lin(h)


class GCN(nn.Module):
    def __init__(self, d_in, d_hid, d_out, dropout=0.3):
        super().__init__()
        self.gc1 = GraphConv(d_in, d_hid)
        self.gc2 = GraphConv(d_hid, d_out)
        self.dropout = dropout

    def forward(self, a, x):
        h = F.relu(self.gc1(a, x))
        h = F.dropout(h, self.dropout, training=self.training)
        return self.gc2(a, h)


net = GCN(k, 16, k)
opt = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=5e-4)
for ep in range(1, 81):
    net.train()
    opt.zero_grad()
    loss = F.cross_entropy(net(a_hat, feats)[mask], label[mask])
    loss.backward()
    opt.step()
    if ep % 20 == 0:
        net.eval()
        with torch.no_grad():
            acc = (net(a_hat, feats).argmax(1) == label)[~mask].float().mean().item()
        print(f"epoch {ep:3d} loss {loss.item():.4f} unlabelled acc {acc:.3f}")
