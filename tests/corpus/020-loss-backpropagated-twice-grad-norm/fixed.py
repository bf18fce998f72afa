import torch
from torch import nn
from sklearn.datasets import load_wine

torch.manual_seed(14)
raw = load_wine()
X = torch.tensor(raw.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
Y = torch.tensor(raw.target)
perm = torch.randperm(len(X))
tr, te = perm[:130], perm[130:]

net = nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
ce = nn.CrossEntropyLoss()


def grad_norm(module):
    return torch.sqrt(sum(p.grad.pow(2).sum() for p in module.parameters())).item()


def monitored_norm(loss, module):
    # norm of the raw gradient, for the log
    grads = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return torch.sqrt(sum(g.pow(2).sum() for g in grads)).item()


for epoch in range(12):
    norms = []
    for b in tr[torch.randperm(len(tr))].split(26):
        opt.zero_grad()
        loss = ce(net(X[b]), Y[b])
        norms.append(monitored_norm(loss, net))
        loss.backward()
        opt.step()
    with torch.no_grad():
        acc = (net(X[te]).argmax(1) == Y[te]).float().mean()
    print(f"epoch {epoch:2d} loss {loss.item():.3f} |g| {sum(norms) / len(norms):.3f} test acc {acc:.3f}")
